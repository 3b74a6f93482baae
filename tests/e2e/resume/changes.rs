//! What changed between the kill and the continuation.

use std::{path::Path, time::Duration};

use serde_json::Value;

use super::{resumed, verified};
use crate::{
    failures::running::Running,
    support::{Bundle, Stack, run, scratch},
    values::compare,
};

/// Rows in so many blocks that there are many parts.
fn large_database() -> String {
    let stack = Stack::shared();
    let name = stack.fresh_database();
    let sql = "INSERT INTO ai_message (conversation_id, role, content) \
        SELECT (SELECT min(id) FROM ai_conversation), 'user', \
          (SELECT string_agg(md5(n::text || m::text), '') FROM generate_series(1, 60) AS m) \
        FROM generate_series(1, 30000) AS n";
    stack.server.psql(&name, sql).expect("messages");
    name
}

fn command(database: &str, out: &Path) -> std::process::Command {
    let stack = Stack::shared();
    let few = ["--models", "ai.conversation,ai.message"];
    let mut command = crate::failures::backup(&stack.url(database), out, &few);
    command.args(["--memory", "32MiB", "--odoo-dump", "--json"]);
    command
}

/// Killed when all parts are finished, and the dump of the whole database is not.
fn kill_after_the_parts(database: &str, out: &Path) {
    // Slowly, so that the dump is still being written when the journal speaks of it.
    let mut running = Running::start(command(database, out).args(["--compression", "small"]));
    let journal = arkstream_bundle::OutputPaths::new(out).journal;
    running.until("the dump has begun", |_| {
        arkstream_bundle::read_journal(&journal).is_ok_and(|state| state.torn.is_some())
    });
    running.signal("KILL");
    running.end(Duration::from_secs(30));
}

fn messages(bundle: &Bundle) -> Vec<Value> {
    let table = bundle.table("public.ai_message");
    table["parts"].as_array().expect("parts").clone()
}

fn finish(database: &str, out: &Path) -> Bundle {
    let ended = run(&mut command(database, out)).ok();
    let bundle = verified(out, &ended);
    let found = compare(&bundle, database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    bundle
}

#[test]
fn only_parts_whose_rows_changed_are_exported_again() {
    let database = large_database();
    let out = scratch("changes").join("bundle.zip");
    kill_after_the_parts(&database, &out);
    // One row in a hundred, beside each other as rows of a day are.
    let sql =
        "UPDATE ai_message SET role = 'other' WHERE id > (SELECT max(id) - 300 FROM ai_message)";
    Stack::shared().server.psql(&database, sql).expect("psql");
    let bundle = finish(&database, &out);
    let parts = messages(&bundle);
    assert!(parts.len() > 8, "{} parts", parts.len());
    let again: Vec<&Value> = parts.iter().filter(|p| p["generation"] == 2).collect();
    assert!(!again.is_empty() && again.len() <= 4, "{again:#?}");
    for part in parts.iter().filter(|part| part["generation"] == 1) {
        assert_eq!(part["kept_by"], "row_versions", "{part:#}");
    }
    let redone = bundle.report["resumed"]["redone"]
        .as_array()
        .expect("a list");
    assert!(
        redone.iter().any(|r| r["reason"] == "its rows changed"),
        "{redone:#?}"
    );
}

#[test]
fn the_torn_dump_goes_on_at_its_chunk() {
    let database = large_database();
    let out = scratch("changes").join("bundle.zip");
    kill_after_the_parts(&database, &out);
    let journal = arkstream_bundle::OutputPaths::new(&out).journal;
    let before = arkstream_bundle::read_journal(&journal)
        .unwrap()
        .durable_len;
    let bundle = finish(&database, &out);
    // The statistics of the sequences and so on are read again; the torn dump counts as kept.
    let kept = resumed(&bundle.report, "kept_bytes");
    assert!(
        kept * 100 >= before * 95,
        "{kept} of {before}: {:#}",
        bundle.report["resumed"]
    );
    let manifest = bundle.json("manifest.json");
    let dead = manifest["dead_ranges"].as_array().map_or(0, Vec::len);
    assert_eq!(dead, 0, "{:#}", manifest["dead_ranges"]);
}

#[test]
fn after_a_restart_of_the_server_rows_are_compared_and_not_trusted() {
    let stack = Stack::new(crate::support::StackOptions {
        graph: false,
        chroma: false,
        ..Default::default()
    });
    let out = scratch("changes").join("bundle.zip");
    let command = || {
        let mut command = stack.backup_of(&stack.odoo, &out);
        command.args([
            "--models",
            "ai.conversation,ai.message",
            "--odoo-dump",
            "--json",
        ]);
        command
    };
    let mut running = Running::start(&mut command());
    let journal = arkstream_bundle::OutputPaths::new(&out).journal;
    running.until("the parts are finished", |_| {
        arkstream_bundle::read_journal(&journal).is_ok_and(|state| {
            let names = state.members.iter().map(|member| member.name.as_str());
            names.filter(|name| name.contains("ai.message/")).count() > 0
        })
    });
    running.signal("KILL");
    running.end(Duration::from_secs(30));
    stack
        .server
        .restart(arkstream_sample::StopMode::Fast)
        .expect("it starts again");
    let ended = run(&mut command()).ok();
    let bundle = verified(&out, &ended);
    let kept: Vec<Value> = messages(&bundle);
    assert!(kept.iter().all(|part| part["generation"] == 1), "{kept:#?}");
    assert!(
        kept.iter().all(|part| part["kept_by"] == "content"),
        "{kept:#?}"
    );
}
