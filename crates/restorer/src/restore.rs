//! Drives the targets of a restore, so that all of them switch or none does.
//!
//! ```text
//! check → stage → verify │ prepare → commit │ prove
//!         staging        │ cutting-over     │ live
//! ```
//!
//! [`Target::prepare`] does everything that a rollback or a crash takes back by itself; the
//! transactions of the rows and of the graph are executed and stay open. Then all commits follow
//! one another, those first that can be taken back without a server: filestore (adding files
//! changes nothing that is live), Chroma (an exchange of two directories), rows, graph. When one of
//! them fails, what was committed is reverted, last first.
//!
//! The [`Ledger`] hears of each phase **before** it begins, so that the next command finds what was
//! under way and [`crate::recover`]s it by looking at the targets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;

use arkstream_format::{
    Component, FORMAT_MAJOR, Member, RestorePhase, RestoreRecord, TargetRecord, major_of,
};
use arkstream_pipeline::{
    BundleReader, Checked, Event, Failure, FailureKind, Finding, Observer, Proof, Restoring,
    Standing, Target, TargetPlan, fault,
};

use crate::salvaged::lost;
use crate::targets::{by_rank, commit_rank, demand_old, discard_all, forget_all, prepare_rank};

/// Where the records of restores are kept.
pub trait Ledger: Send + Sync {
    /// Keeps a record, in place of an earlier one of the same restore. Returns when it is durable.
    ///
    /// # Errors
    /// When it cannot be written; the step it announces must then not begin.
    fn save(&self, record: &RestoreRecord) -> Result<(), Failure>;
}

/// A restore of a bundle into a set of targets.
pub struct Restore {
    targets: Vec<Box<dyn Target>>,
    restoring: Restoring,
    ledger: Arc<dyn Ledger>,
    record: RestoreRecord,
}

/// What a finished restore has to tell.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The restore's name, for an undo.
    pub id: String,
    /// What was done, by component.
    pub plans: Vec<(Component, TargetPlan)>,
    /// What was compared afterwards, by component.
    pub proofs: Vec<(Component, Proof)>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Restored {
    /// Whether everything that was compared is equal.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proofs.iter().all(|(_, proof)| proof.holds())
    }

    /// References that were emptied because what they lead to was not found.
    #[must_use]
    pub fn unmapped(&self) -> u64 {
        unmapped(&self.plans)
    }
}

/// References that plans empty.
#[must_use]
pub fn unmapped(plans: &[(Component, TargetPlan)]) -> u64 {
    plans
        .iter()
        .flat_map(|(_, plan)| &plan.references)
        .map(|reference| reference.unmapped)
        .sum()
}

impl Restore {
    /// A restore of `bundle` (the file's name, for the record) into `targets`, in any order.
    #[must_use]
    pub fn new(
        mut targets: Vec<Box<dyn Target>>,
        restoring: Restoring,
        ledger: Arc<dyn Ledger>,
        bundle: &str,
    ) -> Self {
        targets.sort_by_key(|target| commit_rank(target.component()));
        let record = RestoreRecord {
            version: RestoreRecord::VERSION,
            restore_id: restoring.id.clone(),
            bundle: bundle.to_owned(),
            bundle_run_id: restoring.bundle.manifest().run_id.clone(),
            bundle_manifest: restoring.bundle.manifest_digest(),
            started_at: restoring.began_at,
            updated_at: restoring.began_at,
            phase: RestorePhase::Staging,
            targets: targets
                .iter()
                .map(|target| TargetRecord {
                    component: target.component(),
                    place: target.place(),
                })
                .collect(),
        };
        Self {
            targets,
            restoring,
            ledger,
            record,
        }
    }

    /// Everything that would make the restore fail: the bundle's format, damage in what will be
    /// used, and what every target finds. Changes nothing.
    pub async fn check(&mut self) -> Checked {
        let mut checked = Checked::default();
        let manifest = self.restoring.bundle.manifest();
        match major_of(&manifest.format_version) {
            Some(major) if major <= FORMAT_MAJOR => {}
            _ => {
                checked.incompatible(
                    "read the bundle",
                    format!(
                        "its format is {}, this version reads up to {FORMAT_MAJOR}",
                        manifest.format_version
                    ),
                    "use the Arkstream that wrote it, or a newer one",
                );
                return checked;
            }
        }
        let wanted: Vec<Component> = self.targets.iter().map(|t| t.component()).collect();
        checked.problems.extend(lost(manifest, &wanted));
        let bundle = Arc::clone(&self.restoring.bundle);
        let observer = Arc::clone(&self.restoring.observer);
        let cancel = self.restoring.cancel.clone();
        let read = tokio::task::spawn_blocking(move || {
            read_all(bundle.as_ref(), &wanted, observer.as_ref(), || {
                cancel.is_raised()
            })
        });
        match read.await {
            Ok(problems) => checked.problems.extend(problems),
            Err(error) => checked.problem(Failure::new(
                FailureKind::Internal,
                "read the bundle",
                error,
            )),
        }
        if self.restoring.cancel.is_raised() {
            checked.problem(Failure::interrupted());
            return checked;
        }
        for target in &mut self.targets {
            match target.claim().await {
                Ok(()) => checked.extend(target.check(&self.restoring).await),
                Err(failure) => checked.problem(failure),
            }
        }
        checked
    }

    /// What the restore would do. Leaves nothing behind.
    ///
    /// # Errors
    /// The first target that cannot tell.
    pub async fn rehearse(&mut self) -> Result<Vec<(Component, TargetPlan)>, Failure> {
        let mut plans = Vec::new();
        for target in &mut self.targets {
            self.restoring.cancel.check()?;
            plans.push((target.component(), target.rehearse(&self.restoring).await?));
        }
        Ok(plans)
    }

    /// Restores. Interruption is honoured until the first commit.
    ///
    /// # Errors
    /// The failure that ended it. All targets are then as they were, unless the failure says that
    /// one could not be reverted; the ledger knows, and the next command goes on from there.
    pub async fn run(mut self) -> Result<Restored, Failure> {
        let start = Instant::now();
        self.enter(RestorePhase::Staging)?;
        let staged = self.stage().await;
        if let Err(failure) = staged.and_then(|()| fault::check("staged")) {
            return Err(self.give_up(failure).await);
        }
        if let Err(failure) = self.enter(RestorePhase::CuttingOver) {
            return Err(self.give_up(failure).await);
        }
        let plans = match self.cut_over().await {
            Ok(plans) => plans,
            Err(failure) => return Err(self.take_back(failure).await),
        };
        if let Err(failure) = self.enter(RestorePhase::Proving) {
            return Err(failure.and(
                "everything is restored and live, and the next command completes the record",
            ));
        }
        let proved = self.prove().await;
        // What is staged is of no use any more, whatever the proof says.
        let tidied = match discard_all(&mut self.targets).await {
            Ok(()) => self.enter(RestorePhase::Live),
            stuck => stuck,
        };
        if let Err(failure) = tidied {
            self.restoring.tell(Event::Warning(format!(
                "{failure}; the restore {id} is live, and the next command removes what it had staged",
                id = self.restoring.id
            )));
        }
        let proofs = proved.map_err(|failure| self.unproven(failure))?;
        Ok(Restored {
            id: self.restoring.id.clone(),
            plans,
            proofs,
            elapsed: start.elapsed(),
        })
    }

    async fn prove(&mut self) -> Result<Vec<(Component, Proof)>, Failure> {
        fault::check("live")?;
        let mut proofs = Vec::new();
        for target in &mut self.targets {
            let component = target.component();
            let found = target.prove(&self.restoring).await?;
            proofs.extend(found.into_iter().map(|proof| (component, proof)));
        }
        fault::check("proven")?;
        Ok(proofs)
    }

    /// A failed look at what is live is no failed restore.
    fn unproven(&self, failure: Failure) -> Failure {
        let id = &self.restoring.id;
        let longer = failure.and(format!(
            "the restore {id} is live, only its proof did not finish"
        ));
        let back = format!("`arkstream undo {id}` brings the former state back");
        match longer.advice().map(|advice| format!("{advice}; {back}")) {
            Some(both) => longer.help(both),
            None => longer.help(back),
        }
    }

    async fn stage(&mut self) -> Result<(), Failure> {
        for target in &mut self.targets {
            self.restoring.cancel.check()?;
            let component = target.component();
            self.restoring.tell(Event::Started { component });
            target.stage(&self.restoring).await?;
            target.verify(&self.restoring).await?;
            self.restoring.tell(Event::Finished { component });
        }
        Ok(())
    }

    async fn cut_over(&mut self) -> Result<Vec<(Component, TargetPlan)>, Failure> {
        let mut plans = Vec::new();
        for target in by_rank(&mut self.targets, prepare_rank) {
            self.restoring.cancel.check()?;
            plans.push((target.component(), target.prepare(&self.restoring).await?));
        }
        self.restoring.cancel.check()?;
        fault::check("prepared")?;
        for target in by_rank(&mut self.targets, commit_rank) {
            target.commit(&self.restoring).await?;
        }
        plans.sort_by_key(|(component, _)| commit_rank(*component));
        Ok(plans)
    }

    /// Brings every target back after a failed cut-over, and says so.
    async fn take_back(&mut self, failure: Failure) -> Failure {
        let mut stuck = Vec::new();
        for target in self.targets.iter_mut().rev() {
            let reverted = match fault::check("target.revert") {
                Ok(()) => target.revert().await,
                reached => reached,
            };
            if let Err(error) = reverted {
                stuck.push(format!("{}: {error}", target.component()));
            }
        }
        if stuck.is_empty()
            && let Err(error) = demand_old(&mut self.targets).await
        {
            stuck.push(error.to_string());
        }
        if stuck.is_empty() {
            return self.taken_back(failure).await;
        }
        failure.and(format!(
            "and not everything could be taken back: {}; `arkstream undo {}` goes on",
            stuck.join("; "),
            self.restoring.id
        ))
    }

    /// The former state is live everywhere: what is loaded stays where the same command may succeed
    /// later, and goes otherwise.
    async fn taken_back(&mut self, failure: Failure) -> Failure {
        let keeps = is_passing(&failure);
        let cleaned = match keeps {
            true => forget_all(&mut self.targets, Standing::Old).await,
            false => match discard_all(&mut self.targets).await {
                Ok(()) => forget_all(&mut self.targets, Standing::Old).await,
                stuck => stuck,
            },
        };
        let phase = match keeps {
            true => RestorePhase::Staging,
            false => RestorePhase::Reverted,
        };
        match cleaned.and_then(|()| self.enter(phase)) {
            Ok(()) if keeps => self.kept(failure),
            Ok(()) => failure,
            Err(error) => self.littered(failure, &error),
        }
    }

    /// Ends a restore that has touched nothing live. A full disk gets its space back.
    async fn give_up(&mut self, failure: Failure) -> Failure {
        if is_passing(&failure) {
            return self.kept(failure);
        }
        let discarded = discard_all(&mut self.targets).await;
        match discarded.and_then(|()| self.enter(RestorePhase::Discarded)) {
            Ok(()) => failure,
            Err(error) => self.littered(failure, &error),
        }
    }

    fn kept(&self, failure: Failure) -> Failure {
        let kept = format!(
            "nothing live was touched, and what is loaded is kept: run the same command again to \
             continue, with --fresh to start over; `arkstream undo {}` removes it",
            self.restoring.id
        );
        match failure.advice().map(|advice| format!("{advice}; {kept}")) {
            Some(longer) => failure.help(longer),
            None => failure.help(kept),
        }
    }

    /// The record stays as it is, so that the next command finds what is left.
    fn littered(&self, failure: Failure, error: &Failure) -> Failure {
        failure.and(format!(
            "what is live is as it was before, but not everything that was loaded could be removed \
             ({error}): the next restore, or `arkstream undo {}`, removes it",
            self.restoring.id
        ))
    }

    /// Makes a phase durable.
    fn enter(&mut self, phase: RestorePhase) -> Result<(), Failure> {
        self.record.phase = phase;
        self.record.updated_at = Utc::now();
        self.ledger.save(&self.record)
    }
}

/// Whether the same command may succeed later with what is loaded.
fn is_passing(failure: &Failure) -> bool {
    failure.kind == FailureKind::Interrupted || failure.may_pass()
}

/// Reads every chunk of what will be used. Returns one failure a damaged component.
fn read_all(
    bundle: &dyn BundleReader,
    wanted: &[Component],
    observer: &dyn Observer,
    stopped: impl Fn() -> bool,
) -> Vec<Failure> {
    let members = &bundle.manifest().members;
    let mut damaged: Vec<(Component, &Member, Finding)> = Vec::new();
    let used = |member: &&Member| {
        wanted.contains(&member.component) || member.component == Component::Description
    };
    for member in members.iter().filter(used) {
        for chunk in 0..member.chunks.len() {
            if stopped() {
                return Vec::new();
            }
            match bundle.read_chunk(member, chunk) {
                Ok(raw) => observer.event(&Event::Read {
                    component: member.component,
                    bytes: raw.len() as u64,
                }),
                Err(finding) => {
                    damaged.push((member.component, member, finding));
                    break;
                }
            }
        }
    }
    let hurt: Vec<Component> = damaged.iter().map(|(component, ..)| *component).collect();
    let intact: Vec<&str> = wanted
        .iter()
        .filter(|component| !hurt.contains(component))
        .map(|component| component.name())
        .collect();
    let help = if intact.is_empty() || hurt.contains(&Component::Description) {
        "`arkstream verify` lists everything that is damaged; restore from another bundle"
            .to_owned()
    } else {
        format!(
            "the other components are intact: restore them with --components {}",
            intact.join(",")
        )
    };
    damaged
        .into_iter()
        .map(|(component, member, finding)| {
            Failure::new(
                FailureKind::Damaged,
                format!("read the component {component} from the bundle"),
                format!("{}: {finding}", member.name),
            )
            .help(help.clone())
        })
        .collect()
}
