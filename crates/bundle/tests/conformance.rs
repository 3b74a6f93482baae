//! The ports of a bundle, held against what they promise.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use arkstream_bundle::{BundleFile, OutputPaths, read_journal};
use arkstream_conformance::{reader, sink};
use arkstream_format::Compression;
use arkstream_pipeline::{BundleReader, BundleSink, MemberFacts, Published, Sink as _};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use common::{manifest, noise, spec, text, writer};
use tempfile::TempDir;

#[derive(Default)]
struct Bundles(Mutex<Vec<(TempDir, OutputPaths)>>);

#[async_trait]
impl sink::Sinks for Bundles {
    async fn fresh(&self) -> Arc<dyn BundleSink> {
        let folder = tempfile::tempdir().unwrap();
        let (paths, writer) = writer(folder.path());
        self.0.lock().unwrap().push((folder, paths));
        writer
    }

    async fn is_durable(&self, name: &str) -> Option<bool> {
        let journal = self.0.lock().unwrap().last().unwrap().1.journal.clone();
        let state = read_journal(&journal).unwrap();
        Some(state.members.iter().any(|member| member.name == name))
    }

    async fn contents(&self, published: &Published) -> BTreeMap<String, Bytes> {
        let bundle = BundleFile::open(&published.path).unwrap();
        assert_eq!(bundle.check_framing(), []);
        let mut contents = BTreeMap::new();
        let members = bundle.manifest().members.iter();
        for member in members.filter(|member| !member.is_index()) {
            let mut bytes = BytesMut::new();
            for index in 0..member.chunks.len() {
                bytes.extend_from_slice(&bundle.read_chunk(member, index).unwrap());
            }
            contents.insert(member.name.clone(), bytes.freeze());
        }
        contents
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_is_a_sink() {
    sink::suite(&Bundles::default()).await;
}

struct Spoiled(PathBuf);

impl reader::Readers for Spoiled {
    fn open(&self) -> Option<Arc<dyn BundleReader>> {
        let bundle = BundleFile::open(&self.0).ok()?;
        Some(Arc::new(bundle))
    }

    fn flip(&self, offset: u64, mask: u8) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.0)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_gives_out_what_it_has_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (_, writer) = writer(folder.path());
    for (name, bytes, compression) in [
        ("noise", noise(1, 70_000), Compression::Stored),
        ("text", text(90_000), Compression::Deflate),
        ("long", vec![7; 5 << 20].into(), Compression::Deflate),
        ("gone", noise(2, 500), Compression::Deflate),
        ("empty", Bytes::new(), Compression::Stored),
    ] {
        let facts = MemberFacts::default();
        writer
            .put(spec(name, compression), bytes, facts)
            .await
            .unwrap();
    }
    writer.retract("gone", "a test").await.unwrap();
    let small = sink::spec("streamed", Compression::Deflate);
    let mut streamed = writer.begin(small).await.unwrap();
    streamed.write(vec![8; 5 << 20].into()).await.unwrap();
    streamed.finish(MemberFacts::default()).await.unwrap();
    let published = writer.publish(manifest()).await.unwrap();
    reader::suite(&Spoiled(published.path));
}
