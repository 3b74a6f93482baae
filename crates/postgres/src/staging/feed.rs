//! A part as COPY data: decoded row group by row group in a thread of its own, its large values put back
//! from their members while they are read.
//!
//! Peak memory: what [`Feed::needs`] says (a row group as it stands in the bundle and a batch of it, twice),
//! three frames of COPY data, and a chunk of a large value.

use std::collections::BTreeMap;

use arkstream_columnar::{CopyEncoder, PartBatches, PartFile, read_part};
use arkstream_format::{LargeEntry, Member};
use arkstream_pipeline::{Event, Failure, FailureKind, MemberBytes, Restoring};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Bytes of COPY data that go to the server at once.
const FRAME: usize = 1 << 20;

/// Frames that wait for the server.
const WAITING: usize = 2;

/// A part that is open.
pub(super) struct Feed {
    member: Member,
    batches: PartBatches<'static>,
    large: Vec<LargeEntry>,
}

/// Opens a part: its footer is read.
pub(super) async fn open(restoring: &Restoring, member: &Member) -> Result<Feed, Failure> {
    let (watched, owned) = (restoring.clone(), member.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let (part, chunks) = (owned.clone(), watched.clone());
        let mut bytes = MemberBytes::new(&owned, move |chunk| read_chunk(&chunks, &part, chunk));
        let len = bytes.len();
        let file = PartFile::new(len, move |range| bytes.read(range));
        let batches = read_part(file).map_err(|error| damaged(&owned, error))?;
        let large = LargeEntry::read(&batches.notes()).map_err(|error| damaged(&owned, error))?;
        Ok(Feed {
            member: owned,
            batches,
            large,
        })
    });
    joined(opening.await, member)?
}

impl Feed {
    /// What turns its rows into COPY data.
    pub(super) fn encoder(&self) -> Result<CopyEncoder, Failure> {
        CopyEncoder::new(&self.batches.schema()).map_err(|error| damaged(&self.member, error))
    }

    /// Bytes in memory while its rows are read.
    pub(super) fn needs(&self) -> u64 {
        self.batches.needs() + (FRAME * (WAITING + 1)) as u64
    }

    /// Begins to read. What fails comes last.
    pub(super) fn start(
        self,
        restoring: &Restoring,
        encoder: &CopyEncoder,
    ) -> mpsc::Receiver<Result<Bytes, Failure>> {
        let (out, frames) = mpsc::channel(WAITING);
        let (restoring, encoder) = (restoring.clone(), encoder.clone());
        tokio::task::spawn_blocking(move || {
            let mut frames = Frames {
                out,
                frame: Vec::with_capacity(FRAME),
            };
            if let Err(Ended::Failed(failure)) = self.feed(&restoring, &encoder, &mut frames) {
                // Nobody listens when the load has failed for another reason.
                let _ = frames.out.blocking_send(Err(failure));
            }
        });
        frames
    }

    fn feed(
        self,
        restoring: &Restoring,
        encoder: &CopyEncoder,
        frames: &mut Frames,
    ) -> Result<(), Ended> {
        let member = self.member;
        let damaged = |error: &dyn std::fmt::Display| Ended::Failed(damaged(&member, error));
        let schema = self.batches.schema();
        let mut large: BTreeMap<u64, Vec<(usize, LargeEntry)>> = BTreeMap::new();
        for value in self.large {
            let column = schema.index_of(&value.column).map_err(|e| damaged(&e))?;
            large.entry(value.row).or_default().push((column, value));
        }
        let mut first = 0;
        encoder.header(&mut frames.frame);
        for batch in self.batches {
            let batch = batch.map_err(|error| damaged(&error))?;
            let rows = encoder.rows(&batch).map_err(|error| damaged(&error))?;
            for row in 0..batch.num_rows() {
                let Some(values) = large.remove(&(first + row as u64)) else {
                    let appended = rows.row(row, &mut frames.frame);
                    appended.map_err(|error| damaged(&error))?;
                    frames.send_full()?;
                    continue;
                };
                rows.begin(&mut frames.frame);
                for column in 0..rows.columns() {
                    let value = values.iter().find(|(place, _)| *place == column);
                    let out = &mut frames.frame;
                    match value {
                        None => rows.field(row, column, out),
                        Some((_, value)) => rows.large(row, column, value.bytes, out),
                    }
                    .map_err(|error| damaged(&error))?;
                    if let Some((_, value)) = value {
                        send_large(restoring, value, frames)?;
                    }
                }
                frames.send_full()?;
            }
            first += batch.num_rows() as u64;
        }
        if let Some(row) = large.keys().next() {
            let why = format!("it names a large value of row {row}, and has {first} rows");
            return Err(damaged(&why));
        }
        encoder.trailer(&mut frames.frame);
        frames.send()
    }
}

/// Sends the content of a large value.
fn send_large(restoring: &Restoring, value: &LargeEntry, frames: &mut Frames) -> Result<(), Ended> {
    let member = restoring.bundle.member(&value.member);
    let Some(member) = member.filter(|member| value.is_content(member)) else {
        return Err(Ended::Failed(Failure::new(
            FailureKind::Damaged,
            format!("read {} from the bundle", value.member),
            "it is not the value that its part names",
        )));
    };
    for chunk in 0..member.chunks.len() {
        let raw = read_chunk(restoring, member, chunk);
        let mut raw = raw.map_err(|finding| Ended::Failed(unreadable(member, finding)))?;
        frames.send()?;
        while !raw.is_empty() {
            let piece = raw.split_to(raw.len().min(FRAME));
            frames.put(piece)?;
        }
    }
    Ok(())
}

/// Why a part is not read any further.
enum Ended {
    Failed(Failure),
    /// Nobody takes what it gives.
    Unheard,
}

struct Frames {
    out: mpsc::Sender<Result<Bytes, Failure>>,
    frame: Vec<u8>,
}

impl Frames {
    fn send_full(&mut self) -> Result<(), Ended> {
        match self.frame.len() >= FRAME {
            true => self.send(),
            false => Ok(()),
        }
    }

    fn send(&mut self) -> Result<(), Ended> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.frame, Vec::with_capacity(FRAME));
        self.put(Bytes::from(full))
    }

    fn put(&mut self, bytes: Bytes) -> Result<(), Ended> {
        let sent = self.out.blocking_send(Ok(bytes));
        sent.map_err(|_| Ended::Unheard)
    }
}

fn read_chunk(
    restoring: &Restoring,
    member: &Member,
    chunk: usize,
) -> Result<Bytes, arkstream_pipeline::Finding> {
    let raw = restoring.bundle.read_chunk(member, chunk)?;
    restoring.tell(Event::Read {
        component: member.component,
        bytes: raw.len() as u64,
    });
    Ok(raw)
}

fn joined<T>(joined: Result<T, tokio::task::JoinError>, member: &Member) -> Result<T, Failure> {
    joined.map_err(|error| {
        let attempted = format!("read {} from the bundle", member.name);
        Failure::new(FailureKind::Internal, attempted, error)
    })
}

fn unreadable(member: &Member, why: impl std::fmt::Display) -> Failure {
    let attempted = format!("read {} from the bundle", member.name);
    Failure::new(FailureKind::Damaged, attempted, why)
        .help("`arkstream verify` lists everything that is damaged")
}

fn damaged(member: &Member, error: impl std::fmt::Display) -> Failure {
    let attempted = format!("read the rows of {}", member.name);
    Failure::new(FailureKind::Damaged, attempted, error)
        .help("`arkstream verify` lists everything that is damaged")
}
