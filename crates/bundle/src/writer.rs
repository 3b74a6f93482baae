//! The writing side as the rest of the program sees it: a [`BundleSink`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot};

use arkstream_format::{
    BaseBundle, CHUNK_SIZE, Component, Contents, Generation, Manifest, Member, Proof, RunId,
};
use arkstream_pipeline::{
    BundleSink, Failure, FailureKind, MemberFacts, MemberSpec, MemberWriter, PendingReceipt,
    Published, Sink, Stats,
};

use crate::{
    appender::Appender,
    channel::{Channel, Command},
    claim::{Place, begun, claim, resume, start_journal},
    codec::Effort,
    disk::Disk,
    durable,
    earlier::CandidateKind,
    framing::check_name,
    hashing::HashingFile,
    index::Index,
    older::Older,
    publish,
    reader::BundleFile,
    space::SpaceWait,
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
    /// Discard it and start over.
    Discard,
    /// Continue it.
    Continue {
        /// Read all of it, not only what was written last.
        recheck: bool,
        /// Refuse to begin where there is nothing to continue.
        insist: bool,
    },
}

/// Which bundle is written.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The run that writes.
    pub run_id: RunId,
    /// What is backed up and how, as far as it shapes the bundle.
    pub plan: BTreeMap<String, String>,
    /// When, if it is begun and not continued.
    pub at: DateTime<Utc>,
}

/// What an interrupted run left and this one continues.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed {
    /// When the bundle was begun.
    pub begun_at: DateTime<Utc>,
    /// Barriers passed so far.
    pub generations: Vec<Generation>,
    /// Older bundles that members were copied out of.
    pub bases: Vec<BaseBundle>,
    /// Finished members.
    pub members: usize,
    /// Bytes of the file that are built upon.
    pub bytes: u64,
    /// Bytes behind them that were torn, and are cut off.
    pub cut_off: u64,
    /// The member at which the run was interrupted, with the bytes of it that are durable.
    pub torn: Option<(String, u64)>,
    /// Members that are not what their hashes say. They are made again.
    pub damaged: Vec<String>,
}

/// A bundle that was begun or continued.
pub struct Opened {
    /// It takes members from now on.
    pub writer: BundleWriter,
    /// What an interrupted run left.
    pub resumed: Option<Resumed>,
    /// Generations of members that are there already, here or in the older bundle.
    pub generations: Vec<Generation>,
    /// Older bundles that members are or were copied out of.
    pub bases: Vec<BaseBundle>,
}

/// A bundle that is being written.
pub struct BundleWriter {
    commands: mpsc::Sender<Command>,
    /// Whoever holds it is the one whose member takes the next place in the file.
    pub(crate) lane: Arc<tokio::sync::Mutex<()>>,
    failed: Arc<Mutex<Option<Failure>>>,
    /// Whether there may be members to compare with.
    compares: Arc<AtomicBool>,
    effort: Effort,
    older: Option<Arc<Older>>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) partial: PathBuf,
    stats: Arc<Stats>,
}

impl BundleWriter {
    /// Creates `<bundle>.partial` and `<bundle>.journal`, or continues them, locked against a second
    /// run.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] if the bundle exists, another run holds the lock, or what an
    /// interrupted run left was begun for another plan.
    pub fn open(
        paths: OutputPaths,
        beginning: Beginning,
        leftover: Leftover,
        wait: SpaceWait,
    ) -> Result<(Self, Option<Resumed>), Failure> {
        Self::open_on(durable::local(), paths, beginning, leftover, wait)
    }

    /// The same, on any disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        paths: OutputPaths,
        beginning: Beginning,
        leftover: Leftover,
        wait: SpaceWait,
    ) -> Result<(Self, Option<Resumed>), Failure> {
        let place = Place { disk, paths };
        let opened = Self::open_at(place, beginning, leftover, wait, None)?;
        Ok((opened.writer, opened.resumed))
    }

    /// As [`Self::open`]; what is proven unchanged since the bundle `base` was written is copied out of it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_upon(
        paths: OutputPaths,
        beginning: Beginning,
        leftover: Leftover,
        wait: SpaceWait,
        base: Option<BundleFile>,
    ) -> Result<Opened, Failure> {
        let disk = durable::local();
        Self::open_at(Place { disk, paths }, beginning, leftover, wait, base)
    }

    fn open_at(
        place: Place,
        beginning: Beginning,
        leftover: Leftover,
        wait: SpaceWait,
        base: Option<BundleFile>,
    ) -> Result<Opened, Failure> {
        let file = claim(&place)?;
        let (disk, partial) = (Arc::clone(&place.disk), place.paths.partial.clone());
        let (mut appender, resumed) = match begun(&place, file.as_ref(), &beginning, leftover)? {
            Some((begin, state, recheck)) => {
                let (appender, resumed) = resume(place, file, begin, state, recheck, wait)?;
                (appender, Some(resumed))
            }
            None => {
                let index = Index::new(beginning.run_id.clone(), beginning.at);
                let journal = start_journal(&place, file.as_ref(), beginning, &wait)?;
                let file = HashingFile {
                    file,
                    at: 0,
                    sha256: Sha256::default(),
                    wait,
                };
                (
                    Appender::new(place.disk, place.paths, file, 0, journal, index),
                    None,
                )
            }
        };
        let (mut generations, mut bases) = match &resumed {
            Some(resumed) => (resumed.generations.clone(), resumed.bases.clone()),
            None => Default::default(),
        };
        let older = base
            .map(|base| appender.build_upon(base, &mut generations, &mut bases))
            .transpose()?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        let failed = Arc::new(Mutex::new(None));
        let for_thread = Arc::clone(&failed);
        let stats = Arc::clone(&appender.stats);
        std::thread::Builder::new()
            .name("appender".into())
            .spawn(move || appender.run(receiver, &for_thread))
            .map_err(|error| Failure::io(FailureKind::Internal, "start the appender", error))?;
        let writer = Self {
            commands,
            lane: Arc::default(),
            failed,
            compares: Arc::new(AtomicBool::new(resumed.is_some())),
            effort: Effort::default(),
            older,
            disk,
            partial,
            stats,
        };
        Ok(Opened {
            writer,
            resumed,
            generations,
            bases,
        })
    }

    /// How much time compression may take. It may be another one than the interrupted run's.
    #[must_use]
    pub fn with_effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel {
            commands: self.commands.clone(),
            failed: Arc::clone(&self.failed),
            compares: Arc::clone(&self.compares),
            effort: self.effort,
            older: self.older.clone(),
            stats: Arc::clone(&self.stats),
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
    ) -> Result<T, Failure> {
        self.channel().ask(command).await
    }
}

pub(crate) fn check_spec(spec: &MemberSpec) -> Result<(), Failure> {
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
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        check_spec(&spec)?;
        let channel = self.channel();
        if let Some(candidate) = channel.candidate(&spec).await?
            && candidate.kind == CandidateKind::Whole
            && candidate.looks_like(spec.mode, spec.modified_at)
            && candidate.holds(&bytes)
            && let Some(member) = channel.keep(&spec.name, facts.proof.clone()).await?
        {
            return Ok(PendingReceipt::delivered(member));
        }
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let raw = bytes.split_to(bytes.len().min(CHUNK_SIZE));
            let origin = channel.origin(&spec, chunks.len());
            let encoding = channel.encode(raw, spec.compression, origin);
            chunks.push((encoding.wait().await?, None));
        }
        let _lane = self.lane.lock().await;
        channel.append_whole(&spec, chunks, facts).await
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        check_spec(&spec)?;
        let (lane, channel) = (Arc::clone(&self.lane), self.channel());
        let candidate = channel.candidate(&spec).await?;
        Ok(Box::new(StreamedMember::new(
            spec, channel, lane, candidate,
        )))
    }

    async fn retract(&self, name: &str, reason: &str) -> Result<(), Failure> {
        let _lane = self.lane.lock().await;
        self.ask(|done| Command::Retract(name.to_owned(), reason.to_owned(), done))
            .await
    }

    async fn earlier(&self, component: Component) -> Result<Vec<Member>, Failure> {
        if self.older.is_none() && !self.compares.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        self.ask(|reply| Command::Earlier(component, reply)).await
    }

    async fn keep(&self, name: &str, proof: Option<Proof>) -> Result<Option<Member>, Failure> {
        // What is copied takes its place between the members that stream.
        let _lane = match self.older {
            Some(_) => Some(self.lane.lock().await),
            None => None,
        };
        self.channel().keep(name, proof).await
    }

    async fn prove(&self, name: &str, proof: Proof) -> Result<(), Failure> {
        self.ask(|done| Command::Prove {
            name: name.to_owned(),
            proof,
            done,
        })
        .await
    }

    async fn sync(&self) -> Result<(), Failure> {
        self.ask(Command::Sync).await
    }

    fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}

#[async_trait]
impl BundleSink for BundleWriter {
    async fn begin_generation(&self, generation: Generation) -> Result<(), Failure> {
        self.ask(|done| Command::Generation(Box::new(generation), done))
            .await
    }

    async fn set_aside(&self) -> Result<(), Failure> {
        let _lane = self.lane.lock().await;
        self.compares.store(true, Ordering::Relaxed);
        self.ask(Command::SetAside).await
    }

    async fn members(&self) -> Result<Vec<Member>, Failure> {
        self.ask(Command::Members).await
    }

    async fn contents(&self, bases: &[BaseBundle]) -> Result<Contents, Failure> {
        let bases = bases.to_vec();
        self.ask(|reply| Command::Contents(bases, reply)).await
    }

    async fn publish(&self, manifest: Manifest) -> Result<Published, Failure> {
        let _lane = self.lane.lock().await;
        let appender = self.ask(Command::Finish).await?;
        tokio::task::spawn_blocking(move || publish::publish(*appender, manifest))
            .await
            .map_err(|error| Failure::new(FailureKind::Internal, "publish the bundle", error))?
    }
}
