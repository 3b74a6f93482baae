//! The journal file: appended and synced behind the data, read to the first torn line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
};

use arkstream_format::{
    DeadRange, Generation, Member,
    journal::{Record, RecordError},
};

/// Appends records. The caller syncs the data first.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    file: File,
    pending: String,
}

impl JournalWriter {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            pending: String::new(),
        }
    }

    /// Notes a record; it reaches the file with the next [`Self::commit`].
    pub(crate) fn push(&mut self, record: &Record) -> io::Result<()> {
        self.pending.push_str(&record.to_line()?);
        Ok(())
    }

    /// Appends what was noted, durably.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.file.write_all(self.pending.as_bytes())?;
            self.pending.clear();
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// What a journal proves.
#[derive(Clone, Debug, Default)]
pub struct JournalState {
    /// The first record, if it is whole.
    pub begin: Option<Record>,
    /// Barriers passed.
    pub generations: Vec<Generation>,
    /// Members that are complete in the file and were not given up later.
    pub members: Vec<Member>,
    /// Dead bytes.
    pub dead: Vec<DeadRange>,
    /// Offset behind the last byte of the bundle that the journal vouches for.
    pub durable_len: u64,
    /// Bytes of the journal that are whole records. What follows is torn.
    pub valid_len: u64,
}

/// Reads a journal up to the first line that is torn or damaged.
///
/// # Errors
/// When the file cannot be read, or a whole record is of a version that is not known here.
pub fn read_journal(path: &Path) -> io::Result<JournalState> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut state = JournalState::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let len = reader.read_until(b'\n', &mut line)?;
        let Some(content) = line.strip_suffix(b"\n") else {
            return Ok(state);
        };
        match Record::from_line(content) {
            Ok(record) => state.apply(record),
            Err(RecordError::Torn | RecordError::Checksum { .. }) => return Ok(state),
            Err(error @ RecordError::Unknown(_)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        state.valid_len += len as u64;
    }
}

impl JournalState {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Begin { .. } => self.begin = Some(record),
            Record::Generation { generation } => self.generations.push(generation),
            Record::Chunk { chunk, .. } => {
                self.durable_len = chunk.offset + u64::from(chunk.stored_len);
            }
            Record::Member { member, end_offset } => {
                self.durable_len = end_offset;
                self.members.push(*member);
            }
            Record::Dead { range } => {
                self.durable_len = self.durable_len.max(range.offset + range.len);
                self.members.retain(|m| m.header_offset != range.offset);
                self.dead.push(range);
            }
        }
    }
}
