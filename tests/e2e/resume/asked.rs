//! What the user says about an unfinished bundle, and what is said to them.

use std::{path::Path, time::Duration};

use super::{resumed, verified};
use crate::{
    failures::running::Running,
    support::{Stack, run, scratch},
};

const FEW: [&str; 5] = [
    "--models",
    "ai.conversation,ai.message",
    "--no-chroma",
    "--no-graph",
    "--no-filestore",
];

/// A backup of some models, killed when its first member is in the bundle.
fn kill_one(database: &str, out: &Path) {
    let stack = Stack::shared();
    let mut command = super::super::failures::backup(&stack.url(database), out, &FEW[..2]);
    let mut running = Running::start(command.arg("--odoo-dump"));
    let journal = arkstream_bundle::OutputPaths::new(out).journal;
    running.until("a member is finished", |_| {
        arkstream_bundle::read_journal(&journal).is_ok_and(|state| !state.members.is_empty())
    });
    running.signal("KILL");
    running.end(Duration::from_secs(30));
    assert!(!out.exists());
}

fn again(database: &str, out: &Path) -> std::process::Command {
    let stack = Stack::shared();
    let mut command = super::super::failures::backup(&stack.url(database), out, &FEW[..2]);
    command.args(["--odoo-dump", "--json"]);
    command
}

#[test]
fn it_says_what_it_continues_and_what_it_keeps() {
    let database = Stack::shared().fresh_database();
    let out = scratch("asked").join("bundle.zip");
    kill_one(&database, &out);
    let mut command = again(&database, &out);
    command.args(["--resume", "--recheck"]);
    let ended = run(&mut command).ok();
    let bundle = verified(&out, &ended);
    let log = std::fs::read_to_string(bundle.dir.join("logs/export_log.txt")).unwrap();
    assert!(log.contains("continuing the bundle begun"), "{log}");
    assert!(resumed(&bundle.report, "kept_members") > 0);
    let listed = bundle.report["resumed"]["redone"].as_array();
    assert!(listed.is_some(), "{:#}", bundle.report);
}

#[test]
fn another_plan_is_refused_with_the_difference() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let out = scratch("asked").join("bundle.zip");
    kill_one(&database, &out);
    let others = ["--models", "ai.conversation"];
    let mut command = super::super::failures::backup(&stack.url(&database), &out, &others);
    let said = run(&mut command).expect_code(6).says(&[
        "models.selection was \"ai.conversation,ai.message\", is \"ai.conversation\"",
        "odoo-dump was \"included\", is nothing",
        "--fresh",
    ]);
    assert!(!said.stderr.contains("--resume"));
    run(&mut again(&stack.odoo, &out))
        .expect_code(6)
        .says(&["models.database was", "--fresh"]);
    // It is still there to be continued.
    run(again(&database, &out).arg("--resume")).ok();
}

#[test]
fn a_lost_journal_is_never_guessed_at() {
    let database = Stack::shared().fresh_database();
    let out = scratch("asked").join("bundle.zip");
    kill_one(&database, &out);
    std::fs::remove_file(arkstream_bundle::OutputPaths::new(&out).journal).unwrap();
    run(&mut again(&database, &out))
        .expect_code(6)
        .says(&["journal", "--fresh"]);
    run(again(&database, &out).arg("--fresh")).ok();
}

#[test]
fn resume_without_anything_to_resume_fails() {
    let stack = Stack::shared();
    let out = scratch("asked").join("bundle.zip");
    run(again(&stack.odoo, &out).arg("--resume"))
        .expect_code(6)
        .says(&["no interrupted run", "leave out --resume"]);
    run(again(&stack.odoo, &out).args(["--resume", "--fresh"])).expect_code(2);
}

#[test]
fn in_a_folder_the_unfinished_bundle_of_the_same_plan_is_found() {
    let database = Stack::shared().fresh_database();
    let folder = scratch("asked");
    let early = folder.join("sam_ai_complete_backup_20260101_000000.zip");
    kill_one(&database, &early);
    // One of another plan is left alone.
    let other = folder.join("sam_ai_complete_backup_20260102_000000.zip");
    kill_one(&Stack::shared().fresh_database(), &other);
    let ended = run(&mut again(&database, &folder)).ok();
    verified(&early, &ended);
    assert_eq!(ended.json()["bundle"], early.display().to_string());
    assert!(!other.exists());
    // The next one begins a bundle of its own.
    let ended = run(&mut again(&database, &folder)).ok();
    assert!(ended.json()["resumed"].is_null());
}

#[test]
fn a_second_run_on_the_same_output_is_refused_at_once() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let out = scratch("asked").join("bundle.zip");
    kill_one(&database, &out);
    let mut first = Running::start(&mut again(&database, &out));
    first.signal("STOP");
    // Stopped before or after it took the lock; once it goes on, one of the two wins.
    first.signal("CONT");
    first.until("it holds the lock", |_| {
        let file = std::fs::File::open(arkstream_bundle::OutputPaths::new(&out).partial);
        file.is_ok_and(|file| file.try_lock().is_err())
    });
    first.signal("STOP");
    run(&mut again(&database, &out))
        .expect_code(6)
        .says(&["another run is writing it"]);
    first.signal("KILL");
    first.end(Duration::from_secs(30));
    run(again(&database, &out).arg("--resume")).ok();
}
