//! A bundle from the first byte to the last: written, opened by other programs, damaged, read.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;

use arkstream_bundle::{BundleFile, BundleWriter, Leftover, extract_member, read_journal, survey};
use arkstream_format::{Compression, Manifest};
use arkstream_pipeline::{
    Budget, BundleReader, BundleSink, FailureKind, MemberFacts, MemberSpec, Published, Severity,
    Sink,
};

use common::{beginning, manifest, no_wait, noise, rows, spec, text, writer};

mod common;

/// What the sample bundle must hold.
fn contents() -> Vec<(&'static str, Bytes)> {
    vec![
        ("small/text.txt", text(1000)),
        ("small/empty.txt", Bytes::new()),
        ("small/noise.bin", noise(1, 5000)),
        ("large/dump.sql", text(50 << 20)),
        ("large/vectors.bin", noise(2, 9 << 20)),
        ("rows/part-00000.parquet", noise(3, 6 << 20)),
        ("ünïcode/☃.txt", text(10)),
    ]
}

/// Small members, streamed ones, an abandoned and a retracted one.
async fn sample_bundle(folder: &Path) -> Published {
    let (_, writer) = writer(folder);
    for (name, bytes) in contents() {
        if name.starts_with("rows/") {
            let rows = writer
                .put(spec(name, Compression::Stored), bytes, rows(7))
                .await
                .unwrap();
            writer.sync().await.unwrap();
            assert_eq!(rows.wait().await.unwrap().member.rows, Some(7));
            continue;
        }
        let mut member = writer
            .begin(spec(name, Compression::Deflate))
            .await
            .unwrap();
        for piece in bytes.chunks(1 << 20) {
            member.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        member.finish(MemberFacts::default()).await.unwrap();
        if name == "large/dump.sql" {
            let mut torn = writer
                .begin(spec("torn", Compression::Deflate))
                .await
                .unwrap();
            torn.write(text(20 << 20)).await.unwrap();
            torn.abandon("the source changed").await.unwrap();
            let again = writer
                .put(
                    spec("again", Compression::Deflate),
                    text(100),
                    MemberFacts::default(),
                )
                .await
                .unwrap();
            drop(again);
            writer
                .retract("again", "a newer one follows")
                .await
                .unwrap();
            writer
                .put(
                    spec("again", Compression::Deflate),
                    text(200),
                    MemberFacts::default(),
                )
                .await
                .unwrap();
        }
    }
    writer.publish(manifest()).await.unwrap()
}

fn read_member(bundle: &BundleFile, name: &str) -> Vec<u8> {
    let member = bundle.member(name).unwrap();
    let mut out = Vec::new();
    for index in 0..member.chunks.len() {
        out.extend_from_slice(&bundle.read_chunk(member, index).unwrap());
    }
    out
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (scripts/setup.sh test): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let published = sample_bundle(folder.path()).await;
    let bundle = BundleFile::open(&published.path).unwrap();
    assert_eq!(bundle.check_framing(), []);
    for (name, bytes) in contents() {
        assert_eq!(read_member(&bundle, name), bytes, "{name}");
    }
    assert_eq!(read_member(&bundle, "again"), text(200));
    assert!(bundle.member("torn").is_none());
    assert_eq!(bundle.manifest().dead_ranges.len(), 2);
    let listed: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        listed.len(),
        2,
        "only bundle and checksum remain: {listed:?}"
    );
    run("sha256sum", &["-c", "bundle.zip.sha256"], folder.path());
    let mut json = Vec::new();
    bundle
        .manifest_bytes()
        .unwrap()
        .read_to_end(&mut json)
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<Manifest>(&json).unwrap(),
        *bundle.manifest()
    );
}

/// The promise to people who have no Arkstream at hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_unzip_tool_reads_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let published = sample_bundle(folder.path()).await;
    let at = folder.path();
    run("unzip", &["-tqq", "bundle.zip"], at);
    run("7z", &["t", "-bd", "bundle.zip"], at);
    run("bsdtar", &["-tf", "bundle.zip"], at);
    let from_pipe = Command::new("bsdtar")
        .args(["-tf", "-"])
        .stdin(fs::File::open(&published.path).unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(
        from_pipe.status.success(),
        "dead bytes must not stop a reader of a pipe: {}",
        String::from_utf8_lossy(&from_pipe.stderr)
    );
    let script = "import sys, zipfile, hashlib\n\
                  z = zipfile.ZipFile('bundle.zip')\n\
                  assert z.testzip() is None\n\
                  for i in z.infolist(): print(i.filename, hashlib.sha256(z.read(i)).hexdigest())";
    let listing = run("python3", &["-X", "utf8", "-c", script], at);
    let written = listing.lines().filter(|line| !line.starts_with("index/"));
    assert_eq!(written.count(), contents().len() + 2);
    run("unzip", &["-q", "bundle.zip", "-d", "out"], at);
    for (name, bytes) in contents() {
        assert_eq!(
            fs::read(at.join("out").join(name)).unwrap(),
            bytes,
            "{name}"
        );
    }
    assert!(
        survey(&published.path)
            .unwrap()
            .iter()
            .all(|entry| entry.damage.is_none())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_several_writers_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let (_, writer) = writer(folder.path());
    let mut tasks = Vec::new();
    for worker in 0..4u8 {
        let writer = Arc::clone(&writer);
        tasks.push(tokio::spawn(async move {
            for i in 0..6u8 {
                let bytes = noise(worker * 10 + i, if i % 2 == 0 { 100 } else { 11 << 20 });
                let name = format!("{worker}/{i}");
                let mut member = writer
                    .begin(MemberSpec {
                        budget: Budget::new(16 << 20),
                        ..spec(&name, Compression::Deflate)
                    })
                    .await
                    .unwrap();
                for piece in bytes.chunks(3 << 20) {
                    member.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                member.finish(MemberFacts::default()).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let published = writer.publish(manifest()).await.unwrap();
    let bundle = BundleFile::open(&published.path).unwrap();
    assert_eq!(bundle.check_framing(), []);
    let written = bundle.manifest().members.iter().filter(|m| !m.is_index());
    assert_eq!(written.count(), 24);
    for worker in 0..4u8 {
        for i in 0..6u8 {
            let bytes = noise(worker * 10 + i, if i % 2 == 0 { 100 } else { 11 << 20 });
            assert_eq!(read_member(&bundle, &format!("{worker}/{i}")), bytes);
        }
    }
}

/// Everything that verification without content checks finds.
fn damage_of(path: &Path) -> Vec<String> {
    let bundle = match BundleFile::open(path) {
        Ok(bundle) => bundle,
        Err(failure) => {
            assert!(
                matches!(
                    failure.kind,
                    FailureKind::Damaged | FailureKind::Incompatible
                ),
                "{failure}"
            );
            return vec![failure.to_string()];
        }
    };
    let mut found: Vec<String> = bundle
        .check_framing()
        .into_iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .map(|finding| finding.to_string())
        .collect();
    for member in &bundle.manifest().members {
        for index in 0..member.chunks.len() {
            if let Err(finding) = bundle.read_chunk(member, index) {
                found.push(finding.to_string());
            }
        }
    }
    found
}

/// A bundle small enough to be damaged thousands of times.
async fn tiny_bundle(folder: &Path) -> PathBuf {
    let (_, writer) = writer(folder);
    for (name, len) in [("a.txt", 4000), ("b.bin", 700), ("c/d.sql", 12_000)] {
        let bytes = if name == "b.bin" {
            noise(9, len)
        } else {
            text(len)
        };
        writer
            .put(
                spec(name, Compression::Deflate),
                bytes,
                MemberFacts::default(),
            )
            .await
            .unwrap();
    }
    writer
        .put(
            spec("gone", Compression::Deflate),
            text(600),
            MemberFacts::default(),
        )
        .await
        .unwrap();
    writer.retract("gone", "superseded").await.unwrap();
    writer.publish(manifest()).await.unwrap().path
}

#[tokio::test]
async fn every_single_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_bundle(folder.path()).await;
    let good = fs::read(&path).unwrap();
    assert_eq!(damage_of(&path), Vec::<String>::new());
    // Every byte of the file, one bit each; which bit rotates.
    let mut bad = good.clone();
    for at in 0..good.len() {
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        assert!(!damage_of(&path).is_empty(), "byte {at} of {}", good.len());
        bad[at] = good[at];
    }
}

#[tokio::test]
async fn truncations_swaps_and_garbage_are_found_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_bundle(folder.path()).await;
    let good = fs::read(&path).unwrap();
    for len in (0..good.len()).step_by(97) {
        fs::write(&path, &good[..len]).unwrap();
        assert!(!damage_of(&path).is_empty(), "cut to {len}");
    }
    let mut longer = good.clone();
    longer.push(0);
    fs::write(&path, &longer).unwrap();
    assert!(!damage_of(&path).is_empty(), "a byte more");
    let mut stream = blake3::Hasher::new().finalize_xof();
    let mut random = move |below: usize| {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % below as u64) as usize
    };
    let soak = std::env::var_os("ARKSTREAM_SOAK").is_some();
    for round in 0..if soak { 100_000 } else { 3000 } {
        let mut bad = good.clone();
        for _ in 0..=random(4) {
            let (a, b) = (random(bad.len()), random(bad.len()));
            match random(3) {
                0 => bad[a] = bad[a].wrapping_add(1 + random(255) as u8),
                1 => bad.swap(a, b),
                _ => {
                    let len = random(64).min(bad.len() - a.max(b));
                    let copy = bad[a..a + len].to_vec();
                    bad[b..b + len].copy_from_slice(&copy);
                }
            }
        }
        fs::write(&path, &bad).unwrap();
        let found = damage_of(&path);
        assert_eq!(found.is_empty(), bad == good, "round {round}");
        let _ = survey(&path);
    }
}

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
async fn names_that_would_leave_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, writer) = writer(folder.path());
    let failure = writer
        .put(
            spec("../../etc/passwd", Compression::Stored),
            text(1),
            MemberFacts::default(),
        )
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
}

/// A full disk must be told as what it is, by whoever waits for whatever.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_reaches_everybody_who_waits() {
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
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn extracting_touches_nothing_that_lies_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_bundle(folder.path()).await;
    let bundle = BundleFile::open(&path).unwrap();
    let member = bundle.member("a.txt").unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("a.txt.partial"), "mine").unwrap();
    extract_member(&bundle, member, &out).unwrap();
    assert_eq!(fs::read(out.join("a.txt")).unwrap(), text(4000));
    let again = extract_member(&bundle, member, &out).unwrap_err();
    assert_eq!(again.kind, FailureKind::Refused);
    assert_eq!(fs::read(out.join("a.txt.partial")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
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

#[tokio::test]
async fn a_newer_format_is_told_from_a_damaged_comment() {
    let folder = tempfile::tempdir().unwrap();
    let (_, newer) = writer(folder.path());
    let of_the_future = Manifest {
        format_version: "2.0.0".into(),
        ..manifest()
    };
    let path = newer.publish(of_the_future).await.unwrap().path;
    assert_eq!(
        BundleFile::open(&path).unwrap_err().kind,
        FailureKind::Incompatible
    );
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).rposition(|at| at == b"2.0.0").unwrap();
    bytes[at] = b'3';
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        BundleFile::open(&path).unwrap_err().kind,
        FailureKind::Damaged
    );
}
