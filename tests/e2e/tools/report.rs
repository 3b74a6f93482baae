//! What a backup says: on standard output the result alone, on standard error the progress.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use super::{number, text};
use crate::support::{Bundle, Profile, Stack, run, scratch};

#[test]
fn json_ends_with_one_object_that_has_every_key() {
    let bundle = Bundle::shared(Profile::SamAi);
    // `Bundle::shared` has parsed the whole of standard output as one value.
    let report = &bundle.report;
    assert_eq!(
        text(&report["bundle"]),
        bundle.path.to_str().expect("UTF-8")
    );
    assert_eq!(
        number(&report["bytes"]),
        std::fs::metadata(&bundle.path).expect("the bundle").len()
    );
    let manifest = bundle.json("manifest.json");
    let rows: u64 = manifest["tables"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|t| number(&t["rows"]))
        .sum();
    assert_eq!(number(&report["rows"]), rows);
    let counted = bundle.json("metadata.json")["model_counts"]
        .as_object()
        .map(|o| o.len());
    assert_eq!(
        number(&report["models"]) as usize,
        counted.expect("an object")
    );
    assert_eq!(report["components"], manifest["components"]);
    assert_eq!(report["omissions"], Value::Array(Vec::new()));
    assert!(report["duration_seconds"].as_f64() > Some(0.0));
    let generation = &manifest["generations"][0];
    for key in ["barrier_skew_ms", "chroma_hold_ms"] {
        assert_eq!(number(&report[key]), number(&generation[key]), "{key}");
    }
    let peak = number(&report["peak_memory_bytes"]);
    assert!(peak > 5 << 20 && peak < 2 << 30, "{peak}");
    assert_eq!(bundle.stderr, "", "--progress none says nothing");
}

#[test]
fn components_sum_up_their_members() {
    let manifest = Bundle::shared(Profile::SamAi).json("manifest.json");
    for (component, sums) in manifest["components"].as_object().expect("an object") {
        let of_it: Vec<&Value> = super::members(&manifest)
            .iter()
            .filter(|m| m["component"] == **component)
            .collect();
        assert_eq!(
            number(&sums["members"]) as usize,
            of_it.len(),
            "{component}"
        );
        for (sum, key) in [("raw_bytes", "raw_len"), ("stored_bytes", "stored_len")] {
            assert_eq!(
                number(&sums[sum]),
                of_it.iter().map(|m| number(&m[key])).sum::<u64>(),
                "{component} {sum}"
            );
        }
        let rows: u64 = of_it.iter().filter_map(|m| m["rows"].as_u64()).sum();
        assert_eq!(number(&sums["rows"]), rows, "{component}");
    }
}

#[test]
fn progress_as_json_is_one_event_a_line() {
    let stack = Stack::shared();
    let out = scratch("progress").join("bundle.zip");
    let mut command = stack.backup_command(&out);
    let run = run(command.args(["--progress", "json", "--json"])).ok();
    run.json();
    let events: Vec<Value> = run
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let components = |kind: &str| -> Vec<&str> {
        events
            .iter()
            .filter(|e| e["event"] == kind)
            .map(|e| text(&e["component"]))
            .collect()
    };
    let all: BTreeSet<&str> = ["models", "filestore", "graph", "chroma"].into();
    for kind in ["planned", "started", "finished"] {
        let found = components(kind);
        assert_eq!(
            found.len(),
            all.len(),
            "each component is {kind} once: {found:?}"
        );
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all, "{kind}");
    }
    assert_eq!(events.iter().filter(|e| e["event"] == "barrier").count(), 1);
    // Every member but those that describe the bundle is told, with its sizes.
    let told: BTreeSet<&str> = events
        .iter()
        .filter(|e| e["event"] == "member")
        .map(|e| text(&e["name"]))
        .collect();
    let bundle = Bundle::open(out, run.json(), String::new());
    let manifest = bundle.json("manifest.json");
    let expected: BTreeSet<&str> = super::members(&manifest)
        .iter()
        .filter(|m| m["component"] != "description")
        .map(|m| text(&m["name"]))
        .collect();
    assert_eq!(told, expected);
    for component in ["models", "filestore", "graph", "chroma"] {
        let read: u64 = events
            .iter()
            .filter(|e| e["event"] == "read" && e["component"] == component)
            .map(|e| number(&e["bytes"]))
            .sum();
        assert!(read > 0, "{component}");
    }
}

#[test]
fn plain_progress_speaks_of_each_component() {
    let stack = Stack::shared();
    let out = scratch("plain").join("bundle.zip");
    let mut command = stack.backup_command(&out);
    let run = run(command.args(["--progress", "plain"])).ok();
    for component in ["models", "filestore", "graph", "chroma"] {
        let done = run
            .stderr
            .lines()
            .filter(|line| line.starts_with(&format!("{component}: done")))
            .count();
        assert_eq!(done, 1, "{component} is done once: {}", run.stderr);
    }
    assert!(
        !run.stderr.contains('\u{1b}'),
        "no escape sequences where there is no terminal"
    );
    // For people: where it lies, how large it is.
    assert!(
        run.stdout.starts_with(&format!("{}\n", out.display())),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("models") && run.stdout.contains("rows"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_folder_gets_a_bundle_of_the_default_name() {
    let stack = Stack::shared();
    let folder = scratch("folder");
    let mut command = super::rows_alone(&stack.url(&stack.odoo), &folder);
    let report = run(command.args(["--models", "ai.message"])).ok().json();
    let names = crate::support::files_below(&folder);
    assert_eq!(names.len(), 3, "bundle, page and checksum: {names:?}");
    let stamp = names[0]
        .strip_prefix("sam_ai_complete_backup_")
        .and_then(|n| n.strip_suffix(".zip"));
    let (date, time) = stamp
        .and_then(|stamp| stamp.split_once('_'))
        .expect("YYYYMMDD_HHMMSS");
    assert!(
        date.len() == 8
            && time.len() == 6
            && date.bytes().chain(time.bytes()).all(|b| b.is_ascii_digit())
    );
    assert_eq!(
        text(&report["bundle"]),
        folder.join(&names[0]).to_str().expect("UTF-8")
    );
    for name in names {
        let mode = std::fs::metadata(folder.join(&name))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn compression_costs_and_gains_what_was_asked_for_and_any_unzip_reads_it() {
    let stack = Stack::shared();
    let sizes = ["none", "fast", "balanced", "small"].map(|effort| {
        let out = scratch("effort").join("bundle.zip");
        let mut command = stack.backup_command(&out);
        // One in the environment, as scripts have it.
        match effort {
            "fast" => command.env("ARKSTREAM_COMPRESSION", effort),
            _ => command.args(["--compression", effort]),
        };
        let report = run(command.arg("--json")).ok().json();
        run(std::process::Command::new("unzip").arg("-tq").arg(&out)).ok();
        number(&report["components"]["graph"]["stored_bytes"])
    });
    let [none, fast, balanced, small] = sizes;
    assert!(none > 2 * fast.max(balanced), "{sizes:?}");
    assert!(small < fast.min(balanced), "{sizes:?}");
}

#[test]
fn stats_say_what_every_stage_did() {
    let stack = Stack::shared();
    let out = scratch("stats").join("bundle.zip");
    let mut command = stack.backup_command(&out);
    let report = run(command.args(["--stats", "--json"])).ok().json();
    let stats = &report["stats"];
    assert!(number(&stats["budget_peak_bytes"]) > 0);
    assert!(number(&stats["budget_peak_bytes"]) <= number(&stats["budget_bytes"]));
    let models = &report["components"]["models"];
    for stage in [
        "receive", "decode", "encode", "hash", "compress", "append", "sync",
    ] {
        let of = &stats["stages"][stage];
        assert!(of["busy_seconds"].as_f64() > Some(0.0), "{stage}: {of}");
        assert!(number(&of["bytes"]) > 0, "{stage}: {of}");
    }
    // All bytes of the file but the last ones go through the appender; they are few.
    let appended = number(&stats["stages"]["append"]["bytes"]);
    assert!(appended >= number(&models["stored_bytes"]), "{stats:#}");
    assert!(appended <= number(&report["bytes"]), "{stats:#}");
    let waited = &stats["stages"]["prove"]["waiting_seconds"];
    assert!(waited.as_f64() > Some(0.0), "{stats:#}");

    let out = scratch("stats-table").join("bundle.zip");
    let said = run(stack.backup_command(&out).arg("--stats")).ok().stdout;
    for head in ["stage", "busy", "waiting", "encode", "of a budget of"] {
        assert!(said.contains(head), "{head}: {said}");
    }
    let out = scratch("stats-none").join("bundle.zip");
    let report = run(stack.backup_command(&out).arg("--json")).ok().json();
    assert_eq!(report["stats"], Value::Null);
}
