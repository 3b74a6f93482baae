//! The way from everybody who writes to the one thread that appends.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use arkstream_format::{
    BaseBundle, Component, Compression, Contents, Crc32, Generation, Member, Proof,
};
use arkstream_pipeline::{
    Failure, FailureKind, MemberFacts, MemberSpec, PendingReceipt, Permit, Receipt, Stage, Stats,
};

use crate::{
    appender::Appender,
    codec::{Effort, EncodedChunk, STREAM_END},
    earlier::Candidate,
    older::{Older, Origin},
    opening::{Opening, Totals},
};

/// Bytes of a chunk that are done sooner than another thread would have begun.
const SMALL: usize = 16 << 10;

/// A chunk that is being encoded.
pub(crate) enum Encoding {
    Done(EncodedChunk),
    Running(JoinHandle<EncodedChunk>),
}

impl Encoding {
    pub(crate) async fn wait(self) -> Result<EncodedChunk, Failure> {
        match self {
            Self::Done(chunk) => Ok(chunk),
            Self::Running(task) => task
                .await
                .map_err(|error| Failure::new(FailureKind::Internal, "compress a chunk", error)),
        }
    }
}

/// What the appender is to do.
pub(crate) enum Command {
    Open(Box<Opening>),
    Chunk(EncodedChunk, Option<Permit>),
    /// A member whose chunks are all at hand.
    Whole {
        opening: Box<Opening>,
        chunks: Vec<(EncodedChunk, Option<Permit>)>,
        facts: MemberFacts,
        receipt: oneshot::Sender<Receipt>,
        done: oneshot::Sender<Result<(), Failure>>,
    },
    /// Appends the first chunks of what an earlier attempt left under the open member's name.
    Reuse(Candidate, usize),
    /// Takes up the torn member at the end of the file after so many of its chunks.
    Continue(usize, oneshot::Sender<Result<(), Failure>>),
    Close {
        facts: MemberFacts,
        receipt: oneshot::Sender<Receipt>,
        done: oneshot::Sender<Result<(), Failure>>,
    },
    Abandon(String),
    Retract(String, String, oneshot::Sender<Result<(), Failure>>),
    Generation(Box<Generation>, oneshot::Sender<Result<(), Failure>>),
    Sync(oneshot::Sender<Result<(), Failure>>),
    Members(oneshot::Sender<Result<Vec<Member>, Failure>>),
    Contents(Vec<BaseBundle>, oneshot::Sender<Result<Contents, Failure>>),
    Earlier(Component, oneshot::Sender<Result<Vec<Member>, Failure>>),
    Candidate(String, oneshot::Sender<Result<Option<Candidate>, Failure>>),
    /// Keeps an earlier member, with another proof where one is given.
    Keep {
        name: String,
        proof: Option<Proof>,
        done: oneshot::Sender<Result<Option<Member>, Failure>>,
    },
    /// Gives a finished member another proof.
    Prove {
        name: String,
        proof: Proof,
        done: oneshot::Sender<Result<(), Failure>>,
    },
    SetAside(oneshot::Sender<Result<(), Failure>>),
    /// Hands the file over to whoever completes the bundle; the thread ends.
    Finish(oneshot::Sender<Result<Box<Appender>, Failure>>),
}

/// The way to the appender.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) failed: Arc<Mutex<Option<Failure>>>,
    pub(crate) compares: Arc<AtomicBool>,
    pub(crate) effort: Effort,
    pub(crate) older: Option<Arc<Older>>,
    pub(crate) stats: Arc<Stats>,
}

impl Channel {
    pub(crate) async fn send(&self, command: Command) -> Result<(), Failure> {
        self.commands
            .send(command)
            .await
            .map_err(|_| self.stopped())
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| self.stopped())?
    }

    /// Why the appender is gone.
    fn stopped(&self) -> Failure {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .unwrap_or_else(|| {
                Failure::new(
                    FailureKind::Internal,
                    "write to the bundle",
                    "it is closed already",
                )
            })
    }

    /// What an interrupted run left under a name.
    pub(crate) async fn candidate(&self, spec: &MemberSpec) -> Result<Option<Candidate>, Failure> {
        if !self.compares.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let name = spec.name.clone();
        self.ask(|reply| Command::Candidate(name, reply)).await
    }

    /// Where a chunk of a member may be found compressed.
    pub(crate) fn origin(&self, spec: &MemberSpec, index: usize) -> Option<Origin> {
        self.older.as_ref()?.origin(&spec.name, index)
    }

    /// Keeps a member whose bytes turned out to be the same.
    pub(crate) async fn keep(
        &self,
        name: &str,
        proof: Option<Proof>,
    ) -> Result<Option<Member>, Failure> {
        let name = name.to_owned();
        self.ask(|done| Command::Keep { name, proof, done }).await
    }

    /// Appends a member whose chunks are all at hand, its sizes in the local header.
    pub(crate) async fn append_whole(
        &self,
        spec: &MemberSpec,
        chunks: Vec<(EncodedChunk, Option<Permit>)>,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        // A member of which nothing shrank is not worth a deflate stream.
        let shrank = chunks.iter().any(|(chunk, _)| chunk.shrank());
        let compression = if shrank {
            spec.compression
        } else {
            Compression::Stored
        };
        let mut totals = Totals {
            crc32: Crc32::default(),
            raw_len: 0,
            stored_len: match compression {
                Compression::Stored => 0,
                Compression::Deflate => STREAM_END.len() as u64,
            },
        };
        for (chunk, _) in &chunks {
            totals.crc32 = totals.crc32.then(chunk.crc32, chunk.raw.len() as u64);
            totals.raw_len += chunk.raw.len() as u64;
            totals.stored_len += chunk.stored(compression).len() as u64;
        }
        let opening = opening(spec, compression, Some(totals));
        let (receipt, pending) = PendingReceipt::of_sink(Arc::clone(&self.failed));
        self.ask(|done| Command::Whole {
            opening,
            chunks,
            facts,
            receipt,
            done,
        })
        .await?;
        Ok(pending)
    }

    /// Hashes and compresses a chunk, or copies it where it was compressed before, on the blocking pool,
    /// which runs as many as there are permits; one that is [`SMALL`] at once.
    pub(crate) fn encode(
        &self,
        raw: Bytes,
        compression: Compression,
        origin: Option<Origin>,
    ) -> Encoding {
        let effort = self.effort;
        let origin = origin.filter(|_| compression == Compression::Deflate);
        let stats = Arc::clone(&self.stats);
        let length = raw.len();
        let work = move || {
            let copied = origin.and_then(|origin| origin.encoded(&raw));
            copied.unwrap_or_else(|| {
                let hashed = stats.work(Stage::Hash, length, || EncodedChunk::hashed(raw));
                match compression {
                    Compression::Stored => hashed,
                    Compression::Deflate => {
                        stats.work(Stage::Compress, length, || hashed.deflate(effort))
                    }
                }
            })
        };
        match length <= SMALL {
            true => Encoding::Done(work()),
            false => Encoding::Running(tokio::task::spawn_blocking(work)),
        }
    }

    pub(crate) async fn open(
        &self,
        spec: &MemberSpec,
        compression: Compression,
        totals: Option<Totals>,
    ) -> Result<(), Failure> {
        self.send(Command::Open(opening(spec, compression, totals)))
            .await
    }

    pub(crate) async fn close(&self, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        let (receipt, pending) = PendingReceipt::of_sink(Arc::clone(&self.failed));
        self.ask(|done| Command::Close {
            facts,
            receipt,
            done,
        })
        .await?;
        Ok(pending)
    }
}

fn opening(spec: &MemberSpec, compression: Compression, totals: Option<Totals>) -> Box<Opening> {
    Box::new(Opening {
        name: spec.name.clone(),
        component: spec.component,
        compression,
        modified_at: spec.modified_at,
        mode: spec.mode,
        totals,
    })
}

/// Tells the asker, and the thread whether to go on.
pub(crate) fn answer<T>(
    reply: oneshot::Sender<Result<T, Failure>>,
    outcome: Result<T, Failure>,
) -> Result<(), Failure> {
    let verdict = match &outcome {
        // A call that makes no sense has written nothing.
        Err(failure) if failure.kind != FailureKind::Internal => Err(failure.clone()),
        _ => Ok(()),
    };
    // An asker who is gone was cancelled.
    let _ = reply.send(outcome);
    verdict
}
