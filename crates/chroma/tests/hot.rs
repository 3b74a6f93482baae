//! Copies of a directory that the real Chroma writes to all the time.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use arkstream_chroma::ChromaOptions;
use common::{DirectorySink, Writer, assert_good, back_up, python, python_05, run};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn every_write_acknowledged_before_the_lock_is_in_the_copy() {
    hammer(&python(), rounds(24, 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_for_chroma_0_5() {
    let Some(python) = python_05() else {
        eprintln!("left out: ARKSTREAM_TEST_PYTHON_CHROMA05 names no Python with chromadb 0.5");
        return;
    };
    hammer(&python, rounds(24, 2)).await;
}

/// `soak` rounds when many are asked for.
fn rounds(soak: usize, usual: usize) -> usize {
    if env::var_os("ARKSTREAM_SOAK").is_some() {
        soak
    } else {
        usual
    }
}

/// The writer's load: larger folders in a soak, so that a persist takes its time. In a thousand
/// dimensions HNSW itself does not find some records, in the original either.
fn load() -> &'static [&'static str] {
    const USUAL: &[&str] = &["--collections", "3", "--sync-threshold", "40"];
    const SOAK: &[&str] = &[
        "--collections",
        "2",
        "--sync-threshold",
        "150",
        "--dim",
        "128",
        "--batch",
        "80",
        "--max-records",
        "6000",
    ];
    if env::var_os("ARKSTREAM_SOAK").is_some() {
        SOAK
    } else {
        USUAL
    }
}

/// Copies a directory again and again while Chroma writes to it, then has Chroma open the copies.
async fn hammer(python: &Path, rounds: usize) {
    let mut writer = Writer::start(python, load());
    let mut copies = Vec::new();
    let mut retracted = 0;
    for _ in 0..rounds {
        let before = writer.acknowledged();
        let (run, sink) = run(DirectorySink::new());
        let (report, locked_at) = back_up(&writer.directory(), ChromaOptions::default(), &run)
            .await
            .unwrap();
        assert!(run.omissions().is_empty(), "{:?}", run.omissions());
        retracted += sink.retracted().len();
        copies.push((sink, locked_at, report.chroma_hold_ms.unwrap()));
        while writer.acknowledged() < before + 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    writer.stop();
    let longest = copies.iter().map(|copy| copy.2).max().unwrap();
    for (copy, locked_at, _) in copies {
        assert_good(&copy.chroma());
        writer.check(python, &copy.chroma(), locked_at);
    }
    eprintln!(
        "{rounds} of {rounds} copies are good; {} operations, longest hold {longest} ms, \
         {retracted} members read again",
        writer.acknowledged()
    );
}

/// Creates, fills and deletes collections until its standard input ends.
const CHURN: &str = "
import os, sys, threading
os.environ['ANONYMIZED_TELEMETRY'] = 'False'
import chromadb
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
client = chromadb.PersistentClient(sys.argv[1])
collections = []
number = 0
while not stop.is_set():
    number += 1
    settings = {'hnsw:sync_threshold': 20, 'hnsw:batch_size': 10}
    collection = client.create_collection(f'col{number}', embedding_function=None, metadata=settings)
    collections.append(collection)
    for batch in range(4):
        ids = [f'{batch}-{n}' for n in range(12)]
        collection.add(ids=ids, embeddings=[[float(n), 1.0] for n in range(12)], documents=ids)
    if number == 3:
        print('ready', flush=True)
    if len(collections) > 3:
        client.delete_collection(collections.pop(0).name)
";

#[tokio::test(flavor = "multi_thread")]
async fn collections_may_come_and_go() {
    let root = TempDir::new().unwrap();
    let directory = root.path().join("chroma");
    let mut child = Command::new(python())
        .args(["-c", CHURN])
        .arg(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let rounds = rounds(60, 8);
    let mut copies = Vec::new();
    for _ in 0..rounds {
        let (run, sink) = run(DirectorySink::new());
        let options = ChromaOptions {
            quiet: Duration::from_millis(20),
            ..ChromaOptions::default()
        };
        back_up(&directory, options, &run).await.unwrap();
        assert!(run.omissions().is_empty(), "{:?}", run.omissions());
        copies.push(sink);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    for copy in copies {
        assert_good(&copy.chroma());
    }
}
