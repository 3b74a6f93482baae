//! What a run finds at its output, and what it leaves there when it does not come to its end.

use std::fs;
#[cfg(target_os = "linux")]
use std::{path::PathBuf, process::Command};

use arkstream_bundle::{BundleWriter, Leftover, read_journal};
use arkstream_format::Compression;
use arkstream_pipeline::{BundleSink, FailureKind, MemberFacts, Sink};

use crate::common::{beginning, manifest, no_wait, spec, text, writer};

#[tokio::test]
async fn a_second_run_on_the_same_output_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, first) = writer(folder.path());
    let again = |leftover| {
        BundleWriter::open(paths.clone(), beginning("plan"), leftover, no_wait())
            .map(drop)
            .unwrap_err()
    };
    let failure = again(Leftover::Discard);
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.why().contains("another run"), "{failure}");
    first
        .put(
            spec("a", Compression::Stored),
            text(9),
            MemberFacts::default(),
        )
        .await
        .unwrap();
    let published = first.publish(manifest()).await.unwrap();
    assert!(again(Leftover::Discard).why().contains("exists"));
    assert_eq!(published.path, paths.bundle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_leaves_a_journal_that_tells_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, first) = writer(folder.path());
    first
        .put(
            spec("a", Compression::Stored),
            text(9),
            MemberFacts::default(),
        )
        .await
        .unwrap();
    let mut torn = first.begin(spec("b", Compression::Deflate)).await.unwrap();
    torn.write(text(30 << 20)).await.unwrap();
    first.sync().await.unwrap();
    let state = read_journal(&paths.journal).unwrap();
    assert_eq!(state.members.len(), 1);
    assert!(
        state.durable_len > 100_000,
        "chunks are journaled: {state:?}"
    );
    assert!(state.durable_len <= fs::metadata(&paths.partial).unwrap().len());
    drop(torn);
    drop(first);
    // The lock goes with the appender's thread.
    let failure = loop {
        let failure = BundleWriter::open(
            paths.clone(),
            beginning("another plan"),
            Leftover::Continue {
                recheck: false,
                insist: false,
            },
            no_wait(),
        )
        .map(drop)
        .unwrap_err();
        if !failure.why().contains("another run") {
            break failure;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(failure.why().contains("\"plan\""), "{failure}");
    assert!(failure.why().contains("\"another plan\""), "{failure}");
    assert!(failure.advice().unwrap().contains("--fresh"), "{failure}");
    let (_, resumed) =
        BundleWriter::open(paths, beginning("plan"), Leftover::Discard, no_wait()).unwrap();
    assert_eq!(resumed, None);
}

#[tokio::test]
async fn a_journal_left_behind_by_a_kill_after_publishing_is_no_leftover() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, first) = writer(folder.path());
    let journal = fs::read(&paths.journal).unwrap();
    first.publish(manifest()).await.unwrap();
    fs::write(&paths.journal, journal).unwrap();
    fs::rename(&paths.bundle, folder.path().join("moved.zip")).unwrap();
    let resume = Leftover::Continue {
        recheck: false,
        insist: false,
    };
    let (_, resumed) = BundleWriter::open(paths, beginning("plan"), resume, no_wait()).unwrap();
    assert_eq!(resumed, None);
}

/// A full disk must be told as what it is, by whoever waits for whatever.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_reaches_everybody_who_waits() {
    use crate::common::{noise, rows};

    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
        .arg(folder.path())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("not checked: only root may mount a small file system");
        return;
    }
    let _mount = Unmount(folder.path().to_owned());
    let (paths, writer) = writer(folder.path());
    let mut receipts = Vec::new();
    let mut failures = Vec::new();
    for i in 0..5u8 {
        let spec = spec(&format!("rows/{i}"), Compression::Stored);
        match writer.put(spec, noise(i, 3 << 20), rows(1)).await {
            Ok(receipt) => receipts.push(receipt),
            Err(failure) => failures.push(failure),
        }
    }
    failures.extend(writer.sync().await.err());
    for receipt in receipts {
        failures.extend(receipt.wait().await.err());
    }
    failures.extend(writer.publish(manifest()).await.err());
    assert!(failures.len() > 2);
    for failure in failures {
        assert_eq!(failure.kind, FailureKind::NoSpace, "{failure}");
    }
    assert!(!paths.bundle.exists());
}

/// Takes a file system away again, whatever happens.
#[cfg(target_os = "linux")]
struct Unmount(PathBuf);

#[cfg(target_os = "linux")]
impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
