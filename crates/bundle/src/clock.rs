//! What the appender's thread does with its time, its syncs aside: they have a stage of their own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arkstream_pipeline::{Stage, Stats};

/// Counts working and waiting by turns.
pub(crate) struct Clock {
    stats: Arc<Stats>,
    since: Instant,
    offset: u64,
    synced: Duration,
}

impl Clock {
    pub(crate) fn new(stats: &Arc<Stats>) -> Self {
        Self {
            stats: Arc::clone(stats),
            since: Instant::now(),
            offset: 0,
            synced: Duration::ZERO,
        }
    }

    /// A command has come.
    pub(crate) fn begin(&mut self, offset: u64) {
        let waited = self.since.elapsed();
        self.stats.add(Stage::Append, Duration::ZERO, waited, 0);
        self.since = Instant::now();
        self.offset = offset;
        self.synced = self.stats.of(Stage::Sync).busy;
    }

    /// It is done.
    pub(crate) fn end(&mut self, offset: u64) {
        let synced = self.stats.of(Stage::Sync).busy - self.synced;
        let busy = self.since.elapsed().saturating_sub(synced);
        let bytes = offset.saturating_sub(self.offset);
        self.stats.add(Stage::Append, busy, Duration::ZERO, bytes);
        self.since = Instant::now();
    }
}
