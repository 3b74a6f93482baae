//! A member whose bytes come in a stream.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedMutexGuard;

use arkstream_format::{CHUNK_SIZE, Digest};
use arkstream_pipeline::{
    Failure, FailureKind, MemberFacts, MemberSpec, MemberWriter, PendingReceipt, Permit,
};

use crate::{
    channel::{Channel, Command, Encoding},
    codec::EncodedChunk,
    earlier::{Candidate, CandidateKind},
};

/// A member that comes in a stream. Chunks are encoded beside each other; the member takes its
/// place in the file once half its budget is in use, and keeps it until it is finished.
///
/// As long as the stream equals what an interrupted run left, nothing is encoded or written.
pub(crate) struct StreamedMember {
    spec: MemberSpec,
    channel: Channel,
    comparing: Option<Comparing>,
    lane: Arc<tokio::sync::Mutex<()>>,
    holding: Option<OwnedMutexGuard<()>>,
    gathered: BytesMut,
    permit: Option<Permit>,
    encoding: VecDeque<(Encoding, Permit)>,
    encoding_bytes: u64,
    /// Chunks of the stream so far.
    chunks: usize,
    /// Whether a write was cut short, so that nobody knows which of its bytes are in.
    cut_short: bool,
}

/// What the stream is compared with, and how many chunks were equal.
struct Comparing {
    candidate: Candidate,
    equal: usize,
}

/// A chunk in flight is there raw and compressed.
const CHUNK_IN_FLIGHT: u64 = 2 * CHUNK_SIZE as u64;

impl StreamedMember {
    pub(crate) fn new(
        spec: MemberSpec,
        channel: Channel,
        lane: Arc<tokio::sync::Mutex<()>>,
        candidate: Option<Candidate>,
    ) -> Self {
        Self {
            spec,
            channel,
            comparing: candidate.map(|candidate| Comparing {
                candidate,
                equal: 0,
            }),
            lane,
            holding: None,
            gathered: BytesMut::new(),
            permit: None,
            encoding: VecDeque::new(),
            encoding_bytes: 0,
            chunks: 0,
            cut_short: false,
        }
    }

    /// Waits for room for one more chunk, writing finished ones to the file to make it.
    async fn make_room(&mut self) -> Result<(), Failure> {
        let bytes = CHUNK_IN_FLIGHT.min(self.spec.budget.bytes());
        while !self.encoding.is_empty()
            && self.encoding_bytes + bytes > self.spec.budget.bytes() / 2
        {
            self.take_place().await?;
            self.append_oldest().await?;
        }
        self.permit = Some(self.spec.budget.take(bytes).await);
        Ok(())
    }

    async fn take_place(&mut self) -> Result<(), Failure> {
        if self.holding.is_none() {
            self.holding = Some(Arc::clone(&self.lane).lock_owned().await);
            self.channel
                .open(&self.spec, self.spec.compression, None)
                .await?;
        }
        Ok(())
    }

    async fn append_oldest(&mut self) -> Result<(), Failure> {
        if let Some((chunk, permit)) = self.oldest().await? {
            self.channel
                .send(Command::Chunk(chunk, Some(permit)))
                .await?;
        }
        Ok(())
    }

    async fn oldest(&mut self) -> Result<Option<(EncodedChunk, Permit)>, Failure> {
        let Some((encoding, permit)) = self.encoding.pop_front() else {
            return Ok(None);
        };
        self.encoding_bytes -= permit.bytes();
        Ok(Some((encoding.wait().await?, permit)))
    }

    /// Takes the gathered bytes as the next chunk: compared while everything was equal so far, else
    /// sent to be encoded.
    async fn dispatch(&mut self) -> Result<(), Failure> {
        let Some(permit) = self.permit.take() else {
            return Ok(());
        };
        let raw = self.gathered.split().freeze();
        let origin = self.channel.origin(&self.spec, self.chunks);
        self.chunks += 1;
        if let Some(comparing) = &mut self.comparing {
            let bytes = raw.clone();
            let digest = tokio::task::spawn_blocking(move || Digest::of(&bytes))
                .await
                .map_err(|error| Failure::new(FailureKind::Internal, "hash a chunk", error))?;
            let there = comparing.candidate.chunks.get(comparing.equal);
            if there.is_some_and(|chunk| chunk.blake3 == digest) {
                comparing.equal += 1;
                return Ok(());
            }
            self.diverge().await?;
        }
        self.encoding_bytes += permit.bytes();
        let encoding = self.channel.encode(raw, self.spec.compression, origin);
        self.encoding.push_back((encoding, permit));
        Ok(())
    }

    /// The stream is not what is there, from here on: it takes its place in the file, with the chunks
    /// that were equal.
    async fn diverge(&mut self) -> Result<(), Failure> {
        let Some(Comparing { candidate, equal }) = self.comparing.take() else {
            return Ok(());
        };
        if equal == 0 && candidate.kind != CandidateKind::Torn {
            return Ok(());
        }
        let lane = Arc::clone(&self.lane).lock_owned().await;
        let looks_like = candidate.looks_like(self.spec.mode, self.spec.modified_at);
        // Another member may have been appended behind it since.
        let kind = match self.channel.candidate(&self.spec).await? {
            Some(now) => now.kind,
            None => CandidateKind::Dead,
        };
        if kind == CandidateKind::Torn && looks_like {
            let chunks = equal;
            self.channel
                .ask(|done| Command::Continue(chunks, done))
                .await?;
        } else if equal > 0 {
            let compression = candidate.compression();
            self.channel.open(&self.spec, compression, None).await?;
            self.channel.send(Command::Reuse(candidate, equal)).await?;
        } else {
            return Ok(());
        }
        self.holding = Some(lane);
        Ok(())
    }
}

#[async_trait]
impl MemberWriter for StreamedMember {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        // It stays so when this fails or is cancelled.
        let cut_short = std::mem::replace(&mut self.cut_short, true);
        while !bytes.is_empty() {
            if self.permit.is_none() {
                self.make_room().await?;
            }
            let room = CHUNK_SIZE - self.gathered.len();
            self.gathered
                .extend_from_slice(&bytes.split_to(bytes.len().min(room)));
            if self.gathered.len() == CHUNK_SIZE {
                self.dispatch().await?;
            }
        }
        self.cut_short = cut_short;
        Ok(())
    }

    async fn finish(mut self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        if self.cut_short {
            return Err(Failure::new(
                FailureKind::Internal,
                format!("finish member {}", self.spec.name),
                "a part of it was not written to its end",
            ));
        }
        self.dispatch().await?;
        if let Some(Comparing { candidate, equal }) = &self.comparing {
            if candidate.kind == CandidateKind::Whole
                && *equal == candidate.chunks.len()
                && candidate.looks_like(self.spec.mode, self.spec.modified_at)
                && let Some(member) = self
                    .channel
                    .keep(&self.spec.name, facts.proof.clone())
                    .await?
            {
                return Ok(PendingReceipt::delivered(member));
            }
            self.diverge().await?;
        }
        if self.holding.is_some() {
            while !self.encoding.is_empty() {
                self.append_oldest().await?;
            }
            let pending = self.channel.close(facts).await?;
            self.holding = None;
            return Ok(pending);
        }
        let mut chunks = Vec::with_capacity(self.encoding.len());
        while let Some((chunk, permit)) = self.oldest().await? {
            chunks.push((chunk, Some(permit)));
        }
        let _lane = Arc::clone(&self.lane).lock_owned().await;
        self.channel.append_whole(&self.spec, chunks, facts).await
    }

    async fn abandon(mut self: Box<Self>, reason: &str) -> Result<(), Failure> {
        if self.holding.is_some() {
            self.channel
                .send(Command::Abandon(reason.to_owned()))
                .await?;
            self.holding = None;
        }
        Ok(())
    }
}

impl Drop for StreamedMember {
    fn drop(&mut self) {
        if let Some(holding) = self.holding.take() {
            let commands = self.channel.commands.clone();
            let abandon = Command::Abandon("given up".to_owned());
            // The place in the file must be kept until the appender has closed the member. When
            // the runtime is gone, so is the run, and the journal does not speak of the member.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    let _ = commands.send(abandon).await;
                    drop(holding);
                });
            }
        }
    }
}
