//! A member whose bytes come in a stream.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle};

use arkstream_format::CHUNK_SIZE;
use arkstream_pipeline::{Failure, FailureKind, MemberSpec, MemberWriter, PendingReceipt, Permit};

use crate::{appender::Command, codec::EncodedChunk, writer::Channel};

/// A member that comes in a stream. Chunks are encoded beside each other; the member takes its
/// place in the file once half its budget is in use, and keeps it until it is finished.
pub(crate) struct StreamedMember {
    spec: MemberSpec,
    channel: Channel,
    lane: Arc<tokio::sync::Mutex<()>>,
    holding: Option<OwnedMutexGuard<()>>,
    gathered: BytesMut,
    permit: Option<Permit>,
    encoding: VecDeque<(JoinHandle<EncodedChunk>, Permit)>,
    encoding_bytes: u64,
}

/// A chunk in flight is there raw and compressed.
const CHUNK_IN_FLIGHT: u64 = 2 * CHUNK_SIZE as u64;

impl StreamedMember {
    pub(crate) fn new(
        spec: MemberSpec,
        channel: Channel,
        lane: Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        Self {
            spec,
            channel,
            lane,
            holding: None,
            gathered: BytesMut::new(),
            permit: None,
            encoding: VecDeque::new(),
            encoding_bytes: 0,
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
        let Some((task, permit)) = self.encoding.pop_front() else {
            return Ok(None);
        };
        self.encoding_bytes -= permit.bytes();
        let chunk = task
            .await
            .map_err(|error| Failure::new(FailureKind::Internal, "compress a chunk", error))?;
        Ok(Some((chunk, permit)))
    }

    /// Sends the gathered bytes to be encoded.
    fn dispatch(&mut self) {
        if let Some(permit) = self.permit.take() {
            let raw = self.gathered.split().freeze();
            let compression = self.spec.compression;
            self.encoding_bytes += permit.bytes();
            let task = tokio::task::spawn_blocking(move || EncodedChunk::new(raw, compression));
            self.encoding.push_back((task, permit));
        }
    }
}

#[async_trait]
impl MemberWriter for StreamedMember {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        while !bytes.is_empty() {
            if self.permit.is_none() {
                self.make_room().await?;
            }
            let room = CHUNK_SIZE - self.gathered.len();
            self.gathered
                .extend_from_slice(&bytes.split_to(bytes.len().min(room)));
            if self.gathered.len() == CHUNK_SIZE {
                self.dispatch();
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, rows: Option<u64>) -> Result<PendingReceipt, Failure> {
        self.dispatch();
        if self.holding.is_some() {
            while !self.encoding.is_empty() {
                self.append_oldest().await?;
            }
            let pending = self.channel.close(rows).await?;
            self.holding = None;
            return Ok(pending);
        }
        let mut chunks = Vec::with_capacity(self.encoding.len());
        while let Some((chunk, permit)) = self.oldest().await? {
            chunks.push((chunk, Some(permit)));
        }
        let _lane = Arc::clone(&self.lane).lock_owned().await;
        self.channel.append_whole(&self.spec, chunks, rows).await
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
