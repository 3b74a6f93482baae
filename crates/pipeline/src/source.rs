//! The port of everything that is backed up.

use std::collections::BTreeMap;

use async_trait::async_trait;

use arkstream_format::{
    ChromaSummary, Component, GraphSummary, ReferenceCheck, SnapshotEntry, TableEntry,
};

use crate::{Failure, Run};

/// A system to back up.
///
/// The archiver calls the steps of all sources in this order, so that their states belong to one
/// moment:
///
/// 1. [`plan`](Source::plan) — what there is, from the catalog; nothing is locked.
/// 2. [`prepare`](Source::prepare) — reads what may be read early (quiet vector folders).
/// 3. [`lock`](Source::lock) — databases first, then Chroma, never waiting for a database while
///    Chroma's writers are held.
/// 4. [`snapshot`](Source::snapshot) — all of them, within milliseconds.
/// 5. [`confirm`](Source::confirm) — the plan still holds.
/// 6. [`stream`](Source::stream) — one source after the other; each gives up its locks as soon as
///    it is done.
///
/// Steps 3 to 5 may fail with [`crate::FailureKind::Retry`] when the world changed since the
/// plan: the archiver then calls [`release`](Source::release) on all sources and starts again
/// with the plan.
#[async_trait]
pub trait Source: Send {
    /// The component it fills.
    fn component(&self) -> Component;

    /// Looks at what there is. Called again after a [`crate::FailureKind::Retry`].
    async fn plan(&mut self) -> Result<SourcePlan, Failure>;

    /// Reads what may be read before the barrier.
    async fn prepare(&mut self, _run: &Run) -> Result<(), Failure> {
        Ok(())
    }

    /// Takes the locks without which a snapshot would not protect.
    async fn lock(&mut self, _run: &Run) -> Result<(), Failure> {
        Ok(())
    }

    /// Fixes the state that will be streamed.
    async fn snapshot(&mut self, _run: &Run) -> Result<Option<SnapshotEntry>, Failure> {
        Ok(None)
    }

    /// Compares what there is under the locks and the snapshot with the plan, after all snapshots
    /// are taken. Fails with [`crate::FailureKind::Retry`] when anything that belongs to the plan
    /// came, went or changed in between.
    async fn confirm(&mut self, _run: &Run) -> Result<(), Failure> {
        Ok(())
    }

    /// Streams that state into the run's sink and gives up the locks.
    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure>;

    /// Gives up locks and snapshots. Must be safe to call at any time, any number of times.
    async fn release(&mut self) {}
}

/// What a source is about to do. Plain data: printed by `--dry-run`, hashed for resume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourcePlan {
    /// What is backed up and which options shape it, by name. A run continues an interrupted one only
    /// if these are equal. No secrets.
    pub identity: BTreeMap<&'static str, String>,
    /// Tables, files or dumps.
    pub items: Vec<PlannedItem>,
    /// Lines for people about what was found.
    pub notes: Vec<String>,
}

/// One table, file or dump.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlannedItem {
    /// Its name.
    pub name: String,
    /// Bytes to read; an estimate for tables and dumps.
    pub bytes: u64,
}

impl SourcePlan {
    /// Sum of the items' bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// What a source tells the manifest when it is done.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    /// Tables with their parts.
    pub tables: Vec<TableEntry>,
    /// Counted references.
    pub references: Vec<ReferenceCheck>,
    /// Chroma's versions.
    pub chroma: Option<ChromaSummary>,
    /// How long Chroma's writers were held, in milliseconds.
    pub chroma_hold_ms: Option<u64>,
    /// The graph database's properties.
    pub graph: Option<GraphSummary>,
}
