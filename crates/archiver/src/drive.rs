//! Drives the sources through barrier and streaming.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::Utc;
use futures::future::join_all;

use arkstream_format::{Component, Generation, ModelEntry, Omission, RunId, TableEntry};
use arkstream_pipeline::{
    BundleSink, Event, Failure, FailureKind, Published, Run, Source, SourceReport, fault,
};

use crate::{
    describe::{self, Describe, Finished},
    patience::Patience,
    plan::{BackupPlan, PlannedComponent},
};

/// How often the barrier is tried when the world changes between plan and locks.
pub const BARRIER_ATTEMPTS: u32 = 6;

/// Generations in one run at most: a server that fails each time will not be helped by trying.
const GENERATIONS: u32 = 20;

/// Something that is made of the rows that are in the bundle, before it is described and published.
#[async_trait]
pub trait Afterwards: Send + Sync {
    /// Adds its members to the run's sink. `models` are those that the list of models will name.
    async fn make(
        &self,
        run: &Run,
        generation: &Generation,
        tables: &[TableEntry],
        models: &[ModelEntry],
    ) -> Result<(), Failure>;
}

/// A backup of a set of sources.
pub struct Backup {
    sources: Vec<Box<dyn Source>>,
    afterwards: Vec<Box<dyn Afterwards>>,
    run_id: RunId,
    version: String,
    started: Instant,
    retry_for: Duration,
}

/// What a finished backup has to tell.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The bundle under its final name.
    pub published: Published,
    /// The last set of snapshots it was read under.
    pub generation: Generation,
    /// Members of an interrupted run that were made again, by component and reason.
    pub redone: BTreeMap<(Component, String), u64>,
    /// Every model with its status.
    pub models: Vec<ModelEntry>,
    /// What was left out. Empty means complete.
    pub omissions: Vec<Omission>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Backup {
    /// A backup of `sources`, in any order. `version` is the program's.
    #[must_use]
    pub fn new(mut sources: Vec<Box<dyn Source>>, run_id: RunId, version: &str) -> Self {
        sources.sort_by_key(|source| streaming_rank(source.component()));
        Self {
            sources,
            afterwards: Vec::new(),
            run_id,
            version: version.to_owned(),
            started: Instant::now(),
            retry_for: Duration::ZERO,
        }
    }

    /// For how long to wait for a server after a lost connection and the like.
    #[must_use]
    pub fn retry_for(mut self, limit: Duration) -> Self {
        self.retry_for = limit;
        self
    }

    /// Makes something of the rows when all sources have streamed and let go.
    #[must_use]
    pub fn afterwards(mut self, step: impl Afterwards + 'static) -> Self {
        self.afterwards.push(Box::new(step));
        self
    }

    /// Asks every source what there is. Changes nothing.
    ///
    /// # Errors
    /// The first source that cannot tell.
    pub async fn plan(&mut self) -> Result<BackupPlan, Failure> {
        let mut plan = BackupPlan::default();
        for source in &mut self.sources {
            plan.components.push(PlannedComponent {
                component: source.component(),
                plan: source.plan().await?,
            });
        }
        Ok(plan)
    }

    /// Passes the barrier, streams every source, and publishes the bundle.
    ///
    /// # Errors
    /// The first failure of a source or the sink that does not pass, or [`FailureKind::Interrupted`]. Locks and
    /// snapshots are given up; the unfinished bundle stays beside the final name, which does not
    /// appear.
    pub async fn run(
        mut self,
        run: &Run,
        sink: Arc<dyn BundleSink>,
        plan: &BackupPlan,
        describe: &dyn Describe,
    ) -> Result<Outcome, Failure> {
        for planned in &plan.components {
            run.tell(Event::Planned {
                component: planned.component,
                bytes: planned.plan.bytes(),
                items: planned.plan.items.len() as u64,
            });
        }
        let (run, generation, report) = self.stream_patiently(run, sink.as_ref(), plan).await?;
        for step in &self.afterwards {
            let models = describe.model_list();
            if let Err(failure) = step.make(&run, &generation, &report.tables, &models).await {
                run.cancel.raise();
                // As after a failure of a source.
                let _ = sink.sync().await;
                return Err(failure);
            }
        }
        // Everything is read; what is left takes no time and is not interrupted any more, so that
        // nobody is told "interrupted" while the bundle appears.
        self.conclude(&run, sink.as_ref(), describe, &generation, report)
            .await
    }

    /// Streams; after a failure that may pass by itself, waits and streams again as another
    /// generation, which keeps what is proven unchanged. Returns the run as its last generation.
    async fn stream_patiently(
        &mut self,
        run: &Run,
        sink: &dyn BundleSink,
        plan: &BackupPlan,
    ) -> Result<(Run, Generation, SourceReport), Failure> {
        let mut run = run.clone();
        for generation in 1.. {
            let mut begun = None;
            let streamed = tokio::select! {
                streamed = self.stream(&run, sink, &mut begun) => streamed,
                () = run.cancel.raised() => Err(Failure::interrupted()),
            };
            let failure = match streamed {
                Ok((generation, report)) => return Ok((run, generation, report)),
                Err(failure) => failure,
            };
            self.release().await;
            let again = match failure.may_pass() && generation < GENERATIONS {
                true => self.wait_for(&run, failure, sink, plan).await,
                false => Err(failure),
            };
            if let Err(failure) = again {
                run.cancel.raise();
                // What is finished so far is made durable, so that the journal speaks of it. A
                // sink that failed has said so already.
                let _ = sink.sync().await;
                return Err(failure);
            }
            run = run.next_generation(begun);
        }
        Err(Failure::new(
            FailureKind::Internal,
            "stream",
            "there is no generation",
        ))
    }

    /// Waits until a plan can be made again, which must be for the same stack. Fails with `failure`
    /// when patience runs out.
    async fn wait_for(
        &mut self,
        run: &Run,
        failure: Failure,
        sink: &dyn BundleSink,
        plan: &BackupPlan,
    ) -> Result<(), Failure> {
        let mut patience = Patience::new(self.retry_for);
        let mut last = failure.clone();
        loop {
            let Some(pause) = patience.pause() else {
                return Err(failure);
            };
            run.tell(Event::Warning(format!(
                "{last}; trying again in {} s, and keeping what is proven unchanged",
                pause.as_secs()
            )));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = run.cancel.raised() => return Err(Failure::interrupted()),
            }
            let planned = tokio::select! {
                planned = self.plan() => planned,
                () = run.cancel.raised() => return Err(Failure::interrupted()),
            };
            match planned {
                Ok(now) if now.identity() == plan.identity() => return sink.set_aside().await,
                Ok(_) => {
                    let why = format!("{}; what answers now is another stack", failure.why());
                    return Err(Failure::new(failure.kind, failure.attempted(), why));
                }
                Err(again) if again.kind == FailureKind::Source => last = again,
                Err(again) => return Err(again),
            }
        }
    }

    /// Passes the barrier and streams every source. `begun` is the generation once it is passed.
    async fn stream(
        &mut self,
        run: &Run,
        sink: &dyn BundleSink,
        begun: &mut Option<Generation>,
    ) -> Result<(Generation, SourceReport), Failure> {
        let generation = self.pass_barrier(run).await?;
        sink.begin_generation(generation.clone()).await?;
        *begun = Some(generation.clone());
        fault::point("barrier.passed")
            .map_err(|error| Failure::io(FailureKind::Internal, "pass the barrier", error))?;
        let mut report = SourceReport::default();
        for source in &mut self.sources {
            let component = source.component();
            run.cancel.check()?;
            run.tell(Event::Started { component });
            merge(&mut report, source.stream(run).await?);
            run.tell(Event::Finished { component });
        }
        self.release().await;
        sink.sync().await?;
        let generation = Generation {
            chroma_hold_ms: report.chroma_hold_ms,
            ..generation
        };
        Ok((generation, report))
    }

    /// Describes the bundle and publishes it.
    async fn conclude(
        &self,
        run: &Run,
        sink: &dyn BundleSink,
        describe: &dyn Describe,
        generation: &Generation,
        report: SourceReport,
    ) -> Result<Outcome, Failure> {
        let finished = Finished {
            run_id: self.run_id.clone(),
            version: &self.version,
            generation,
            report,
            elapsed: self.started.elapsed(),
            omissions: run.omissions(),
        };
        let models = describe::write(sink, run, describe, &finished).await?;
        let omissions = finished.omissions.clone();
        let manifest = describe::manifest(finished, run);
        let published = sink.publish(manifest).await?;
        Ok(Outcome {
            published,
            generation: generation.clone(),
            redone: run.redone(),
            models,
            omissions,
            elapsed: self.started.elapsed(),
        })
    }

    /// Locks everything and takes all snapshots.
    async fn pass_barrier(&mut self, run: &Run) -> Result<Generation, Failure> {
        for source in &mut self.sources {
            source.prepare(run).await?;
        }
        let mut attempt = 1;
        loop {
            match self.try_barrier(run).await {
                Err(failure)
                    if failure.kind == FailureKind::Retry && attempt < BARRIER_ATTEMPTS =>
                {
                    run.tell(Event::Warning(format!(
                        "{failure}; all locks are given up, attempt {} of {BARRIER_ATTEMPTS} follows",
                        attempt + 1
                    )));
                    self.release().await;
                    tokio::time::sleep(Duration::from_millis(250) * 2u32.pow(attempt - 1)).await;
                    run.cancel.check()?;
                    self.plan().await?;
                    attempt += 1;
                }
                Err(failure) if failure.kind == FailureKind::Retry => {
                    return Err(Failure::new(
                        FailureKind::Source,
                        failure.attempted(),
                        format!("{} ({BARRIER_ATTEMPTS} attempts)", failure.why()),
                    )
                    .help("run the backup when no tables are being altered"));
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_barrier(&mut self, run: &Run) -> Result<Generation, Failure> {
        let mut order: Vec<_> = self.sources.iter_mut().collect();
        order.sort_by_key(|source| locking_rank(source.component()));
        for source in &mut order {
            source.lock(run).await?;
        }
        let (taken_at, start) = (Utc::now(), Instant::now());
        let outcomes = join_all(order.iter_mut().map(|source| source.snapshot(run))).await;
        // All snapshots lie between these two instants, so this is an upper bound.
        let skew = start.elapsed();
        let mut snapshots = Vec::new();
        for outcome in outcomes {
            snapshots.extend(outcome?);
        }
        for source in &mut order {
            source.confirm(run).await?;
        }
        run.tell(Event::Barrier { skew });
        Ok(Generation {
            number: run.generation(),
            run_id: self.run_id.clone(),
            taken_at,
            barrier_skew_ms: u64::try_from(skew.as_millis()).unwrap_or(u64::MAX),
            chroma_hold_ms: None,
            snapshots,
        })
    }

    async fn release(&mut self) {
        for source in &mut self.sources {
            source.release().await;
        }
    }
}

/// Chroma's writers are held, so it goes first; Odoo's garbage collector removes files, so the
/// filestore goes next; tables and dumps are safe under their snapshots.
fn streaming_rank(component: Component) -> u8 {
    match component {
        Component::Chroma => 0,
        Component::Filestore => 1,
        Component::Models => 2,
        Component::Graph => 3,
        Component::OdooDump => 4,
        Component::Xlsx | Component::Description => 5,
    }
}

/// Databases first, Chroma last.
fn locking_rank(component: Component) -> u8 {
    match component {
        Component::Models => 0,
        Component::Filestore | Component::OdooDump => 1,
        Component::Graph => 2,
        Component::Chroma => 3,
        Component::Xlsx | Component::Description => 4,
    }
}

fn merge(whole: &mut SourceReport, part: SourceReport) {
    whole.tables.extend(part.tables);
    whole.references.extend(part.references);
    whole.chroma = part.chroma.or(whole.chroma.take());
    whole.chroma_hold_ms = part.chroma_hold_ms.or(whole.chroma_hold_ms);
    whole.graph = part.graph.or(whole.graph.take());
}
