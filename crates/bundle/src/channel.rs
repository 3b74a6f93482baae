//! The way from everybody who writes to the one thread that appends.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle},
};

use arkstream_format::{Compression, Crc32, Member, Proof};
use arkstream_pipeline::{
    Failure, FailureKind, MemberFacts, MemberSpec, PendingReceipt, Permit, Stage, Stats,
};

use crate::{
    appender::Command,
    codec::{Effort, EncodedChunk, STREAM_END},
    earlier::Candidate,
    older::{Older, Origin},
    opening::{Opening, Totals},
};

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
        self.open(spec, compression, Some(totals)).await?;
        for (chunk, permit) in chunks {
            self.send(Command::Chunk(chunk, permit)).await?;
        }
        self.close(facts).await
    }

    /// Hashes and compresses a chunk, or copies it where it was compressed before, on the blocking pool,
    /// which runs as many as there are permits.
    pub(crate) fn encode(
        &self,
        raw: Bytes,
        compression: Compression,
        origin: Option<Origin>,
    ) -> JoinHandle<EncodedChunk> {
        let effort = self.effort;
        let origin = origin.filter(|_| compression == Compression::Deflate);
        let stats = Arc::clone(&self.stats);
        tokio::task::spawn_blocking(move || {
            let length = raw.len();
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
        })
    }

    pub(crate) async fn open(
        &self,
        spec: &MemberSpec,
        compression: Compression,
        totals: Option<Totals>,
    ) -> Result<(), Failure> {
        self.send(Command::Open(Box::new(Opening {
            name: spec.name.clone(),
            component: spec.component,
            compression,
            modified_at: spec.modified_at,
            mode: spec.mode,
            totals,
        })))
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

pub(crate) fn not_encoded(error: JoinError) -> Failure {
    Failure::new(FailureKind::Internal, "compress a chunk", error)
}
