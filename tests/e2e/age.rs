//! A real Apache AGE as the source of the graph.
//!
//! It has a single backend and shares no snapshot, so `pg_dump` takes its own, and it is a newer
//! PostgreSQL than the one that Odoo's database runs on.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use serde_json::Value;

use crate::support::{Bundle, Stack, arkstream, run, scratch, setting, support_file};

/// AGE over TCP. It ends with its standard input, and so with this value.
struct Age {
    child: Child,
    _stdin: ChildStdin,
    /// What it said when it was ready.
    ready: Value,
}

impl Age {
    fn start() -> Self {
        let mut command = Command::new(setting("ARKSTREAM_TEST_NODE"));
        command
            .arg(support_file("age/server.mjs"))
            .args(["--port", "0"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"));
        let stdin = child.stdin.take().expect("piped");
        Self {
            child,
            _stdin: stdin,
            ready,
        }
    }

    fn url(&self) -> String {
        let text = |key: &str| self.ready[key].as_str().expect("a text").to_owned();
        format!(
            "postgresql://{}@{}:{}/{}?sslmode=disable",
            text("user"),
            text("host"),
            self.ready["port"],
            text("database")
        )
    }

    /// Rows of a label.
    fn count(&self, label: &str) -> u64 {
        let labels = self.ready["labels"].as_array().expect("a list");
        let found = labels.iter().find(|entry| entry["name"] == label);
        found.expect(label)["count"].as_u64().expect("a number")
    }
}

impl Drop for Age {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows of one table in a plain dump.
fn copied<'a>(dump: &'a str, table: &str) -> Vec<&'a str> {
    let start = format!("COPY {table} (");
    let lines = dump
        .lines()
        .skip_while(|line| !line.starts_with(&start))
        .skip(1);
    lines.take_while(|line| *line != "\\.").collect()
}

fn pg_dump_folder() -> String {
    let path = setting("ARKSTREAM_TEST_PG_DUMP18");
    path.parent().expect("a folder").display().to_string()
}

/// A backup of the graph at `url`, of a few models, and of nothing else.
fn backup(url: &str, out: &Path, extra: &[&str]) -> Command {
    let stack = Stack::shared();
    let mut command = arkstream();
    command.args([
        "backup",
        "--json",
        "--progress",
        "none",
        "--no-filestore",
        "--no-chroma",
    ]);
    command.args([
        "--models",
        "ai.conversation",
        "--odoo-db",
        &stack.url(&stack.odoo),
    ]);
    command
        .args(["--graph-db", url, "--pg-path", &pg_dump_folder()])
        .args(extra);
    command.arg("--out").arg(out);
    command
}

#[test]
fn a_real_age_graph_is_dumped_whole() {
    let age = Age::start();
    let out = scratch("age").join("bundle.zip");
    let ended = run(&mut backup(&age.url(), &out, &["--graph-snapshot", "own"])).ok();
    let report = ended.json();
    assert_eq!(
        report["omissions"].as_array().map(Vec::len),
        Some(0),
        "{report}"
    );
    assert_eq!(report["components"]["graph"]["members"], 1, "{report}");
    let verdict = run(arkstream().args(["verify", "--json"]).arg(&out))
        .ok()
        .json();
    assert_eq!(verdict["verdict"], "good", "{verdict}");

    let bundle = Bundle::open(out, report, ended.stderr);
    let dump = bundle.dir.join("databases/postgres_graph_dump.sql");
    let dump = std::fs::read_to_string(dump).expect("UTF-8");
    assert!(dump.contains("-- PostgreSQL database dump complete"));
    assert!(dump.contains("CREATE EXTENSION IF NOT EXISTS age WITH SCHEMA ag_catalog"));
    let graph = age.ready["graph"].as_str().expect("a name");
    for label in [
        "Person", "Topic", "Empty", "Document", "KNOWS", "ABOUT", "WROTE",
    ] {
        let rows = copied(&dump, &format!("{graph}.\"{label}\""));
        assert_eq!(rows.len() as u64, age.count(label), "{label}");
    }
    assert_eq!(copied(&dump, "ag_catalog.ag_graph").len(), 1);
    assert_eq!(copied(&dump, "ag_catalog.ag_label").len(), 9);

    let people = copied(&dump, &format!("{graph}.\"Person\"")).join("\n");
    for value in [
        "\"name\": \"Ada 🚀\"",
        "\"score\": 0.30000000000000004",
        "\"big\": 9223372036854775807",
        "5e-324",
        "-0.0",
        "[\"α\", \"𝔘\", \"\"]",
        "\"name\": \"Zoë\"",
    ] {
        assert!(people.contains(value), "{value} is not in:\n{people}");
    }
    let topics = copied(&dump, &format!("{graph}.\"Topic\"")).join("\n");
    assert!(
        topics.contains("שלום עולם") && topics.contains("2.5e+300"),
        "{topics}"
    );
    let knows = copied(&dump, &format!("{graph}.\"KNOWS\"")).join("\n");
    assert!(knows.contains("0.30000000000000004"), "{knows}");

    let summary = &bundle.json("manifest.json")["graph"];
    assert_eq!(summary["age_version"], age.ready["age"], "{summary}");
    assert_eq!(summary["graphs"], serde_json::json!([graph]), "{summary}");
    assert!(
        summary["pg_dump_version"]
            .as_str()
            .expect("a text")
            .contains(" 18."),
        "{summary}"
    );
    assert_eq!(
        bundle.json("manifest.json")["generations"][0]["snapshots"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|entry| entry["component"] == "graph" && entry["snapshot"] == "")
            .count(),
        1
    );
    let instructions = std::fs::read_to_string(bundle.dir.join("restore_instructions.md")).unwrap();
    for words in ["ag_catalog.ag_graph", "fixed_label", "ON_ERROR_STOP=1"] {
        assert!(instructions.contains(words), "{words}");
    }

    // Twice the same graph, twice the same dump.
    let again = scratch("age").join("bundle.zip");
    run(&mut backup(
        &age.url(),
        &again,
        &["--graph-snapshot", "own"],
    ))
    .ok();
    let again = run(arkstream()
        .arg("cat")
        .arg(&again)
        .arg("databases/postgres_graph_dump.sql"))
    .ok();
    assert!(
        again.stdout == dump,
        "the dump of an unchanged graph differs"
    );
}

#[test]
fn a_server_that_cannot_share_a_snapshot_says_what_to_do() {
    let age = Age::start();
    let out = scratch("age").join("bundle.zip");
    let mut url = age.url();
    url.push_str("&connect_timeout=5");
    let ended = run(&mut backup(&url, &out, &["--lock-timeout", "5s"])).expect_code(7);
    assert!(
        ended.stderr.contains("--graph-snapshot own"),
        "{}",
        ended.stderr
    );
    assert!(!out.exists());
}
