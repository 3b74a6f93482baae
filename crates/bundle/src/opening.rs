//! A member between its first header byte and its last byte.

use chrono::{DateTime, Utc};
use sha2::Sha256;

use arkstream_format::{Chunk, Component, Compression, Copied, Crc32, journal::Record};

use crate::{codec::STREAM_END, framing::Entry};

/// CRC and sizes, where they are known before the first byte is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) crc32: Crc32,
    pub(crate) raw_len: u64,
    pub(crate) stored_len: u64,
}

/// What is known of a member when its header is written.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) component: Component,
    pub(crate) compression: Compression,
    pub(crate) modified_at: DateTime<Utc>,
    pub(crate) mode: u32,
    pub(crate) totals: Option<Totals>,
}

pub(crate) struct OpenMember {
    pub(crate) opening: Opening,
    /// SHA-256 of the file before its header, for a member that streams.
    pub(crate) before: Option<Sha256>,
    pub(crate) header_offset: u64,
    pub(crate) data_offset: u64,
    pub(crate) crc32: Crc32,
    pub(crate) raw_len: u64,
    pub(crate) chunks: Vec<Chunk>,
    /// What of it was copied out of an older bundle.
    pub(crate) copied: Option<Copied>,
}

impl OpenMember {
    pub(crate) fn record(&self) -> Record {
        Record::Open {
            name: self.opening.name.clone(),
            component: self.opening.component,
            compression: self.opening.compression,
            modified_at: self.opening.modified_at,
            mode: self.opening.mode,
            header_offset: self.header_offset,
            data_offset: self.data_offset,
        }
    }

    pub(crate) fn take_chunk(&mut self, chunk: Chunk) {
        self.crc32 = self.crc32.then(chunk.crc32, chunk.raw_len.into());
        self.raw_len += u64::from(chunk.raw_len);
        self.chunks.push(chunk);
    }

    pub(crate) fn count_copied(&mut self, base: u32, bytes: u32) {
        let copied = self.copied.get_or_insert(Copied { base, bytes: 0 });
        copied.bytes += u64::from(bytes);
    }
}

impl Totals {
    /// For a header that is written before anything is known.
    pub(crate) const UNKNOWN: Self = Self {
        crc32: Crc32(0),
        raw_len: 0,
        stored_len: 0,
    };

    /// Of a member that holds just these chunks.
    pub(crate) fn of_chunks(compression: Compression, chunks: &[Chunk]) -> Self {
        let mut totals = Self {
            stored_len: match compression {
                Compression::Stored => 0,
                Compression::Deflate => STREAM_END.len() as u64,
            },
            ..Self::UNKNOWN
        };
        for chunk in chunks {
            totals.crc32 = totals.crc32.then(chunk.crc32, chunk.raw_len.into());
            totals.raw_len += u64::from(chunk.raw_len);
            totals.stored_len += u64::from(chunk.stored_len);
        }
        totals
    }
}

impl Opening {
    pub(crate) fn entry(&self, header_offset: u64, totals: Totals) -> Entry<'_> {
        Entry {
            name: &self.name,
            compression: self.compression,
            modified_at: self.modified_at,
            mode: self.mode,
            descriptor: self.totals.is_none(),
            header_offset,
            crc32: totals.crc32,
            raw_len: totals.raw_len,
            stored_len: totals.stored_len,
        }
    }
}
