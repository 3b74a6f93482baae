//! What is left of the ZIP directory. Of each member it repeats name, place, lengths and CRC-32, and
//! it lists no superseded attempt.

use std::{collections::BTreeMap, fs::File};

use chrono::DateTime;

use arkstream_format::{Compression, Crc32};

use crate::{
    framing::{CENTRAL_HEADER, END, Entry, check_name},
    salvage::{
        headers::{Header, bytes_at, u16_at, u32_at, u64_at},
        scan::Signatures,
    },
};

/// Length of an entry without name and extra fields.
const FIXED: usize = 46;
/// The longest entry that this program writes: name, timestamp, three ZIP64 values.
const LONGEST: usize = FIXED + 1024 + 9 + 28;
/// What stands in a field whose value is in the ZIP64 field.
const MOVED: u32 = u32::MAX;

/// The entries that are sound, as headers, by place.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) entries: BTreeMap<u64, Header>,
    /// Whether none is missing.
    pub(super) complete: bool,
}

impl Directory {
    /// Adds the entries between two offsets.
    pub(super) fn read(&mut self, file: &File, start: u64, end: u64) {
        let mut signatures = Signatures::new(file, CENTRAL_HEADER, start, end);
        let mut behind = None;
        while let Some(at) = signatures.next() {
            if let Some((header, len)) = entry_at(file, at, end) {
                self.entries.insert(header.header_offset, header);
                signatures.go_on_at(at + len);
                behind = Some(at + len);
            }
        }
        let mut signatures = Signatures::new(file, END, behind.unwrap_or(end), end);
        while let Some(at) = signatures.next() {
            let record = bytes_at(file, at, 22, end);
            let count = record.and_then(|record| u16_at(&record, 10));
            self.complete |= count == Some(self.entries.len().min(u16::MAX.into()) as u16);
        }
    }
}

/// The entry at `at`, if it is, but for the time in DOS format, one of this program's; and its length.
fn entry_at(file: &File, at: u64, end: u64) -> Option<(Header, u64)> {
    let bytes = bytes_at(file, at, LONGEST, end)?;
    let (name_len, extra_len) = (u16_at(&bytes, 28)? as usize, u16_at(&bytes, 30)? as usize);
    let name = std::str::from_utf8(bytes.get(FIXED..FIXED + name_len)?).ok()?;
    check_name(name).ok()?;
    let extra = bytes.get(FIXED + name_len..FIXED + name_len + extra_len)?;
    let seconds = u32_at(extra, 5)? as i32;
    let mut moved = 13;
    let mut value = |at: usize| -> Option<u64> {
        match u32_at(&bytes, at)? {
            MOVED => {
                moved += 8;
                u64_at(extra, moved - 8)
            }
            value => Some(value.into()),
        }
    };
    let (raw_len, stored_len, header_offset) = (value(24)?, value(20)?, value(42)?);
    if raw_len.max(stored_len).max(header_offset) >= 1 << 60 {
        return None;
    }
    let compression = match u16_at(&bytes, 10)? {
        0 => Compression::Stored,
        8 => Compression::Deflate,
        _ => return None,
    };
    let crc32 = Crc32(u32_at(&bytes, 16)?);
    let entry = Entry {
        name,
        compression,
        modified_at: DateTime::from_timestamp(seconds.into(), 0)?,
        mode: u32_at(&bytes, 38)? >> 16 & 0o7777,
        descriptor: u16_at(&bytes, 8)? & 8 != 0,
        header_offset,
        crc32,
        raw_len,
        stored_len,
    };
    let made = entry.central_header();
    let found = bytes.get(..made.len())?;
    let equal = made.get(..12)? == found.get(..12)? && made.get(16..)? == found.get(16..)?;
    let header = Header {
        name: name.to_owned(),
        compression,
        modified_at: entry.modified_at,
        mode: Some(entry.mode),
        header_offset,
        data_offset: header_offset + entry.local_header().len() as u64,
        totals: Some((crc32, raw_len, stored_len)),
        descriptor: entry.descriptor,
    };
    equal.then_some((header, made.len() as u64))
}
