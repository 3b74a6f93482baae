//! What is left behind: by a kill, by a server that goes on without its client, by two restores of
//! one place, by a place that is gone.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::stage::{Place, bundle, done, source};
use crate::{
    failures::running::{Running, SOON},
    support::{Stack, arkstream, files_below, run, scratch},
};

fn rows(place: &Place) -> Command {
    let mut command = place.rows(bundle());
    command.args(["--mode", "replace"]);
    command
}

fn killed_at(point: &str, command: &mut Command) {
    command.env("ARKSTREAM_FAULT", format!("{point}:1:kill"));
    let ended = Running::start(command).end(SOON);
    assert_eq!(ended.signal, Some(9), "{point}: {}", ended.stderr);
}

/// The same place, by another state folder.
fn with_state(place: &Place, state: &Path) -> Place {
    Place {
        database: place.database.clone(),
        filestore: place.filestore.clone(),
        graph: place.graph.clone(),
        chroma: place.chroma.clone(),
        state: state.to_owned(),
        dir: place.dir.clone(),
    }
}

/// Waits until the program has stopped itself.
fn until_stopped(running: &Running) {
    let deadline = Instant::now() + SOON;
    while !running.is_stopped() {
        assert!(Instant::now() < deadline, "it did not stop");
        thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), pid])
        .status();
    assert!(status.expect("kill").success(), "{name} {pid}");
}

fn of_restore(word: &str, id: &str, state: &Path) -> Command {
    let mut command = arkstream();
    command.args([word, id, "--state-dir"]).arg(state);
    command.env("PGPASSWORD", Stack::OWNER_PASSWORD);
    command
}

/// The server gets to the commit when its client has long been killed.
#[test]
fn a_commit_that_outlives_its_client_is_neither_lost_nor_half_undone() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine'");
    let before = place.every_row();
    let mut restore = rows(&place);
    let running = Running::start(restore.env("ARKSTREAM_FAULT", "prepared:1:stop"));
    until_stopped(&running);
    let backend = place.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = 'arkstream restore cut-over'",
    );
    signal("STOP", &backend);
    running.signal("CONT");
    thread::sleep(Duration::from_secs(1));
    running.signal("KILL");
    running.end(SOON);
    let undo = Running::start(&mut place.after("undo"));
    thread::sleep(Duration::from_secs(2));
    signal("CONT", &backend);
    let ended = undo.end(SOON);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(place.every_row(), before);
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^arkstream'";
    assert_eq!(place.sql(left), "0");
}

#[test]
fn odoo_workers_are_told_also_when_who_committed_was_killed() {
    let place = Place::copy();
    let signals = || {
        let value = place.sql("SELECT last_value FROM base_registry_signaling");
        value.parse::<u64>().expect("a number")
    };
    let before = signals();
    killed_at("rows.committed", &mut rows(&place));
    assert_eq!(signals(), before);
    // Once for the one that was killed, once for itself.
    done(&mut rows(&place));
    assert_eq!(signals(), before + 2);
}

#[test]
fn rows_are_durable_on_a_server_that_answers_before() {
    let place = Place::copy();
    place.sql(&format!(
        "ALTER DATABASE {} SET synchronous_commit = off; UPDATE ai_message SET content = 'mine' WHERE id = 1; \
         CREATE TABLE seen (value text); GRANT ALL ON seen TO PUBLIC; \
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \
           'BEGIN INSERT INTO public.seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END'; \
         CREATE TRIGGER look AFTER UPDATE ON ai_message EXECUTE FUNCTION look()",
        place.database
    ));
    done(&mut rows(&place));
    run(&mut place.after("undo")).ok();
    let seen = "SELECT string_agg(DISTINCT value, ',') || count(*) FROM seen";
    assert_eq!(place.sql(seen), "on2");
}

#[test]
fn two_restores_of_one_place_exclude_one_another_whatever_their_state_folders() {
    let place = Place::copy();
    let other = with_state(&place, &scratch("another-state"));
    let another = |components: &str| {
        let mut command = other.everything(bundle());
        command.args(["--mode", "replace", "--components", components]);
        command
    };
    let mut first = place.everything(bundle());
    first.args(["--mode", "replace"]);
    first.env("ARKSTREAM_FAULT", "staged:1:stop");
    let first = Running::start(&mut first);
    until_stopped(&first);
    for component in ["models", "filestore", "graph", "chroma"] {
        run(&mut another(component))
            .expect_code(6)
            .says(&["another restore or undo is under way"]);
    }
    first.signal("KILL");
    first.end(SOON);
    done(&mut another("models"));
}

#[test]
fn an_undo_does_not_depend_on_the_working_directory() {
    let place = Place::copy();
    // Then nothing refers to the files after the undo.
    place.sql("DELETE FROM ir_attachment WHERE store_fname IS NOT NULL");
    let mut restore = arkstream();
    restore.arg("restore").arg(bundle()).current_dir(&place.dir);
    restore.args(["--yes", "--progress", "none", "--mode", "replace"]);
    restore.args([
        "--components",
        "models,filestore",
        "--odoo-db",
        &place.url(),
    ]);
    restore.args([
        "--filestore",
        "filestore",
        "--state-dir",
        "state",
        "--report",
        "report.md",
    ]);
    restore.args(["--missing-reference", "null"]);
    done(&mut restore);
    let added = files_below(&place.filestore);
    assert!(!added.is_empty());
    // The same relative path, and somebody else's files.
    let elsewhere = scratch("elsewhere");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&place.filestore)
        .arg(&elsewhere)
        .status();
    assert!(copied.expect("cp").success());
    run(place.after("undo").current_dir(&elsewhere)).ok();
    assert_eq!(files_below(&elsewhere.join("filestore")), added);
    assert!(files_below(&place.filestore).is_empty());
}

#[test]
fn of_two_restores_the_older_is_not_undone_before_the_newer() {
    let place = Place::copy();
    let restore = || {
        let mut command = place.everything(bundle());
        done(command.args(["--mode", "replace"]));
        place.restores()
    };
    let older = restore()[0]["restore_id"]
        .as_str()
        .expect("a name")
        .to_owned();
    // Names of what is kept carry the second.
    thread::sleep(Duration::from_millis(1100));
    let both = restore();
    let newer = both[1]["restore_id"].as_str().expect("a name").to_owned();
    for word in ["undo", "forget"] {
        run(&mut of_restore(word, &older, &place.state))
            .expect_code(6)
            .says(&["no longer what is live", &newer]);
    }
    run(&mut of_restore("undo", &newer, &place.state)).ok();
    run(&mut of_restore("undo", &older, &place.state)).ok();
    assert!(!place.chroma.exists());
}

#[test]
fn a_restore_of_another_place_is_named_and_left_alone() {
    let (gone, place) = (Place::copy(), Place::copy());
    killed_at("staged", &mut rows(&with_state(&gone, &place.state)));
    let id = place.kept();
    // Its server may be gone for good.
    let drop = format!("DROP DATABASE {} WITH (FORCE)", gone.database);
    source().server.psql("postgres", &drop).expect("psql");
    let ended = done(&mut rows(&place));
    assert!(
        ended.stderr.contains(&id) && ended.stderr.contains("another place"),
        "{}",
        ended.stderr
    );
    run(&mut of_restore("forget", &id, &place.state)).expect_code(7);
    let mut forget = of_restore("forget", &id, &place.state);
    run(forget.arg("--force"))
        .ok()
        .says(&["is left where it is", "arkstream_"]);
    assert_ne!(place.kept(), id);
}

#[test]
fn a_proof_that_does_not_finish_is_no_failed_restore() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine'");
    let before = place.every_row();
    let mut restore = rows(&place);
    restore.env("ARKSTREAM_FAULT", "proven:1:eio");
    let ended = run(&mut restore);
    let id = place.kept();
    let words = format!("the restore {id} is live, only its proof did not finish");
    assert!(
        ended.code != Some(0) && ended.stderr.contains(&words),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains(&format!("arkstream undo {id}")));
    assert_ne!(place.every_row(), before);
    let staged = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^arkstream_[0-9a-z]{16}$'";
    assert_eq!(place.sql(staged), "0");
    run(&mut place.after("undo")).ok();
    assert_eq!(place.every_row(), before);
}
