//! Chunks through the whole writer and reader: hashed, compressed, appended, synced, read back.
//!
//! `cargo bench -p arkstream-bundle --features igzip`; without the feature, zlib-rs does it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

use arkstream_bundle::{
    Beginning, BundleFile, BundleWriter, Effort, Leftover, OutputPaths, SpaceWait,
};
use arkstream_format::{Component, Compression, Generator, Manifest, RunId};
use arkstream_pipeline::{
    Budget, BundleReader as _, BundleSink as _, Cancel, MemberFacts, MemberSpec, Silent, Sink as _,
};
use bytes::Bytes;
use chrono::DateTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const LEN: usize = 32 << 20;

/// Bytes that depend on the seed alone.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]).finalize_xof().fill(&mut out);
    out
}

/// As `pg_dump` writes tables: numbers, times, words of a small vocabulary.
fn sql() -> Vec<u8> {
    let random = noise(1, LEN);
    let words = [
        "memory", "agent", "graph", "message", "the", "user", "asked", "of", "vector", "a",
    ];
    let mut out = Vec::with_capacity(LEN + 4096);
    for (row, seed) in random.chunks(64).enumerate() {
        if out.len() >= LEN {
            break;
        }
        let id = u64::from_le_bytes(seed[..8].try_into().unwrap());
        out.extend_from_slice(
            format!("{row}\t{id:016x}\t2026-01-02 03:04:{:02}\t", row % 60).as_bytes(),
        );
        for pick in &seed[8..] {
            out.extend_from_slice(words[usize::from(*pick) % words.len()].as_bytes());
            out.push(if pick % 9 == 0 { *pick } else { b' ' });
        }
        out.push(b'\n');
    }
    out.truncate(LEN);
    out
}

/// As HNSW files hold embeddings: 32-bit floats between −1 and 1.
fn vectors() -> Vec<u8> {
    noise(2, LEN)
        .chunks(4)
        .flat_map(|four| {
            let value = i32::from_le_bytes(four.try_into().unwrap());
            (value as f32 / i32::MAX as f32 / 4.0).to_le_bytes()
        })
        .collect()
}

fn manifest() -> Manifest {
    Manifest::empty(
        RunId("00".into()),
        Generator::new("bench", "0"),
        DateTime::UNIX_EPOCH,
    )
}

/// Writes one streamed member as a bundle; returns the file's size.
async fn write(folder: &Path, content: &Bytes, effort: Effort) -> u64 {
    let paths = OutputPaths::new(&folder.join("bundle.zip"));
    let _ = std::fs::remove_file(&paths.bundle);
    let beginning = Beginning {
        run_id: RunId("00".into()),
        plan: Default::default(),
        at: DateTime::UNIX_EPOCH,
    };
    let wait = SpaceWait {
        limit: std::time::Duration::ZERO,
        cancel: Cancel::default(),
        observer: Arc::new(Silent),
    };
    let (writer, _) = BundleWriter::open(paths, beginning, Leftover::Discard, wait).unwrap();
    let writer = writer.with_effort(effort);
    let spec = MemberSpec {
        name: "data".into(),
        component: Component::Filestore,
        compression: Compression::Deflate,
        modified_at: DateTime::UNIX_EPOCH,
        mode: 0o600,
        budget: Budget::new(64 << 20),
    };
    let mut member = writer.begin(spec).await.unwrap();
    for at in (0..content.len()).step_by(1 << 20) {
        let piece = content.slice(at..content.len().min(at + (1 << 20)));
        member.write(piece).await.unwrap();
    }
    drop(member.finish(MemberFacts::default()).await.unwrap());
    writer.publish(manifest()).await.unwrap().bytes
}

fn read(bundle: &BundleFile) {
    let member = bundle.member("data").unwrap();
    for index in 0..member.chunks.len() {
        bundle.read_chunk(member, index).unwrap();
    }
}

fn chunks(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kinds = [
        ("sql", sql()),
        ("vectors", vectors()),
        ("noise", noise(3, LEN)),
    ];
    for (kind, content) in kinds {
        let content = Bytes::from(content);
        let mut group = criterion.benchmark_group(kind);
        group.sample_size(10);
        group.throughput(Throughput::Bytes(LEN as u64));
        for effort in [Effort::None, Effort::Fast, Effort::Balanced, Effort::Small] {
            let mut bytes = 0;
            group.bench_function(
                BenchmarkId::new("write", format!("{effort:?}")),
                |bencher| {
                    bencher.iter(|| {
                        bytes = runtime.block_on(write(folder.path(), &content, effort));
                    });
                },
            );
            println!(
                "{kind}, {effort:?}: {:.4} of the size",
                bytes as f64 / LEN as f64
            );
            let bundle = BundleFile::open(&folder.path().join("bundle.zip")).unwrap();
            group.bench_function(BenchmarkId::new("read", format!("{effort:?}")), |bencher| {
                bencher.iter(|| read(&bundle));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, chunks);
criterion_main!(benches);
