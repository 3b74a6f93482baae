//! A bundle in memory, made from a directory.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arkstream_format::{
    ChromaSummary, Chunk, Component, Compression, Crc32, Digest, Generator, Manifest, Member,
    MigrationEntry, RunId, member_names,
};
use arkstream_pipeline::{Budget, BundleReader, Cancel, Event, Finding, Observer, Restoring};
use bytes::Bytes;

pub const ID: &str = "0123456789abcdef";
const CHUNK: usize = 64 << 10;

/// A bundle in memory. Its chunks are checked as the real reader checks them.
pub struct MemoryBundle {
    pub manifest: Manifest,
    pub data: BTreeMap<String, Vec<u8>>,
}

impl MemoryBundle {
    /// All files of a directory.
    pub fn of(directory: &Path) -> Self {
        let mut bundle = Self {
            manifest: Manifest {
                chroma: Some(summary(directory)),
                ..Manifest::empty(
                    RunId("run".into()),
                    Generator::new("arkstream", "0"),
                    chrono::DateTime::UNIX_EPOCH,
                )
            },
            data: BTreeMap::new(),
        };
        for (path, bytes) in super::files_of(directory) {
            bundle.add(&path, bytes);
        }
        bundle
    }

    pub fn add(&mut self, path: &str, bytes: Vec<u8>) {
        let name = format!("{}{path}", member_names::CHROMA_DIR);
        let chunks: Vec<_> = bytes
            .chunks(CHUNK)
            .map(|piece| Chunk {
                offset: 0,
                raw_len: piece.len() as u32,
                stored_len: piece.len() as u32,
                crc32: Crc32::of(piece),
                blake3: Digest::of(piece),
                stored_blake3: None,
            })
            .collect();
        self.manifest.members.push(Member {
            name: name.clone(),
            component: Component::Chroma,
            compression: Compression::Stored,
            header_offset: 0,
            data_offset: 0,
            raw_len: bytes.len() as u64,
            stored_len: bytes.len() as u64,
            crc32: Crc32::of(&bytes),
            digest: Digest::of_chunks(chunks.iter().map(|chunk| &chunk.blake3)),
            descriptor: true,
            modified_at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            mode: 0o640,
            rows: None,
            proof: None,
            copied: None,
            chunks,
        });
        self.data.insert(name, bytes);
    }

    pub fn restoring(self) -> (Restoring, Arc<Watch>) {
        let watch = Arc::new(Watch::default());
        let restoring = Restoring {
            bundle: Arc::new(self),
            id: ID.into(),
            observer: Arc::clone(&watch) as Arc<dyn Observer>,
            cancel: Cancel::default(),
            budget: Budget::new(8 << 20),
            jobs: 1,
            began_at: chrono::Utc::now(),
            continues: false,
            kept: Default::default(),
        };
        (restoring, watch)
    }
}

impl BundleReader for MemoryBundle {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn manifest_digest(&self) -> Digest {
        Digest::of(&[])
    }

    fn file_len(&self) -> u64 {
        0
    }

    fn check_framing(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn read_chunk(&self, member: &Member, index: usize) -> Result<Bytes, Finding> {
        let data = self.data.get(&member.name).unwrap();
        let piece = data.chunks(CHUNK).nth(index).unwrap();
        if Digest::of(piece) == member.chunks[index].blake3 {
            Ok(Bytes::copy_from_slice(piece))
        } else {
            let what = format!("chunk {index} does not have its BLAKE3");
            Err(Finding::in_member(member, what))
        }
    }
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
