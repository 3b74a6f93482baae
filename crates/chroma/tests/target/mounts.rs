//! Directories that file systems are mounted on, and file systems that are full or read-only.

use std::{fs, path::PathBuf, process::Command};

use arkstream_chroma::ChromaTarget;
use arkstream_pipeline::{FailureKind, Standing, Target};
use tempfile::TempDir;

use crate::{
    assert_proven, assert_same_answers, bundle,
    common::{bundle::state_of, files_of},
    live_directory, made, names, only_problem, options, reopened, restore, target,
};

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
