//! Copies of the index inside the file, while it is written.
//!
//! The manifest is the last member, so a file that lost its end has lost its manifest. Therefore the
//! appender writes down from time to time, as an ordinary member `index/00001.jsonl`, …, what was
//! finished since the last time: lines of the journal, under a first line that says whose index it is
//! and where it stands. The last one, right before the manifest, also holds what the manifest says
//! beside members. With them every chunk of a finished member is proven by its BLAKE3 without the
//! manifest, and the index members by one another: each is listed in the next.
//!
//! An index comes after [`EVERY_BYTES`] or [`EVERY_MEMBERS`], or, in a large file, after a 64th of its
//! bytes or a 16th of its members: so what an unlucky cut leaves unproven stays a small share, and the
//! number of index members grows with the logarithm of the file only.
//!
//! None is written in the middle of a member. The chunks of a long stream are proven by the index
//! behind it; a file that is cut inside it holds them without a hash.
//!
//! Peak memory: the lines of one index, about 700 bytes a member and 300 a chunk.

use std::io;

use chrono::{DateTime, Utc};

use arkstream_format::{
    DeadRange, FORMAT_VERSION, Generation, Manifest, Member, RunId, journal::Record, member_names,
};
use arkstream_pipeline::{Failure, FailureKind};

use crate::{appender::Appender, document::append_document, resume::end_of};

/// Bytes between two index members of a small file.
const EVERY_BYTES: u64 = 16 << 20;
/// The same in members.
const EVERY_MEMBERS: u64 = 1000;
/// In a large file: the share of its bytes, and of its members, that may have no index yet.
const SHARE_OF_BYTES: u64 = 64;
const SHARE_OF_MEMBERS: u64 = 16;

/// What the next index member will say.
pub(crate) struct Index {
    run_id: RunId,
    begun_at: DateTime<Utc>,
    /// The last number that was used.
    number: u64,
    /// Records since, as lines.
    lines: Vec<u8>,
    /// Members among them.
    members: u64,
    /// Members in all.
    total: u64,
    /// Where the last index ended.
    since: u64,
}

impl Index {
    /// Of a bundle that is begun.
    pub(crate) fn new(run_id: RunId, begun_at: DateTime<Utc>) -> Self {
        Self {
            run_id,
            begun_at,
            number: 0,
            lines: Vec::new(),
            members: 0,
            total: 0,
            since: 0,
        }
    }

    /// Of a bundle that is continued: the index members that are sound up to the first that is missing
    /// still say what they said; everything else is said again.
    pub(crate) fn resume(
        &mut self,
        members: &[Member],
        dead: &[DeadRange],
        generations: &[Generation],
    ) -> io::Result<()> {
        let numbered = |member: &Member| member.is_index().then(|| number_of(&member.name))?;
        self.number = members.iter().filter_map(numbered).max().unwrap_or(0);
        for number in 1..=self.number {
            match members.iter().find(|m| numbered(m) == Some(number)) {
                Some(index) => self.since = end_of(index),
                None => break,
            }
        }
        self.total = members.len() as u64;
        for generation in generations {
            let generation = generation.clone();
            self.take(&Record::Generation { generation })?;
        }
        for range in dead {
            let range = range.clone();
            self.take(&Record::Dead { range })?;
        }
        // An index does not list itself, so its own end is not behind itself.
        let said = |member: &&Member| end_of(member) < self.since;
        let unsaid: Vec<&Member> = members.iter().filter(|member| !said(member)).collect();
        for member in unsaid {
            self.take(&Record::Member {
                end_offset: end_of(member),
                member: Box::new(member.clone()),
            })?;
        }
        Ok(())
    }

    /// Takes note of a record of the journal, if it says something that outlives the run.
    pub(crate) fn take(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Member { .. } => {
                self.members += 1;
                self.total += 1;
            }
            Record::Dead { .. } | Record::Generation { .. } => {}
            _ => return Ok(()),
        }
        self.lines.extend_from_slice(record.to_line()?.as_bytes());
        Ok(())
    }

    fn is_due(&self, offset: u64) -> bool {
        offset - self.since >= EVERY_BYTES.max(offset / SHARE_OF_BYTES)
            || self.members >= EVERY_MEMBERS.max(self.total / SHARE_OF_MEMBERS)
    }
}

/// The number in the name of an index member.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(member_names::INDEX_DIR)?;
    number.strip_suffix(".jsonl")?.parse().ok()
}

impl Appender {
    /// Writes an index member when enough was finished since the last. No member may be open.
    pub(crate) fn index_if_due(&mut self) -> Result<(), Failure> {
        match self.index.is_due(self.offset) {
            true => self.write_index(None),
            false => Ok(()),
        }
    }

    /// Writes the last index, which also says what the manifest says beside members.
    pub(crate) fn write_last_index(&mut self, manifest: Manifest) -> Result<Manifest, Failure> {
        let described = Record::Description {
            manifest: Box::new(manifest),
        };
        self.write_index(Some(&described))?;
        match described {
            Record::Description { manifest } => Ok(*manifest),
            _ => Err(Failure::new(
                FailureKind::Internal,
                "write the index",
                "it describes nothing",
            )),
        }
    }

    /// Writes what was finished since the last index.
    fn write_index(&mut self, described: Option<&Record>) -> Result<(), Failure> {
        // Nothing may come between the line that says where the index stands and its header.
        self.abandon("given up")?;
        self.close_torn()?;
        let mut lines = self.head_line()?.into_bytes();
        lines.append(&mut self.index.lines);
        self.index.number += 1;
        self.index.members = 0;
        let name = format!("{}{:05}.jsonl", member_names::INDEX_DIR, self.index.number);
        let (member, _) = append_document(self, &name, self.index.begun_at, |to| {
            to.write_all(&lines)?;
            described.map_or(Ok(()), |record| record.write_line(to))
        })?;
        // The next index lists this one.
        self.note(&Record::Member {
            member: Box::new(member.clone()),
            end_offset: self.offset,
        })?;
        self.index.since = self.offset;
        self.list(member);
        Ok(())
    }

    fn head_line(&self) -> Result<String, Failure> {
        line_of(&Record::Index {
            format_version: FORMAT_VERSION.to_owned(),
            run_id: self.index.run_id.clone(),
            begun_at: self.index.begun_at,
            header_offset: self.offset,
        })
    }
}

fn line_of(record: &Record) -> Result<String, Failure> {
    record
        .to_line()
        .map_err(|error| Failure::new(FailureKind::Internal, "write the index", error))
}
