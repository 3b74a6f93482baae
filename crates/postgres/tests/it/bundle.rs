//! A bundle in memory, to restore from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arkstream_format::{
    Chunk, Component, Compression, Crc32, Digest, Generator, Manifest, Member, RunId, TableEntry,
};
use arkstream_pipeline::{Budget, BundleReader, Cancel, Finding, Place, Restoring, Silent};
use bytes::Bytes;

/// Members with their chunks. A chunk that is missing cannot be read.
pub(crate) struct Pieces {
    manifest: Manifest,
    chunks: BTreeMap<String, Vec<Option<Bytes>>>,
}

impl Pieces {
    pub(crate) fn of(members: Vec<(&str, Component, Vec<Option<Bytes>>)>) -> Self {
        let listed = members.iter().map(|(name, component, chunks)| {
            let whole: Vec<u8> = chunks.iter().flatten().flatten().copied().collect();
            Member {
                name: (*name).to_owned(),
                component: *component,
                compression: Compression::Stored,
                header_offset: 0,
                data_offset: 0,
                raw_len: whole.len() as u64,
                stored_len: whole.len() as u64,
                crc32: Crc32::of(&whole),
                digest: {
                    let chunks = chunks.iter().map(|c| c.as_deref().unwrap_or_default());
                    Digest::of_chunks(&chunks.map(Digest::of).collect::<Vec<_>>())
                },
                descriptor: false,
                modified_at: chrono::Utc::now(),
                mode: 0o644,
                rows: None,
                proof: None,
                copied: None,
                chunks: chunks
                    .iter()
                    .map(|chunk| listed(chunk.as_deref().unwrap_or_default()))
                    .collect(),
            }
        });
        let manifest = Manifest {
            members: listed.collect(),
            ..Manifest::empty(
                RunId("0".repeat(32)),
                Generator::new("arkstream", "0"),
                chrono::Utc::now(),
            )
        };
        let chunks = members
            .into_iter()
            .map(|(name, _, chunks)| (name.to_owned(), chunks))
            .collect();
        Self { manifest, chunks }
    }

    pub(crate) fn with_tables(mut self, tables: Vec<TableEntry>) -> Self {
        self.manifest.tables = tables;
        self
    }
}

fn listed(bytes: &[u8]) -> Chunk {
    Chunk {
        offset: 0,
        raw_len: u32::try_from(bytes.len()).unwrap(),
        stored_len: u32::try_from(bytes.len()).unwrap(),
        crc32: Crc32::of(bytes),
        blake3: Digest::of(bytes),
        stored_blake3: None,
    }
}

impl BundleReader for Pieces {
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
    fn read_chunk(&self, member: &Member, chunk: usize) -> Result<Bytes, Finding> {
        self.chunks[&member.name][chunk]
            .clone()
            .ok_or_else(|| Finding::damage(Place::default(), "it was told to fail"))
    }
}

/// A restore of that name.
pub(crate) fn restoring(id: &str, bundle: Pieces) -> Restoring {
    Restoring {
        bundle: Arc::new(bundle),
        id: id.to_owned(),
        began_at: chrono::Utc::now(),
        continues: false,
        kept: Default::default(),
        observer: Arc::new(Silent),
        cancel: Cancel::default(),
        budget: Budget::new(64 << 20),
        jobs: 1,
    }
}
