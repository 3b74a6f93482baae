//! A backup that is built upon an older bundle: it is what a full one would be, and stands alone.

mod asked;
mod damage;
mod files;
mod history;
mod kills;
mod rows;
mod timing;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::support::{Bundle, Run, Stack, arkstream, files_below, run, scratch};

/// A database with some thousand larger messages, so that they are in several parts.
fn database() -> String {
    let name = Stack::shared().fresh_database();
    add_messages(Stack::shared(), &name);
    name
}

fn add_messages(stack: &Stack, database: &str) {
    let sql = "INSERT INTO ai_message (conversation_id, role, content) \
        SELECT (SELECT min(id) FROM ai_conversation), 'user', \
          (SELECT string_agg(md5(n::text || m::text), '') FROM generate_series(1, 60) AS m) \
        FROM generate_series(1, 10000) AS n";
    stack.server.psql(database, sql).expect("messages");
}

/// The newest rows of the messages, one in a hundred, as those of a day are.
const NEWEST: &str =
    "UPDATE ai_message SET role = 'other' WHERE id > (SELECT max(id) - 100 FROM ai_message)";

fn new_out() -> PathBuf {
    scratch("increment").join("bundle.zip")
}

/// A backup of everything in the shared stack, of that copy of the database.
fn backup(database: &str, out: &Path) -> Command {
    let mut command = Stack::shared().backup_of(database, out);
    // Small parts, so that there are several.
    command.args(["--memory", "32MiB", "--jobs", "2", "--json"]);
    command
}

fn full(database: &str) -> Bundle {
    let out = new_out();
    verified(&out, &run(&mut backup(database, &out)).ok())
}

fn based(database: &str, base: &Path) -> Bundle {
    let out = new_out();
    verified(
        &out,
        &run(backup(database, &out).arg("--base").arg(base)).ok(),
    )
}

/// A short backup: two tables of the shared stack.
fn few(out: &Path) -> Command {
    let stack = Stack::shared();
    let models = ["--models", "ai.conversation,ai.message"];
    crate::failures::backup(&stack.url(&stack.odoo), out, &models)
}

/// A finished, verified bundle of a run with `--json`.
#[track_caller]
fn verified(out: &Path, ended: &Run) -> Bundle {
    run(arkstream().args(["verify", "--progress", "none"]).arg(out)).ok();
    Bundle::open(out.to_owned(), ended.json(), ended.stderr.clone())
}

/// Files that changed less than two seconds before they were read prove nothing.
pub(crate) fn let_files_settle() {
    std::thread::sleep(Duration::from_millis(2100));
}

/// Members that were copied whole, and all members, of a component.
#[track_caller]
fn copied(bundle: &Bundle, component: &str) -> (u64, u64) {
    let manifest = bundle.json("manifest.json");
    let bases = manifest["bases"].as_array().expect("bases");
    let whole = bases
        .iter()
        .filter_map(|base| base["copied"][component]["members"].as_u64());
    let all = &manifest["components"][component]["members"];
    (whole.sum(), all.as_u64().expect(component))
}

/// The parts of the messages, as the manifest lists them.
fn messages(bundle: &Bundle) -> Vec<Value> {
    let table = bundle.table("public.ai_message");
    table["parts"].as_array().expect("parts").clone()
}

/// How many of the parts an earlier generation read.
fn kept(parts: &[Value], by: &str) -> usize {
    parts.iter().filter(|part| part["kept_by"] == by).count()
}

/// Both bundles hold the same: rows table by table, everything else byte by byte.
#[track_caller]
fn hold_the_same(one: &Bundle, other: &Bundle) {
    let described = [
        "manifest.json",
        "metadata.json",
        "restore_instructions.md",
        "logs/export_log.txt",
    ];
    let files = |bundle: &Bundle| -> BTreeSet<String> {
        let files = files_below(&bundle.dir).into_iter();
        files
            .filter(|file| !file.ends_with(".parquet") && !file.starts_with("index/"))
            // Named by their parts, and compared with their rows.
            .filter(|file| !file.contains("/large/"))
            .filter(|file| !described.contains(&file.as_str()))
            .collect()
    };
    assert_eq!(files(one), files(other));
    for file in files(one) {
        let read = |bundle: &Bundle| std::fs::read(bundle.dir.join(&file)).expect("a file");
        assert!(read(one) == read(other), "{file} differs");
    }
    let tables = |bundle: &Bundle| -> Vec<(String, u64)> {
        let manifest = bundle.json("manifest.json");
        let tables = manifest["tables"].as_array().expect("tables").clone();
        let name = |table: &Value| table["table"].as_str().expect("a name").to_owned();
        let tables = tables.iter();
        tables
            .map(|table| (name(table), table["rows"].as_u64().expect("rows")))
            .collect()
    };
    assert_eq!(tables(one), tables(other));
    let rows = |bundle: &Bundle| {
        let text = bundle.every_row("odoo_data");
        let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
        rows.sort_unstable();
        rows
    };
    assert!(rows(one) == rows(other), "rows differ");
}
