//! Members that describe the bundle: their sizes stand in their headers, as `zip` writes them.
//!
//! The sizes must be known before the first byte is appended, and a manifest may be larger than the
//! budget. So the content is produced twice, the same each time: once to be measured, once to be written.
//!
//! Peak memory: one chunk, raw and compressed.

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use arkstream_format::{CHUNK_SIZE, Component, Compression, Digest, Member};
use arkstream_pipeline::{Failure, FailureKind, MemberFacts};

use crate::{
    appender::Appender,
    codec::{Effort, EncodedChunk, STREAM_END},
    opening::{Opening, Totals},
};

/// Permission bits of the members that describe the bundle.
pub(crate) const DESCRIPTION_MODE: u32 = 0o600;

/// Appends what `content` writes, which is the same whenever it is asked; returns the member and the
/// BLAKE3 of its stored bytes.
pub(crate) fn append_document(
    out: &mut Appender,
    name: &str,
    modified_at: DateTime<Utc>,
    content: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<(Member, Digest), Failure> {
    let mut totals = Totals {
        stored_len: STREAM_END.len() as u64,
        ..Totals::UNKNOWN
    };
    let mut hasher = blake3::Hasher::new();
    in_chunks(&content, |chunk| {
        let (raw_len, stored) = (chunk.raw.len() as u64, chunk.stored(Compression::Deflate));
        totals.crc32 = totals.crc32.then(chunk.crc32, raw_len);
        totals.raw_len += raw_len;
        totals.stored_len += stored.len() as u64;
        hasher.update(&stored);
        Ok(())
    })?;
    hasher.update(&STREAM_END);
    out.open(Opening {
        name: name.to_owned(),
        component: Component::Description,
        compression: Compression::Deflate,
        modified_at,
        mode: DESCRIPTION_MODE,
        totals: Some(totals),
    })?;
    in_chunks(&content, |chunk| out.append(&chunk))?;
    let member = out.end_data(MemberFacts::default())?;
    Ok((member, Digest(*hasher.finalize().as_bytes())))
}

/// Gives out what is written, chunk by chunk.
fn in_chunks(
    content: impl Fn(&mut dyn Write) -> io::Result<()>,
    take: impl FnMut(EncodedChunk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cutter = Cutter {
        chunk: Vec::new(),
        take,
    };
    let written = content(&mut cutter).and_then(|()| cutter.flush());
    written.map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::new(FailureKind::Internal, "describe the bundle", error),
    })
}

struct Cutter<F> {
    chunk: Vec<u8>,
    take: F,
}

impl<F: FnMut(EncodedChunk) -> Result<(), Failure>> Write for Cutter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_SIZE {
            self.flush()?;
        }
        let taken = bytes.len().min(CHUNK_SIZE - self.chunk.len());
        self.chunk.extend_from_slice(bytes.split_at(taken).0);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.chunk).into();
        let chunk = EncodedChunk::new(raw, Compression::Deflate, Effort::default());
        (self.take)(chunk).map_err(io::Error::other)
    }
}
