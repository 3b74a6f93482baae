//! What passes by itself does not end a run: a lost connection, a server that restarts, a `pg_dump`
//! that dies, a disk that gets space again.

use std::{path::Path, process::Command, time::Duration};

use arkstream_sample::StopMode;

use super::verified;
use crate::{
    failures::{
        backup,
        connection::{database_with, sessions},
        namespace::in_namespace,
        running::{Ended, Running},
    },
    support::{Bundle, Stack, StackOptions, run, scratch, soak},
    values::compare,
};

const LONG: Duration = Duration::from_secs(240);

/// Two models and the dump of the whole database, patiently.
fn patient(url: &str, out: &Path) -> Command {
    let mut command = backup(url, out, &["--models", "ai.conversation,ai.message"]);
    command
        .env("ARKSTREAM_RETRY_FOR", "60s")
        .args(["--odoo-dump", "--json"]);
    command
}

#[track_caller]
fn bundle_of(out: &Path, ended: Ended, generations: usize) -> Bundle {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = serde_json::from_str(&ended.stdout).expect("JSON");
    run(crate::support::arkstream()
        .args(["verify", "--progress", "none"])
        .arg(out))
    .ok();
    let bundle = Bundle::open(out.to_owned(), report, ended.stderr);
    let manifest = bundle.json("manifest.json");
    assert_eq!(
        manifest["generations"].as_array().map(Vec::len),
        Some(generations),
        "{:#}",
        manifest["generations"]
    );
    let log = std::fs::read_to_string(bundle.dir.join("logs/export_log.txt")).unwrap();
    assert!(log.contains("trying again in"), "{log}");
    bundle
}

#[test]
fn terminated_sessions_cost_a_generation_and_not_the_run() {
    let stack = Stack::shared();
    let database = database_with(150);
    let out = scratch("retries").join("bundle.zip");
    let mut running = Running::start(&mut patient(&stack.url(&database), &out));
    running.until("a table is read", |_| {
        sessions(&database)
            .iter()
            .any(|session| session.contains("|active|COPY"))
    });
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    );
    stack.server.psql("postgres", &sql).expect("psql");
    let bundle = bundle_of(&out, running.end(LONG), 2);
    let found = compare(&bundle, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
}

#[test]
fn a_pg_dump_that_dies_is_started_again() {
    let stack = Stack::shared();
    let database = database_with(150);
    let out = scratch("retries").join("bundle.zip");
    let mut running = Running::start(&mut patient(&stack.url(&database), &out));
    running.until("pg_dump reads", |_| {
        sessions(&database)
            .iter()
            .any(|session| session.contains("|active|COPY public.ai_message"))
    });
    for child in running.children() {
        let _ = Command::new("kill")
            .args(["-9", &child.to_string()])
            .status();
    }
    let bundle = bundle_of(&out, running.end(LONG), 2);
    // The parts were finished; none is read again.
    let parts = bundle.table("public.ai_message")["parts"].clone();
    let parts = parts.as_array().expect("parts");
    assert!(
        parts.iter().all(|part| part["kept_by"] == "row_versions"),
        "{parts:#?}"
    );
}

#[test]
fn a_server_that_crashes_and_comes_back_is_waited_for() {
    let stack = Stack::new(StackOptions {
        graph: false,
        chroma: false,
        ..StackOptions::default()
    });
    let sql = "INSERT INTO ai_message (conversation_id, role, content) \
        SELECT (SELECT min(id) FROM ai_conversation), 'user', repeat(md5(n::text), 32768) \
        FROM generate_series(1, 100) AS n";
    stack.server.psql(&stack.odoo, sql).expect("long messages");
    let out = scratch("retries").join("bundle.zip");
    let mut running = Running::start(&mut patient(&stack.url(&stack.odoo), &out));
    running.until("a part is finished", |_| {
        let journal = arkstream_bundle::OutputPaths::new(&out).journal;
        arkstream_bundle::read_journal(&journal).is_ok_and(|state| !state.members.is_empty())
    });
    stack.server.stop(StopMode::Immediate).expect("it stops");
    std::thread::sleep(Duration::from_secs(2));
    stack.server.start_again().expect("it starts");
    let bundle = bundle_of(&out, running.end(LONG), 2);
    let kept = bundle.json("manifest.json").to_string();
    assert!(
        !kept.contains("row_versions"),
        "a restart breaks the proof by row versions"
    );
}

/// A script for a small disk at `folder`: full at first, with space `after` a command.
fn small_disk(folder: &Path, kib: u64, then: &str) -> String {
    let folder = folder.display();
    format!(
        "mount -t tmpfs -o size={kib}k none '{folder}' || exit 99\n\
         space() {{ mount -o remount,size=1g '{folder}'; }}\n{then}"
    )
}

#[test]
fn a_full_disk_is_waited_for_when_the_user_says_so() {
    let stack = Stack::shared();
    let (folder, kept) = (scratch("small"), scratch("kept"));
    let mut command = stack.backup_of(&stack.odoo, &folder.join("bundle.zip"));
    command.args(["--wait-for-space", "60s", "--json"]);
    let script = small_disk(
        &folder,
        1500,
        &format!(
            "( sleep 6; space ) &\n\"$@\"\ncode=$?\ncp '{}'/bundle.zip '{}'\nexit $code",
            folder.display(),
            kept.display()
        ),
    );
    let ended = run(&mut in_namespace(&script, &command)).ok();
    let bundle = verified(&kept.join("bundle.zip"), &ended);
    let log = std::fs::read_to_string(bundle.dir.join("logs/export_log.txt")).unwrap();
    assert!(log.contains("no space left for the"), "{log}");
    assert!(log.contains("there is space again"), "{log}");
}

#[test]
fn a_run_that_a_full_disk_ended_goes_on_when_there_is_space() {
    let stack = Stack::shared();
    for round in 0..soak(3, 50) {
        // From the first bytes up to nearly all of it.
        let kib = 200 + 137 * round % 3500;
        let (folder, kept) = (scratch("small"), scratch("kept"));
        let mut command = stack.backup_of(&stack.odoo, &folder.join("bundle.zip"));
        command.arg("--json");
        let script = small_disk(
            &folder,
            kib,
            &format!(
                "\"$@\" >/dev/null\ncode=$?\n[ $code = 8 ] || exit $code\nspace\n\"$@\"\ncode=$?\n\
                 cp '{}'/bundle.zip '{}'\nexit $code",
                folder.display(),
                kept.display()
            ),
        );
        let ended = run(&mut in_namespace(&script, &command)).ok();
        let bundle = verified(&kept.join("bundle.zip"), &ended);
        assert!(
            !bundle.report["resumed"].is_null(),
            "{kib} KiB: {:#}",
            bundle.report
        );
    }
}
