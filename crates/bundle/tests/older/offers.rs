//! What an older bundle offers, and under which numbers its snapshots go on.

use std::{collections::BTreeMap, sync::Arc};

use arkstream_bundle::OutputPaths;
use arkstream_format::{Component, Compression, Digest, Generation, Proof, RowsProof, RunId};
use arkstream_pipeline::{BundleSink as _, MemberFacts, Sink as _};

use crate::{
    Run,
    common::{moment, spec, text},
    open,
};

fn generation(number: u32, run: &str) -> Generation {
    Generation {
        number,
        run_id: RunId(run.into()),
        taken_at: moment(),
        barrier_skew_ms: 0,
        chroma_hold_ms: None,
        snapshots: Vec::new(),
    }
}

fn rows_of(generation: u32) -> MemberFacts {
    MemberFacts {
        rows: Some(1),
        proof: Some(Proof::Rows(Box::new(RowsProof {
            relation_oid: 1,
            relfilenode: None,
            first_block: 0,
            end_block: None,
            heap_blocks: 1,
            generation,
            definition: Digest::of(b"x"),
            versions: None,
            content: Digest::of(b"y"),
            with: Vec::new(),
        }))),
    }
}

/// A proof names the snapshot it was made under by a number, so that number must never come to mean
/// another snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_keep_the_snapshots_they_were_made_under() {
    let folder = tempfile::tempdir().unwrap();
    let put = |run: &Run, name: &'static str, generation: u32| {
        let writer = Arc::clone(&run.writer);
        async move {
            let mut spec = spec(name, Compression::Stored);
            spec.component = Component::Models;
            let put = writer.put(spec, text(100), rows_of(generation));
            put.await.unwrap();
            writer.sync().await.unwrap();
        }
    };
    let first = OutputPaths::new(&folder.path().join("1.zip"));
    let mut run = open(&first, None).await;
    put(&run, "t/part-00000.parquet", 1).await;
    run.opened.1.generations = vec![generation(1, "older")];
    let first = run.publish().await;

    // Begun without the older bundle: its own first generation has the same number.
    let second = OutputPaths::new(&folder.path().join("2.zip"));
    let run = open(&second, None).await;
    run.writer
        .begin_generation(generation(1, "own"))
        .await
        .unwrap();
    put(&run, "u/part-00000.parquet", 1).await;
    drop(run);

    for _ in 0..2 {
        let run = open(&second, Some(&first.path)).await;
        let (generations, described) = &run.opened;
        let names: Vec<(u32, &str)> = generations
            .iter()
            .map(|generation| (generation.number, generation.run_id.0.as_str()))
            .collect();
        assert_eq!(names, [(1, "own"), (2, "older")]);
        assert_eq!(described.bases.len(), 1);
        let earlier = run.writer.earlier(Component::Models).await.unwrap();
        let numbers: BTreeMap<&str, u32> = earlier
            .iter()
            .map(|member| match &member.proof {
                Some(Proof::Rows(proof)) => (member.name.as_str(), proof.generation),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            numbers,
            [("t/part-00000.parquet", 2), ("u/part-00000.parquet", 1)].into()
        );
        let kept = run
            .writer
            .keep("t/part-00000.parquet", None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(kept.proof, rows_of(2).proof);
        run.writer.sync().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_describes_the_older_bundle_is_not_offered() {
    let folder = tempfile::tempdir().unwrap();
    let run = open(&OutputPaths::new(&folder.path().join("1.zip")), None).await;
    for (name, component) in [
        ("metadata.json", Component::Description),
        ("index/00000.jsonl", Component::Chroma),
        ("databases/chroma_data/x", Component::Chroma),
    ] {
        let mut spec = spec(name, Compression::Deflate);
        spec.component = component;
        let facts = MemberFacts::default();
        run.writer.put(spec, text(100), facts).await.unwrap();
    }
    let first = run.publish().await;
    let run = open(
        &OutputPaths::new(&folder.path().join("2.zip")),
        Some(&first.path),
    )
    .await;
    let mut offered = Vec::new();
    for component in Component::ALL {
        offered.extend(run.writer.earlier(component).await.unwrap());
    }
    let names: Vec<&str> = offered.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["databases/chroma_data/x"]);
}
