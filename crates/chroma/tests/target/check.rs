//! What a check finds before anything is staged.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use arkstream_chroma::{ChromaTarget, ChromaTargetOptions};
use arkstream_pipeline::{FailureKind, Target};

use crate::{
    bundle,
    common::{
        bundle::{add, bundle_of, restoring, state_of},
        python, python_05, run_python,
    },
    live_directory, made, names, only_problem, options, target,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_of_chroma_is_refused_and_an_upgrade_is_told() {
    let root = tempfile::tempdir().unwrap();
    let older = root.path().join("older");
    let python =
        python_05().expect("ARKSTREAM_TEST_PYTHON_CHROMA05 names a Python with chromadb 0.5");
    let code = "
import sys, chromadb
chromadb.PersistentClient(path=sys.argv[1]).create_collection('old', embedding_function=None)
";
    run_python(&python, &["-c", code, older.to_str().unwrap()]);
    let before = state_of(&older);
    let checked = target(&older).check(&bundle()).await;
    let problem = only_problem(&checked, FailureKind::Incompatible);
    assert!(problem.contains("older Chroma"), "{problem}");
    assert_eq!(state_of(&older), before);

    let newer = root.path().join("newer");
    live_directory(&newer);
    let (restoring, _) = restoring(bundle_of(&older));
    let checked = target(&newer).check(&restoring).await;
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert!(
        checked.warnings.join(" ").contains("will migrate"),
        "{checked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_chroma_that_holds_the_directory_is_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    live_directory(&directory);
    let code = "
import sys, chromadb
client = chromadb.PersistentClient(path=sys.argv[1])
client.get_collection('former', embedding_function=None).count()
print('ready', flush=True)
sys.stdin.read()
";
    let mut holder = Command::new(python())
        .args(["-c", code, directory.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let restoring = bundle();
    let mut target = target(&directory);
    let problem = only_problem(&target.check(&restoring).await, FailureKind::Refused);
    assert!(
        problem.contains(&format!("process {}", holder.id())),
        "{problem}"
    );
    assert!(problem.contains("python"), "{problem}");
    target.stage(&restoring).await.unwrap();
    target.verify(&restoring).await.unwrap();
    let failure = target.prepare(&restoring).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);

    let allowed = ChromaTargetOptions {
        allow_busy: true,
        ..options()
    };
    let mut told = ChromaTarget::reopen(&target.place(), allowed).unwrap();
    let checked = told.check(&restoring).await;
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert!(
        checked.warnings.join(" ").contains("which was allowed"),
        "{checked:?}"
    );
    drop(holder.stdin.take());
    holder.wait().unwrap();
    target.prepare(&restoring).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_seen_where_no_descriptor_is() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    live_directory(&directory);
    // Another name than Chroma's files: the search by descriptors passes it over.
    let code = "
import sys, os, sqlite3
os.link(sys.argv[1] + '/chroma.sqlite3', sys.argv[2])
connection = sqlite3.connect(sys.argv[2], isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
print('ready', flush=True)
sys.stdin.read()
";
    let link = root.path().join("hidden.db");
    let mut holder = Command::new(python())
        .args([
            "-c",
            code,
            directory.to_str().unwrap(),
            link.to_str().unwrap(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let problem = only_problem(
        &target(&directory).check(&bundle()).await,
        FailureKind::Refused,
    );
    assert!(problem.contains("holds a lock"), "{problem}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_problems_are_told_at_once() {
    let root = tempfile::tempdir().unwrap();
    let mut bundle = bundle_of(&made().directory());
    for path in ["../outside", "seg//x", "chroma.sqlite3/below", "/etc/x"] {
        add(&mut bundle, path, b"x".to_vec());
    }
    bundle.manifest.chroma = None;
    let huge = bundle.manifest.members.last_mut().unwrap();
    huge.raw_len = 1 << 60;
    let (restoring, _) = restoring(bundle);
    let mut target = target(&root.path().join("chroma"));
    let checked = target.check(&restoring).await;
    let kinds: Vec<_> = checked
        .problems
        .iter()
        .map(|problem| problem.kind)
        .collect();
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == FailureKind::Damaged)
            .count(),
        4,
        "{:?}",
        checked.problems
    );
    assert!(kinds.contains(&FailureKind::Incompatible), "{kinds:?}");
    let space = checked
        .problems
        .iter()
        .find(|problem| problem.kind == FailureKind::NoSpace);
    assert!(space.unwrap().why().contains("bytes are free"), "{space:?}");
    assert!(
        target.stage(&restoring).await.is_err(),
        "staged what leads outside"
    );
    assert_eq!(names(root.path()), Vec::<String>::new());
}
