//! Records of the journal, the append-only account of what is durable.
//!
//! A journal is a text file beside the unfinished bundle. One line is one record:
//!
//! ```text
//! <CRC-32 of the JSON, 8 hex digits> <JSON>\n
//! ```
//!
//! The data a record speaks of MUST be synced before the record is appended. A reader stops at the
//! first line that is cut or whose CRC does not match: everything before it holds, everything
//! after it never happened.

use std::collections::BTreeMap;
use std::io::{self, Write};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BaseBundle, Chunk, Component, Compression, Crc32, DeadRange, Generation, Manifest, Member,
    RunId,
};

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first line: which bundle this is about.
    Begin {
        /// Version of the bundle format.
        format_version: String,
        /// The run that created the journal.
        run_id: RunId,
        /// What is backed up and how, as far as it shapes the bundle: a run continues only what was
        /// begun for the same.
        plan: BTreeMap<String, String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Members are copied out of an older bundle. The generations that read them follow.
    Base {
        /// Which one; what was copied is said by the members.
        base: BaseBundle,
    },
    /// A barrier was passed.
    Generation {
        /// Its snapshots.
        generation: Generation,
    },
    /// A member that is longer than what is buffered took its place in the file. Its chunks follow.
    Open {
        /// The member's name.
        name: String,
        /// The member's component.
        component: Component,
        /// How its chunks are stored.
        compression: Compression,
        /// As in its local header.
        modified_at: DateTime<Utc>,
        /// UNIX permission bits.
        mode: u32,
        /// Offset of its local header.
        header_offset: u64,
        /// Offset of its first chunk.
        data_offset: u64,
    },
    /// The next chunk of the open member.
    Chunk {
        /// The chunk.
        chunk: Chunk,
    },
    /// A member is complete, its data descriptor included.
    Member {
        /// The member.
        member: Box<Member>,
        /// Offset of the first byte behind it.
        end_offset: u64,
    },
    /// Bytes that no member owns.
    Dead {
        /// Where.
        range: DeadRange,
    },
    /// What stood behind `len` is about to be cut off: the records before this one speak of nothing
    /// behind it any more.
    Cut {
        /// Length of the file.
        len: u64,
        /// The state of the SHA-256 of these bytes, hexadecimal.
        sha256: String,
    },
    /// All bytes before `offset` are durable, and their SHA-256 is this far.
    Synced {
        /// Length of the file.
        offset: u64,
        /// The state of the hash, hexadecimal.
        sha256: String,
    },
    /// The first line of an index member: which bundle it is about, and where it stands. One that is
    /// found at another place belongs to another bundle, such as one inside this one.
    Index {
        /// Version of the bundle format.
        format_version: String,
        /// The run that began the bundle.
        run_id: RunId,
        /// When.
        begun_at: DateTime<Utc>,
        /// Offset of the index member's own local header.
        header_offset: u64,
    },
    /// The last line of the last index member: the manifest without members, dead ranges and sums.
    Description {
        /// The rest of it.
        manifest: Box<Manifest>,
    },
}

/// A line that is no record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The line is too short to be a record, or has no separator.
    #[error("the line is cut")]
    Torn,
    /// The checksum does not match.
    #[error("the line's checksum is {found}, its content has {computed}")]
    Checksum {
        /// As written.
        found: String,
        /// As computed.
        computed: String,
    },
    /// The checksum matches, yet the content is unknown: another version wrote it.
    #[error("the record is not known to this version: {0}")]
    Unknown(#[from] serde_json::Error),
}

impl Record {
    /// The record as one line, with its newline.
    ///
    /// # Errors
    /// Only if serialisation fails, which no value of these types does.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{} {json}\n", Crc32::of(json.as_bytes())))
    }

    /// Writes the line piece by piece, for records that are too large to be held as text.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_line(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut sum = Summing::default();
        serde_json::to_writer(&mut sum, self)?;
        write!(out, "{} ", Crc32(sum.0.finalize()))?;
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// [`RecordError`] says whether the line is torn, damaged, or of another version.
    pub fn from_line(line: &[u8]) -> Result<Self, RecordError> {
        let (Some(crc), Some(b' '), Some(json)) = (line.get(..8), line.get(8), line.get(9..))
        else {
            return Err(RecordError::Torn);
        };
        let computed = Crc32::of(json).to_string();
        if crc != computed.as_bytes() {
            return Err(RecordError::Checksum {
                found: String::from_utf8_lossy(crc).into_owned(),
                computed,
            });
        }
        Ok(serde_json::from_slice(json)?)
    }
}

/// Takes the CRC of what is written to it.
#[derive(Default)]
struct Summing(crc32fast::Hasher);

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::Dead {
            range: DeadRange {
                offset: 7,
                len: 9,
                blake3: crate::Digest::of(b"x"),
                reason: "torn".into(),
            },
        }
    }

    #[test]
    fn a_line_round_trips() {
        let line = record().to_line().unwrap();
        let read = Record::from_line(line.trim_end().as_bytes()).unwrap();
        assert_eq!(read, record());
        let mut pieces = Vec::new();
        record().write_line(&mut pieces).unwrap();
        assert_eq!(pieces, line.as_bytes());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let line = record().to_line().unwrap();
        let line = line.trim_end().as_bytes();
        for cut in 0..line.len() {
            assert!(Record::from_line(&line[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..line.len() * 8 {
            let mut flipped = line.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::from_line(&flipped).is_err(), "bit {bit}");
        }
    }
}
