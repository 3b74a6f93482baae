//! What is refused, told and left as it is.

use std::fs;

use arkstream_bundle::{CopyOrder, bundles_in, copy_bundle};
use arkstream_format::Compression;
use arkstream_pipeline::{Cancel, FailureKind, MemberFacts, Silent, Sink as _};

use crate::{
    World, beside,
    common::{spec, text, writer},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_under_the_final_name_is_told_and_mended_on_request() {
    let world = World::new().await;
    let mut bad = world.good.clone();
    bad[12 << 20] ^= 2;
    fs::write(world.to(), &bad).unwrap();
    let failure = world.copy().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    assert!(
        failure.why().contains("there already, and damaged"),
        "{failure}"
    );
    assert!(fs::read(world.to()).unwrap() == bad);
    let copied = world.copy_with(&[], true).unwrap();
    assert!(copied.transferred < 5 << 20, "{copied:?}");
    world.is_identical();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_overwritten_is_refused() {
    let world = World::new().await;
    let refused = |replace: bool, words: &str| {
        let failure = world.copy_with(&[], replace).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.why().contains(words), "{words:?}: {failure}");
    };
    // No bundle at all, also not with --replace; nor a torn one.
    for bytes in [&b"my notes"[..], &world.good[..1 << 20]] {
        fs::write(world.to(), bytes).unwrap();
        for replace in [false, true] {
            refused(replace, "no finished bundle");
            assert_eq!(fs::read(world.to()).unwrap(), bytes);
        }
        fs::remove_file(world.to()).unwrap();
    }
    // The source itself, by another name or through a link.
    fs::hard_link(&world.source, world.to()).unwrap();
    refused(true, "the same file");
    fs::remove_file(world.to()).unwrap();
    std::os::unix::fs::symlink(&world.source, world.to()).unwrap();
    refused(true, "the same file");
    fs::remove_file(world.to()).unwrap();
    fs::create_dir(world.to()).unwrap();
    refused(true, "it is not a file");
    fs::remove_dir(world.to()).unwrap();
    // What a backup left.
    let (paths, writer) = writer(world.folder.path());
    let file = spec("a", Compression::Stored);
    writer
        .put(file, text(9), MemberFacts::default())
        .await
        .unwrap();
    writer.sync().await.unwrap();
    let order = CopyOrder {
        source: &world.source,
        to: &paths.bundle,
        have: &[],
        replace: true,
        read_back: false,
    };
    let copy = || copy_bundle(&order, &Silent, &Cancel::default()).unwrap_err();
    assert!(
        copy().why().contains("another run is writing"),
        "{}",
        copy()
    );
    drop(writer);
    while copy().why().contains("another run is writing") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(
        copy().why().contains("interrupted backup left"),
        "{}",
        copy()
    );
    assert!(fs::metadata(&paths.partial).unwrap().len() > 0);
    // A folder that does not exist.
    let nowhere = world.folder.path().join("no/such/folder/copy.zip");
    let order = CopyOrder {
        to: &nowhere,
        ..order
    };
    let failure = copy_bundle(&order, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(
        failure.advice().unwrap().contains("folder that exists"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_beside_the_source_that_is_not_its_own_stops_the_copy() {
    let world = World::new().await;
    let sum = beside(&world.source, ".sha256");
    let right = fs::read_to_string(&sum).unwrap();
    fs::write(&sum, format!("{}  bundle.zip\n", "0".repeat(64))).unwrap();
    let failure = world.copy().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
    assert!(failure.why().contains(".sha256 says"), "{failure}");
    assert!(!world.to().exists());
    fs::write(&sum, right).unwrap();
    let copied = world.copy().unwrap();
    assert_eq!(copied.transferred, 0, "{copied:?}");
    world.is_identical();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_copy_keeps_what_it_has() {
    let world = World::new().await;
    let cancel = Cancel::default();
    let to = world.to();
    let order = CopyOrder {
        source: &world.source,
        to: &to,
        have: &[],
        replace: false,
        read_back: true,
    };
    cancel.raise();
    let failure = copy_bundle(&order, &Silent, &cancel).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(
        failure.advice().unwrap().contains("to continue"),
        "{failure:?}"
    );
    assert!(!world.to().exists());
    let copied = copy_bundle(&order, &Silent, &Cancel::default()).unwrap();
    assert!(copied.read_back);
    assert_eq!(copied.mended, 0);
    world.is_identical();
}

#[test]
fn a_folder_is_listed_by_the_names_of_bundles() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "b.zip",
        "a.zip",
        "a.zip.sha256",
        "c.zip.partial",
        "notes.txt",
    ] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join("d.zip")).unwrap();
    let found = bundles_in(folder.path()).unwrap();
    let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["a.zip", "b.zip"]);
}
