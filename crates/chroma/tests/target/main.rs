//! Restoring real Chroma directories: what arrives, what is refused, what an undo gives back.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use arkstream_chroma::{ChromaTarget, ChromaTargetOptions, DATABASE};
use arkstream_pipeline::{Checked, Event, FailureKind, Restoring, Standing, Target};
use common::{
    Made,
    bundle::{ID, add, bundle_of, restoring, state_of},
    copy_directory, files_of, python, python_05, run_python,
};
use tempfile::TempDir;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_stops_before_anything_live_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    live_directory(&directory);
    let mut bundle = bundle_of(&made().directory());
    let chunk = bundle.chunks.values_mut().flatten().next_back().unwrap();
    let mut bytes = chunk.take().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    *chunk = Some(bytes.into());
    let (restoring, _) = restoring(bundle);
    let before = state_of(&directory);
    let mut target = target(&directory);
    let failure = target.stage(&restoring).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    assert_eq!(target.standing().await.unwrap(), Standing::Old);
    assert!(target.commit(&restoring).await.is_err(), "it was committed");
    target.discard().await.unwrap();
    assert_eq!(state_of(&directory), before);
    assert_eq!(names(root.path()), ["chroma"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_bundle_of_a_broken_directory_is_not_committed() {
    let broken = tempfile::tempdir().unwrap();
    let source = broken.path().join("chroma");
    copy_directory(&made().directory(), &source);
    fs::remove_dir_all(source.join(made().segment("purged"))).unwrap();
    let (restoring, _) = restoring(bundle_of(&source));
    let mut target = target(&broken.path().join("target"));
    target.stage(&restoring).await.unwrap();
    let failure = target.verify(&restoring).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged);
    assert!(failure.why().contains("consistency"), "{failure}");
    assert!(target.prepare(&restoring).await.is_err());
    assert!(target.commit(&restoring).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_staging_goes_on_with_what_is_whole_and_removes_what_is_foreign() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("chroma");
    let restoring = bundle();
    let mut first = target(&directory);
    first.stage(&restoring).await.unwrap();
    let staging = root.path().join(format!("chroma.arkstream_{ID}"));
    let kept_inode = fs::metadata(staging.join(DATABASE)).unwrap().ino();
    let segment = staging.join(made().segment("purged"));
    let cut = segment.join("data_level0.bin");
    fs::OpenOptions::new()
        .write(true)
        .open(&cut)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let mut flipped = fs::read(segment.join("length.bin")).unwrap();
    flipped[7] ^= 1;
    fs::write(segment.join("length.bin"), flipped).unwrap();
    fs::write(staging.join("foreign"), "x").unwrap();
    fs::create_dir_all(staging.join("strange/deep")).unwrap();
    std::os::unix::fs::symlink("/etc", staging.join("link")).unwrap();
    let mut second = reopened(&first);
    restore(&mut second, &restoring).await;
    assert_eq!(files_of(&directory), files_of(&made().directory()));
    assert!(!directory.join("strange").exists());
    assert_eq!(
        fs::metadata(directory.join(DATABASE)).unwrap().ino(),
        kept_inode
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_staging_after_it_was_loaded_is_found() {
    let root = tempfile::tempdir().unwrap();
    let restoring = bundle();
    let mut target = target(&root.path().join("chroma"));
    target.stage(&restoring).await.unwrap();
    let staging = root.path().join(format!("chroma.arkstream_{ID}"));
    let vectors = staging
        .join(made().segment("purged"))
        .join("data_level0.bin");
    let mut bytes = fs::read(&vectors).unwrap();
    bytes[200] ^= 1;
    fs::write(&vectors, bytes).unwrap();
    let failure = target.verify(&restoring).await.unwrap_err();
    assert!(failure.why().contains("data_level0.bin"), "{failure}");
}

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

/// Something mounted on a directory, until it is dropped.
struct Mount {
    at: PathBuf,
    _root: TempDir,
}

impl Mount {
    fn new(arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("chroma");
        fs::create_dir(&at).unwrap();
        let status = Command::new("mount")
            .args(arguments)
            .arg(&at)
            .status()
            .unwrap();
        assert!(status.success(), "these tests run as root, who may mount");
        Self { at, _root: root }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a failed test may still have something open.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

async fn restore_into_a_mount(mount: &Mount) {
    let directory = &mount.at;
    live_directory(directory);
    fs::create_dir(directory.join("lost+found")).unwrap();
    let former = state_of(directory);
    let restoring = bundle();
    let mut target = target(directory);
    restore(&mut target, &restoring).await;
    let mut target = reopened(&target);
    assert_eq!(target.standing().await.unwrap(), Standing::New);
    assert_proven(&mut target, &restoring).await;
    assert_same_answers(directory);
    assert_eq!(
        target.prepare_revert(false).await.unwrap(),
        Vec::<String>::new()
    );
    target.discard().await.unwrap();
    target.revert().await.unwrap();
    target.discard().await.unwrap();
    target.forget(Standing::New).await.unwrap();
    assert_eq!(state_of(directory), former);

    restore(&mut target, &restoring).await;
    target.discard().await.unwrap();
    target.forget(Standing::New).await.unwrap();
    assert_eq!(files_of(directory), files_of(&made().directory()));
    assert!(directory.join("lost+found").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_point_is_swapped_entry_by_entry() {
    restore_into_a_mount(&Mount::new(&["-t", "tmpfs", "tmpfs"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_mount_of_the_same_file_system_is_a_mount_point() {
    let real = tempfile::tempdir().unwrap();
    restore_into_a_mount(&Mount::new(&["--bind", real.path().to_str().unwrap()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_directory_is_not_taken_for_an_undone_one() {
    let mount = Mount::new(&["-t", "tmpfs", "tmpfs"]);
    let restoring = bundle();
    let mut target = target(&mount.at);
    restore(&mut target, &restoring).await;
    let place = target.place();
    assert!(
        Command::new("umount")
            .arg(&mount.at)
            .status()
            .unwrap()
            .success()
    );
    let failure = ChromaTarget::reopen(&place, options()).unwrap_err();
    assert!(failure.why().contains("mounted"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_before_and_while_staging() {
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    let directory = mount.at.join("chroma");
    let restoring = bundle();
    let mut target = target(&directory);
    let problem = only_problem(&target.check(&restoring).await, FailureKind::NoSpace);
    assert!(problem.contains("bytes are free"), "{problem}");
    let failure = target.stage(&restoring).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoSpace, "{failure}");
    target.discard().await.unwrap();
    assert_eq!(names(&mount.at), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_parent_is_told() {
    let mount = Mount::new(&["-t", "tmpfs", "tmpfs"]);
    let directory = mount.at.join("chroma");
    live_directory(&directory);
    let remount = ["-o", "remount,ro", mount.at.to_str().unwrap()];
    assert!(
        Command::new("mount")
            .args(remount)
            .status()
            .unwrap()
            .success()
    );
    let before = state_of(&mount.at);
    let problem = only_problem(
        &target(&directory).check(&bundle()).await,
        FailureKind::Refused,
    );
    assert!(problem.contains("Read-only"), "{problem}");
    assert_eq!(state_of(&mount.at), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_stops_staging_between_chunks() {
    let root = tempfile::tempdir().unwrap();
    let restoring = bundle();
    restoring.cancel.raise();
    let mut target = target(&root.path().join("chroma"));
    let failure = target.stage(&restoring).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    target.discard().await.unwrap();
    assert_eq!(names(root.path()), Vec::<String>::new());
    assert_eq!(Arc::strong_count(&restoring.bundle), 1);
}
