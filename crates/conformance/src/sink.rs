//! What a [`Sink`](arkstream_pipeline::Sink) and a [`BundleSink`] promise.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arkstream_format::{
    CHUNK_SIZE, Component, Compression, FileProof, Generation, Generator, Manifest, Member, Proof,
    RunId,
};
use arkstream_pipeline::{Budget, BundleSink, MemberFacts, MemberSpec, PendingReceipt, Published};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::cancelled_after;

/// An implementation that can be made and looked at.
#[async_trait]
pub trait Sinks: Sync {
    /// A new sink that is told nothing of what was before.
    async fn fresh(&self) -> Arc<dyn BundleSink>;

    /// Whether the last one's member would be there if everything stopped now. `None` where nobody
    /// can tell.
    async fn is_durable(&self, name: &str) -> Option<bool>;

    /// Bytes of the last one's members, published as they are.
    async fn contents(&self, published: &Published) -> BTreeMap<String, Bytes>;
}

/// All of it.
pub async fn suite(sinks: &dyn Sinks) {
    members_come_out_as_they_went_in(sinks).await;
    a_receipt_comes_after_durability(sinks).await;
    names_that_leave_the_folder_are_refused(sinks).await;
    what_is_given_up_is_not_there(sinks).await;
    a_name_stands_once(sinks).await;
    what_is_retracted_is_gone(sinks).await;
    what_is_set_aside_is_kept_or_gone(sinks).await;
    what_is_proven_later_has_the_newer_proof(sinks).await;
    writers_do_not_mix(sinks).await;
    cancelled_calls_leave_a_member_whole_or_out(sinks).await;
    a_writer_that_lost_bytes_does_not_finish(sinks).await;
    a_bundle_is_published_once(sinks).await;
}

fn moment() -> DateTime<Utc> {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

/// A member's properties. Its budget is small, so that a long one takes its place early.
#[must_use]
pub fn spec(name: &str, compression: Compression) -> MemberSpec {
    MemberSpec {
        name: name.to_owned(),
        component: Component::Filestore,
        compression,
        modified_at: moment(),
        mode: 0o640,
        budget: Budget::new(4 << 20),
    }
}

fn stored(name: &str) -> MemberSpec {
    spec(name, Compression::Stored)
}

/// A manifest without members.
#[must_use]
pub fn manifest() -> Manifest {
    Manifest::empty(
        RunId("00".into()),
        Generator::new("conformance", "0"),
        moment(),
    )
}

/// Bytes that do not compress well and differ by their seed.
#[must_use]
pub fn bytes(seed: u64, len: usize) -> Bytes {
    const BLOCK: usize = 64 << 10;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = Vec::with_capacity(BLOCK + 8);
    while block.len() < len.min(BLOCK) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        block.extend_from_slice(&state.to_le_bytes());
    }
    let mut out = Vec::with_capacity(len + block.len());
    while out.len() < len {
        out.extend_from_slice(&block);
    }
    out.truncate(len);
    out.into()
}

async fn put(sink: &Arc<dyn BundleSink>, name: &str, bytes: Bytes) -> PendingReceipt {
    let facts = MemberFacts::default();
    sink.put(stored(name), bytes, facts).await.unwrap()
}

async fn names(sink: &Arc<dyn BundleSink>) -> Vec<String> {
    let members = sink.members().await.unwrap();
    members.into_iter().map(|member| member.name).collect()
}

/// Publishes and compares everything.
async fn ends_with(
    sinks: &dyn Sinks,
    sink: &Arc<dyn BundleSink>,
    expected: &BTreeMap<String, Bytes>,
) {
    let listed = sink.members().await.unwrap();
    let published = sink.publish(manifest()).await.unwrap();
    let members = &published.manifest.members;
    // A sink may add copies of its index.
    let by_name = |members: &[Member]| -> Vec<String> {
        let members = members.iter().filter(|member| !member.is_index());
        members.map(|member| member.name.clone()).collect()
    };
    assert_eq!(
        by_name(members),
        by_name(&listed),
        "what was listed is published"
    );
    let contents = sinks.contents(&published).await;
    let (found, wanted): (Vec<_>, Vec<_>) = (contents.keys().collect(), expected.keys().collect());
    assert_eq!(
        found, wanted,
        "the members that were finished are published, and no other"
    );
    for (name, bytes) in expected {
        assert!(contents[name] == *bytes, "{name} comes out as it went in");
    }
}

async fn members_come_out_as_they_went_in(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    let mut expected = BTreeMap::new();
    for (number, len) in [
        0,
        1,
        70_000,
        CHUNK_SIZE - 1,
        CHUNK_SIZE,
        CHUNK_SIZE + 1,
        2 * CHUNK_SIZE,
    ]
    .into_iter()
    .enumerate()
    {
        for compression in [Compression::Stored, Compression::Deflate] {
            let content = match compression {
                Compression::Stored => bytes(number as u64, len),
                Compression::Deflate => Bytes::from(vec![number as u8; len]),
            };
            let facts = || MemberFacts {
                rows: Some(len as u64),
                proof: None,
            };
            let whole = format!("put/{compression:?}-{len}");
            let spec = |name: &str| spec(name, compression);
            sink.put(spec(&whole), content.clone(), facts())
                .await
                .unwrap();
            let streamed = format!("begin/{compression:?}-{len}");
            let mut writer = sink.begin(spec(&streamed)).await.unwrap();
            for piece in content.chunks(1_000_003) {
                writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            writer.finish(facts()).await.unwrap();
            expected.insert(whole, content.clone());
            expected.insert(streamed, content);
        }
    }
    for member in sink.members().await.unwrap() {
        let len = expected[&member.name].len() as u64;
        assert_eq!(
            (member.raw_len, member.rows),
            (len, Some(len)),
            "{}",
            member.name
        );
        assert_eq!(
            (member.mode, member.component),
            (0o640, Component::Filestore)
        );
        assert_eq!(member.modified_at.timestamp(), moment().timestamp());
        let chunks: u64 = member.chunks.iter().map(|c| u64::from(c.raw_len)).sum();
        assert_eq!(chunks, len, "chunks cover the member");
    }
    ends_with(sinks, &sink, &expected).await;
}

async fn a_receipt_comes_after_durability(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    let mut pending = Vec::new();
    for number in 0..5u64 {
        let name = format!("m{number}");
        pending.push((name.clone(), put(&sink, &name, bytes(number, 9_000)).await));
    }
    let first = pending.remove(0);
    let waiting = tokio::spawn(async move { (first.1.wait().await.unwrap(), first.0) });
    sink.sync().await.unwrap();
    for (name, _) in &pending {
        let durable = sinks.is_durable(name).await;
        assert_ne!(durable, Some(false), "{name} is durable once sync returned");
    }
    let (receipt, name) = waiting.await.unwrap();
    assert_eq!(receipt.member.name, name);
    for (name, receipt) in pending {
        let receipt = tokio::time::timeout(Duration::from_secs(5), receipt.wait())
            .await
            .unwrap_or_else(|_| panic!("the receipt of {name} comes with sync"));
        assert_eq!(receipt.unwrap().member.name, name);
    }
    // Without a sync, a receipt that is there speaks of what is durable.
    let receipt = put(&sink, "later", bytes(9, 9_000)).await;
    if cancelled_after(3, receipt.wait()).await.is_some() {
        assert_ne!(sinks.is_durable("later").await, Some(false));
    }
}

async fn names_that_leave_the_folder_are_refused(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    let long = "x".repeat(1025);
    for name in [
        "", "/a", "a/../b", "..", "a//b", "./a", "a\\b", "a\nb", "c:/x", &long,
    ] {
        let facts = MemberFacts::default();
        let refused = sink.put(stored(name), Bytes::new(), facts).await;
        assert!(refused.is_err(), "put {name:?}");
        assert!(sink.begin(stored(name)).await.is_err(), "begin {name:?}");
    }
    put(&sink, "good", bytes(1, 10)).await;
    ends_with(sinks, &sink, &[("good".to_owned(), bytes(1, 10))].into()).await;
}

async fn what_is_given_up_is_not_there(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    // Short enough to be buffered, and long enough to stand in the file already.
    for len in [10, 3 * CHUNK_SIZE] {
        for drops in [false, true] {
            let mut writer = sink.begin(stored("gone")).await.unwrap();
            writer.write(bytes(1, len)).await.unwrap();
            assert!(names(&sink).await.is_empty(), "it is not finished");
            match drops {
                true => drop(writer),
                false => writer.abandon("it was told to").await.unwrap(),
            }
            sink.sync().await.unwrap();
            assert!(names(&sink).await.is_empty(), "it was given up");
        }
    }
    let mut writer = sink.begin(stored("gone")).await.unwrap();
    writer.write(bytes(2, 20)).await.unwrap();
    writer.finish(MemberFacts::default()).await.unwrap();
    ends_with(sinks, &sink, &[("gone".to_owned(), bytes(2, 20))].into()).await;
}

async fn a_name_stands_once(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    put(&sink, "one", bytes(1, 10)).await;
    let facts = MemberFacts::default;
    let second = sink.put(stored("one"), bytes(2, 10), facts()).await;
    assert!(second.is_err(), "a second member of one name");
    // A sink that ends by it publishes nothing; one that goes on has the first.
    if let Ok(members) = sink.members().await {
        assert_eq!(members.len(), 1);
        ends_with(sinks, &sink, &[("one".to_owned(), bytes(1, 10))].into()).await;
    }
}

async fn what_is_retracted_is_gone(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    put(&sink, "a", bytes(1, 10)).await;
    put(&sink, "b", bytes(2, 10)).await;
    assert!(
        sink.retract("never", "x").await.is_err(),
        "what is not there cannot be retracted"
    );
    sink.retract("a", "newer").await.unwrap();
    assert_eq!(names(&sink).await, ["b"]);
    assert!(sink.retract("a", "again").await.is_err());
    put(&sink, "a", bytes(3, 30)).await;
    let expected = [
        ("a".to_owned(), bytes(3, 30)),
        ("b".to_owned(), bytes(2, 10)),
    ];
    ends_with(sinks, &sink, &expected.into()).await;
}

async fn what_is_set_aside_is_kept_or_gone(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    for number in 0..4 {
        put(&sink, &format!("m{number}"), bytes(number, 5_000)).await;
    }
    sink.begin_generation(generation(1)).await.unwrap();
    assert!(sink.earlier(Component::Filestore).await.unwrap().is_empty());
    assert!(sink.keep("m0", None).await.is_err(), "it is not set aside");
    sink.set_aside().await.unwrap();
    assert!(names(&sink).await.is_empty());
    sink.begin_generation(generation(2)).await.unwrap();
    assert!(sink.earlier(Component::Graph).await.unwrap().is_empty());
    assert_eq!(sink.earlier(Component::Filestore).await.unwrap().len(), 4);
    assert!(sink.keep("never", None).await.is_err());

    let proof = proof(1);
    let kept = sink.keep("m0", Some(proof.clone())).await.unwrap();
    assert_eq!(
        kept.unwrap().proof,
        Some(proof),
        "a newer proof replaces the old one"
    );
    assert!(sink.keep("m0", None).await.is_err(), "it is kept already");
    // The same again, and something else: by put and by begin.
    put(&sink, "m1", bytes(1, 5_000)).await;
    let mut writer = sink.begin(stored("m2")).await.unwrap();
    writer.write(bytes(22, 7_000)).await.unwrap();
    writer.finish(MemberFacts::default()).await.unwrap();
    let left = sink.earlier(Component::Filestore).await.unwrap();
    let left: Vec<&str> = left.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(left, ["m3"], "neither kept nor replaced");
    let expected = [
        ("m0".to_owned(), bytes(0, 5_000)),
        ("m1".to_owned(), bytes(1, 5_000)),
        ("m2".to_owned(), bytes(22, 7_000)),
    ];
    ends_with(sinks, &sink, &expected.into()).await;
}

async fn what_is_proven_later_has_the_newer_proof(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    for number in 0..3 {
        put(&sink, &format!("m{number}"), bytes(number, 500)).await;
    }
    assert!(sink.prove("never", proof(1)).await.is_err());
    sink.prove("m1", proof(1)).await.unwrap();
    sink.prove("m1", proof(2)).await.unwrap();
    let members = sink.members().await.unwrap();
    let proofs: Vec<_> = members.into_iter().map(|member| member.proof).collect();
    assert_eq!(proofs, [None, Some(proof(2)), None]);
    let expected = (0..3).map(|number| (format!("m{number}"), bytes(number, 500)));
    ends_with(sinks, &sink, &expected.collect()).await;
}

fn proof(inode: u64) -> Proof {
    Proof::File(FileProof {
        inode,
        size: 2,
        mtime_ns: 3,
        ctime_ns: 4,
        seen_ns: 5,
    })
}

fn generation(number: u32) -> Generation {
    Generation {
        number,
        run_id: RunId("00".into()),
        taken_at: moment(),
        barrier_skew_ms: 0,
        chroma_hold_ms: None,
        snapshots: Vec::new(),
    }
}

async fn writers_do_not_mix(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    let mut expected = BTreeMap::new();
    let mut tasks = Vec::new();
    for worker in 0..6u64 {
        for round in 0..3u64 {
            let len = [300, 90_000, 2 * CHUNK_SIZE + 5][round as usize];
            let content = bytes(worker * 10 + round, len);
            expected.insert(format!("w{worker}/{round}"), content);
        }
        let sink = Arc::clone(&sink);
        let contents = expected.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..3 {
                let name = format!("w{worker}/{round}");
                let mut writer = sink.begin(stored(&name)).await.unwrap();
                for piece in contents[&name].chunks(65_537) {
                    writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
                    tokio::task::yield_now().await;
                }
                writer.finish(MemberFacts::default()).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    ends_with(sinks, &sink, &expected).await;
}

async fn cancelled_calls_leave_a_member_whole_or_out(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    let mut tried = BTreeMap::new();
    for polls in 0..14 {
        let (long, short) = (
            bytes(polls as u64, 2 * CHUNK_SIZE + 9),
            bytes(polls as u64, 100),
        );
        let facts = MemberFacts::default;
        for (kind, content) in [("long", long), ("short", short)] {
            let name = format!("put/{kind}-{polls}");
            tried.insert(name.clone(), content.clone());
            let call = sink.put(stored(&name), content.clone(), facts());
            let _ = cancelled_after(polls, call).await;

            let name = format!("begin/{kind}-{polls}");
            tried.insert(name.clone(), content.clone());
            let call = async {
                let mut writer = sink.begin(stored(&name)).await?;
                for piece in content.chunks(CHUNK_SIZE / 2) {
                    writer.write(Bytes::copy_from_slice(piece)).await?;
                }
                writer.finish(facts()).await
            };
            let _ = cancelled_after(polls, call).await;
        }
        let _ = cancelled_after(polls, sink.sync()).await;
        let _ = cancelled_after(polls, sink.members()).await;
        let name = format!("between/{polls}");
        put(&sink, &name, bytes(99, 77)).await;
        tried.insert(name, bytes(99, 77));
    }
    let there = names(&sink).await;
    for polls in 0..14 {
        let name = format!("between/{polls}");
        assert!(
            there.contains(&name),
            "a cancelled call leaves the sink usable"
        );
    }
    tried.retain(|name, _| there.contains(name));
    ends_with(sinks, &sink, &tried).await;
}

async fn a_writer_that_lost_bytes_does_not_finish(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    let mut expected = BTreeMap::new();
    // Without a poll nothing was called.
    for polls in 1..12 {
        let name = format!("cut-{polls}");
        let content = bytes(polls as u64, 3 * CHUNK_SIZE);
        let mut writer = sink.begin(stored(&name)).await.unwrap();
        let written = cancelled_after(polls, writer.write(content.clone())).await;
        let outcome = writer.finish(MemberFacts::default()).await;
        if outcome.is_ok() {
            assert!(
                written.is_some(),
                "a writer whose write was cut short says so when it is finished"
            );
            expected.insert(name, content);
        }
    }
    ends_with(sinks, &sink, &expected).await;
}

async fn a_bundle_is_published_once(sinks: &dyn Sinks) {
    let sink = sinks.fresh().await;
    put(&sink, "a", bytes(1, 10)).await;
    let published = sink.publish(manifest()).await.unwrap();
    let members = published.manifest.members.iter();
    assert_eq!(members.filter(|member| !member.is_index()).count(), 1);
    assert!(sink.publish(manifest()).await.is_err(), "a second time");
    let facts = MemberFacts::default();
    assert!(
        sink.put(stored("b"), Bytes::new(), facts).await.is_err(),
        "nothing is taken any more"
    );
}
