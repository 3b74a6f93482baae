//! A bundle taken while ChromaDB is hammered and Odoo's rows change: it is one moment of both,
//! and nobody who wrote had to notice.

use std::path::{Path, PathBuf};

use arkstream_sample::Traffic;
use chrono::DateTime;
use serde_json::{Value, json};

use super::contents;
use crate::support::{ChromaWriter, Stack, arkstream, run, runtime, scratch, soak};

/// Bundles that are looked at together.
const GROUP: usize = 20;

const MODELS: &str = "ai.conversation,ai.message,ai.knowledge.domain";

/// One bundle of the moving stack, and what was known of the moment.
struct Taken {
    bundle: PathBuf,
    /// When all locks were held, in nanoseconds since 1970.
    at: i64,
    /// The newest conversations before the run began, and after it had ended.
    newest: (i64, i64),
}

#[test]
fn bundles_of_a_stack_under_load_are_one_moment_of_it() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let chroma = scratch("hot").join("chroma_data");
    let writer = ChromaWriter::start(&chroma);
    let traffic = runtime()
        .block_on(Traffic::start(&stack.url(&database), 7))
        .expect("writes");
    let rounds = soak(20, 200);
    let mut done = 0;
    let sum = stack
        .server
        .psql(
            &database,
            "SELECT sum(conversation_count) FROM ai_knowledge_domain",
        )
        .expect("psql");
    while done < rounds {
        let group: Vec<Taken> = (done..rounds.min(done + GROUP))
            .map(|_| {
                let (writes, transactions) = (writer.acknowledged(), traffic.committed());
                let taken = take(stack, &database, &chroma);
                assert!(
                    writer.acknowledged() > writes,
                    "ChromaDB was not written to meanwhile"
                );
                assert!(
                    traffic.committed() > transactions,
                    "Odoo was not written to meanwhile"
                );
                taken
            })
            .collect();
        done += group.len();
        rows_keep_the_rules(&group, &sum);
        vectors_are_complete(&group, writer.log());
        for taken in group {
            std::fs::remove_file(taken.bundle).expect("ours");
        }
    }
    let report = runtime()
        .block_on(traffic.stop())
        .expect("the connection lives");
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(
        report.messages > 0 && report.deleted > 0 && report.transfers > 0,
        "{report:?}"
    );
    writer.finish();
}

/// One run, judged by its own words.
fn take(stack: &Stack, database: &str, chroma: &Path) -> Taken {
    let newest = || {
        let answer = stack
            .server
            .psql(database, "SELECT max(id) FROM ai_conversation");
        answer.expect("psql").parse::<i64>().expect("a number")
    };
    let before = newest();
    let bundle = scratch("hot").join("bundle.zip");
    let mut command = arkstream();
    command.args([
        "backup",
        "--json",
        "--progress",
        "none",
        "--no-graph",
        "--no-filestore",
    ]);
    command.args([
        "--odoo-db",
        &stack.url(database),
        "--models",
        MODELS,
        "--chroma",
    ]);
    command
        .arg(chroma)
        .arg("--out")
        .arg(&bundle)
        .args(["--chroma-max-hold", "30s"]);
    let report = run(&mut command).ok().json();
    let hold = report["chroma_hold_ms"]
        .as_u64()
        .expect("how long writers were held");
    assert!(hold < 30_000, "{report}");
    assert!(report["barrier_skew_ms"].is_u64(), "{report}");

    let verdict = run(arkstream().args(["verify", "--json"]).arg(&bundle))
        .ok()
        .json();
    assert_eq!(verdict["verdict"], "good", "{verdict}");
    let shown = run(arkstream().args(["show", "--json"]).arg(&bundle))
        .ok()
        .json();
    let generation = &shown["generations"][0];
    assert_eq!(generation["chroma_hold_ms"], hold, "{shown}");
    let at = generation["taken_at"].as_str().expect("a time");
    let at = DateTime::parse_from_rfc3339(at).expect("RFC 3339");
    Taken {
        bundle,
        at: at.timestamp_nanos_opt().expect("this century"),
        newest: (before, newest()),
    }
}

fn rows_keep_the_rules(group: &[Taken], sum: &str) {
    let jobs: Vec<Value> = group
        .iter()
        .map(|taken| {
            json!({
                "bundle": taken.bundle,
                "models": {
                    "ai.conversation": "ai_conversation",
                    "ai.message": "ai_message",
                    "ai.knowledge.domain": "ai_knowledge_domain",
                },
                "queries": {
                    "broken": Traffic::BROKEN_RULES,
                    "orphans": "SELECT count(*) FROM ai_message m ANTI JOIN ai_conversation c ON c.id = m.conversation_id WHERE m.conversation_id IS NOT NULL",
                    "sum": "SELECT sum(conversation_count) FROM ai_knowledge_domain",
                    "newest": "SELECT max(id) FROM ai_conversation",
                    "traffic": "SELECT count(*) FROM ai_conversation WHERE name LIKE 'Traffic %'",
                },
            })
        })
        .collect();
    for (taken, answer) in group.iter().zip(contents::rows(&jobs)) {
        assert_eq!(answer["broken"], 0, "a torn conversation: {answer}");
        assert_eq!(
            answer["orphans"], 0,
            "a message without its conversation: {answer}"
        );
        assert_eq!(
            answer["sum"].to_string().trim_matches('"'),
            sum,
            "a torn transfer: {answer}"
        );
        let newest = answer["newest"].as_i64().expect("a number");
        let (before, after) = taken.newest;
        assert!(
            (before..=after).contains(&newest),
            "{newest} is not in {:?}",
            taken.newest
        );
        assert!(answer["traffic"].as_u64() > Some(0), "{answer}");
    }
}

/// Every write acknowledged before the barrier is there. One more may be: it was under way, and
/// its acknowledgement had not reached the writer's log. A second one would be from after it.
fn vectors_are_complete(group: &[Taken], log: &Path) {
    let bundles: Vec<_> = group
        .iter()
        .map(|taken| (taken.bundle.clone(), taken.at))
        .collect();
    for verdict in contents::vectors(&bundles, log) {
        assert_eq!(verdict["ok"], true, "{verdict:#}");
        assert!(verdict["unlinked"].as_u64() <= Some(3), "{verdict:#}");
        let collections = verdict["collections"].as_array().expect("a list");
        assert_eq!(collections.len(), 2, "{verdict:#}");
        let number = |entry: &Value, key: &str| entry[key].as_u64().expect("a number");
        let required: u64 = collections
            .iter()
            .map(|entry| number(entry, "required"))
            .sum();
        let found: u64 = collections.iter().map(|entry| number(entry, "found")).sum();
        assert!(required > 0 && found <= required + 1, "{verdict:#}");
        assert!(
            collections.iter().all(|entry| number(entry, "queried") > 0),
            "{verdict:#}"
        );
    }
}
