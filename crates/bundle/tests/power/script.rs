//! A backup that does everything a bundle can do, in little.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use arkstream_bundle::{BundleWriter, Leftover, OutputPaths, Resumed};
use arkstream_format::{CHUNK_SIZE, Compression, FileProof, Generation, Proof, RunId};
use arkstream_pipeline::{
    Budget, BundleSink as _, Failure, MemberFacts, MemberSpec, MemberWriter, Published, Sink as _,
};

use crate::{
    claims::Claims,
    common::{self, beginning, manifest, moment, no_wait, noise, text},
    disk::{ROOT, SimDisk},
};

/// Bytes of a member, how they are stored, and whether they come in a stream.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) bytes: Bytes,
    pub(crate) compression: Compression,
    pub(crate) streamed: bool,
}

pub(crate) type Contents = BTreeMap<String, Shape>;

/// What has been promised or taken back, and after how many changes of the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises(Vec<(usize, Promise)>);

#[derive(Clone, Debug)]
enum Promise {
    /// A receipt was delivered.
    Durable(String, Bytes),
    /// So many stored bytes of a stream were synced.
    Torn(String, u64),
    /// It is about to be superseded, retracted or cut.
    Withdrawn(String),
}

impl Promises {
    pub(crate) fn durable(&mut self, disk: &SimDisk, name: &str, bytes: &Bytes) {
        let promise = Promise::Durable(name.to_owned(), bytes.clone());
        self.0.push((disk.ops(), promise));
    }

    pub(crate) fn withdrawn(&mut self, disk: &SimDisk, name: &str) {
        let promise = Promise::Withdrawn(name.to_owned());
        self.0.push((disk.ops(), promise));
    }

    fn torn(&mut self, disk: &SimDisk, name: &str) {
        let journal = disk.now().file(&paths().journal).unwrap().to_vec();
        let bytes = Claims::of(&journal).torn_bytes();
        assert!(bytes > 0, "the stream of {name} reaches the disk");
        self.0
            .push((disk.ops(), Promise::Torn(name.to_owned(), bytes)));
    }

    /// Those that stand after so many changes and are not withdrawn by a run that finishes.
    pub(crate) fn that_stay(&self, ops: usize, contents: &Contents) -> Self {
        let (durable, _) = self.after(ops);
        let stay = durable
            .into_iter()
            .filter(|(name, bytes)| contents.get(*name).is_some_and(|now| now.bytes == **bytes))
            .map(|(name, bytes)| (0, Promise::Durable(name.to_owned(), bytes.clone())));
        Self(stay.collect())
    }

    /// Those that stand after so many changes, as promises on a new disk.
    pub(crate) fn as_of(&self, ops: usize) -> Self {
        let (durable, _) = self.after(ops);
        let durable = durable.into_iter();
        let durable =
            durable.map(|(name, bytes)| (0, Promise::Durable(name.to_owned(), bytes.clone())));
        Self(durable.collect())
    }

    /// Those that stand after so many changes: members, and the bytes of the torn one.
    pub(crate) fn after(&self, ops: usize) -> (BTreeMap<&str, &Bytes>, Option<(&str, u64)>) {
        let (mut durable, mut torn) = (BTreeMap::new(), None);
        for (_, promise) in self.0.iter().filter(|(at, _)| *at <= ops) {
            match promise {
                Promise::Durable(name, bytes) => {
                    durable.insert(name.as_str(), bytes);
                    torn = None;
                }
                Promise::Torn(name, bytes) => torn = Some((name.as_str(), *bytes)),
                Promise::Withdrawn(name) => {
                    durable.remove(name.as_str());
                    torn = torn.filter(|(torn, _)| torn != name);
                }
            }
        }
        (durable, torn)
    }
}

pub(crate) fn paths() -> OutputPaths {
    OutputPaths::new(&Path::new(ROOT).join("bundle.zip"))
}

/// A budget so small that a stream takes its place in the file with its second chunk.
pub(crate) fn spec(name: &str, compression: Compression) -> MemberSpec {
    MemberSpec {
        budget: Budget::new(1 << 20),
        ..common::spec(name, compression)
    }
}

/// Chunks of equal bytes and a tail: much to stream, little to store.
pub(crate) fn long(values: &[u8], tail: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(values.len() * CHUNK_SIZE + tail);
    for value in values {
        bytes.resize(bytes.len() + CHUNK_SIZE, *value);
    }
    bytes.extend_from_slice(&text(tail));
    bytes.into()
}

pub(crate) async fn open(
    disk: &SimDisk,
    leftover: Leftover,
) -> Result<(BundleWriter, Option<Resumed>), Failure> {
    loop {
        let beginning = beginning("plan");
        match BundleWriter::open_on(disk.port(), paths(), beginning, leftover, no_wait()) {
            // The lock goes with the thread of the writer before.
            Err(failure) if failure.why().contains("another run") => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            outcome => return outcome,
        }
    }
}

pub(crate) const CONTINUE: Leftover = Leftover::Continue {
    recheck: false,
    insist: false,
};

pub(crate) fn generation(number: u32) -> Generation {
    Generation {
        number,
        run_id: RunId("00".into()),
        taken_at: moment(),
        barrier_skew_ms: 0,
        chroma_hold_ms: None,
        snapshots: Vec::new(),
    }
}

fn shape(bytes: Bytes, compression: Compression, streamed: bool) -> Shape {
    Shape {
        bytes,
        compression,
        streamed,
    }
}

/// What the bundle has in the end.
pub(crate) struct World {
    pub(crate) contents: Contents,
    small_before: Bytes,
    dump_before: Bytes,
    torn_before: Bytes,
}

impl World {
    pub(crate) fn new() -> Self {
        use Compression::{Deflate, Stored};
        let contents = [
            ("a/small", shape(text(2000), Deflate, false)),
            ("b/noise", shape(noise(1, 300_000), Stored, false)),
            ("c/dump", shape(long(&[1], 200), Deflate, true)),
            ("d/empty", shape(Bytes::new(), Stored, false)),
            ("e/torn", shape(long(&[3, 5], 100), Deflate, true)),
            ("f/last", shape(noise(2, 3000), Stored, false)),
        ];
        Self {
            contents: contents
                .map(|(name, shape)| (name.to_owned(), shape))
                .into(),
            small_before: text(3000),
            dump_before: long(&[1], 100),
            torn_before: long(&[3, 4], 100),
        }
    }
}

/// Streams all but the last byte, which leaves its whole chunks in the file.
async fn stream(writer: &BundleWriter, name: &str, bytes: &Bytes) -> Member {
    let spec = spec(name, Compression::Deflate);
    let mut member = writer.begin(spec).await?;
    member.write(bytes.slice(..bytes.len() - 1)).await?;
    Ok(member)
}

type Member = Result<Box<dyn MemberWriter>, Failure>;

/// Writes the bundle in two generations.
pub(crate) async fn backup(
    disk: &SimDisk,
    world: &World,
    leftover: Leftover,
    promises: &mut Promises,
) -> Result<Published, Failure> {
    let facts = MemberFacts::default;
    let bytes_of = |name: &str| world.contents[name].bytes.clone();
    let (small, noise) = (&world.small_before, &bytes_of("b/noise"));
    let (writer, _) = open(disk, leftover).await?;
    writer.begin_generation(generation(1)).await?;
    let first = spec("a/small", Compression::Deflate);
    let first = writer.put(first, small.clone(), facts()).await?;
    let second = spec("b/noise", Compression::Stored);
    let second = writer.put(second, noise.clone(), facts()).await?;
    writer.sync().await?;
    first.wait().await?;
    second.wait().await?;
    promises.durable(disk, "a/small", small);
    promises.durable(disk, "b/noise", noise);

    let dump = &world.dump_before;
    let mut member = stream(&writer, "c/dump", dump).await?;
    writer.sync().await?;
    promises.torn(disk, "c/dump");
    member.write(dump.slice(dump.len() - 1..)).await?;
    let member = member.finish(facts()).await?;
    let gone = spec("d/gone", Compression::Deflate);
    drop(writer.put(gone, text(500), facts()).await?);
    writer.retract("d/gone", "its file vanished").await?;
    writer.sync().await?;
    member.wait().await?;
    promises.durable(disk, "c/dump", dump);

    let member = stream(&writer, "e/torn", &world.torn_before).await?;
    writer.sync().await?;
    promises.torn(disk, "e/torn");
    member.abandon("pg_dump died").await?;
    writer.set_aside().await?;

    writer.begin_generation(generation(2)).await?;
    promises.withdrawn(disk, "e/torn");
    let torn = &bytes_of("e/torn");
    let mut member = stream(&writer, "e/torn", torn).await?;
    member.write(torn.slice(torn.len() - 1..)).await?;
    let member = member.finish(facts()).await?;
    writer.keep("b/noise", Some(proof())).await?;
    writer.sync().await?;
    member.wait().await?;
    promises.durable(disk, "e/torn", torn);

    for name in ["a/small", "c/dump", "d/empty", "f/last"] {
        promises.withdrawn(disk, name);
        let pending = add(&writer, name, &world.contents[name]).await?;
        writer.sync().await?;
        pending.wait().await?;
        promises.durable(disk, name, &bytes_of(name));
    }
    writer.publish(manifest()).await
}

pub(crate) fn proof() -> Proof {
    Proof::File(FileProof {
        inode: 1,
        size: 2,
        mtime_ns: 3,
        ctime_ns: 4,
        seen_ns: 5,
    })
}

/// Writes one member.
pub(crate) async fn add(
    writer: &BundleWriter,
    name: &str,
    shape: &Shape,
) -> Result<arkstream_pipeline::PendingReceipt, Failure> {
    let spec = spec(name, shape.compression);
    if !shape.streamed {
        return writer
            .put(spec, shape.bytes.clone(), MemberFacts::default())
            .await;
    }
    let mut member = writer.begin(spec).await?;
    member.write(shape.bytes.clone()).await?;
    member.finish(MemberFacts::default()).await
}

/// Writes all of it, keeping what is there, and publishes.
pub(crate) async fn finish(
    writer: BundleWriter,
    contents: &Contents,
) -> Result<Published, Failure> {
    let writer = Arc::new(writer);
    for (name, shape) in contents {
        add(&writer, name, shape).await?;
    }
    writer.publish(manifest()).await
}
