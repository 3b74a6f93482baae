//! The bundle of tests: everything in memory, to restore from, damaged as one likes.

use std::{collections::BTreeMap, sync::Arc};

use arkstream_format::{
    CHUNK_SIZE, Chunk, Component, Compression, Crc32, Digest, Generator, Manifest, Member,
    PartEntry, RunId, TableEntry, TableRole,
};
use arkstream_pipeline::{Budget, BundleReader, Cancel, Finding, Observer, Place, Restoring};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::MemorySink;

/// A bundle in memory. Its chunks are checked as the real reader checks them.
#[derive(Clone, Debug)]
pub struct MemoryBundle {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The members' chunks. One that is missing cannot be read.
    pub chunks: BTreeMap<String, Vec<Option<Bytes>>>,
}

impl Default for MemoryBundle {
    fn default() -> Self {
        let generator = Generator::new("arkstream", "0");
        Self {
            manifest: Manifest::empty(RunId("run".into()), generator, DateTime::UNIX_EPOCH),
            chunks: BTreeMap::new(),
        }
    }
}

impl MemoryBundle {
    /// What a run put into a sink. `manifest` is the one that was published.
    #[must_use]
    pub fn of_sink(sink: &MemorySink, manifest: Manifest) -> Self {
        let contents = sink.contents().into_iter();
        let chunks = contents.map(|(name, (bytes, _))| (name, cut(&bytes)));
        Self {
            chunks: chunks.collect(),
            manifest,
        }
    }

    /// Adds a table and its parts, each of so many rows and read from the table itself.
    pub fn add_table(
        &mut self,
        mut table: TableEntry,
        parts: impl IntoIterator<Item = (Bytes, u64)>,
    ) {
        let of = table.model.as_deref().unwrap_or(&table.table).to_owned();
        for (number, (bytes, rows)) in parts.into_iter().enumerate() {
            let member = format!("odoo_data/models/{of}/part-{number:05}.parquet");
            self.add(&member, Component::Models, 0o600, cut(&bytes));
            table.rows += rows;
            table.parts.push(PartEntry {
                member,
                rows,
                relation: table.table.clone(),
                relfilenode: None,
                first_block: 0,
                end_block: None,
                generation: 1,
                kept_by: None,
                large: Vec::new(),
            });
        }
        self.manifest.tables.push(table);
    }

    /// Adds a member of these chunks.
    pub fn add(&mut self, name: &str, component: Component, mode: u32, chunks: Vec<Option<Bytes>>) {
        let whole: Vec<u8> = chunks.iter().flatten().flatten().copied().collect();
        let listed: Vec<Chunk> = chunks
            .iter()
            .map(|chunk| listed(chunk.as_deref().unwrap_or_default()))
            .collect();
        self.manifest.members.push(Member {
            name: name.to_owned(),
            component,
            compression: Compression::Stored,
            header_offset: 0,
            data_offset: 0,
            raw_len: whole.len() as u64,
            stored_len: whole.len() as u64,
            crc32: Crc32::of(&whole),
            digest: Digest::of_chunks(listed.iter().map(|chunk| &chunk.blake3)),
            descriptor: true,
            modified_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default(),
            mode,
            rows: None,
            proof: None,
            copied: None,
            chunks: listed,
        });
        self.chunks.insert(name.to_owned(), chunks);
    }

    /// A restore of it by that name.
    #[must_use]
    pub fn restoring(self, id: &str, observer: Arc<dyn Observer>) -> Restoring {
        Restoring {
            bundle: Arc::new(self),
            id: id.to_owned(),
            began_at: Utc::now(),
            continues: false,
            kept: Arc::default(),
            observer,
            cancel: Cancel::default(),
            budget: Budget::new(64 << 20),
            jobs: 1,
        }
    }
}

/// A model's table with the primary key `id`, without columns and parts.
#[must_use]
pub fn table_of(model: &str) -> TableEntry {
    TableEntry {
        table: format!("public.{}", model.replace('.', "_")),
        role: TableRole::Model,
        model: Some(model.to_owned()),
        filter: None,
        columns: Vec::new(),
        columns_left_out: Vec::new(),
        primary_key: vec!["id".to_owned()],
        foreign_keys: Vec::new(),
        rows: 0,
        parts: Vec::new(),
    }
}

fn cut(bytes: &Bytes) -> Vec<Option<Bytes>> {
    let pieces = bytes.chunks(CHUNK_SIZE);
    pieces.map(|piece| Some(bytes.slice_ref(piece))).collect()
}

fn listed(bytes: &[u8]) -> Chunk {
    Chunk {
        offset: 0,
        raw_len: bytes.len() as u32,
        stored_len: bytes.len() as u32,
        crc32: Crc32::of(bytes),
        blake3: Digest::of(bytes),
        stored_blake3: None,
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
        let place = Place {
            member: Some(member.name.clone()),
            chunk: Some(index),
            bytes: None,
        };
        let chunks = self.chunks.get(&member.name);
        let bytes = chunks.and_then(|chunks| chunks.get(index)?.clone());
        let told = member.chunks.get(index).map(|chunk| chunk.blake3);
        match bytes {
            None => Err(Finding::damage(place, "it cannot be read")),
            Some(bytes) if told == Some(Digest::of(&bytes)) => Ok(bytes),
            Some(_) => Err(Finding::damage(place, "it does not have its BLAKE3")),
        }
    }
}
