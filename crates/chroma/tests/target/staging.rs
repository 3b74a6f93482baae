//! What stops a staging, and how the next one goes on.

use std::{fs, os::unix::fs::MetadataExt, sync::Arc};

use arkstream_chroma::DATABASE;
use arkstream_pipeline::{FailureKind, Standing, Target};

use crate::{
    bundle,
    common::{
        bundle::{ID, bundle_of, restoring, state_of},
        copy_directory, files_of,
    },
    live_directory, made, names, reopened, restore, target,
};

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
