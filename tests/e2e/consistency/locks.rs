//! Locks that others hold: they are waited for as long as allowed, and then named.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::support::{Run, Stack, arkstream, python, run, runtime, scratch, sh};

/// Holds SQLite's write lock of a ChromaDB directory until its standard input ends.
pub(crate) struct IdleHolder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl IdleHolder {
    pub(crate) fn on(chroma: &Path) -> Self {
        let script = "import sqlite3, sys\n\
            c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
            c.execute('BEGIN IMMEDIATE')\n\
            print('held', flush=True)\n\
            sys.stdin.read()\n";
        let mut command = python();
        command
            .args(["-c", script])
            .arg(chroma.join("chroma.sqlite3"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "held\n");
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    pub(crate) fn let_go(mut self) {
        let mut stdin = self.stdin.take().expect("once");
        stdin.flush().expect("a pipe");
        drop(stdin);
        assert!(self.child.wait().expect("our child").success());
    }
}

impl Drop for IdleHolder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A ChromaDB directory that nobody else uses.
pub(crate) fn copy_of_chroma() -> PathBuf {
    let folder = scratch("chroma");
    sh(
        &folder,
        &format!("cp -a '{}' chroma_data", Stack::shared().chroma.display()),
    );
    folder.join("chroma_data")
}

fn backup(database: &str, out: &Path) -> Command {
    let mut command = arkstream();
    command.args([
        "backup",
        "--json",
        "--progress",
        "none",
        "--no-graph",
        "--no-filestore",
    ]);
    command.args(["--models", "ai.conversation,ai.message"]);
    command
        .args(["--odoo-db", &Stack::shared().url(database)])
        .arg("--out")
        .arg(out);
    command
}

/// Exit 7, these words, this advice, and nothing under the final name.
#[track_caller]
fn fails(command: &mut Command, out: &Path, words: &[&str], help: &str) -> Run {
    let ended = run(command).expect_code(7).says(words);
    let advice = ended.stderr.split_once("\n  help: ").expect("advice").1;
    assert!(advice.contains(help), "{}", ended.stderr);
    assert!(!out.exists(), "a bundle after a failed run");
    ended
}

#[test]
fn an_idle_holder_of_chromas_lock_is_waited_for_and_then_named() {
    let stack = Stack::shared();
    let (chroma, out) = (copy_of_chroma(), scratch("out").join("bundle.zip"));
    let holder = IdleHolder::on(&chroma);
    let mut command = backup(&stack.odoo, &out);
    command
        .arg("--chroma")
        .arg(&chroma)
        .args(["--lock-timeout", "1s"]);
    let words = ["hold the writers of", "chroma.sqlite3", "busy"];
    fails(&mut command, &out, &words, "keeps the database locked");

    // Let go, it is no obstacle any more; and the failed run has left no lock of its own.
    holder.let_go();
    IdleHolder::on(&chroma).let_go();
    run(command.arg("--fresh")).ok();
}

#[test]
fn a_holder_that_lets_go_in_time_is_no_failure() {
    let stack = Stack::shared();
    let (chroma, out) = (copy_of_chroma(), scratch("out").join("bundle.zip"));
    let holder = IdleHolder::on(&chroma);
    let mut command = backup(&stack.odoo, &out);
    command
        .arg("--chroma")
        .arg(&chroma)
        .args(["--lock-timeout", "60s"]);
    let waiting = std::thread::spawn(move || run(&mut command));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(!waiting.is_finished());
    holder.let_go();
    waiting.join().expect("it runs").ok();
}

#[test]
fn writers_are_never_held_longer_than_allowed() {
    let stack = Stack::shared();
    let (chroma, out) = (copy_of_chroma(), scratch("out").join("bundle.zip"));
    for hold in ["0s", "1ms"] {
        let mut command = backup(&stack.odoo, &out);
        command
            .arg("--chroma")
            .arg(&chroma)
            .args(["--chroma-max-hold", hold, "--fresh"]);
        let words = ["which is as long as", "chroma_data"];
        fails(&mut command, &out, &words, "--chroma-max-hold");
        IdleHolder::on(&chroma).let_go();
    }
}

#[test]
fn a_table_that_stays_locked_names_who_holds_it() {
    let stack = Stack::shared();
    let (database, out) = (stack.fresh_database(), scratch("out").join("bundle.zip"));
    let blocker = runtime()
        .block_on(stack.server.superuser_connect(&database))
        .expect("connects");
    let pid: i32 = runtime().block_on(async {
        blocker.batch_execute("BEGIN").await.expect("begins");
        let lock = "/* 'a-secret-in-a-literal' */ LOCK TABLE ai_message IN ACCESS EXCLUSIVE MODE";
        blocker.batch_execute(lock).await.expect("locks");
        blocker
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .expect("asks")
            .get(0)
    });
    // What the blocker did last is shown without its literals: they may be anything.
    let last = "SELECT 'a-secret-in-a-literal'";
    runtime()
        .block_on(blocker.batch_execute(last))
        .expect("asks");
    let mut command = backup(&database, &out);
    command.args(["--no-chroma", "--lock-timeout", "1s"]);
    let process = format!("process {pid} of postgres");
    let words = ["lock the tables", &process, "ai_message"];
    let ended = fails(&mut command, &out, &words, "pg_terminate_backend");
    assert!(
        !ended.stderr.contains("a-secret-in-a-literal"),
        "{}",
        ended.stderr
    );

    runtime()
        .block_on(blocker.batch_execute("ROLLBACK"))
        .expect("ends");
    run(command.arg("--fresh")).ok();
}
