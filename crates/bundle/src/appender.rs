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
    collections::BTreeMap,
    io::{self, BufWriter, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::Sha256;
use tokio::sync::{mpsc, oneshot};

use arkstream_format::{
    Chunk, Compression, Contents, Crc32, DeadRange, Digest, Generation, Member, journal::Record,
};
use arkstream_pipeline::{Failure, FailureKind, MemberFacts, Permit, Receipt, Stage, Stats};

use crate::{
    channel::{Command, answer},
    clock::Clock,
    codec::{EncodedChunk, STREAM_END},
    disk::Disk,
    durable,
    earlier::TornTail,
    hashing::{HashingFile, sha256_state},
    index::Index,
    journal::JournalWriter,
    names::Names,
    older::Older,
    opening::{OpenMember, Opening, Totals},
    resume::end_of,
    writer::OutputPaths,
};

/// Data that may wait for a sync.
const GROUP_BYTES: u64 = 64 << 20;
/// Time that finished members and chunks may wait for a sync while others keep coming.
const GROUP_TIME: Duration = Duration::from_secs(1);
/// Gathers headers and small members into one write.
const WRITE_BUFFER: usize = 256 << 10;

/// The bundle as far as it is written.
pub(crate) struct Appender {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) paths: OutputPaths,
    pub(crate) out: BufWriter<HashingFile>,
    pub(crate) offset: u64,
    pub(crate) members: Vec<Member>,
    /// Their names.
    pub(crate) names: Names,
    pub(crate) dead: Vec<DeadRange>,
    /// Bytes that an interrupted run left.
    pub(crate) base: u64,
    /// Members of an interrupted run that nobody has kept or replaced yet.
    pub(crate) earlier: BTreeMap<String, Member>,
    /// Members of an older bundle.
    pub(crate) older: Option<Arc<Older>>,
    /// The member at whose streaming it was interrupted.
    pub(crate) torn: Option<TornTail>,
    pub(crate) journal: JournalWriter,
    /// What the next copy of the index inside the file will say.
    pub(crate) index: Index,
    pub(crate) open: Option<OpenMember>,
    pub(crate) stats: Arc<Stats>,
    unsynced: u64,
    last_sync: Instant,
    receipts: Vec<(oneshot::Sender<Receipt>, Member)>,
}

impl Appender {
    /// Appends behind `offset` bytes that are there.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        paths: OutputPaths,
        file: HashingFile,
        offset: u64,
        journal: JournalWriter,
        index: Index,
    ) -> Self {
        Self {
            disk,
            paths,
            out: BufWriter::with_capacity(WRITE_BUFFER, file),
            offset,
            members: Vec::new(),
            names: Names::default(),
            dead: Vec::new(),
            base: offset,
            earlier: BTreeMap::new(),
            older: None,
            torn: None,
            journal,
            index,
            open: None,
            stats: Arc::default(),
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
        let mut clock = Clock::new(&self.stats);
        while let Some(command) = commands.blocking_recv() {
            clock.begin(self.offset);
            let outcome = match command {
                Command::Open(opening) => self.open(*opening),
                Command::Chunk(chunk, permit) => self.append(&chunk).map(|()| drop(permit)),
                Command::Whole {
                    opening,
                    chunks,
                    facts,
                    receipt,
                    done,
                } => answer(done, self.whole(*opening, chunks, facts, receipt)),
                Command::Reuse(candidate, chunks) => self.reuse(&candidate, chunks),
                Command::Continue(chunks, done) => answer(done, self.continue_torn(chunks)),
                Command::Close {
                    facts,
                    receipt,
                    done,
                } => answer(done, self.close(facts, receipt)),
                Command::Abandon(reason) => self.abandon(&reason),
                Command::Retract(name, reason, done) => answer(done, self.retract(&name, &reason)),
                Command::Generation(generation, done) => answer(done, self.generation(*generation)),
                Command::Sync(done) => answer(done, self.sync()),
                Command::Members(reply) => answer(reply, Ok(self.written_members())),
                Command::Contents(bases, reply) => {
                    answer(reply, Ok(Contents::of(&self.written(), &bases)))
                }
                Command::Earlier(component, reply) => answer(reply, Ok(self.earlier_of(component))),
                Command::Candidate(name, reply) => answer(reply, Ok(self.candidate(&name))),
                Command::Keep { name, proof, done } => answer(done, self.keep(&name, proof)),
                Command::Prove { name, proof, done } => answer(done, self.prove(&name, proof)),
                Command::SetAside(done) => answer(done, self.set_aside()),
                Command::Finish(reply) => match self.sweep().and_then(|()| self.sync()) {
                    Ok(()) => {
                        let _ = reply.send(Ok(Box::new(self)));
                        return;
                    }
                    Err(failure) => answer(reply, Err(failure)),
                },
            };
            clock.end(self.offset);
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
        self.close_torn()?;
        self.replace(&opening.name)?;
        if self.names.contains(&opening.name) {
            let attempted = format!("begin member {}", opening.name);
            return Err(Failure::new(
                FailureKind::Internal,
                attempted,
                "there is one of that name",
            ));
        }
        // For a member that streams: it may be given up and taken up again.
        let before = match opening.totals {
            Some(_) => None,
            None => Some(self.sha256()?),
        };
        let header_offset = self.offset;
        let totals = opening.totals.unwrap_or(Totals::UNKNOWN);
        let header = opening.entry(header_offset, totals).local_header();
        self.write(&header)?;
        let open = OpenMember {
            opening,
            before,
            header_offset,
            data_offset: self.offset,
            crc32: Crc32::default(),
            raw_len: 0,
            chunks: Vec::new(),
            copied: None,
        };
        // A member whose sizes were known is buffered whole, so it is journaled whole.
        if open.opening.totals.is_none() {
            self.note(&open.record())?;
        }
        self.open = Some(open);
        Ok(())
    }

    fn whole(
        &mut self,
        opening: Opening,
        chunks: Vec<(EncodedChunk, Option<Permit>)>,
        facts: MemberFacts,
        receipt: oneshot::Sender<Receipt>,
    ) -> Result<(), Failure> {
        self.open(opening)?;
        for (chunk, permit) in chunks {
            self.append(&chunk)?;
            drop(permit);
        }
        self.close(facts, receipt)
    }

    /// SHA-256 of everything appended so far.
    pub(crate) fn sha256(&mut self) -> Result<Sha256, Failure> {
        self.out.flush().map_err(|error| self.failure(error))?;
        Ok(self.out.get_ref().sha256.clone())
    }

    pub(crate) fn note(&mut self, record: &Record) -> Result<(), Failure> {
        self.index
            .take(record)
            .and_then(|()| self.journal.push(record))
            .map_err(|error| self.failure(error))
    }

    pub(crate) fn append(&mut self, encoded: &EncodedChunk) -> Result<(), Failure> {
        let compression = self
            .open
            .as_ref()
            .ok_or_else(no_open_member)?
            .opening
            .compression;
        let stored = encoded.stored(compression);
        let chunk = Chunk {
            offset: 0,
            raw_len: encoded.raw.len() as u32,
            stored_len: stored.len() as u32,
            crc32: encoded.crc32,
            blake3: encoded.blake3,
            stored_blake3: match compression {
                Compression::Stored => None,
                Compression::Deflate => Some(Digest::of(&stored)),
            },
        };
        self.append_stored(&stored, chunk)?;
        if encoded.is_copied() {
            self.count_copied(stored.len() as u32);
        }
        Ok(())
    }

    /// Appends a chunk's stored bytes. Its offset is set here.
    pub(crate) fn append_stored(&mut self, stored: &[u8], mut chunk: Chunk) -> Result<(), Failure> {
        if self.unsynced + stored.len() as u64 > GROUP_BYTES {
            self.sync()?;
        }
        let mut open = self.open.take().ok_or_else(no_open_member)?;
        chunk.offset = self.offset;
        self.write(stored)?;
        open.take_chunk(chunk.clone());
        let journaled = open.opening.totals.is_none();
        self.open = Some(open);
        if journaled {
            self.note(&Record::Chunk { chunk })?;
            self.sync_if_due()?;
        }
        Ok(())
    }

    /// Ends the data of the open member, with its descriptor if it needs one.
    pub(crate) fn end_data(&mut self, facts: MemberFacts) -> Result<Member, Failure> {
        let mut open = self.open.take().ok_or_else(no_open_member)?;
        if open.opening.compression == Compression::Deflate {
            self.write(&STREAM_END)?;
        }
        open.chunks.shrink_to_fit();
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
            rows: facts.rows,
            proof: facts.proof,
            copied: open.copied,
            chunks: open.chunks,
        })
    }

    fn close(
        &mut self,
        facts: MemberFacts,
        receipt: oneshot::Sender<Receipt>,
    ) -> Result<(), Failure> {
        let member = self.end_data(facts)?;
        self.receipts.push((receipt, member.clone()));
        self.take(member)
    }

    /// Takes a complete member at the end of the file into the bundle.
    pub(crate) fn take(&mut self, member: Member) -> Result<(), Failure> {
        self.note(&Record::Member {
            member: Box::new(member.clone()),
            end_offset: self.offset,
        })?;
        self.list(member);
        self.index_if_due()?;
        self.sync_if_due()
    }

    /// Adds a complete member to the directory.
    pub(crate) fn list(&mut self, member: Member) {
        self.names.insert(&member.name);
        self.members.push(member);
    }

    /// Closes the open member as a valid entry, so that readers of a pipe can pass it, but leaves
    /// it out of the directory.
    pub(crate) fn close_as_dead(&mut self, reason: &str) -> Result<(), Failure> {
        let start = match &self.open {
            Some(open) => open.header_offset,
            None => return Ok(()),
        };
        let member = self.end_data(MemberFacts::default())?;
        self.bury(start, self.offset, format!("{}: {reason}", member.name))
    }

    fn retract(&mut self, name: &str, reason: &str) -> Result<(), Failure> {
        let found = match self.names.remove(name) {
            true => {
                let found = self.members.iter().position(|m| m.name == name);
                found.map(|index| self.members.remove(index))
            }
            false => self.earlier.remove(name),
        };
        let member = found.ok_or_else(|| {
            Failure::new(
                FailureKind::Internal,
                format!("retract member {name}"),
                "there is none of that name",
            )
        })?;
        self.bury_member(&member, reason)
    }

    pub(crate) fn bury_member(&mut self, member: &Member, reason: &str) -> Result<(), Failure> {
        let reason = format!("{}: {reason}", member.name);
        self.bury(member.header_offset, end_of(member), reason)
    }

    fn bury(&mut self, start: u64, end: u64, reason: String) -> Result<(), Failure> {
        self.out.flush().map_err(|error| self.failure(error))?;
        let blake3 = durable::hash_range(self.out.get_ref().file.as_ref(), start, end)
            .map_err(|error| self.failure(error))?;
        let range = DeadRange {
            offset: start,
            len: end - start,
            blake3,
            reason,
        };
        self.note(&Record::Dead {
            range: range.clone(),
        })?;
        self.dead.push(range);
        Ok(())
    }

    fn generation(&mut self, generation: Generation) -> Result<(), Failure> {
        self.note(&Record::Generation { generation })?;
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
        self.out.flush().map_err(|error| self.failure(error))?;
        let since = Instant::now();
        let outcome = (|| {
            let out = self.out.get_ref();
            out.sync()?;
            if self.unsynced > 0 {
                self.journal.push(&Record::Synced {
                    offset: self.offset,
                    sha256: sha256_state(&out.sha256),
                })?;
            }
            self.journal.commit()
        })();
        let (took, unsynced) = (since.elapsed(), self.unsynced);
        self.stats.add(Stage::Sync, took, Duration::ZERO, unsynced);
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

fn no_open_member() -> Failure {
    Failure::new(
        FailureKind::Internal,
        "append to a member",
        "no member is open",
    )
}
