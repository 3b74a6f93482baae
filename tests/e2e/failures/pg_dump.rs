//! A `pg_dump` that is missing, too old, or dies.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{backup, fails, namespace::in_namespace, new_out, set_mode};
use crate::support::{Stack, run, scratch};

/// Hides every `pg_dump` of the system, wherever packages put it, and empties PATH.
const HIDE: &str = r#"
for folder in /usr/lib/postgresql /usr/pgsql-* /usr/lib64/pgsql /usr/local/pgsql /opt/PostgreSQL; do
  if [ -d "$folder" ]; then mount -t tmpfs none "$folder" || exit 99; fi
done
if [ -e /usr/local/bin/pg_dump ]; then mount --bind /dev/null /usr/local/bin/pg_dump || exit 99; fi
PATH=/nowhere exec "$@"
"#;

/// A folder with a `pg_dump` that says it is of this version, and runs `body` to dump.
pub(super) fn fake_pg_dump(version: &str, body: &str) -> PathBuf {
    let folder = scratch("fake-bin");
    let path = folder.join("pg_dump");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n--version) echo 'pg_dump (PostgreSQL) {version}'; exit 0;;\n\
         --help) exit 0;;\nesac\n{body}\n"
    );
    std::fs::write(&path, script).unwrap();
    set_mode(&path, 0o755);
    folder
}

/// A backup with a dump of the Odoo database, by the `pg_dump` in `folder` if it is the newest.
fn dump_with(folder: &Path, out: &Path) -> Command {
    let stack = Stack::shared();
    let mut command = backup(&stack.url(&stack.odoo), out, &super::FEW_MODELS);
    command.args(["--odoo-dump", "--pg-path"]).arg(folder);
    command
}

#[test]
fn no_pg_dump_anywhere_names_the_package() {
    let out = new_out();
    let mut command = in_namespace(HIDE, &dump_with(&scratch("empty-bin"), &out));
    let words = ["find a pg_dump", "none is installed"];
    fails(&mut command, &out, 7, &words, "postgresql-client-");
}

#[test]
fn without_a_dump_no_pg_dump_is_needed() {
    let out = new_out();
    run(&mut in_namespace(HIDE, &super::small_backup(&out))).ok();
}

#[test]
fn a_pg_dump_that_is_too_old_is_named_with_its_version() {
    let out = new_out();
    let old = fake_pg_dump("12.22", "echo 'must not be run' >&2; exit 1");
    let path = old.join("pg_dump").display().to_string();
    let mut command = in_namespace(HIDE, &dump_with(&old, &out));
    let words = ["too old", "12.22", &*path];
    let ended = fails(
        &mut command,
        &out,
        7,
        &words,
        "install PostgreSQL's client programs",
    );
    assert!(
        !ended.stderr.contains("must not be run"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_pg_dump_that_does_not_run_is_named() {
    let out = new_out();
    let broken = scratch("fake-bin");
    std::fs::write(broken.join("pg_dump"), "no program").unwrap();
    let path = broken.join("pg_dump").display().to_string();
    let mut command = in_namespace(HIDE, &dump_with(&broken, &out));
    fails(
        &mut command,
        &out,
        7,
        &["does not run", &*path],
        "or name their folder",
    );
}

#[test]
fn a_pg_dump_that_dies_half_way_never_passes_for_a_dump() {
    let half = "echo '-- PostgreSQL database dump'; echo 'CREATE TABLE half (id int);'";
    let complete = "echo '-- PostgreSQL database dump complete'";
    for (how, body, words) in [
        (
            "exits",
            format!("{half}; echo 'pg_dump: error: out of luck' >&2; exit 1"),
            vec!["exit status: 1", "out of luck"],
        ),
        (
            "is killed",
            format!("{half}; kill -9 $$"),
            vec!["signal: 9"],
        ),
        ("ends early with success", half.to_owned(), vec!["end mark"]),
        (
            "fails after its last line",
            format!("{half}; {complete}; exit 3"),
            vec!["exit status: 3"],
        ),
    ] {
        let out = new_out();
        let mut command = dump_with(&fake_pg_dump("99.1", &body), &out);
        let mut all = vec!["dump ", "pg_dump ended"];
        all.extend(words);
        let ended = fails(&mut command, &out, 7, &all, "log");
        assert!(ended.stderr.contains("--fresh"), "{how}: {}", ended.stderr);
    }
}

#[test]
fn a_graph_dump_that_dies_half_way_fails_the_run() {
    let (out, stack) = (new_out(), Stack::shared());
    let dying = fake_pg_dump("99.1", "echo half; exit 1")
        .display()
        .to_string();
    let graph = stack.url(&stack.graph);
    let others = ["--graph-db", &graph, "--pg-path", &dying];
    let mut command = backup(&stack.url(&stack.odoo), &out, &others);
    command.args(super::FEW_MODELS);
    fails(
        &mut command,
        &out,
        7,
        &["dump ", &stack.graph, "said nothing"],
        "log",
    );
}

#[test]
fn the_password_reaches_pg_dump_by_its_environment_only() {
    let (out, stack) = (new_out(), Stack::shared());
    let seen = scratch("seen").join("arguments");
    let body = format!(
        "printf '%s\\n' \"$@\" > '{}'; [ -n \"$PGPASSWORD\" ] || exit 9; exit 1",
        seen.display()
    );
    let folder = fake_pg_dump("99.1", &body).display().to_string();
    let url = stack
        .server
        .tcp_url(&stack.odoo, "postgres", stack.server.password());
    let mut command = backup(&url, &out, &["--odoo-dump", "--pg-path", &folder]);
    command.args(super::FEW_MODELS);
    fails(&mut command, &out, 7, &["exit status: 1"], "log");
    let arguments = std::fs::read_to_string(&seen).unwrap();
    assert!(arguments.contains("--snapshot="), "{arguments}");
    assert!(!arguments.contains(stack.server.password()), "{arguments}");
}
