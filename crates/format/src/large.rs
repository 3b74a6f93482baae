//! Values that stand in members of their own, because they are too large for a part.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CHUNK_SIZE, Digest, Member};

/// Metadata of a part's file: its [`LargeEntry`]s, as a JSON array. Absent where it has none.
pub const LARGE_KEY: &str = "arkstream.large";

/// A value of a part that stands in a member of its own; the part has NULL in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LargeEntry {
    /// Its row in the part's file, from 0.
    pub row: u64,
    /// Its column.
    pub column: String,
    /// The member that is its content.
    pub member: String,
    /// Bytes of the content.
    pub bytes: u64,
    /// The member's digest.
    pub digest: Digest,
}

impl LargeEntry {
    /// What stands under [`LARGE_KEY`].
    #[must_use]
    pub fn write(entries: &[Self]) -> String {
        // No value of these types fails to serialise.
        serde_json::to_string(entries).unwrap_or_default()
    }

    /// Reads what stands under [`LARGE_KEY`] in the metadata of a part's file.
    ///
    /// # Errors
    /// When it is no such list.
    pub fn read(metadata: &BTreeMap<String, String>) -> Result<Vec<Self>, serde_json::Error> {
        let text = metadata.get(LARGE_KEY);
        text.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(text))
    }

    /// Whether a member has the content of the value.
    #[must_use]
    pub fn is_content(&self, member: &Member) -> bool {
        member.digest == self.digest && member.raw_len == self.bytes
    }
}

/// The digest of a member whose bytes come in a stream, cut into chunks as a writer cuts it.
#[derive(Clone, Debug, Default)]
pub struct StreamDigest {
    /// Of the chunks that are complete.
    chunks: Vec<Digest>,
    hasher: blake3::Hasher,
    /// Bytes in the hasher.
    begun: usize,
    bytes: u64,
}

impl StreamDigest {
    /// Appends bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_SIZE - self.begun));
            self.hasher.update(now);
            self.begun += now.len();
            bytes = later;
            if self.begun == CHUNK_SIZE {
                self.end_chunk();
            }
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The member's digest.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        if self.begun > 0 {
            self.end_chunk();
        }
        Digest::of_chunks(&self.chunks)
    }

    fn end_chunk(&mut self) {
        self.chunks.push(Digest(*self.hasher.finalize().as_bytes()));
        self.hasher.reset();
        self.begun = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_the_digest_of_its_chunks_however_it_arrives() {
        let bytes: Vec<u8> = (0..CHUNK_SIZE + 5).map(|i| (i % 251) as u8).collect();
        let digests = [
            Digest::of(&bytes[..CHUNK_SIZE]),
            Digest::of(&bytes[CHUNK_SIZE..]),
        ];
        for size in [1 << 20, CHUNK_SIZE, bytes.len(), 999_983] {
            let mut stream = StreamDigest::default();
            bytes.chunks(size).for_each(|piece| stream.push(piece));
            assert_eq!(stream.bytes(), bytes.len() as u64);
            assert_eq!(stream.finish(), Digest::of_chunks(&digests));
        }
        let mut whole = StreamDigest::default();
        whole.push(&bytes[..CHUNK_SIZE]);
        assert_eq!(whole.finish(), Digest::of_chunks(&digests[..1]));
        assert_eq!(
            StreamDigest::default().finish(),
            Digest::of_chunks(std::iter::empty())
        );
    }
}
