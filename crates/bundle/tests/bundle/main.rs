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

use arkstream_bundle::{BundleFile, extract_member, survey};
use arkstream_format::{Compression, Manifest};
use arkstream_pipeline::{
    Budget, BundleReader, BundleSink, FailureKind, MemberFacts, MemberSpec, Published, Sink,
    read_member,
};

use common::{manifest, noise, rows, spec, text, writer};

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod runs;

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

fn content(bundle: &BundleFile, name: &str) -> Vec<u8> {
    read_member(bundle, name).unwrap().unwrap()
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
        assert_eq!(content(&bundle, name), bytes, "{name}");
    }
    assert_eq!(content(&bundle, "again"), text(200));
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
            assert_eq!(content(&bundle, &format!("{worker}/{i}")), bytes);
        }
    }
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
