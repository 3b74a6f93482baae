//! Bundles that were interrupted anywhere and continued: nothing lost, nothing doubled, every byte
//! guarded.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use arkstream_bundle::{
    BundleFile, BundleWriter, Leftover, OutputPaths, Resumed, read_journal, salvage::salvage,
};
use arkstream_format::{Compression, FileProof, Proof};
use arkstream_pipeline::{
    BundleReader as _, BundleSink as _, MemberFacts, MemberWriter, Published, Sink as _,
};
use common::{
    Random, beginning, described,
    killed::{Contents, check, kill, replace},
    manifest, no_wait, noise, salvage_options, spec, text,
};

mod common;

fn contents() -> Contents {
    [
        ("a/small.txt", text(3000), false),
        ("a/empty", Bytes::new(), true),
        ("b/noise.bin", noise(1, 700_000), false),
        ("c/dump.sql", text(10 << 20), true),
        ("d/vectors.bin", noise(2, 9 << 20), true),
        ("e/part-00000.parquet", noise(3, 3 << 20), false),
        ("f/part-00001.parquet", noise(4, 2 << 20), false),
        ("g/last.sql", text(5 << 20), true),
    ]
    .into_iter()
    .map(|(name, bytes, streamed)| (name.to_owned(), (bytes, streamed)))
    .collect()
}

async fn open(paths: &OutputPaths, recheck: bool) -> (Arc<BundleWriter>, Option<Resumed>) {
    loop {
        let leftover = Leftover::Continue {
            recheck,
            insist: false,
        };
        match BundleWriter::open(paths.clone(), beginning("plan"), leftover, no_wait()) {
            Ok((writer, resumed)) => return (Arc::new(writer), resumed),
            // The lock goes with the thread of the writer before.
            Err(failure) if failure.why().contains("another run") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// Writes members, as far as `until` says: so many of them, and so many bytes of the next.
/// Returns the member whose stream did not end.
async fn write(
    writer: &BundleWriter,
    contents: &Contents,
    until: Option<(usize, usize)>,
) -> Option<Box<dyn MemberWriter>> {
    let mut torn = None;
    for (number, (name, (bytes, streamed))) in contents.iter().enumerate() {
        let limit = match until {
            Some((members, _)) if number > members => break,
            Some((members, bytes)) if number == members => Some(bytes),
            _ => None,
        };
        let spec = spec(name, Compression::Deflate);
        if !streamed {
            if limit.is_none() {
                let facts = MemberFacts::default();
                writer.put(spec, bytes.clone(), facts).await.unwrap();
            }
            continue;
        }
        let mut member = writer.begin(spec).await.unwrap();
        let bytes = bytes.slice(..limit.unwrap_or(bytes.len()).min(bytes.len()));
        for piece in bytes.chunks(1 << 20) {
            member.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        match limit {
            // The process dies: nobody gives it up before it is dead.
            Some(_) => torn = Some(member),
            None => drop(member.finish(MemberFacts::default()).await.unwrap()),
        }
    }
    writer.sync().await.unwrap();
    torn
}

/// Without manifest and directory, the indexes of all runs together say the same.
async fn check_indexes(published: &Published, contents: &Contents) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("cut.zip");
    let mut bytes = fs::read(&published.path).unwrap();
    let last = published.manifest.members.last().unwrap();
    bytes.truncate((last.data_offset + last.stored_len) as usize);
    fs::write(&source, bytes).unwrap();
    let options = salvage_options(folder.path(), &source);
    let out = salvage(options, &described).await.unwrap();
    assert_eq!(out.salvage.lost, []);
    let names = out.saved.iter().map(|saved| &saved.name);
    assert!(
        names.eq(published
            .manifest
            .members
            .iter()
            .filter(|m| !m.is_index())
            .map(|m| &m.name))
    );
    let bundle = BundleFile::open(&out.published.path).unwrap();
    for (name, (expected, _)) in contents {
        let member = bundle.member(name).unwrap();
        let chunks = (0..member.chunks.len()).map(|index| bundle.read_chunk(member, index));
        let found: Vec<u8> = chunks.flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        assert!(found == *expected, "{name} is not what was written");
    }
}

fn paths_in(folder: &Path) -> OutputPaths {
    OutputPaths::new(&folder.join("bundle.zip"))
}

fn proof() -> Proof {
    Proof::File(FileProof {
        inode: 1,
        size: 2,
        mtime_ns: 3,
        ctime_ns: 4,
        seen_ns: 5,
    })
}

async fn run_killed_often(seed: u64) {
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let mut contents = contents();
    for _ in 0..1 + random.below(4) {
        let (writer, _) = open(&paths, random.below(4) == 0).await;
        let members = random.below(contents.len() as u64 + 1) as usize;
        let until = (members, random.below(11 << 20) as usize);
        let torn = write(&writer, &contents, Some(until)).await;
        kill(&paths, &mut random);
        drop((torn, writer));
        // The world goes on: contents change, at any place, and in length.
        if random.below(2) == 0 {
            let index = random.below(contents.len() as u64) as usize;
            let (bytes, _) = contents.values_mut().nth(index).unwrap();
            let mut changed = bytes.to_vec();
            changed.truncate(random.below(changed.len() as u64 + 1) as usize);
            changed.extend_from_slice(&noise(7, random.below(2 << 20) as usize));
            *bytes = changed.into();
        }
    }
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, None).await;
    let published = writer.publish(manifest()).await.unwrap();
    check(&published, &contents);
    check_indexes(&published, &contents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_and_again_the_bundle_is_whole() {
    let rounds = match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => 2000,
        None => 10,
    };
    for seed in 0..rounds {
        println!("seed {seed}");
        run_killed_often(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unchanged_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let contents = contents();
    let (writer, resumed) = open(&paths, false).await;
    assert_eq!(resumed, None);
    // In the middle of the vectors.
    let torn = write(&writer, &contents, Some((4, 9 << 20))).await;
    let found = read_journal(&paths.journal).unwrap();
    assert_eq!(found.members.len(), 4);
    replace(&paths.partial, &fs::read(&paths.partial).unwrap());
    drop((torn, writer));

    let (writer, resumed) = open(&paths, false).await;
    let resumed = resumed.unwrap();
    assert_eq!((resumed.members, resumed.cut_off), (4, 0));
    assert_eq!(resumed.bytes, found.durable_len);
    let (name, torn) = resumed.torn.clone().unwrap();
    assert_eq!(name, "d/vectors.bin");
    assert!(torn >= 4 << 20, "{torn} bytes of it are durable");
    write(&writer, &contents, None).await;
    let published = writer.publish(manifest()).await.unwrap();
    assert_eq!(published.kept.members, 5);
    assert_eq!(published.kept.bytes, resumed.bytes, "not a byte is dead");
    assert_eq!(published.manifest.dead_ranges, Vec::new());
    check(&published, &contents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_member_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let contents = contents();
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, None).await;
    drop(writer);
    let state = read_journal(&paths.journal).unwrap();
    let member = state
        .members
        .iter()
        .find(|m| m.name == "c/dump.sql")
        .unwrap();
    let mut bytes = fs::read(&paths.partial).unwrap();
    bytes[member.chunks[2].offset as usize + 5] ^= 1;
    fs::write(&paths.partial, &bytes).unwrap();
    let (writer, resumed) = open(&paths, true).await;
    let damaged = resumed.unwrap().damaged;
    assert!(
        damaged.len() == 1 && damaged[0].contains("c/dump.sql"),
        "{damaged:?}"
    );
    write(&writer, &contents, None).await;
    let published = writer.publish(manifest()).await.unwrap();
    assert_eq!(published.manifest.dead_ranges.len(), 1);
    check(&published, &contents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_keeps_or_replaces_is_not_in_the_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let mut contents = contents();
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, None).await;
    drop(writer);

    contents.remove("b/noise.bin");
    let kept = contents.remove("c/dump.sql").unwrap();
    let (writer, _) = open(&paths, false).await;
    let component = spec("", Compression::Stored).component;
    let earlier = writer.earlier(component).await.unwrap();
    assert_eq!(earlier.len(), contents.len() + 2);
    let proof = proof();
    let member = writer
        .keep("c/dump.sql", Some(proof.clone()))
        .await
        .unwrap();
    assert_eq!(member.unwrap().raw_len, kept.0.len() as u64);
    write(&writer, &contents, None).await;
    contents.insert("c/dump.sql".to_owned(), kept);
    let published = writer.publish(manifest()).await.unwrap();
    check(&published, &contents);
    let dead = &published.manifest.dead_ranges;
    assert!(
        dead.len() == 1 && dead[0].reason.contains("b/noise.bin"),
        "{dead:?}"
    );
    let bundle = BundleFile::open(&published.path).unwrap();
    assert_eq!(bundle.member("c/dump.sql").unwrap().proof, Some(proof));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_came_later_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let mut contents = contents();
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, None).await;
    let proof = proof();
    writer
        .prove("e/part-00000.parquet", proof.clone())
        .await
        .unwrap();
    writer.sync().await.unwrap();
    drop(writer);

    let (writer, _) = open(&paths, false).await;
    let kept = writer.keep("e/part-00000.parquet", None).await.unwrap();
    assert_eq!(kept.unwrap().proof, Some(proof.clone()));
    let kept = contents.remove("e/part-00000.parquet").unwrap();
    write(&writer, &contents, None).await;
    contents.insert("e/part-00000.parquet".to_owned(), kept);
    let published = writer.publish(manifest()).await.unwrap();
    check(&published, &contents);
    check_indexes(&published, &contents).await;
    let bundle = BundleFile::open(&published.path).unwrap();
    let member = bundle.member("e/part-00000.parquet").unwrap();
    assert_eq!(member.proof, Some(proof));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_within_a_run_starts_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let contents = contents();
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, Some((5, 0))).await;
    writer.set_aside().await.unwrap();
    assert_eq!(writer.members().await.unwrap(), Vec::new());
    write(&writer, &contents, None).await;
    let published = writer.publish(manifest()).await.unwrap();
    check(&published, &contents);
    assert_eq!(published.manifest.dead_ranges, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_given_up_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let mut contents = contents();
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, None).await;
    let large = noise(12, 40 << 20);
    let begun = spec("z/large", Compression::Deflate);
    let mut member = writer.begin(begun).await.unwrap();
    member.write(large.slice(..36 << 20)).await.unwrap();
    member.abandon("pg_dump died").await.unwrap();
    writer.set_aside().await.unwrap();
    let torn = read_journal(&paths.journal).unwrap().torn;
    assert!(torn.is_some(), "chunks of the stream are in the file");
    contents.insert("z/large".to_owned(), (large, true));
    write(&writer, &contents, None).await;
    let published = writer.publish(manifest()).await.unwrap();
    check(&published, &contents);
    assert_eq!(published.manifest.dead_ranges, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_file_lost_is_forgotten_by_the_journal_too() {
    let folder = tempfile::tempdir().unwrap();
    let paths = paths_in(folder.path());
    let contents = contents();
    let (writer, _) = open(&paths, false).await;
    write(&writer, &contents, None).await;
    drop(writer);
    let state = read_journal(&paths.journal).unwrap();
    let mut file = fs::read(&paths.partial).unwrap();
    file.truncate(state.members[4].header_offset as usize + 100);
    fs::remove_file(&paths.partial).unwrap();
    fs::write(&paths.partial, file).unwrap();

    let (writer, resumed) = open(&paths, false).await;
    let damaged = resumed.unwrap().damaged;
    assert_eq!(damaged.len(), state.members.len() - 4, "{damaged:?}");
    // Something else takes the place; what stood there must not come back.
    let facts = MemberFacts::default();
    let other = spec("z/other", Compression::Deflate);
    writer.put(other, noise(11, 5 << 20), facts).await.unwrap();
    writer.sync().await.unwrap();
    drop(writer);
    let now = read_journal(&paths.journal).unwrap();
    assert_eq!(now.members.len(), 5);
    fs::write(
        folder.path().join("copy"),
        fs::read(&paths.partial).unwrap(),
    )
    .unwrap();
    fs::rename(folder.path().join("copy"), &paths.partial).unwrap();
    let (writer, resumed) = open(&paths, false).await;
    assert_eq!(resumed.unwrap().damaged, Vec::<String>::new());
    write(&writer, &contents, None).await;
    check(&writer.publish(manifest()).await.unwrap(), &contents);
}
