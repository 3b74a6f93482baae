//! Whatever goes wrong ends with its exit code, with a message that says what to do, with nothing
//! under the final name, and without a secret in any output.

mod chroma;
mod configuration;
pub(crate) mod connection;
mod discovery;
mod doctor;
mod filestore;
mod interruption;
pub(crate) mod namespace;
mod output;
mod pg_dump;
pub(crate) mod running;
mod tls;
mod verdicts;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Run, Stack, arkstream, run, scratch};

/// Stands wherever a test gives a wrong password.
const WRONG_PASSWORD: &str = "wr0ng-passw0rd-nobody-may-see";

/// Two models that every sample has; a run with them alone is short.
const FEW_MODELS: [&str; 2] = ["--models", "ai.conversation,ai.message"];

/// A bundle's name in a new folder.
fn new_out() -> PathBuf {
    scratch("out").join("bundle.zip")
}

/// A backup of the database at `url`, and of those other sources only that `others` names.
pub(crate) fn backup(url: &str, out: &Path, others: &[&str]) -> Command {
    let mut command = arkstream();
    command.args(["backup", "--progress", "none", "--odoo-db", url]);
    // A failure is told at once, not after minutes of trying.
    command.env("ARKSTREAM_RETRY_FOR", "0s");
    command.arg("--out").arg(out).args(others);
    for (named, declined) in [
        ("--filestore", "--no-filestore"),
        ("--graph-db", "--no-graph"),
        ("--chroma", "--no-chroma"),
    ] {
        if !others.contains(&named) {
            command.arg(declined);
        }
    }
    command
}

/// A short backup of the shared stack's Odoo database alone.
fn small_backup(out: &Path) -> Command {
    let stack = Stack::shared();
    backup(&stack.url(&stack.odoo), out, &FEW_MODELS)
}

/// `chmod`.
#[track_caller]
fn set_mode(path: impl AsRef<Path>, mode: u32) {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("it is ours");
}

/// Runs a backup that must fail with `code`. Its message holds each of `words`, its advice `help`;
/// nothing is under the final name, and no password is in what it says.
#[track_caller]
fn fails(command: &mut Command, out: &Path, code: i32, words: &[&str], help: &str) -> Run {
    let ended = run(command).expect_code(code).says(words);
    has_advice(&ended.stderr, help);
    is_not_published(out);
    keeps_secrets(&ended.stdout, &ended.stderr);
    ended
}

/// The message is a sentence, and is followed by advice that holds `help`.
#[track_caller]
fn has_advice(stderr: &str, help: &str) {
    assert!(
        stderr.contains("error: could not "),
        "no sentence: {stderr}"
    );
    let advice = stderr.split_once("\n  help: ").map(|(_, advice)| advice);
    let advice = advice.unwrap_or_else(|| panic!("no advice: {stderr}"));
    assert!(
        advice.contains(help),
        "the advice does not say {help:?}: {stderr}"
    );
}

/// Nothing under the final name, and no checksum that speaks of it.
#[track_caller]
fn is_not_published(out: &Path) {
    assert!(!out.exists(), "{} exists after a failed run", out.display());
    let checksum = out.with_extension("zip.sha256");
    assert!(
        !checksum.exists(),
        "{} exists after a failed run",
        checksum.display()
    );
}

/// No password that a run of these tests can know is in what it said.
#[track_caller]
fn keeps_secrets(stdout: &str, stderr: &str) {
    for secret in [
        WRONG_PASSWORD,
        Stack::OWNER_PASSWORD,
        Stack::shared().server.password(),
    ] {
        for (name, text) in [("standard output", stdout), ("standard error", stderr)] {
            assert!(!text.contains(secret), "a password is in {name}: {text}");
        }
    }
}
