//! Chunks as raw deflate, each compressed by itself.
//!
//! Every compressed chunk ends in a sync flush, so it ends on a byte boundary and depends on
//! nothing before it; the concatenation of a member's chunks followed by [`STREAM_END`] is one
//! valid deflate stream. A chunk that would not shrink becomes stored blocks inside that stream.
//!
//! Any encoder may write any chunk; [`Effort`] says which one does.
//!
//! Peak memory: one compressed chunk (at most [`MAX_STORED`]) and an encoder of less than 1 MiB beside
//! its raw bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression as Level, FlushCompress};
#[cfg(any(test, not(feature = "igzip")))]
use flate2::{Decompress, FlushDecompress, Status};

use arkstream_format::{CHUNK_SIZE, Chunk, Compression, Crc32, Digest};

use crate::reader::ProvenChunk;

#[cfg(feature = "igzip")]
mod igzip;

/// An empty last block with fixed codes: what ends every deflate member.
pub(crate) const STREAM_END: [u8; 2] = [0x03, 0x00];

/// The longest run of bytes in one stored block.
const STORED_BLOCK: usize = u16::MAX as usize;

/// The most bytes that a chunk of [`CHUNK_SIZE`] takes in the file: stored blocks.
pub(crate) const MAX_STORED: usize = CHUNK_SIZE + 5 * CHUNK_SIZE.div_ceil(STORED_BLOCK);

/// How much time compression may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Nothing is compressed.
    None,
    /// The fastest.
    Fast,
    /// What costs little and gains most.
    #[default]
    Balanced,
    /// The smallest.
    Small,
}

/// Who compresses a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoder {
    /// zlib-rs at a level. Measured in 4 MiB chunks (ratio on SQL text, SQLite, float vectors):
    /// level 1 is twice as fast as 3 but far larger and *expands* vectors (0.67, 0.72, 1.02); level 3
    /// (0.49, 0.55, 0.93); level 6 gains 3 % for 20 % more time.
    Zlib(u32),
    /// ISA-L at a level. Measured likewise: level 2 at four to nine times the speed of zlib-rs 3
    /// (0.41, 0.39, 0.92).
    #[cfg(feature = "igzip")]
    Igzip(igzip::Level),
}

impl Effort {
    fn encoder(self) -> Option<Encoder> {
        Some(match self {
            Self::None => return None,
            #[cfg(feature = "igzip")]
            Self::Fast => Encoder::Igzip(igzip::Level::One),
            #[cfg(feature = "igzip")]
            Self::Balanced => Encoder::Igzip(igzip::Level::Two),
            #[cfg(not(feature = "igzip"))]
            Self::Fast => Encoder::Zlib(2),
            #[cfg(not(feature = "igzip"))]
            Self::Balanced => Encoder::Zlib(3),
            Self::Small => Encoder::Zlib(9),
        })
    }
}

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
    pub(crate) fn new(raw: Bytes, compression: Compression, effort: Effort) -> Self {
        let hashed = Self::hashed(raw);
        match compression {
            Compression::Stored => hashed,
            Compression::Deflate => hashed.deflate(effort),
        }
    }

    /// Hashes `raw`.
    pub(crate) fn hashed(raw: Bytes) -> Self {
        Self {
            crc32: Crc32::of(&raw),
            blake3: Digest::of(&raw),
            deflated: None,
            copied: false,
            raw,
        }
    }

    /// Compresses it, where it pays.
    pub(crate) fn deflate(self, effort: Effort) -> Self {
        let encoder = effort.encoder();
        Self {
            deflated: encoder.and_then(|encoder| encoder.deflate(&self.raw)),
            ..self
        }
    }

    /// A chunk that stands in a bundle already and has its hashes: its stored bytes stay as they are.
    pub(crate) fn proven(chunk: &Chunk, compression: Compression, bytes: ProvenChunk) -> Self {
        Self {
            raw: bytes.raw,
            crc32: chunk.crc32,
            blake3: chunk.blake3,
            deflated: match compression {
                Compression::Stored => None,
                Compression::Deflate => Some(bytes.stored),
            },
            copied: true,
        }
    }

    /// Whether its stored bytes were copied out of another bundle.
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

impl Encoder {
    /// Raw deflate that ends in a sync flush; `None` if it would not be smaller than `raw`.
    fn deflate(self, raw: &[u8]) -> Option<Bytes> {
        let mut out = match self {
            Self::Zlib(level) => zlib_deflate(raw, level)?,
            #[cfg(feature = "igzip")]
            Self::Igzip(level) => igzip::deflate(raw, level)?,
        };
        (out.len() < raw.len()).then(|| {
            out.shrink_to_fit();
            out.into()
        })
    }
}

fn zlib_deflate(raw: &[u8], level: u32) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len());
    let mut encoder = Compress::new(Level::new(level), false);
    // The vector does not grow: what does not fit is not worth keeping.
    encoder
        .compress_vec(raw, &mut out, FlushCompress::Sync)
        .ok()?;
    let complete = encoder.total_in() == raw.len() as u64 && out.len() < out.capacity();
    complete.then_some(out)
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

/// Decompresses one chunk, whose stored bytes have their hash, and which must give exactly `raw_len`
/// bytes.
pub(crate) fn inflate(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = vec![0; raw_len + 1];
    #[cfg(feature = "igzip")]
    let (read, written) = igzip::inflate(stored, &mut out).ok_or(InflateError::Invalid)?;
    #[cfg(not(feature = "igzip"))]
    let (read, written) = zlib_inflate(stored, &mut out)?;
    if read != stored.len() || written != raw_len {
        return Err(InflateError::Length {
            found: written as u64,
            expected: raw_len,
        });
    }
    out.truncate(raw_len);
    Ok(out)
}

/// Decompresses into `out` until it is full or nothing is left. Returns the bytes read and written.
#[cfg(any(test, not(feature = "igzip")))]
fn zlib_inflate(stored: &[u8], out: &mut [u8]) -> Result<(usize, usize), InflateError> {
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
        let now = (decoder.total_in() as usize, decoder.total_out() as usize);
        if status == Status::StreamEnd || now == (read, written) || now.1 == out.len() {
            return Ok(now);
        }
    }
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

    const EFFORTS: [Effort; 4] = [Effort::None, Effort::Fast, Effort::Balanced, Effort::Small];

    /// Words, numbers and noise, as dumps and databases have them.
    fn mixture(seed: u8, len: usize) -> Bytes {
        let random = noise(1 << 16);
        let mut out = Vec::with_capacity(len + 256);
        let mut at = usize::from(seed);
        while out.len() < len {
            let pick = random[at % random.len()];
            at += 1;
            match pick % 4 {
                0 => out.extend_from_slice(b"INSERT INTO ai_message VALUES ("),
                1 => out.extend_from_slice(at.to_string().as_bytes()),
                2 => out.extend_from_slice(&random[at % 999..at % 999 + usize::from(pick) % 40]),
                _ => out.resize(out.len() + usize::from(pick), pick),
            }
        }
        out.truncate(len);
        out.into()
    }

    fn stored(raw: &Bytes, effort: Effort) -> Bytes {
        EncodedChunk::new(raw.clone(), Compression::Deflate, effort).stored(Compression::Deflate)
    }

    #[test]
    fn chunks_of_all_encoders_are_one_valid_deflate_stream() {
        let mut chunks: Vec<Bytes> = vec![
            Bytes::from_static(b"the same words, the same words, the same words"),
            noise(200_000),
            Bytes::new(),
            vec![7; CHUNK_SIZE].into(),
            noise(1),
            mixture(1, CHUNK_SIZE),
            mixture(2, 65_537),
        ];
        chunks.extend((0..200).map(|len| mixture(3, len)));
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for chunk in &chunks {
            for effort in EFFORTS {
                let stored = stored(chunk, effort);
                assert!(stored.len() <= MAX_STORED);
                assert_eq!(inflate(&stored, chunk.len()).unwrap(), &chunk[..]);
                let mut out = vec![0; chunk.len() + 1];
                let lengths = zlib_inflate(&stored, &mut out).unwrap();
                assert_eq!(lengths, (stored.len(), chunk.len()));
                stream.extend_from_slice(&stored);
                expected.extend_from_slice(chunk);
            }
        }
        stream.extend_from_slice(&STREAM_END);
        let mut whole = Vec::new();
        flate2::read::DeflateDecoder::new(stream.as_slice())
            .read_to_end(&mut whole)
            .unwrap();
        assert!(whole == expected);
    }

    #[test]
    fn the_most_effort_gives_the_smallest() {
        let raw = mixture(5, 1 << 20);
        let [none, fast, balanced, small] = EFFORTS.map(|effort| stored(&raw, effort).len());
        assert!(small < fast.min(balanced), "{fast}, {balanced}, {small}");
        assert!(fast.max(balanced) * 2 < none, "{none}, {fast}, {balanced}");
    }

    #[test]
    fn noise_grows_by_stored_block_headers_only() {
        let raw = noise(CHUNK_SIZE);
        for effort in EFFORTS {
            let chunk = EncodedChunk::new(raw.clone(), Compression::Deflate, effort);
            assert!(!chunk.shrank());
            assert_eq!(chunk.stored(Compression::Deflate).len(), MAX_STORED);
        }
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let raw = Bytes::from_static(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        let stored = stored(&raw, Effort::Balanced);
        assert!(inflate(&stored, raw.len() - 1).is_err());
        assert!(inflate(&stored, raw.len() + 1).is_err());
        assert!(inflate(&stored[..stored.len() - 6], raw.len()).is_err());
    }

    #[test]
    fn damaged_data_gives_an_error_or_the_right_number_of_bytes() {
        let raw = mixture(7, 20_000);
        let good = stored(&raw, Effort::Balanced);
        let random = noise(good.len());
        for round in 0..2_000 {
            let mut bad = good.to_vec();
            let value = random[round % random.len()];
            let at = (round * 7919 + usize::from(value)) % bad.len();
            bad[at] ^= value | 1;
            if let Ok(found) = inflate(&bad, raw.len()) {
                assert_eq!(found.len(), raw.len());
            }
        }
    }
}
