//! What a [`MemorySink`] took, read back as a bundle.

use std::collections::BTreeMap;

use arkstream_format::{CHUNK_SIZE, Digest, Generator, Manifest, Member, RunId, TableEntry};
use arkstream_pipeline::{BundleReader, Finding, Place};
use bytes::Bytes;

use crate::MemorySink;

/// A bundle in memory. As any reader it gives out only bytes that have their hash.
#[derive(Debug)]
pub struct MemoryBundle {
    manifest: Manifest,
    contents: BTreeMap<String, Bytes>,
}

impl MemoryBundle {
    /// The finished members of `sink` with these tables.
    #[must_use]
    pub fn new(sink: &MemorySink, tables: Vec<TableEntry>) -> Self {
        let contents: BTreeMap<String, Bytes> = sink
            .contents()
            .into_iter()
            .map(|(name, (bytes, _))| (name, bytes))
            .collect();
        let members = contents.keys().map(|name| sink.member(name)).collect();
        let generator = Generator::new("conformance", "0");
        Self {
            manifest: Manifest {
                members,
                tables,
                ..Manifest::empty(RunId("memory".to_owned()), generator, Default::default())
            },
            contents,
        }
    }

    /// Flips a bit of a member. Panics when there is no such byte.
    #[must_use]
    pub fn damaged(mut self, name: &str, at: usize) -> Self {
        let mut bytes = self.contents[name].to_vec();
        bytes[at] ^= 1;
        self.contents.insert(name.to_owned(), bytes.into());
        self
    }

    /// Loses a member, as a salvaged bundle has.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.manifest.members.retain(|member| member.name != name);
        self
    }
}

impl BundleReader for MemoryBundle {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn manifest_digest(&self) -> Digest {
        Digest::of(b"memory")
    }

    fn file_len(&self) -> u64 {
        self.contents.values().map(|bytes| bytes.len() as u64).sum()
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
        let damage = |what: &str| Finding::damage(place.clone(), what);
        let chunk = member.chunks.get(index);
        let chunk = chunk.ok_or_else(|| damage("there is no such chunk"))?;
        let start = index * CHUNK_SIZE;
        let bytes = self.contents.get(&member.name);
        let bytes = bytes.ok_or_else(|| damage("the member is lost"))?;
        let bytes = bytes.slice(start..start + chunk.raw_len as usize);
        match Digest::of(&bytes) == chunk.blake3 {
            true => Ok(bytes),
            false => Err(damage("its bytes do not have their BLAKE3")),
        }
    }
}
