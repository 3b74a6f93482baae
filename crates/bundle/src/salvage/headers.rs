//! Local headers of a damaged file, and what they prove: a whole member, by its CRC-32.

use std::fs::File;

use chrono::{DateTime, Utc};

use arkstream_format::{Compression, Crc32, RunId, journal::Record, member_names};
use arkstream_pipeline::os;

use crate::{
    framing::{CENTRAL_HEADER, DATA_DESCRIPTOR, Entry, LOCAL_HEADER, check_name},
    salvage::scan::{Inflating, Lines, Signatures, Stop},
};

/// Length of a local header without name and extra fields.
const FIXED: usize = 30;
/// The longest header that this program writes: name, timestamp, ZIP64 sizes.
const LONGEST: usize = FIXED + 1024 + 9 + 20;
/// Length of a ZIP64 data descriptor.
const DESCRIPTOR_LEN: u64 = 24;
const PIECE: usize = 64 << 10;

/// A local header that is, but for the time in DOS format, what this program writes.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) compression: Compression,
    pub(super) modified_at: DateTime<Utc>,
    /// Permission bits, which only the directory has.
    pub(super) mode: Option<u32>,
    pub(super) header_offset: u64,
    pub(super) data_offset: u64,
    /// CRC-32, raw and stored length, unless they are known from behind the data only.
    pub(super) totals: Option<(Crc32, u64, u64)>,
    /// Whether a descriptor stands behind the data.
    pub(super) descriptor: bool,
}

impl Header {
    /// Where it ends, if the directory says so.
    pub(super) fn listed_end(&self) -> Option<u64> {
        let (_, _, stored_len) = self.totals.filter(|_| self.mode.is_some())?;
        Some(self.data_offset + stored_len + self.tail())
    }

    /// Bytes between its data and what follows.
    fn tail(&self) -> u64 {
        match self.descriptor {
            true => DESCRIPTOR_LEN,
            false => 0,
        }
    }
}

/// What a header's member turned out to be.
pub(super) enum Verdict {
    /// All of it has its CRC-32. It ends before `end`.
    Whole {
        crc32: Crc32,
        raw_len: u64,
        end: u64,
    },
    /// It does not. `decodable` raw bytes of it can be read, which nothing proves.
    Damaged {
        why: &'static str,
        decodable: u64,
        /// Where it ends, if that is certain.
        end: Option<u64>,
    },
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(super) fn bytes_at(file: &File, at: u64, most: usize, end: u64) -> Option<Vec<u8>> {
    let len = end.checked_sub(at)?.min(most as u64) as usize;
    let mut bytes = vec![0; len];
    os::read_exact_at(file, &mut bytes, at).ok()?;
    Some(bytes)
}

/// The header at `at`, if it is one of this program's.
pub(super) fn header_at(file: &File, at: u64, end: u64) -> Option<Header> {
    let bytes = bytes_at(file, at, LONGEST, end)?;
    let (name_len, extra_len) = (u16_at(&bytes, 26)? as usize, u16_at(&bytes, 28)? as usize);
    let name = std::str::from_utf8(bytes.get(FIXED..FIXED + name_len)?).ok()?;
    check_name(name).ok()?;
    let extra = bytes.get(FIXED + name_len..FIXED + name_len + extra_len)?;
    let seconds = u32_at(extra, 5)? as i32;
    let compression = match u16_at(&bytes, 8)? {
        0 => Compression::Stored,
        8 => Compression::Deflate,
        _ => return None,
    };
    let descriptor = u16_at(&bytes, 6)? & 8 != 0;
    let crc32 = Crc32(u32_at(&bytes, 14)?);
    let (raw_len, stored_len) = match extra.len() {
        9 => (u32_at(&bytes, 22)?.into(), u32_at(&bytes, 18)?.into()),
        _ => (u64_at(extra, 13)?, u64_at(extra, 21)?),
    };
    let header = Header {
        name: name.to_owned(),
        compression,
        modified_at: DateTime::from_timestamp(seconds.into(), 0)?,
        mode: None,
        header_offset: at,
        data_offset: at + (FIXED + name_len + extra_len) as u64,
        totals: (!descriptor).then_some((crc32, raw_len, stored_len)),
        descriptor,
    };
    let made = Entry {
        name: &header.name,
        compression,
        modified_at: header.modified_at,
        mode: 0,
        descriptor,
        header_offset: at,
        crc32,
        raw_len,
        stored_len,
    }
    .local_header();
    let found = bytes.get(..made.len())?;
    let equal = made.get(..10)? == found.get(..10)? && made.get(14..)? == found.get(14..)?;
    (equal && raw_len.max(stored_len) < 1 << 62).then_some(header)
}

/// Reads all of a header's member, which lies before `limit`. `file_ends` says that nothing follows
/// there. `effort` is what may still be decoded in vain.
pub(super) fn judge(
    file: &File,
    header: &Header,
    limit: u64,
    file_ends: bool,
    effort: &mut u64,
) -> Verdict {
    let verdict = match (header.compression, header.totals) {
        (Compression::Stored, Some((crc32, raw_len, stored_len))) if raw_len == stored_len => {
            sized(file, header, limit, crc32, raw_len)
        }
        (Compression::Stored, None) => stored_stream(file, header, limit),
        (Compression::Stored, Some(_)) => damaged("its header contradicts itself", 0),
        (Compression::Deflate, _) => deflated(file, header, limit, *effort),
    };
    let Verdict::Damaged { why, decodable, .. } = verdict else {
        return verdict;
    };
    *effort = effort.saturating_sub(decodable);
    let end = match header
        .totals
        .map(|(_, _, stored_len)| header.data_offset + stored_len + header.tail())
    {
        // Its sizes say that it reaches behind the end of the file, or that another header follows.
        Some(end) if end > limit => file_ends.then_some(limit),
        Some(end) => (end == limit || follows(file, end, limit)).then_some(end),
        None => (file_ends && why == CUT_OFF).then_some(limit),
    };
    Verdict::Damaged {
        why,
        decodable,
        end,
    }
}

const CUT_OFF: &str = "the file ends before it does";
const NO_CRC: &str = "its bytes do not have their CRC-32";

fn damaged(why: &'static str, decodable: u64) -> Verdict {
    Verdict::Damaged {
        why,
        decodable,
        end: None,
    }
}

/// Whether a local or central header stands there.
fn follows(file: &File, at: u64, limit: u64) -> bool {
    let found = bytes_at(file, at, 4, limit).and_then(|bytes| u32_at(&bytes, 0));
    matches!(found, Some(LOCAL_HEADER | CENTRAL_HEADER))
}

fn sized(file: &File, header: &Header, limit: u64, crc32: Crc32, len: u64) -> Verdict {
    let end = header.data_offset + len;
    if end > limit {
        return damaged(CUT_OFF, limit.saturating_sub(header.data_offset));
    }
    let mut hasher = crc32fast::Hasher::new();
    match hash_to(file, &mut hasher, header.data_offset, end) {
        false => damaged("it cannot be read", 0),
        true if Crc32(hasher.finalize()) != crc32 => damaged(NO_CRC, len),
        true => Verdict::Whole {
            crc32,
            raw_len: len,
            end: end + header.tail(),
        },
    }
}

fn hash_to(file: &File, hasher: &mut crc32fast::Hasher, mut at: u64, end: u64) -> bool {
    while at < end {
        let Some(bytes) = bytes_at(file, at, PIECE, end) else {
            return false;
        };
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    true
}

/// The data of a member whose sizes follow it ends where a descriptor says just that.
fn stored_stream(file: &File, header: &Header, limit: u64) -> Verdict {
    let mut signatures = Signatures::new(file, DATA_DESCRIPTOR, header.data_offset, limit);
    while let Some(at) = signatures.next() {
        let len = at - header.data_offset;
        let described = descriptor_at(file, at, limit);
        let Some((crc32, raw_len, _)) =
            described.filter(|(_, stored, raw)| *stored == len && *raw == len)
        else {
            continue;
        };
        let mut hasher = crc32fast::Hasher::new();
        if hash_to(file, &mut hasher, header.data_offset, at) && Crc32(hasher.finalize()) == crc32 {
            return Verdict::Whole {
                crc32,
                raw_len,
                end: at + DESCRIPTOR_LEN,
            };
        }
        return damaged(NO_CRC, len);
    }
    damaged(CUT_OFF, limit.saturating_sub(header.data_offset))
}

fn descriptor_at(file: &File, at: u64, limit: u64) -> Option<(Crc32, u64, u64)> {
    let bytes = bytes_at(file, at, DESCRIPTOR_LEN as usize, limit)?;
    (u32_at(&bytes, 0)? == DATA_DESCRIPTOR).then_some(())?;
    Some((
        Crc32(u32_at(&bytes, 4)?),
        u64_at(&bytes, 8)?,
        u64_at(&bytes, 16)?,
    ))
}

fn deflated(file: &File, header: &Header, limit: u64, effort: u64) -> Verdict {
    let end = match header.totals {
        Some((_, _, stored_len)) => limit.min(header.data_offset + stored_len),
        None => limit,
    };
    if effort == 0 {
        return damaged("too much was decoded in vain already", 0);
    }
    let most = header.totals.map_or(u64::MAX, |(_, raw_len, _)| raw_len);
    let mut stream = Inflating::new(file, header.data_offset, end);
    let (mut hasher, mut raw_len) = (crc32fast::Hasher::new(), 0u64);
    let mut buffer = vec![0; PIECE];
    let stop = loop {
        match stream.pull(&mut buffer) {
            Ok(len) => {
                raw_len += len as u64;
                if raw_len > most {
                    return damaged("it decodes to more than its header says", raw_len);
                }
                hasher.update(&buffer[..len]);
            }
            Err(stop) => break stop,
        }
    };
    match stop {
        Stop::CutOff => return damaged(CUT_OFF, raw_len),
        Stop::Invalid => return damaged("its compressed data is invalid", raw_len),
        Stop::End => {}
    }
    let (found, data_end) = (
        (Crc32(hasher.finalize()), stream.consumed(), raw_len),
        header.data_offset + stream.consumed(),
    );
    let (expected, end) = match header.totals {
        Some((crc32, raw_len, stored_len)) => {
            (Some((crc32, stored_len, raw_len)), data_end + header.tail())
        }
        None => (
            descriptor_at(file, data_end, limit),
            data_end + DESCRIPTOR_LEN,
        ),
    };
    match expected {
        Some(expected) if expected == found => Verdict::Whole {
            crc32: found.0,
            raw_len,
            end,
        },
        Some(_) => damaged(NO_CRC, raw_len),
        None => damaged("its data descriptor is damaged", raw_len),
    }
}

/// Gives out the decoded bytes of a header's member, up to `len`, piece by piece.
pub(super) fn read_raw(
    file: &File,
    header: &Header,
    len: u64,
    limit: u64,
    each: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut left = len;
    let mut stream = Inflating::new(file, header.data_offset, limit);
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let want = left.min(PIECE as u64) as usize;
        let got = match header.compression {
            Compression::Deflate => stream.pull(&mut buffer[..want]).unwrap_or(0),
            Compression::Stored => {
                let at = header.data_offset + (len - left);
                os::read_exact_at(file, &mut buffer[..want], at)?;
                want
            }
        };
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        each(&buffer[..got])?;
        left -= got as u64;
    }
    Ok(())
}

/// An index member that was found in the file.
pub(super) struct FoundIndex {
    pub(super) run_id: RunId,
    pub(super) begun_at: DateTime<Utc>,
    pub(super) format_version: String,
    pub(super) header_offset: u64,
    pub(super) end: u64,
    pub(super) records: Vec<Record>,
}

/// The index at a local header, if that is what stands there. `budget` is how many decoded bytes all
/// indexes together may have.
pub(super) fn index_at(file: &File, at: u64, len: u64, budget: &mut u64) -> Option<FoundIndex> {
    let bytes = bytes_at(file, at, LONGEST, len)?;
    let (name_len, extra_len) = (u16_at(&bytes, 26)?, u16_at(&bytes, 28)?);
    bytes
        .get(FIXED..)?
        .starts_with(member_names::INDEX_DIR.as_bytes())
        .then_some(())?;
    let data_offset = at + FIXED as u64 + u64::from(name_len) + u64::from(extra_len);
    let mut stream = Inflating::new(file, data_offset, len);
    // A line speaks of bytes of this file in fewer bytes than these take, but for small members.
    let mut lines = Lines::new(len + (64 << 10));
    let (mut found, mut foreign) = (None, false);
    let mut buffer = vec![0; PIECE];
    while let Ok(got) = stream.pull(&mut buffer) {
        *budget = budget.checked_sub(got as u64)?;
        lines.feed(&buffer[..got], &mut |line| {
            // A damaged line proves nothing; those behind it have checksums of their own.
            match (Record::from_line(line), &mut found) {
                (
                    Ok(Record::Index {
                        format_version,
                        run_id,
                        begun_at,
                        header_offset,
                    }),
                    None,
                ) => {
                    foreign |= header_offset != at;
                    found = Some(FoundIndex {
                        run_id,
                        begun_at,
                        format_version,
                        header_offset,
                        end: 0,
                        records: Vec::new(),
                    });
                }
                (Ok(record), Some(found)) => found.records.push(record),
                _ => {}
            }
        });
        if foreign {
            return None;
        }
    }
    let mut found = found?;
    found.end = data_offset + stream.consumed();
    Some(found)
}
