//! The one thread that appends to the file.
//!
//! It owns file, journal and directory, and does what its commands say in their order. Data and
//! journal are synced in groups: at the latest after [`GROUP_BYTES`] or [`GROUP_TIME`], so that
//! a kill never costs more than that. A member's receipt is delivered after its journal line is
//! durable.
//!
//! Peak memory: the chunks in its queue (their permits travel with them), and about 300 bytes a
//! member for the directory.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use arkstream_format::{
    Chunk, Component, Compression, Crc32, DeadRange, Digest, Generation, Member, journal::Record,
};
use arkstream_pipeline::{Failure, FailureKind, Permit, Receipt};

use crate::{
    codec::{EncodedChunk, STREAM_END},
    durable,
    framing::Entry,
    journal::JournalWriter,
    writer::OutputPaths,
};

/// Data that may wait for a sync.
const GROUP_BYTES: u64 = 64 << 20;
/// Time that finished members may wait for a sync while others keep coming.
const GROUP_TIME: Duration = Duration::from_secs(1);
/// Gathers headers and small members into one write.
const WRITE_BUFFER: usize = 256 << 10;

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

pub(crate) enum Command {
    Open(Box<Opening>),
    Chunk(EncodedChunk, Option<Permit>),
    Close {
        rows: Option<u64>,
        receipt: oneshot::Sender<Receipt>,
        done: oneshot::Sender<Result<(), Failure>>,
    },
    Abandon(String),
    Retract(String, String, oneshot::Sender<Result<(), Failure>>),
    Generation(Box<Generation>, oneshot::Sender<Result<(), Failure>>),
    Sync(oneshot::Sender<Result<(), Failure>>),
    Members(oneshot::Sender<Result<Vec<Member>, Failure>>),
    /// Hands the file over to whoever completes the bundle; the thread ends.
    Finish(oneshot::Sender<Result<Box<Appender>, Failure>>),
}

/// The bundle as far as it is written.
pub(crate) struct Appender {
    pub(crate) paths: OutputPaths,
    pub(crate) out: BufWriter<HashingFile>,
    pub(crate) offset: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) dead: Vec<DeadRange>,
    journal: JournalWriter,
    open: Option<OpenMember>,
    unsynced: u64,
    last_sync: Instant,
    receipts: Vec<(oneshot::Sender<Receipt>, Member)>,
}

struct OpenMember {
    opening: Opening,
    header_offset: u64,
    data_offset: u64,
    crc32: Crc32,
    raw_len: u64,
    chunks: Vec<Chunk>,
}

impl Appender {
    pub(crate) fn new(paths: OutputPaths, file: File, journal: JournalWriter) -> Self {
        Self {
            paths,
            out: BufWriter::with_capacity(WRITE_BUFFER, HashingFile::new(file)),
            offset: 0,
            members: Vec::new(),
            dead: Vec::new(),
            journal,
            open: None,
            unsynced: 0,
            last_sync: Instant::now(),
            receipts: Vec::new(),
        }
    }

    /// Does what the commands say until the last sender is gone, the file is handed over, or
    /// something fails. A failure is left in `failed` for everybody who comes later.
    pub(crate) fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        failed: &std::sync::Mutex<Option<Failure>>,
    ) {
        while let Some(command) = commands.blocking_recv() {
            let outcome = match command {
                Command::Open(opening) => self.open(*opening),
                Command::Chunk(chunk, permit) => self.append(&chunk).map(|()| drop(permit)),
                Command::Close {
                    rows,
                    receipt,
                    done,
                } => answer(done, self.close(rows, receipt)),
                Command::Abandon(reason) => self.abandon(&reason),
                Command::Retract(name, reason, done) => answer(done, self.retract(&name, &reason)),
                Command::Generation(generation, done) => answer(done, self.generation(*generation)),
                Command::Sync(done) => answer(done, self.sync()),
                Command::Members(reply) => {
                    let _ = reply.send(Ok(self.members.clone()));
                    Ok(())
                }
                Command::Finish(reply) => match self.sync() {
                    Ok(()) => {
                        let _ = reply.send(Ok(Box::new(self)));
                        return;
                    }
                    Err(failure) => answer(reply, Err(failure)),
                },
            };
            if let Err(failure) = outcome {
                *failed
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(failure);
                return;
            }
        }
        // Nobody is left: what was appended is made durable as far as it goes. If that fails, the
        // journal simply does not speak of it.
        let _ = self.sync();
    }

    pub(crate) fn failure(&self, error: io::Error) -> Failure {
        Failure::io(
            FailureKind::Refused,
            format!("write to {}", self.paths.partial.display()),
            error,
        )
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out
            .write_all(bytes)
            .map_err(|error| self.failure(error))?;
        self.offset += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn open(&mut self, opening: Opening) -> Result<(), Failure> {
        // Whoever began a member and went away has given it up.
        self.abandon("given up")?;
        let header_offset = self.offset;
        let totals = opening.totals.unwrap_or(Totals {
            crc32: Crc32::default(),
            raw_len: 0,
            stored_len: 0,
        });
        let header = opening.entry(header_offset, totals).local_header();
        self.write(&header)?;
        self.open = Some(OpenMember {
            opening,
            header_offset,
            data_offset: self.offset,
            crc32: Crc32::default(),
            raw_len: 0,
            chunks: Vec::new(),
        });
        Ok(())
    }

    pub(crate) fn append(&mut self, encoded: &EncodedChunk) -> Result<(), Failure> {
        let Some(mut open) = self.open.take() else {
            return Err(no_open_member());
        };
        let stored = encoded.stored(open.opening.compression);
        if self.unsynced + stored.len() as u64 > GROUP_BYTES {
            self.sync()?;
        }
        let chunk = Chunk {
            offset: self.offset,
            raw_len: encoded.raw.len() as u32,
            stored_len: stored.len() as u32,
            crc32: encoded.crc32,
            blake3: encoded.blake3,
            stored_blake3: match open.opening.compression {
                Compression::Stored => None,
                Compression::Deflate => Some(Digest::of(&stored)),
            },
        };
        self.write(&stored)?;
        open.crc32 = open.crc32.then(chunk.crc32, chunk.raw_len.into());
        open.raw_len += u64::from(chunk.raw_len);
        // A member whose sizes were known is buffered whole, so it is journaled whole.
        if open.opening.totals.is_none() {
            let record = Record::Chunk {
                member: open.opening.name.clone(),
                component: open.opening.component,
                header_offset: open.header_offset,
                index: open.chunks.len() as u32,
                chunk: chunk.clone(),
            };
            self.journal
                .push(&record)
                .map_err(|error| self.failure(error))?;
        }
        open.chunks.push(chunk);
        self.open = Some(open);
        Ok(())
    }

    /// Ends the data of the open member, with its descriptor if it needs one.
    pub(crate) fn end_data(&mut self, rows: Option<u64>) -> Result<Member, Failure> {
        let open = self.open.take().ok_or_else(no_open_member)?;
        if open.opening.compression == Compression::Deflate {
            self.write(&STREAM_END)?;
        }
        let totals = Totals {
            crc32: open.crc32,
            raw_len: open.raw_len,
            stored_len: self.offset - open.data_offset,
        };
        let descriptor = open
            .opening
            .entry(open.header_offset, totals)
            .data_descriptor();
        self.write(&descriptor)?;
        Ok(Member {
            descriptor: open.opening.totals.is_none(),
            name: open.opening.name,
            component: open.opening.component,
            compression: open.opening.compression,
            header_offset: open.header_offset,
            data_offset: open.data_offset,
            raw_len: totals.raw_len,
            stored_len: totals.stored_len,
            crc32: totals.crc32,
            digest: Digest::of_chunks(open.chunks.iter().map(|chunk| &chunk.blake3)),
            modified_at: open.opening.modified_at,
            mode: open.opening.mode,
            rows,
            chunks: open.chunks,
        })
    }

    fn close(
        &mut self,
        rows: Option<u64>,
        receipt: oneshot::Sender<Receipt>,
    ) -> Result<(), Failure> {
        let member = self.end_data(rows)?;
        let record = Record::Member {
            member: Box::new(member.clone()),
            end_offset: self.offset,
        };
        self.journal
            .push(&record)
            .map_err(|error| self.failure(error))?;
        self.receipts.push((receipt, member.clone()));
        self.members.push(member);
        self.sync_if_due()
    }

    /// Closes the open member as a valid entry, so that readers of a pipe can pass it, but leaves
    /// it out of the directory.
    fn abandon(&mut self, reason: &str) -> Result<(), Failure> {
        let start = match &self.open {
            Some(open) => open.header_offset,
            None => return Ok(()),
        };
        let member = self.end_data(None)?;
        self.bury(start, self.offset, format!("{}: {reason}", member.name))
    }

    fn retract(&mut self, name: &str, reason: &str) -> Result<(), Failure> {
        let Some(index) = self.members.iter().position(|m| m.name == name) else {
            return Err(Failure::new(
                FailureKind::Internal,
                format!("retract member {name}"),
                "there is none of that name",
            ));
        };
        let member = self.members.remove(index);
        let end = member.data_offset
            + member.stored_len
            + Entry::from(&member).data_descriptor().len() as u64;
        self.bury(member.header_offset, end, format!("{name}: {reason}"))
    }

    fn bury(&mut self, start: u64, end: u64, reason: String) -> Result<(), Failure> {
        self.out.flush().map_err(|error| self.failure(error))?;
        let blake3 = durable::hash_range(&self.out.get_ref().file, start, end)
            .map_err(|error| self.failure(error))?;
        let range = DeadRange {
            offset: start,
            len: end - start,
            blake3,
            reason,
        };
        let record = Record::Dead {
            range: range.clone(),
        };
        self.journal
            .push(&record)
            .map_err(|error| self.failure(error))?;
        self.dead.push(range);
        Ok(())
    }

    fn generation(&mut self, generation: Generation) -> Result<(), Failure> {
        self.journal
            .push(&Record::Generation { generation })
            .map_err(|error| self.failure(error))?;
        self.sync()
    }

    fn sync_if_due(&mut self) -> Result<(), Failure> {
        if self.last_sync.elapsed() >= GROUP_TIME {
            self.sync()?;
        }
        Ok(())
    }

    /// Data first, then the journal that speaks of it, then the receipts.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        let outcome = (|| {
            self.out.flush()?;
            self.out.get_ref().file.sync_data()?;
            self.journal.commit()
        })();
        outcome.map_err(|error| self.failure(error))?;
        self.unsynced = 0;
        self.last_sync = Instant::now();
        for (receipt, member) in self.receipts.drain(..) {
            // Whoever does not wait for the receipt does not want it.
            let _ = receipt.send(Receipt { member });
        }
        Ok(())
    }
}

impl Opening {
    fn entry(&self, header_offset: u64, totals: Totals) -> Entry<'_> {
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

fn no_open_member() -> Failure {
    Failure::new(
        FailureKind::Internal,
        "append to a member",
        "no member is open",
    )
}

/// Tells the asker, and the thread whether to go on.
fn answer<T>(
    reply: oneshot::Sender<Result<T, Failure>>,
    outcome: Result<T, Failure>,
) -> Result<(), Failure> {
    let verdict = match &outcome {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.clone()),
    };
    // An asker who is gone was cancelled.
    let _ = reply.send(outcome);
    verdict
}

/// The file, with the SHA-256 of everything written to it.
pub(crate) struct HashingFile {
    pub(crate) file: File,
    pub(crate) sha256: Sha256,
}

impl HashingFile {
    fn new(file: File) -> Self {
        Self {
            file,
            sha256: Sha256::new(),
        }
    }
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.sha256.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
