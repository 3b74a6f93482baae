//! A directory that the real Chroma wrote as a source and as a target, held against what both promise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

mod common;

use std::{fs, path::PathBuf, process::Command, sync::Arc, time::Duration};

use arkstream_chroma::{ChromaOptions, ChromaSource, ChromaTarget, ChromaTargetOptions, DATABASE};
use arkstream_conformance::{
    MemoryBundle,
    source::{self, Sources},
    target::{self, Targets},
};
use arkstream_format::{TargetPlace, member_names};
use arkstream_pipeline::{Restoring, Silent, Source, Target};
use async_trait::async_trait;
use common::{
    Made,
    bundle::{bundle_of, state_of},
    copy_directory, files_of, python, run_python,
};
use tempfile::TempDir;

struct Directory {
    path: PathBuf,
    _root: TempDir,
}

#[async_trait]
impl Sources for Directory {
    async fn make(&self) -> Box<dyn Source> {
        let options = ChromaOptions {
            lock_wait: Duration::from_secs(10),
            ..ChromaOptions::default()
        };
        Box::new(ChromaSource::new(self.path.clone(), options))
    }

    fn folders(&self) -> Vec<String> {
        vec![member_names::CHROMA_DIR.to_owned()]
    }

    /// Whether another process can write: opening the file here would drop this process's locks.
    async fn locks(&self) -> usize {
        let program = "import sqlite3, sys\n\
            connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n\
            try:\n    connection.execute('BEGIN IMMEDIATE')\n\
            except sqlite3.OperationalError: sys.exit(9)";
        let database = self.path.join(DATABASE);
        let status = Command::new(python())
            .args(["-c", program])
            .arg(database)
            .status();
        match status.unwrap().code() {
            Some(0) => 0,
            Some(9) => 1,
            other => panic!("Python ended with {other:?}"),
        }
    }

    async fn state(&self) -> String {
        let files = files_of(&self.path).into_iter();
        let told = files.map(|(name, bytes)| {
            let digest = arkstream_format::Digest::of(&bytes);
            format!("{name} {digest}")
        });
        told.collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_a_source() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("chroma");
    copy_directory(&Made::new(&python()).directory(), &path);
    source::suite(&Directory { path, _root: root }, faults()).await;
}

/// A live directory, and a bundle of another one.
struct Restored {
    live: Directory,
    bundle: MemoryBundle,
}

impl Restored {
    fn options() -> ChromaTargetOptions {
        ChromaTargetOptions {
            allow_busy: false,
            now: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        }
    }
}

#[async_trait]
impl Targets for Restored {
    fn restoring(&self, id: &str) -> Restoring {
        self.bundle.clone().restoring(id, Arc::new(Silent))
    }

    async fn make(&self, restoring: &Restoring) -> Box<dyn Target> {
        let path = self.live.path.clone();
        Box::new(ChromaTarget::new(path, &restoring.id, Self::options()).unwrap())
    }

    async fn reopen(&self, place: &TargetPlace, _id: &str) -> Box<dyn Target> {
        Box::new(ChromaTarget::reopen(place, Self::options()).unwrap())
    }

    async fn keeps_others_out(&self) -> bool {
        // As a stranger does, for the claims of one process are one.
        let folder = fs::File::open(self.live._root.path()).unwrap();
        matches!(folder.try_lock(), Err(fs::TryLockError::WouldBlock))
    }

    async fn live(&self) -> String {
        self.live.state().await
    }

    async fn beside(&self) -> String {
        let all = state_of(self.live._root.path()).into_keys();
        let beside = all.filter(|name| !name.starts_with("chroma/"));
        beside.collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_a_target() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("chroma");
    let code = "import sys, chromadb\n\
        made = chromadb.PersistentClient(path=sys.argv[1]).create_collection('former', embedding_function=None)\n\
        made.add(ids=['a', 'b'], embeddings=[[0.0, 1.0], [1.0, 1.0]])";
    run_python(&python(), &["-c", code, path.to_str().unwrap()]);
    let restored = Restored {
        live: Directory { path, _root: root },
        bundle: bundle_of(&Made::new(&python()).directory()),
    };
    target::suite(&restored, faults()).await;
}

/// How many calls have a fault: a sample, or many in `make soak`.
fn faults() -> usize {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => 40,
        None => 2,
    }
}
