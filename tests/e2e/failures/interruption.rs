//! Ctrl-C, SIGTERM and SIGKILL, wherever they hit: the run ends at once, and nothing of it stays.

use std::time::Duration;

use super::{
    FEW_MODELS, backup,
    connection::{no_session_stays, sessions, slow_database},
    is_not_published, keeps_secrets, new_out,
    output::endless_backup,
    running::{Running, SOON, is_alive, until},
    small_backup,
};
use crate::{
    consistency::locks::{IdleHolder, copy_of_chroma},
    support::{Stack, run, runtime},
};

/// A run that is told to end does so within this.
const PROMPTLY: Duration = Duration::from_secs(10);

#[test]
fn an_interrupt_during_a_dump_ends_pg_dump_too() {
    for signal in ["INT", "TERM"] {
        let (out, database) = (new_out(), Stack::shared().fresh_database());
        let running = endless_backup(&database, &out);
        let children = running.children();
        assert!(!sessions(&database).is_empty(), "the snapshot is held");
        running.signal(signal);
        let ended = running.end(PROMPTLY);
        assert_eq!(ended.code, Some(130), "SIG{signal}: {ended:?}");
        assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("--fresh"),
            "what now? {}",
            ended.stderr
        );
        assert!(!children.is_empty());
        assert!(
            !children.iter().any(|pid| is_alive(*pid)),
            "SIG{signal}: pg_dump lives on"
        );
        is_not_published(&out);
        keeps_secrets(&ended.stdout, &ended.stderr);
        no_session_stays(&database);
    }
}

#[test]
fn an_interrupt_while_tables_are_read() {
    let (out, database) = (new_out(), slow_database());
    for signal in ["INT", "TERM"] {
        let url = Stack::shared().url(&database);
        let mut command = backup(&url, &out, &FEW_MODELS);
        let mut running = Running::start(command.arg("--fresh"));
        running.until("a table is read", |_| {
            sessions(&database)
                .iter()
                .any(|session| session.contains("|active|COPY"))
        });
        running.signal(signal);
        let ended = running.end(PROMPTLY);
        assert_eq!(ended.code, Some(130), "SIG{signal}: {ended:?}");
        is_not_published(&out);
        no_session_stays(&database);
    }
}

#[test]
fn an_interrupt_while_a_lock_is_awaited() {
    let stack = Stack::shared();
    let (out, database) = (new_out(), stack.fresh_database());
    let blocker = runtime()
        .block_on(stack.server.superuser_connect(&database))
        .unwrap();
    let lock = "BEGIN; LOCK TABLE ai_message IN ACCESS EXCLUSIVE MODE";
    runtime().block_on(blocker.batch_execute(lock)).unwrap();
    let mut running = Running::start(&mut backup(&stack.url(&database), &out, &FEW_MODELS));
    running.until("the run waits", |_| {
        sessions(&database)
            .iter()
            .any(|session| session.contains("SET LOCAL lock_timeout"))
    });
    running.signal("INT");
    let ended = running.end(PROMPTLY);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    is_not_published(&out);
    runtime().block_on(blocker.batch_execute("COMMIT")).unwrap();
    drop(blocker);
    no_session_stays(&database);
}

#[test]
fn an_interrupt_while_chromas_lock_is_awaited() {
    let stack = Stack::shared();
    let (out, database, chroma) = (new_out(), stack.fresh_database(), copy_of_chroma());
    let holder = IdleHolder::on(&chroma);
    let name = chroma.display().to_string();
    let mut command = backup(&stack.url(&database), &out, &["--chroma", &name]);
    let mut running = Running::start(command.args(FEW_MODELS));
    // The tables are locked first; from then on it waits for ChromaDB.
    running.until("the tables are locked", |_| {
        sessions(&database)
            .iter()
            .any(|session| session.contains("|idle in transaction|SET LOCAL lock_timeout = 0"))
    });
    running.signal("INT");
    let ended = running.end(PROMPTLY);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    is_not_published(&out);
    no_session_stays(&database);
    holder.let_go();
    IdleHolder::on(&chroma).let_go();
}

#[test]
fn an_interrupt_while_a_server_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let port = silent.local_addr().unwrap().port();
    let out = new_out();
    let url = format!("postgresql://odoo:x@127.0.0.1:{port}/odoo?connect_timeout=600");
    let mut running = Running::start(&mut backup(&url, &out, &[]));
    let mut accepted = Vec::new();
    until("it connects", SOON, || {
        accepted.extend(silent.accept().ok());
        !accepted.is_empty()
    });
    assert!(!running.has_ended());
    running.signal("TERM");
    assert_eq!(running.end(PROMPTLY).code, Some(130));
    is_not_published(&out);
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let (out, database) = (new_out(), Stack::shared().fresh_database());
    let running = endless_backup(&database, &out);
    // Stopped, it gets both at once when it goes on.
    running.signal("STOP");
    running.signal("INT");
    running.signal("TERM");
    running.signal("CONT");
    let ended = running.end(PROMPTLY);
    assert!(
        ended.code == Some(130) || ended.signal.is_some(),
        "{ended:?}"
    );
    is_not_published(&out);
    no_session_stays(&database);
}

#[test]
fn after_a_kill_nothing_lives_on_and_the_next_run_starts_fresh() {
    let (out, database) = (new_out(), slow_database());
    let url = Stack::shared().url(&database);
    let mut command = backup(&url, &out, &["--models", "ai.conversation", "--odoo-dump"]);
    let mut running = Running::start(&mut command);
    // The real pg_dump, in the middle of the long table: we ourselves would COPY a query.
    running.until("pg_dump reads", |_| {
        sessions(&database)
            .iter()
            .any(|session| session.contains("|active|COPY public.ai_message"))
    });
    let children = running.children();
    assert!(!children.is_empty());
    running.signal("KILL");
    assert_eq!(running.end(PROMPTLY).signal, Some(9));
    is_not_published(&out);
    until("pg_dump ends", SOON, || {
        !children.iter().any(|pid| is_alive(*pid))
    });
    until("its sessions end", SOON, || sessions(&database).is_empty());

    run(&mut small_backup(&out))
        .expect_code(6)
        .says(&["interrupted run left", "--fresh"]);
    run(small_backup(&out).arg("--fresh")).ok();
    run(crate::support::arkstream().arg("verify").arg(&out)).ok();
}
