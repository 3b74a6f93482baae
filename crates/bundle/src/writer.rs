//! The writing side as the rest of the program sees it: a [`BundleSink`].

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use tokio::sync::{mpsc, oneshot};

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
    streamed::StreamedMember,
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
    let io = |error| {
        let failure = Failure::io(FailureKind::Refused, attempted.clone(), error);
        match failure.advice() {
            Some(_) => failure,
            None => failure.help("choose an --out in a folder that exists and that you may write"),
        }
    };
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
pub(crate) struct Channel {
    pub(crate) commands: mpsc::Sender<Command>,
    failed: Arc<Mutex<Option<Failure>>>,
}

impl Channel {
    pub(crate) async fn send(&self, command: Command) -> Result<(), Failure> {
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
    pub(crate) async fn append_whole(
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

    pub(crate) async fn close(&self, rows: Option<u64>) -> Result<PendingReceipt, Failure> {
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
        let lane = Arc::clone(&self.lane);
        Ok(Box::new(StreamedMember::new(spec, self.channel(), lane)))
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
