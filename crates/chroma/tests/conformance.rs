//! A directory that the real Chroma wrote as a source, held against what sources promise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

mod common;

use std::{path::PathBuf, process::Command, time::Duration};

use arkstream_chroma::{ChromaOptions, ChromaSource, DATABASE};
use arkstream_conformance::source::{self, Sources};
use arkstream_format::member_names;
use arkstream_pipeline::Source;
use async_trait::async_trait;
use common::{Made, copy_directory, files_of, python};
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

/// How many calls have a fault: a sample, or many in `make soak`.
fn faults() -> usize {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => 40,
        None => 2,
    }
}
