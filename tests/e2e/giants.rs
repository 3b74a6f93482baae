//! Values that are larger than the memory that the user names: they travel, they come back, and the
//! memory stays what was promised.

mod interrupted;
mod memory;
mod readers;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    failures::running::{Ended, Running},
    restore::stage::{Place, source},
    support::{Bundle, arkstream, run, scratch},
};

/// What the process may hold beside its budget.
const PROGRAM: u64 = 64 << 20;

/// Bytes of the values: `bytea` that does not compress, text, the text of a `jsonb`, an array.
#[derive(Clone, Copy)]
struct Sizes {
    bytea: u64,
    text: u64,
    jsonb: u64,
    array: u64,
}

const MIB: u64 = 1 << 20;

/// Each of them more than a process of 32 MiB may hold.
const LARGE: Sizes = Sizes {
    bytea: 40 * MIB,
    text: 64 * MIB,
    jsonb: 36 * MIB,
    array: 16 * MIB,
};

/// As large as they come. PostgreSQL has no larger `bytea` than 1 GB less a few bytes.
const GIANT: Sizes = Sizes {
    bytea: 1_000_000_000,
    text: 300 * MIB,
    jsonb: 200 * MIB,
    array: 40 * MIB,
};

/// Puts the values into the type matrix, in rows of their own but for the last, which has two.
fn put(place: &Place, sizes: Sizes) {
    let Sizes {
        bytea,
        text,
        jsonb,
        array,
    } = sizes;
    place.sql(&format!(
        "INSERT INTO x_type_matrix (id, c_bytea) SELECT 9001, string_agg(sha512(int8send(g)), ''::bytea) \
           FROM generate_series(1, {}) g; \
         INSERT INTO x_type_matrix (id, c_text) SELECT 9002, repeat('Ein Satz, der sich wiederholt; größer als alles. ', {}); \
         INSERT INTO x_type_matrix (id, c_jsonb) SELECT 9003, jsonb_build_object('key', repeat('a \"quoted\" word ', {}), 'n', 1.50); \
         INSERT INTO x_type_matrix (id, a_text) SELECT 9004, array_agg(md5(g::text)) FROM generate_series(1, {}) g; \
         INSERT INTO x_type_matrix (id, c_text, c_bytea, c_int4) SELECT 9005, repeat('x', {}), decode(repeat('00ff', {}), 'hex'), 7;",
        bytea / 64,
        text / 50,
        jsonb / 17,
        array / 36,
        text / 10,
        bytea / 20,
    ));
}

/// What the server says of the giant rows, without sending them.
fn fingerprint(place: &Place) -> String {
    place.sql(
        "SELECT id, octet_length(c_bytea), sha256(c_bytea), md5(c_text), md5(c_jsonb::text), md5(a_text::text), c_int4 \
         FROM x_type_matrix WHERE id > 9000 ORDER BY id",
    )
}

/// `arkstream backup` of the type matrix alone, within so much memory.
fn backup(place: &Place, out: &Path, memory: &str) -> Command {
    let models = ["--models", "sam.type.matrix"];
    let mut command = crate::failures::backup(&source().url(&place.database), out, &models);
    command.args(["--memory", memory, "--json"]);
    command.env("ARKSTREAM_JOBS", "2");
    command
}

fn verified(out: &Path, report: serde_json::Value) -> Bundle {
    run(arkstream().args(["verify", "--progress", "none"]).arg(out)).ok();
    Bundle::open(out.to_owned(), report, String::new())
}

fn new_out() -> PathBuf {
    scratch("giants").join("bundle.zip")
}

/// The parts of the type matrix.
fn parts(bundle: &Bundle) -> Vec<serde_json::Value> {
    let table = bundle.table("public.x_type_matrix");
    table["parts"].as_array().expect("parts").clone()
}

/// Members that hold the large values of a bundle.
fn large(bundle: &Bundle) -> Vec<String> {
    let parts = parts(bundle);
    let names = parts.iter().filter_map(|part| part["large"].as_array());
    let names = names.flatten().filter_map(|name| name.as_str());
    names.map(str::to_owned).collect()
}

/// Runs a program to its end, and says how much memory it and its children held at most.
#[track_caller]
fn weighed(command: &mut Command) -> (Ended, u64) {
    let line = format!("{command:?}");
    let mut running = Running::start(command);
    let mut peak = 0;
    while !running.has_ended() {
        let children = running.children().into_iter();
        let children: u64 = children.map(|pid| status(pid, "VmRSS:")).sum();
        peak = peak.max(status(running.pid(), "VmHWM:") + children);
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = running.end(Duration::from_secs(5));
    assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
    println!("{} MiB: {line}", peak >> 20);
    (ended, peak)
}

/// A number of `/proc/PID/status`, in bytes; 0 for a process that is gone.
fn status(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}
