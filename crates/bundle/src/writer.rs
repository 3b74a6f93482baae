//! The writing side as the rest of the program sees it: a [`BundleSink`].

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot},
    task::JoinHandle,
};

use arkstream_format::{
    CHUNK_SIZE, Compression, Crc32, FORMAT_VERSION, Generation, Manifest, Member, RunId,
    journal::Record,
};
use arkstream_pipeline::{
    BundleSink, Failure, FailureKind, MemberSpec, MemberWriter, PendingReceipt, Permit, Published,
    Sink,
};

use crate::{
    appender::{Appender, Command, Opening, Totals},
    codec::{EncodedChunk, STREAM_END},
    durable,
    framing::check_name,
    journal::{JournalState, JournalWriter, read_journal},
    publish,
};

/// Commands that may wait for the appender. Chunks in it hold their permits.
const QUEUE: usize = 4;

/// The names that belong to one bundle.
#[derive(Clone, Debug)]
pub struct OutputPaths {
    /// The finished bundle.
    pub bundle: PathBuf,
    /// The unfinished bundle.
    pub partial: PathBuf,
    /// The journal beside the unfinished bundle.
    pub journal: PathBuf,
    /// The checksum file beside the finished bundle.
    pub sha256: PathBuf,
}

impl OutputPaths {
    /// The names that belong to `bundle`.
    #[must_use]
    pub fn new(bundle: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = bundle.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            bundle: bundle.to_owned(),
            partial: with(".partial"),
            journal: with(".journal"),
            sha256: with(".sha256"),
        }
    }
}

/// What to do with an unfinished bundle that an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Refuse to touch it.
    Refuse,
    /// Discard it and start over.
    Discard,
}

/// A bundle that is being written.
pub struct BundleWriter {
    commands: mpsc::Sender<Command>,
    /// Whoever holds it is the one whose member takes the next place in the file.
    lane: Arc<tokio::sync::Mutex<()>>,
    failed: Arc<Mutex<Option<Failure>>>,
}

impl BundleWriter {
    /// Creates `<bundle>.partial` and `<bundle>.journal`, locked against a second run.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] if the bundle exists, another run holds the lock, or an unfinished
    /// bundle stands there and `leftover` says to refuse it.
    pub fn create(
        paths: OutputPaths,
        run_id: RunId,
        plan_fingerprint: String,
        leftover: Leftover,
    ) -> Result<Self, Failure> {
        let file = claim(&paths, leftover)?;
        let refused = |path: &Path, error| {
            Failure::io(
                FailureKind::Refused,
                format!("create {}", path.display()),
                error,
            )
        };
        let journal_file = durable::open_private(&paths.journal)
            .and_then(|journal| journal.set_len(0).map(|()| journal))
            .map_err(|error| refused(&paths.journal, error))?;
        let mut journal = JournalWriter::new(journal_file);
        journal
            .push(&Record::Begin {
                format_version: FORMAT_VERSION.to_owned(),
                run_id,
                plan_fingerprint,
                at: Utc::now(),
            })
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.sync_all())
            .and_then(|()| journal.commit())
            .and_then(|()| durable::sync_folder_of(&paths.bundle))
            .map_err(|error| refused(&paths.partial, error))?;

        let appender = Appender::new(paths, file, journal);
        let (commands, receiver) = mpsc::channel(QUEUE);
        let failed = Arc::new(Mutex::new(None));
        let for_thread = Arc::clone(&failed);
        std::thread::Builder::new()
            .name("appender".into())
            .spawn(move || appender.run(receiver, &for_thread))
            .map_err(|error| Failure::io(FailureKind::Internal, "start the appender", error))?;
        Ok(Self {
            commands,
            lane: Arc::default(),
            failed,
        })
    }

    fn channel(&self) -> Channel {
        Channel {
            commands: self.commands.clone(),
            failed: Arc::clone(&self.failed),
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
    ) -> Result<T, Failure> {
        self.channel().ask(command).await
    }
}

/// Opens and locks the unfinished bundle.
fn claim(paths: &OutputPaths, leftover: Leftover) -> Result<File, Failure> {
    let attempted = format!("create {}", paths.bundle.display());
    let refuse = |why: String, help: &str| {
        Failure::new(FailureKind::Refused, attempted.clone(), why).help(help)
    };
    let io = |error| Failure::io(FailureKind::Refused, attempted.clone(), error);
    let exists = || {
        if paths.bundle.try_exists().map_err(io)? {
            return Err(refuse(
                "it exists already".into(),
                "choose another --out, or remove it yourself; a finished bundle is never overwritten",
            ));
        }
        Ok(())
    };
    exists()?;
    let file = durable::open_private(&paths.partial).map_err(io)?;
    let locked = durable::try_lock(&file).map_err(io)?;
    if !locked || !durable::still_names(&paths.partial, &file).map_err(io)? {
        return Err(refuse(
            "another run is writing it at this moment".into(),
            "wait for it to end, or choose another --out",
        ));
    }
    // Another run may have published between the look and the lock.
    exists()?;
    // A journal beside an empty file is what a kill after publishing leaves.
    let empty = file.metadata().map_err(io)?.len() == 0;
    if !empty && leftover == Leftover::Refuse {
        let state = read_journal(&paths.journal).unwrap_or_default();
        return Err(refuse(
            describe_leftover(paths, &state),
            "use --fresh to discard it and start over, or choose another --out",
        ));
    }
    Ok(file)
}

fn describe_leftover(paths: &OutputPaths, state: &JournalState) -> String {
    let since = match &state.begin {
        Some(Record::Begin { at, .. }) => format!(" begun {}", at.format("%Y-%m-%d %H:%M UTC")),
        _ => String::new(),
    };
    format!(
        "an interrupted run left an unfinished bundle{since} with {} members and {} durable bytes at {}",
        state.members.len(),
        state.durable_len,
        paths.partial.display()
    )
}

/// The way to the appender.
#[derive(Clone)]
struct Channel {
    commands: mpsc::Sender<Command>,
    failed: Arc<Mutex<Option<Failure>>>,
}

impl Channel {
    async fn send(&self, command: Command) -> Result<(), Failure> {
        self.commands
            .send(command)
            .await
            .map_err(|_| self.stopped())
    }

    async fn ask<T>(
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

    /// Appends a member whose chunks are all at hand, its sizes in the local header.
    async fn append_whole(
        &self,
        spec: &MemberSpec,
        chunks: Vec<(EncodedChunk, Option<Permit>)>,
        rows: Option<u64>,
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
        self.close(rows).await
    }

    async fn open(
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

    async fn close(&self, rows: Option<u64>) -> Result<PendingReceipt, Failure> {
        let (receipt, pending) = PendingReceipt::of_sink(Arc::clone(&self.failed));
        self.ask(|done| Command::Close {
            rows,
            receipt,
            done,
        })
        .await?;
        Ok(pending)
    }
}

/// Hashing and compression belong on the blocking pool, which runs as many as there are permits.
async fn encode(raw: Bytes, compression: Compression) -> Result<EncodedChunk, Failure> {
    tokio::task::spawn_blocking(move || EncodedChunk::new(raw, compression))
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, "compress a chunk", error))
}

fn check_spec(spec: &MemberSpec) -> Result<(), Failure> {
    check_name(&spec.name).map_err(|why| {
        Failure::new(
            FailureKind::Source,
            format!("add a member named {:?}", spec.name),
            why,
        )
    })
}

#[async_trait]
impl Sink for BundleWriter {
    async fn put(
        &self,
        spec: MemberSpec,
        mut bytes: Bytes,
        rows: Option<u64>,
    ) -> Result<PendingReceipt, Failure> {
        check_spec(&spec)?;
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let raw = bytes.split_to(bytes.len().min(CHUNK_SIZE));
            chunks.push((encode(raw, spec.compression).await?, None));
        }
        let _lane = self.lane.lock().await;
        self.channel().append_whole(&spec, chunks, rows).await
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        check_spec(&spec)?;
        Ok(Box::new(StreamedMember {
            channel: self.channel(),
            lane: Arc::clone(&self.lane),
            holding: None,
            gathered: BytesMut::new(),
            permit: None,
            encoding: VecDeque::new(),
            encoding_bytes: 0,
            spec,
        }))
    }

    async fn retract(&self, name: &str, reason: &str) -> Result<(), Failure> {
        let _lane = self.lane.lock().await;
        self.ask(|done| Command::Retract(name.to_owned(), reason.to_owned(), done))
            .await
    }

    async fn sync(&self) -> Result<(), Failure> {
        self.ask(Command::Sync).await
    }
}

#[async_trait]
impl BundleSink for BundleWriter {
    async fn begin_generation(&self, generation: Generation) -> Result<(), Failure> {
        self.ask(|done| Command::Generation(Box::new(generation), done))
            .await
    }

    async fn members(&self) -> Result<Vec<Member>, Failure> {
        self.ask(Command::Members).await
    }

    async fn publish(&self, manifest: Manifest) -> Result<Published, Failure> {
        let _lane = self.lane.lock().await;
        let appender = self.ask(Command::Finish).await?;
        tokio::task::spawn_blocking(move || publish::publish(*appender, manifest))
            .await
            .map_err(|error| Failure::new(FailureKind::Internal, "publish the bundle", error))?
    }
}

/// A member that comes in a stream. Chunks are encoded beside each other; the member takes its
/// place in the file once half its budget is in use, and keeps it until it is finished.
struct StreamedMember {
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
