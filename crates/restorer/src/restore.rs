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
            let found = target.check(&self.restoring).await;
            checked.extend(found);
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
        self.enter(RestorePhase::Live)?;
        fault::check("live")?;
        let mut proofs = Vec::new();
        for target in &mut self.targets {
            let component = target.component();
            let found = target.prove(&self.restoring).await?;
            proofs.extend(found.into_iter().map(|proof| (component, proof)));
        }
        fault::check("proven")?;
        self.discard().await;
        Ok(Restored {
            id: self.restoring.id.clone(),
            plans,
            proofs,
            elapsed: start.elapsed(),
        })
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
        if stuck.is_empty() {
            self.discard().await;
            // The former state is live and nothing was kept that an undo would need.
            for target in &mut self.targets {
                if let Err(error) = target.forget().await {
                    self.restoring.tell(Event::Warning(error.to_string()));
                }
            }
            return match self.enter(RestorePhase::Reverted) {
                Ok(()) => failure,
                Err(ledger) => with(&failure, &format!("{ledger}")),
            };
        }
        with(
            &failure,
            &format!(
                "and not everything could be taken back: {}; `arkstream undo {}` goes on",
                stuck.join("; "),
                self.restoring.id
            ),
        )
    }

    /// Ends a restore that has touched nothing live. What is loaded stays where the same command may
    /// succeed later; a full disk gets its space back.
    async fn give_up(&mut self, failure: Failure) -> Failure {
        if failure.kind == FailureKind::Interrupted || failure.may_pass() {
            let kept = format!(
                "nothing live was touched, and what is loaded is kept: run the same command again to \
                 continue, with --fresh to start over; `arkstream undo {}` removes it",
                self.restoring.id
            );
            return match failure.advice().map(|advice| format!("{advice}; {kept}")) {
                Some(longer) => failure.help(longer),
                None => failure.help(kept),
            };
        }
        self.discard().await;
        if let Err(failure) = self.enter(RestorePhase::Discarded) {
            self.restoring.tell(Event::Warning(failure.to_string()));
        }
        failure
    }

    async fn discard(&mut self) {
        for target in &mut self.targets {
            let discarded = match fault::check("target.discard") {
                Ok(()) => target.discard().await,
                reached => reached,
            };
            if let Err(failure) = discarded {
                self.restoring.tell(Event::Warning(format!(
                    "{failure}; it holds nothing that is live and may be removed by hand"
                )));
            }
        }
    }

    fn enter(&mut self, phase: RestorePhase) -> Result<(), Failure> {
        self.record.phase = phase;
        self.record.updated_at = Utc::now();
        self.ledger.save(&self.record)
    }
}

/// The same failure with more to say.
fn with(failure: &Failure, more: &str) -> Failure {
    let longer = Failure::new(
        failure.kind,
        failure.attempted(),
        format!("{}; {more}", failure.why()),
    );
    match failure.advice() {
        Some(advice) => longer.help(advice),
        None => longer,
    }
}

fn by_rank(
    targets: &mut [Box<dyn Target>],
    rank: fn(Component) -> u8,
) -> Vec<&mut Box<dyn Target>> {
    let mut sorted: Vec<_> = targets.iter_mut().collect();
    sorted.sort_by_key(|target| rank(target.component()));
    sorted
}

/// Files first, for the rows refer to them; the long transaction of the rows before the short ones.
fn prepare_rank(component: Component) -> u8 {
    match component {
        Component::Filestore => 0,
        Component::Models => 1,
        Component::Graph => 2,
        Component::Chroma => 3,
        Component::OdooDump | Component::Xlsx | Component::Description => 4,
    }
}

/// What is taken back without a server comes first.
pub(crate) fn commit_rank(component: Component) -> u8 {
    match component {
        Component::Filestore => 0,
        Component::Chroma => 1,
        Component::Models => 2,
        Component::Graph => 3,
        Component::OdooDump | Component::Xlsx | Component::Description => 4,
    }
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

/// Whether every target is new.
pub(crate) async fn all_new(targets: &mut [Box<dyn Target>]) -> Result<bool, Failure> {
    for target in targets {
        if target.standing().await? == Standing::Old {
            return Ok(false);
        }
    }
    Ok(true)
}
