//! The journal file: appended and synced behind the data, read to the first torn line.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use chrono::{DateTime, Utc};

use arkstream_format::{
    BaseBundle, Chunk, DeadRange, Generation, Member, RunId,
    journal::{Record, RecordError},
};

use arkstream_pipeline::fault;

use crate::{
    disk::{self, Disk, DiskFile, FileRange},
    durable::LocalDisk,
    opening::Opening,
    resume::end_of,
    space::SpaceWait,
};

/// Appends records. The caller syncs the data first.
pub(crate) struct JournalWriter {
    file: Box<dyn DiskFile>,
    at: u64,
    pending: Vec<u8>,
    wait: SpaceWait,
}

const WHAT: &str = "the journal";

impl JournalWriter {
    /// Gives the journal `records` behind its first `kept` bytes, and nothing else: in a new file,
    /// which takes the journal's name when it is durable. Returns when the name is.
    ///
    /// So the journal is the former one or the new one at any moment, and nothing in it rests on
    /// bytes that an earlier run wrote and could not sync.
    pub(crate) fn replace(
        disk: &dyn Disk,
        path: &Path,
        kept: u64,
        records: &[Record],
        wait: SpaceWait,
    ) -> io::Result<Self> {
        let beside = disk::beside(path);
        disk::unlink_if_there(disk, &beside)?;
        let mut journal = Self {
            file: disk.open_private(&beside)?,
            at: 0,
            pending: Vec::new(),
            wait,
        };
        if kept > 0 {
            let former = disk.open_to_read(path)?;
            let mut former = FileRange {
                file: former.as_ref(),
                at: 0,
                end: kept,
            };
            let piece = 1 << 20;
            while former.at < kept {
                former
                    .by_ref()
                    .take(piece)
                    .read_to_end(&mut journal.pending)?;
                journal.write_pending()?;
            }
        }
        for record in records {
            journal.push(record)?;
        }
        journal.commit()?;
        fault::point("journal.rename")?;
        disk.rename(&beside, path)?;
        disk.sync_folder_of(path)?;
        Ok(journal)
    }

    /// Notes a record; it reaches the file with the next [`Self::commit`].
    pub(crate) fn push(&mut self, record: &Record) -> io::Result<()> {
        self.pending.extend_from_slice(record.to_line()?.as_bytes());
        Ok(())
    }

    /// Appends what was noted, durably.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.write_pending()?;
        fault::point("journal.sync")?;
        self.file.sync_data()
    }

    fn write_pending(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let written = self.wait.patiently(WHAT, || {
                fault::point("journal.write")?;
                self.file.write_at(&self.pending, self.at)
            })?;
            self.at += written as u64;
            self.pending.drain(..written);
        }
        Ok(())
    }
}

/// What a journal proves.
#[derive(Clone, Debug, Default)]
pub struct JournalState {
    /// The first record, if it is whole.
    pub begin: Option<Begin>,
    /// Barriers passed, those of older bundles among them.
    pub generations: Vec<Generation>,
    /// Older bundles that members were copied out of.
    pub bases: Vec<BaseBundle>,
    /// Members that are complete in the file and were not given up later.
    pub members: Vec<Member>,
    /// Dead bytes.
    pub dead: Vec<DeadRange>,
    /// The member that was being streamed, with its durable chunks.
    pub torn: Option<Torn>,
    /// The last offset up to which the SHA-256 of the file is known, and its state.
    pub synced: Option<(u64, String)>,
    /// The same, before the torn member.
    pub(crate) before_torn: Option<(u64, String)>,
    /// Offset behind the last byte of the bundle that the journal vouches for.
    pub durable_len: u64,
    /// Bytes of the journal that are whole records. What follows is torn.
    pub valid_len: u64,
}

/// Which bundle a journal is about.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Version of the bundle format.
    pub format_version: String,
    /// The run that began it.
    pub run_id: RunId,
    /// What is backed up and how.
    pub plan: BTreeMap<String, String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// A member that was being streamed.
#[derive(Clone, Debug)]
pub struct Torn {
    pub(crate) opening: Opening,
    pub(crate) header_offset: u64,
    pub(crate) data_offset: u64,
    pub(crate) chunks: Vec<Chunk>,
}

impl Torn {
    /// Offset behind its last durable chunk.
    pub(crate) fn end(&self) -> u64 {
        self.chunks.last().map_or(self.data_offset, chunk_end)
    }
}

pub(crate) fn chunk_end(chunk: &Chunk) -> u64 {
    chunk.offset.saturating_add(chunk.stored_len.into())
}

/// Reads a journal up to the first line that is torn or damaged.
///
/// # Errors
/// When the file cannot be read, or a whole record is of a version that is not known here.
pub fn read_journal(path: &Path) -> io::Result<JournalState> {
    read_journal_on(&LocalDisk, path)
}

/// The same, on any disk.
///
/// # Errors
/// As [`read_journal`].
pub fn read_journal_on(disk: &dyn Disk, path: &Path) -> io::Result<JournalState> {
    let file = disk.open_to_read(path)?;
    let mut reader = BufReader::new(FileRange::whole(file.as_ref())?);
    let mut replay = Replay::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let len = reader.read_until(b'\n', &mut line)?;
        let Some(content) = line.strip_suffix(b"\n") else {
            return Ok(replay.end());
        };
        match Record::from_line(content) {
            Ok(record) => replay.apply(record),
            Err(RecordError::Torn | RecordError::Checksum { .. }) => return Ok(replay.end()),
            Err(error @ RecordError::Unknown(_)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        replay.state.valid_len += len as u64;
    }
}

/// A journal as far as it was read. Members are found by name and by place, for there may be many.
#[derive(Default)]
struct Replay {
    state: JournalState,
    members: BTreeMap<u64, Member>,
    places: HashMap<String, u64>,
    dead: BTreeMap<u64, DeadRange>,
}

impl Replay {
    fn end(self) -> JournalState {
        JournalState {
            members: self.members.into_values().collect(),
            dead: self.dead.into_values().collect(),
            ..self.state
        }
    }

    fn apply(&mut self, record: Record) {
        let state = &mut self.state;
        match record {
            Record::Begin {
                format_version,
                run_id,
                plan,
                at,
            } => {
                state.begin = Some(Begin {
                    format_version,
                    run_id,
                    plan,
                    at,
                });
            }
            Record::Base { base } => state.bases.push(base),
            Record::Generation { generation } => state.generations.push(generation),
            Record::Open {
                name,
                component,
                compression,
                modified_at,
                mode,
                header_offset,
                data_offset,
            } => {
                state.reach(data_offset);
                state.before_torn = state.synced.clone().filter(|(at, _)| *at <= header_offset);
                state.torn = Some(Torn {
                    opening: Opening {
                        name,
                        component,
                        compression,
                        modified_at,
                        mode,
                        totals: None,
                    },
                    header_offset,
                    data_offset,
                    chunks: Vec::new(),
                });
            }
            Record::Chunk { chunk } => {
                state.reach(chunk_end(&chunk));
                if let Some(torn) = &mut state.torn {
                    torn.chunks.push(chunk);
                }
            }
            Record::Member { member, end_offset } => {
                state.reach(end_offset);
                state.ended(member.header_offset);
                if let Some(before) = self.places.get(&member.name) {
                    self.members.remove(before);
                }
                self.places
                    .insert(member.name.clone(), member.header_offset);
                self.members.insert(member.header_offset, *member);
            }
            Record::Dead { range } => {
                state.reach(range.end());
                state.ended(range.offset);
                if let Some(member) = self.members.remove(&range.offset) {
                    self.places.remove(&member.name);
                }
                // The same bytes, read again, may have become others.
                self.dead.insert(range.offset, range);
            }
            Record::Cut { len, sha256 } => {
                state.cut(len);
                self.dead.retain(|_, range| range.end() <= len);
                let places = &mut self.places;
                self.members.retain(|_, member| {
                    let stays = end_of(member) <= len;
                    if !stays {
                        places.remove(&member.name);
                    }
                    stays
                });
                state.synced = Some((len, sha256));
            }
            Record::Synced { offset, sha256 } => {
                state.reach(offset);
                state.synced = Some((offset, sha256));
            }
            // They stand in index members, never in a journal.
            Record::Index { .. } | Record::Description { .. } => {}
        }
    }
}

impl JournalState {
    fn reach(&mut self, offset: u64) {
        self.durable_len = self.durable_len.max(offset);
    }

    /// What began there is no torn member.
    fn ended(&mut self, header_offset: u64) {
        if self.torn.as_ref().map(|torn| torn.header_offset) == Some(header_offset) {
            self.torn = None;
        }
    }

    /// Nothing stands behind `len` any more.
    fn cut(&mut self, len: u64) {
        self.durable_len = self.durable_len.min(len);
        self.torn = self.torn.take().filter(|torn| torn.data_offset <= len);
        if let Some(torn) = &mut self.torn {
            torn.chunks.retain(|chunk| chunk_end(chunk) <= len);
        }
        self.before_torn = self.before_torn.take().filter(|(at, _)| *at <= len);
    }
}
