//! Restoring real Chroma directories: what arrives, what is refused, what an undo gives back.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

mod check;
#[path = "../common/mod.rs"]
mod common;
mod mounts;
mod staging;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    sync::OnceLock,
};

use arkstream_chroma::{ChromaTarget, ChromaTargetOptions, DATABASE};
use arkstream_pipeline::{Checked, Event, FailureKind, Restoring, Standing, Target};
use common::{
    Made,
    bundle::{ID, bundle_of, restoring, state_of},
    copy_directory, files_of, python, run_python,
};

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| Made::new(&python()))
}

fn options() -> ChromaTargetOptions {
    ChromaTargetOptions {
        allow_busy: false,
        now: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    }
}

fn target(directory: &Path) -> ChromaTarget {
    ChromaTarget::new(directory.to_owned(), ID, options()).unwrap()
}

/// As another process would find it.
fn reopened(target: &ChromaTarget) -> ChromaTarget {
    ChromaTarget::reopen(&target.place(), options()).unwrap()
}

fn bundle() -> Restoring {
    restoring(bundle_of(&made().directory())).0
}

/// A live directory of the real Chroma with one collection of two records.
fn live_directory(directory: &Path) {
    write_records(directory, "former", 2);
}

fn write_records(directory: &Path, name: &str, count: usize) {
    let code = "
import sys, chromadb
client = chromadb.PersistentClient(path=sys.argv[1])
made = client.get_or_create_collection(sys.argv[2], embedding_function=None)
n = int(sys.argv[3])
made.add(ids=[f'{sys.argv[2]}-{made.count()}-{i}' for i in range(n)], embeddings=[[float(i), 1.0] for i in range(n)])
";
    let (directory, count) = (directory.to_str().unwrap(), count.to_string());
    run_python(&python(), &["-c", code, directory, name, &count]);
}

async fn stage(target: &mut ChromaTarget, restoring: &Restoring) {
    let checked = target.check(restoring).await;
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    target.stage(restoring).await.unwrap();
    target.verify(restoring).await.unwrap();
}

async fn restore(target: &mut ChromaTarget, restoring: &Restoring) {
    stage(target, restoring).await;
    target.prepare(restoring).await.unwrap();
    target.commit(restoring).await.unwrap();
}

async fn assert_proven(target: &mut ChromaTarget, restoring: &Restoring) {
    for proof in target.prove(restoring).await.unwrap() {
        assert!(proof.holds(), "{proof:?}");
    }
}

fn only_problem(checked: &Checked, kind: FailureKind) -> String {
    let [problem] = checked.problems.as_slice() else {
        panic!("{:?}", checked.problems);
    };
    assert_eq!(problem.kind, kind, "{problem}");
    assert!(problem.advice().is_some(), "{problem}");
    problem.to_string()
}

/// Chroma may change what it opens, so it is shown a copy.
fn assert_same_answers(directory: &Path) {
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("chroma");
    copy_directory(directory, &copied);
    made().check(&python(), &copied);
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_directory_answers_the_same_queries_with_the_same_vectors() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    live_directory(&directory);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o2750)).unwrap();
    fs::set_permissions(directory.join(DATABASE), fs::Permissions::from_mode(0o660)).unwrap();
    chown(&directory, Some(4321), Some(1234)).unwrap();
    chown(directory.join(DATABASE), Some(4321), Some(1234)).unwrap();
    let former = state_of(&directory);
    let (restoring, watch) = restoring(bundle_of(&made().directory()));
    let mut target = target(&directory);
    let before = state_of(root.path());
    let rehearsed = target.rehearse(&restoring).await.unwrap();
    assert!(target.check(&restoring).await.problems.is_empty());
    assert_eq!(state_of(root.path()), before, "a dry run changed something");
    stage(&mut target, &restoring).await;
    assert_eq!(state_of(&directory), former, "staging touched what is live");
    let plan = target.prepare(&restoring).await.unwrap();
    assert_eq!(format!("{plan:?}"), format!("{rehearsed:?}"));
    assert_eq!(plan.files_added, files_of(&made().directory()).len() as u64);
    assert!(
        plan.notes.contains(&"collections: 1 → 6".to_owned()),
        "{plan:?}"
    );
    target.commit(&restoring).await.unwrap();
    assert_eq!(target.standing().await.unwrap(), Standing::New);
    assert_proven(&mut target, &restoring).await;

    assert_eq!(files_of(&directory), files_of(&made().directory()));
    assert_same_answers(&directory);
    let metadata = fs::metadata(&directory).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
        (0o2750, 4321, 1234)
    );
    let segment = directory.join(made().segment("purged"));
    let pickle = fs::metadata(segment.join("index_metadata.pickle")).unwrap();
    assert_eq!((pickle.mode() & 0o7777, pickle.uid()), (0o660, 4321));
    assert_eq!(fs::metadata(segment).unwrap().mode() & 0o7777, 0o2750);
    let kept = root.path().join("chroma_backup_20231114_221320");
    assert_eq!(state_of(&kept), former);

    let read: u64 = watch
        .events()
        .iter()
        .map(|event| match event {
            Event::Read { bytes, .. } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(read, plan.file_bytes);

    let mut later = reopened(&target);
    assert_eq!(
        later.prepare_revert(false).await.unwrap(),
        Vec::<String>::new()
    );
    later.discard().await.unwrap();
    later.revert().await.unwrap();
    later.revert().await.unwrap();
    assert_eq!(later.standing().await.unwrap(), Standing::Old);
    assert_eq!(
        state_of(&directory),
        former,
        "the undo is not byte for byte"
    );
    later.discard().await.unwrap();
    later.forget(Standing::New).await.unwrap();
    assert_eq!(names(root.path()), ["chroma"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_not_there_goes_away_again() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    let restoring = bundle();
    let mut target = target(&directory);
    restore(&mut target, &restoring).await;
    assert_proven(&mut target, &restoring).await;
    assert_same_answers(&directory);
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o750);
    let mut later = reopened(&target);
    later.revert().await.unwrap();
    assert!(!directory.exists());
    later.discard().await.unwrap();
    assert_eq!(names(root.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_is_as_good_as_any() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    fs::create_dir(&directory).unwrap();
    let restoring = bundle();
    let mut target = target(&directory);
    restore(&mut target, &restoring).await;
    assert_proven(&mut target, &restoring).await;
    target.discard().await.unwrap();
    target.forget(Standing::New).await.unwrap();
    assert_eq!(names(root.path()), ["chroma"]);
    assert_proven(&mut target, &restoring).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_put_in_its_place_or_took_away_stops_an_undo_before_it_begins() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    live_directory(&directory);
    let restoring = bundle();
    let mut target = target(&directory);
    restore(&mut target, &restoring).await;
    assert!(target.prepare_revert(false).await.unwrap().is_empty());
    // The same files, and another directory.
    let aside = root.path().join("aside");
    fs::rename(&directory, &aside).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&aside, &directory])
        .status();
    assert!(copied.unwrap().success());
    let lines = target.prepare_revert(false).await.unwrap();
    assert!(lines[0].contains("another directory"), "{lines:?}");
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    assert!(target.prepare_revert(false).await.unwrap().is_empty());
    let kept = fs::read_dir(root.path()).unwrap().flatten().find(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().contains("_backup_")
    });
    fs::remove_dir_all(kept.unwrap().path()).unwrap();
    let refused = target.prepare_revert(true).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn merely_opening_a_directory_is_no_change_and_writing_to_it_is() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    live_directory(&directory);
    let restoring = bundle();
    let mut target = target(&directory);
    restore(&mut target, &restoring).await;
    made().check(&python(), &directory);
    assert_ne!(
        files_of(&directory),
        files_of(&made().directory()),
        "Chroma no longer rewrites files that it opens; then this test shows nothing"
    );
    assert_eq!(
        target.prepare_revert(false).await.unwrap(),
        Vec::<String>::new()
    );
    fs::write(directory.join("notes.txt"), "mine").unwrap();
    let name = made().entry("log")["name"].as_str().unwrap();
    let code = "
import sys, chromadb
made = chromadb.PersistentClient(path=sys.argv[1]).get_collection(sys.argv[2], embedding_function=None)
made.update(ids=['r00001'], embeddings=[[1.0] * 32])
";
    run_python(&python(), &["-c", code, directory.to_str().unwrap(), name]);
    let lines = target.prepare_revert(false).await.unwrap().join("\n");
    assert!(lines.contains("1 operations in Chroma's log"), "{lines}");
    assert!(lines.contains("notes.txt is new"), "{lines}");
    target.revert().await.unwrap();
    assert_eq!(
        target.prepare_revert(false).await.unwrap(),
        Vec::<String>::new()
    );
}
