//! Chunks as raw deflate, each compressed by itself.
//!
//! Every compressed chunk ends in a sync flush, so it ends on a byte boundary and depends on
//! nothing before it; the concatenation of a member's chunks followed by [`STREAM_END`] is one
//! valid deflate stream. A chunk that would not shrink becomes stored blocks inside that stream.
//!
//! Peak memory: one compressed chunk (at most [`MAX_STORED`]) beside its raw bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress, Status};

use arkstream_format::{CHUNK_SIZE, Compression, Crc32, Digest};

/// An empty last block with fixed codes: what ends every deflate member.
pub(crate) const STREAM_END: [u8; 2] = [0x03, 0x00];

/// The longest run of bytes in one stored block.
const STORED_BLOCK: usize = u16::MAX as usize;

/// The most bytes that a chunk of [`CHUNK_SIZE`] takes in the file: stored blocks.
pub(crate) const MAX_STORED: usize = CHUNK_SIZE + 5 * CHUNK_SIZE.div_ceil(STORED_BLOCK);

/// zlib level. Measured with zlib-rs in 4 MiB chunks (ratio on SQL text, SQLite, float vectors):
/// level 1 is twice as fast as 3 but far larger and *expands* vectors (0.67, 0.72, 1.02); level 3
/// (0.49, 0.55, 0.93); level 6 gains 3 % for 20 % more time; above that nothing is gained.
const LEVEL: u32 = 3;

/// A chunk, hashed and, where it pays, compressed.
#[derive(Clone, Debug)]
pub(crate) struct EncodedChunk {
    pub(crate) raw: Bytes,
    pub(crate) crc32: Crc32,
    pub(crate) blake3: Digest,
    /// Raw deflate ending in a sync flush; `None` if it would not be smaller.
    deflated: Option<Bytes>,
    copied: bool,
}

impl EncodedChunk {
    /// Hashes `raw` and compresses it if the member is to be compressed.
    pub(crate) fn new(raw: Bytes, compression: Compression) -> Self {
        let deflated = match compression {
            Compression::Stored => None,
            Compression::Deflate => deflate(&raw),
        };
        Self {
            crc32: Crc32::of(&raw),
            blake3: Digest::of(&raw),
            deflated,
            copied: false,
            raw,
        }
    }

    /// A chunk that was compressed before and whose hashes were checked.
    pub(crate) fn copied(raw: Bytes, crc32: Crc32, blake3: Digest, deflated: Bytes) -> Self {
        Self {
            raw,
            crc32,
            blake3,
            deflated: Some(deflated),
            copied: true,
        }
    }

    /// Whether its compressed bytes were copied out of an older bundle.
    pub(crate) fn is_copied(&self) -> bool {
        self.copied
    }

    /// Whether compression made it smaller.
    pub(crate) fn shrank(&self) -> bool {
        self.deflated.is_some()
    }

    /// The bytes that go into the file in a member of `compression`.
    pub(crate) fn stored(&self, compression: Compression) -> Bytes {
        match (compression, &self.deflated) {
            (Compression::Stored, _) => self.raw.clone(),
            (Compression::Deflate, Some(deflated)) => deflated.clone(),
            (Compression::Deflate, None) => stored_blocks(&self.raw),
        }
    }
}

/// `None` if the result would not be smaller than `raw`.
fn deflate(raw: &[u8]) -> Option<Bytes> {
    let mut out = Vec::with_capacity(raw.len());
    let mut encoder = Compress::new(Level::new(LEVEL), false);
    // The vector does not grow: what does not fit is not worth keeping.
    encoder
        .compress_vec(raw, &mut out, FlushCompress::Sync)
        .ok()?;
    let complete = encoder.total_in() == raw.len() as u64 && out.len() < out.capacity();
    let smaller = out.len() < raw.len();
    (complete && smaller).then(|| {
        out.shrink_to_fit();
        out.into()
    })
}

fn stored_blocks(raw: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(raw.len() + 5 * raw.len().div_ceil(STORED_BLOCK));
    for block in raw.chunks(STORED_BLOCK) {
        // The length fits: blocks are cut at u16::MAX.
        let len = block.len() as u16;
        out.put_u8(0);
        out.put_u16_le(len);
        out.put_u16_le(!len);
        out.put_slice(block);
    }
    out.freeze()
}

/// Why a chunk cannot be decompressed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    #[error("the compressed data is invalid")]
    Invalid,
    #[error("the compressed data gives {found} bytes instead of {expected}")]
    Length { found: u64, expected: usize },
}

/// Decompresses one chunk that must give exactly `raw_len` bytes.
pub(crate) fn inflate(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = vec![0; raw_len + 1];
    let mut decoder = Decompress::new(false);
    loop {
        let (read, written) = (decoder.total_in() as usize, decoder.total_out() as usize);
        let status = decoder
            .decompress(
                stored.get(read..).unwrap_or_default(),
                out.get_mut(written..).unwrap_or_default(),
                FlushDecompress::Sync,
            )
            .map_err(|_| InflateError::Invalid)?;
        let stuck = decoder.total_in() as usize == read && decoder.total_out() as usize == written;
        if status == Status::StreamEnd || stuck || decoder.total_out() > raw_len as u64 {
            break;
        }
    }
    if decoder.total_in() != stored.len() as u64 || decoder.total_out() != raw_len as u64 {
        return Err(InflateError::Length {
            found: decoder.total_out(),
            expected: raw_len,
        });
    }
    out.truncate(raw_len);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn noise(len: usize) -> Bytes {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out.into()
    }

    #[test]
    fn concatenated_chunks_are_one_valid_deflate_stream() {
        let chunks: Vec<Bytes> = vec![
            Bytes::from_static(b"the same words, the same words, the same words"),
            noise(200_000),
            Bytes::new(),
            vec![7; CHUNK_SIZE].into(),
            noise(1),
        ];
        let mut stream = Vec::new();
        for chunk in &chunks {
            let stored =
                EncodedChunk::new(chunk.clone(), Compression::Deflate).stored(Compression::Deflate);
            assert!(stored.len() <= MAX_STORED);
            assert_eq!(inflate(&stored, chunk.len()).unwrap(), &chunk[..]);
            stream.extend_from_slice(&stored);
        }
        stream.extend_from_slice(&STREAM_END);
        let mut whole = Vec::new();
        flate2::read::DeflateDecoder::new(stream.as_slice())
            .read_to_end(&mut whole)
            .unwrap();
        assert_eq!(whole, chunks.concat());
    }

    #[test]
    fn noise_grows_by_stored_block_headers_only() {
        let raw = noise(CHUNK_SIZE);
        let chunk = EncodedChunk::new(raw.clone(), Compression::Deflate);
        assert!(!chunk.shrank());
        assert_eq!(chunk.stored(Compression::Deflate).len(), MAX_STORED);
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let raw = Bytes::from_static(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        let stored =
            EncodedChunk::new(raw.clone(), Compression::Deflate).stored(Compression::Deflate);
        assert!(inflate(&stored, raw.len() - 1).is_err());
        assert!(inflate(&stored, raw.len() + 1).is_err());
        assert!(inflate(&stored[..stored.len() - 6], raw.len()).is_err());
    }
}
