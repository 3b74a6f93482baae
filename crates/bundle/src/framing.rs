//! The ZIP structure, byte by byte, from nothing but the manifest's fields.
//!
//! Records and numbers follow PKWARE's APPNOTE 6.3.10. What is ours to choose is fixed, because a
//! reader regenerates these bytes and compares them, and because a resumed file must be identical
//! to an uninterrupted one:
//!
//! - names are UTF-8 and flagged so (general purpose bit 11);
//! - the time stands twice: DOS format, in UTC, and an extended timestamp (`0x5455`);
//! - members whose CRC and sizes are known when the local header is written carry them there, so
//!   that even readers of a pipe can skip them; the others have bit 3, a ZIP64 field with zeros in
//!   the local header and a ZIP64 data descriptor, whatever their size;
//! - the central directory uses ZIP64 fields only for values that need them.
//!
//! A writer from a library would not do: none leaves unlisted bytes between entries, or puts known
//! sizes into the local header of a streamed archive.

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};

use arkstream_format::{Compression, Crc32, Member};

pub(crate) use arkstream_format::check_name;

pub(crate) const LOCAL_HEADER: u32 = 0x0403_4b50;
pub(crate) const DATA_DESCRIPTOR: u32 = 0x0807_4b50;
pub(crate) const CENTRAL_HEADER: u32 = 0x0201_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
pub(crate) const END: u32 = 0x0605_4b50;

/// Length of the end record without its comment.
pub(crate) const END_LEN: usize = 22;

const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const VERSION_PLAIN: u16 = 20;
const VERSION_ZIP64: u16 = 45;
const MADE_BY_UNIX: u16 = 3 << 8;
const REGULAR_FILE: u32 = 0o100_000;
const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_TIMESTAMP: u16 = 0x5455;

/// The most entries, and the largest offset and size, without ZIP64 (the value itself is the mark).
const MAX_ENTRIES: u64 = u16::MAX as u64;
const MAX_32: u64 = u32::MAX as u64;

/// What the structure needs to know of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) compression: Compression,
    pub(crate) modified_at: DateTime<Utc>,
    pub(crate) mode: u32,
    pub(crate) descriptor: bool,
    pub(crate) header_offset: u64,
    pub(crate) crc32: Crc32,
    pub(crate) raw_len: u64,
    pub(crate) stored_len: u64,
}

impl<'a> From<&'a Member> for Entry<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            name: &member.name,
            compression: member.compression,
            modified_at: member.modified_at,
            mode: member.mode,
            descriptor: member.descriptor,
            header_offset: member.header_offset,
            crc32: member.crc32,
            raw_len: member.raw_len,
            stored_len: member.stored_len,
        }
    }
}

impl Entry<'_> {
    fn flags(&self) -> u16 {
        FLAG_UTF8 | if self.descriptor { FLAG_DESCRIPTOR } else { 0 }
    }

    fn method(&self) -> u16 {
        match self.compression {
            Compression::Stored => 0,
            Compression::Deflate => 8,
        }
    }

    fn name_len(&self) -> u16 {
        // Longer names are refused before they get here (see `check_name`).
        u16::try_from(self.name.len()).unwrap_or(u16::MAX)
    }

    fn sizes_need_zip64(&self) -> bool {
        self.raw_len >= MAX_32 || self.stored_len >= MAX_32
    }

    /// The local header.
    pub(crate) fn local_header(&self) -> Vec<u8> {
        let zip64 = self.descriptor || self.sizes_need_zip64();
        let (crc, raw, stored) = if self.descriptor {
            (0, 0, 0)
        } else {
            (self.crc32.0, self.raw_len, self.stored_len)
        };
        let mut extra = timestamp_extra(self.modified_at);
        if zip64 {
            extra.extend(zip64_extra(&[raw, stored]));
        }
        let size_32 = |value: u64| if zip64 { u32::MAX } else { value as u32 };
        let mut out = Vec::with_capacity(30 + self.name.len() + extra.len());
        put_u32(&mut out, LOCAL_HEADER);
        put_u16(&mut out, if zip64 { VERSION_ZIP64 } else { VERSION_PLAIN });
        put_u16(&mut out, self.flags());
        put_u16(&mut out, self.method());
        put_dos_time(&mut out, self.modified_at);
        put_u32(&mut out, crc);
        put_u32(&mut out, size_32(stored));
        put_u32(&mut out, size_32(raw));
        put_u16(&mut out, self.name_len());
        put_u16(&mut out, extra.len() as u16);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&extra);
        out
    }

    /// The bytes behind the data: a ZIP64 data descriptor, or nothing.
    pub(crate) fn data_descriptor(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.descriptor {
            put_u32(&mut out, DATA_DESCRIPTOR);
            put_u32(&mut out, self.crc32.0);
            put_u64(&mut out, self.stored_len);
            put_u64(&mut out, self.raw_len);
        }
        out
    }

    /// The entry in the central directory.
    pub(crate) fn central_header(&self) -> Vec<u8> {
        let mut large = Vec::new();
        for value in [self.raw_len, self.stored_len, self.header_offset] {
            if value >= MAX_32 {
                large.push(value);
            }
        }
        let version = if large.is_empty() && !self.descriptor {
            VERSION_PLAIN
        } else {
            VERSION_ZIP64
        };
        let mut extra = timestamp_extra(self.modified_at);
        if !large.is_empty() {
            extra.extend(zip64_extra(&large));
        }
        let mut out = Vec::with_capacity(46 + self.name.len() + extra.len());
        put_u32(&mut out, CENTRAL_HEADER);
        put_u16(&mut out, MADE_BY_UNIX | version);
        put_u16(&mut out, version);
        put_u16(&mut out, self.flags());
        put_u16(&mut out, self.method());
        put_dos_time(&mut out, self.modified_at);
        put_u32(&mut out, self.crc32.0);
        put_u32(&mut out, self.stored_len.min(MAX_32) as u32);
        put_u32(&mut out, self.raw_len.min(MAX_32) as u32);
        put_u16(&mut out, self.name_len());
        put_u16(&mut out, extra.len() as u16);
        put_u16(&mut out, 0); // comment
        put_u16(&mut out, 0); // disk
        put_u16(&mut out, 0); // internal attributes
        put_u32(&mut out, (REGULAR_FILE | (self.mode & 0o7777)) << 16);
        put_u32(&mut out, self.header_offset.min(MAX_32) as u32);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&extra);
        out
    }
}

/// The end records behind a central directory of `entries` entries and `len` bytes at `offset`.
pub(crate) fn end_records(entries: u64, offset: u64, len: u64, comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if entries >= MAX_ENTRIES || offset >= MAX_32 || len >= MAX_32 {
        put_u32(&mut out, ZIP64_END);
        put_u64(&mut out, 44); // length of the rest of this record
        put_u16(&mut out, MADE_BY_UNIX | VERSION_ZIP64);
        put_u16(&mut out, VERSION_ZIP64);
        put_u32(&mut out, 0); // this disk
        put_u32(&mut out, 0); // disk of the directory
        put_u64(&mut out, entries);
        put_u64(&mut out, entries);
        put_u64(&mut out, len);
        put_u64(&mut out, offset);
        put_u32(&mut out, ZIP64_LOCATOR);
        put_u32(&mut out, 0); // disk of the record above
        put_u64(&mut out, offset + len);
        put_u32(&mut out, 1); // disks
    }
    put_u32(&mut out, END);
    put_u32(&mut out, 0); // this disk, disk of the directory
    put_u16(&mut out, entries.min(MAX_ENTRIES) as u16);
    put_u16(&mut out, entries.min(MAX_ENTRIES) as u16);
    put_u32(&mut out, len.min(MAX_32) as u32);
    put_u32(&mut out, offset.min(MAX_32) as u32);
    put_u16(&mut out, comment.len() as u16);
    out.extend_from_slice(comment.as_bytes());
    out
}

fn timestamp_extra(at: DateTime<Utc>) -> Vec<u8> {
    // The field is signed and 32 bits wide; times beyond it keep the nearest value it can hold.
    let seconds = at.timestamp().clamp(i32::MIN.into(), i32::MAX.into()) as i32;
    let mut out = Vec::with_capacity(9);
    put_u16(&mut out, EXTRA_TIMESTAMP);
    put_u16(&mut out, 5);
    out.push(1); // modification time only
    out.extend_from_slice(&seconds.to_le_bytes());
    out
}

fn zip64_extra(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 8 * values.len());
    put_u16(&mut out, EXTRA_ZIP64);
    put_u16(&mut out, 8 * values.len() as u16);
    for value in values {
        put_u64(&mut out, *value);
    }
    out
}

/// DOS time counts two-second steps from 1980 to 2107; times outside are clamped.
fn put_dos_time(out: &mut Vec<u8>, at: DateTime<Utc>) {
    let (time, date) = match at.year() {
        ..1980 => (0, 0x21),
        2108.. => (0xbf7d, 0xff9f),
        year => (
            ((at.hour() << 11) | (at.minute() << 5) | (at.second() / 2)) as u16,
            ((((year - 1980) as u32) << 9) | (at.month() << 5) | at.day()) as u16,
        ),
    };
    put_u16(out, time);
    put_u16(out, date);
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_32_bits_move_to_zip64_fields() {
        let entry = Entry {
            name: "a",
            compression: Compression::Stored,
            modified_at: DateTime::UNIX_EPOCH,
            mode: 0o644,
            descriptor: false,
            header_offset: 5 << 32,
            crc32: Crc32(1),
            raw_len: 7 << 32,
            stored_len: 9,
        };
        let header = entry.central_header();
        assert_eq!(header[24..28], u32::MAX.to_le_bytes());
        assert_eq!(header[20..24], 9u32.to_le_bytes());
        assert_eq!(header[42..46], u32::MAX.to_le_bytes());
        let extra = &header[46 + 1 + 9..];
        assert_eq!(extra[..4], [1, 0, 16, 0]);
        assert_eq!(extra[4..12], (7u64 << 32).to_le_bytes());
        assert_eq!(extra[12..20], (5u64 << 32).to_le_bytes());
        let end = end_records(70_000, 1, 2, "");
        assert_eq!(end.len(), 56 + 20 + END_LEN);
        assert_eq!(end[76 + 8..76 + 10], [0xff, 0xff]);
    }
}
