//! A bundle in memory, made from a directory.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arkstream_conformance::MemoryBundle;
use arkstream_format::{ChromaSummary, Component, MigrationEntry, member_names};
use arkstream_pipeline::{Event, Observer, Restoring};
use bytes::Bytes;

pub const ID: &str = "0123456789abcdef";
const CHUNK: usize = 64 << 10;

/// A bundle of all files of a directory.
pub fn bundle_of(directory: &Path) -> MemoryBundle {
    let mut bundle = MemoryBundle::default();
    bundle.manifest.chroma = Some(summary(directory));
    for (path, bytes) in super::files_of(directory) {
        add(&mut bundle, &path, bytes);
    }
    bundle
}

pub fn add(bundle: &mut MemoryBundle, path: &str, bytes: Vec<u8>) {
    let name = format!("{}{path}", member_names::CHROMA_DIR);
    let chunks = bytes.chunks(CHUNK).map(Bytes::copy_from_slice).map(Some);
    bundle.add(&name, Component::Chroma, 0o640, chunks.collect());
}

pub fn restoring(bundle: MemoryBundle) -> (Restoring, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    (bundle.restoring(ID, watch.clone()), watch)
}

/// Remembers every event.
#[derive(Default)]
pub struct Watch {
    events: Mutex<Vec<Event>>,
}

impl Watch {
    pub fn events(&self) -> Vec<Event> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Observer for Watch {
    fn event(&self, event: &Event) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event.clone());
    }
}

fn summary(directory: &Path) -> ChromaSummary {
    let database = directory.join(arkstream_chroma::DATABASE);
    let connection = rusqlite::Connection::open(database).unwrap();
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        connection
            .query_row(&sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
            .unsigned_abs()
    };
    let migrations = connection
        .prepare("SELECT dir, version, filename, hash FROM migrations")
        .unwrap()
        .query_map([], |row| {
            Ok(MigrationEntry {
                dir: row.get(0)?,
                version: row.get(1)?,
                filename: row.get(2)?,
                hash: row.get(3)?,
            })
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    ChromaSummary {
        migrations,
        collections: count("collections"),
        embeddings: count("embeddings"),
        queued: count("embeddings_queue"),
    }
}

/// Everything below a folder: path, mode, owner, bytes. Equal means byte for byte the same.
pub fn state_of(folder: &Path) -> BTreeMap<String, (u32, u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let bytes = if metadata.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            found.insert(name, (metadata.mode(), metadata.uid(), bytes));
        }
    }
    found
}
