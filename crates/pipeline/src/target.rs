//! The port of everything that is restored.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use arkstream_format::{Component, Member, TargetPlace};

use crate::{Budget, BundleReader, Cancel, Event, Failure, FailureKind, Observer};

/// The surroundings of a restore. Cheap to clone.
#[derive(Clone)]
pub struct Restoring {
    /// The bundle; every byte it gives out has been checked.
    pub bundle: Arc<dyn BundleReader>,
    /// The restore's name: 16 digits and letters `[0-9a-z]`.
    pub id: String,
    /// When it began; names of what is kept carry this moment.
    pub began_at: DateTime<Utc>,
    /// Whether an earlier process began it: what that one staged is built upon.
    pub continues: bool,
    /// Members that the earlier process had staged, so far.
    pub kept: Arc<AtomicU64>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Raised when the user interrupts.
    pub cancel: Cancel,
    /// Bytes that may be in flight, over all workers.
    pub budget: Budget,
    /// Connections and workers that load at once.
    pub jobs: usize,
}

impl Restoring {
    /// Tells the observer.
    pub fn tell(&self, event: Event) {
        self.observer.event(&event);
    }

    /// Counts a member that an earlier process staged, and tells the observer.
    pub fn keep(&self, member: &Member) {
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.tell(Event::Kept {
            component: member.component,
            raw_bytes: member.raw_len,
            stored_bytes: member.stored_len,
        });
    }
}

/// A system to restore into.
///
/// The restorer calls the steps of all targets in this order, so that either all of them are
/// switched or none:
///
/// 1. [`check`](Target::check) — everything that would make the restore fail; nothing is touched.
/// 2. [`stage`](Target::stage), [`verify`](Target::verify) — loads beside the live data.
/// 3. [`prepare`](Target::prepare) — does all of the switch that a rollback or a crash still takes
///    back by itself (a transaction that is executed and not committed).
/// 4. [`commit`](Target::commit) — makes it live.
/// 5. [`prove`](Target::prove) — holds the live data against the bundle.
///
/// A dry run calls [`check`](Target::check) and [`rehearse`](Target::rehearse).
///
/// The methods from [`standing`](Target::standing) on also work on a target that another process
/// left behind, made from its [`place`](Target::place) alone, and are safe to call any number of
/// times. They never judge before a switch whose outcome is still open (a server may be working on
/// a COMMIT whose client was killed) has ended.
#[async_trait]
pub trait Target: Send {
    /// The component it takes.
    fn component(&self) -> Component;

    /// Where it is. Fixed from the moment the target is made.
    fn place(&self) -> TargetPlace;

    /// Keeps every other restore and undo of this target out for as long as this value lives. May
    /// be called again.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when another one is under way.
    async fn claim(&mut self) -> Result<(), Failure>;

    /// Looks for everything that would make the restore fail, and changes nothing. Problems are
    /// collected, not thrown: the user sees all of them at once.
    async fn check(&mut self, restoring: &Restoring) -> Checked;

    /// Works out what a restore would do and leaves nothing behind.
    async fn rehearse(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure>;

    /// Loads beside the live data.
    async fn stage(&mut self, restoring: &Restoring) -> Result<(), Failure>;

    /// Proves that what was loaded is whole.
    async fn verify(&mut self, restoring: &Restoring) -> Result<(), Failure>;

    /// Does all of the switch that is still taken back by itself, and tells what it does.
    async fn prepare(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure>;

    /// Makes the switch live. Afterwards [`standing`](Target::standing) is [`Standing::New`].
    async fn commit(&mut self, restoring: &Restoring) -> Result<(), Failure>;

    /// Compares what is live with the bundle.
    async fn prove(&mut self, restoring: &Restoring) -> Result<Vec<Proof>, Failure>;

    /// What is live now, by looking at it.
    async fn standing(&mut self) -> Result<Standing, Failure>;

    /// Does all of the way back that a rollback or a crash still takes back by itself, and tells
    /// what it overwrites: lines for people about what changed since the restore, looked at where
    /// writers are kept out. Where there are such lines and `force` is not set, nothing is done.
    /// Nothing happens on a target that is old.
    async fn prepare_revert(&mut self, force: bool) -> Result<Vec<String>, Failure>;

    /// Gives up what [`prepare`](Target::prepare) or [`prepare_revert`](Target::prepare_revert) did.
    async fn release(&mut self);

    /// Makes what was live before live again, whatever has happened of the switch.
    async fn revert(&mut self) -> Result<(), Failure>;

    /// Tells those who use the store that another state is live: who switched it may have been
    /// killed before.
    async fn announce(&mut self) -> Result<(), Failure>;

    /// Removes what was staged. The live data and the former state are left alone.
    async fn discard(&mut self) -> Result<(), Failure>;

    /// Removes what an undo would need. `live` is the side that has won: the former state is
    /// dropped where it is [`Standing::New`]; where it is [`Standing::Old`], only what was noted
    /// for a way back.
    async fn forget(&mut self, live: Standing) -> Result<(), Failure>;
}

/// What is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// What was there before the restore.
    Old,
    /// What the restore brought.
    New,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What makes the restore impossible.
    pub problems: Vec<Failure>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Checked {
    /// Adds a problem.
    pub fn problem(&mut self, failure: Failure) {
        self.problems.push(failure);
    }

    /// Adds a problem of versions or shapes that do not go together.
    pub fn incompatible(
        &mut self,
        attempted: impl Into<String>,
        why: impl std::fmt::Display,
        help: impl Into<String>,
    ) {
        self.problem(Failure::new(FailureKind::Incompatible, attempted, why).help(help));
    }

    /// Adds a warning.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Takes over what another check found.
    pub fn extend(&mut self, other: Self) {
        self.problems.extend(other.problems);
        self.warnings.extend(other.warnings);
    }
}

/// What a restore does, or would do, to one target. Plain data.
#[derive(Clone, Debug, Default)]
pub struct TargetPlan {
    /// Tables with their counts, in the order in which they are filled.
    pub tables: Vec<TablePlan>,
    /// References that lead out of the bundle.
    pub references: Vec<ReferencePlan>,
    /// Rows of tables outside the scope that deletions reach.
    pub reach: Vec<Reach>,
    /// Files that are added or replaced.
    pub files_added: u64,
    /// Files that are there already.
    pub files_present: u64,
    /// Bytes of the files that are added.
    pub file_bytes: u64,
    /// How the switch is done and what it takes.
    pub switch: Vec<String>,
    /// Lines for people.
    pub notes: Vec<String>,
    /// Why the restore itself would be refused. Only a rehearsal tells; the rest of the plan is whole.
    pub refused: Option<Failure>,
}

/// What happens to the rows of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePlan {
    /// Schema-qualified name.
    pub table: String,
    /// The model, where the table has one.
    pub model: Option<String>,
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that change.
    pub updated: u64,
    /// Rows that go.
    pub deleted: u64,
    /// Rows of the bundle that are there already, or that are kept as they are.
    pub unchanged: u64,
    /// Rows that get another id than in the bundle.
    pub renumbered: u64,
    /// Columns of the bundle that the target does not have.
    pub columns_dropped: Vec<String>,
    /// Columns of the target that the bundle does not have.
    pub columns_missing: Vec<String>,
}

/// References of one column to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferencePlan {
    /// `table.column`.
    pub from: String,
    /// What is referred to.
    pub to: String,
    /// References that found their row under another id.
    pub mapped: u64,
    /// References whose row was not found.
    pub unmapped: u64,
    /// A few of the rows that were not found, for people.
    pub examples: Vec<String>,
    /// What becomes of those.
    pub lost: Lost,
}

/// What becomes of references whose row was not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lost {
    /// They become NULL.
    #[default]
    Emptied,
    /// The rows that hold them are left out: without them they would hold for everybody.
    RowLeftOut,
    /// They are part of a text and stay as they are.
    Kept,
}

/// Rows of a table outside the scope that a deletion reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Schema-qualified name of the table.
    pub table: String,
    /// The foreign key.
    pub key: String,
    /// `cascade`, `set null`, `set default`, `restrict` or `no action`.
    pub rule: String,
    /// How many rows.
    pub rows: u64,
}

/// One comparison of the live data with the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What was compared.
    pub what: String,
    /// What the bundle says.
    pub expected: String,
    /// What is live.
    pub found: String,
}

impl Proof {
    /// A comparison.
    pub fn new(
        what: impl Into<String>,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        Self {
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// Whether both are equal.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.expected == self.found
    }
}
