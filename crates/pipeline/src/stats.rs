//! Where the time of a run goes: for each stage how long somebody worked, how long somebody waited, and
//! how many bytes went through.
//!
//! Counted by batches, pieces and chunks, never by rows: a count costs two looks at the clock. The times
//! are sums over all threads, so the busy time of a stage may exceed that of the run.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What a thread of a run may be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reading rows from a server; waiting for it to send some.
    Receive,
    /// Rows into columns.
    Decode,
    /// Columns into Parquet, compressed.
    Encode,
    /// Waiting for a server to say what proves rows unchanged.
    Prove,
    /// Hashes of what is read and of chunks.
    Hash,
    /// Chunks of files and dumps, compressed or copied.
    Compress,
    /// Writing to the bundle; waiting for something to write.
    Append,
    /// Waiting for the disk to hold what was written.
    Sync,
    /// Waiting for memory of the budget.
    Memory,
}

impl Stage {
    /// All of them, in the order in which data goes through.
    pub const ALL: [Self; 9] = [
        Self::Receive,
        Self::Decode,
        Self::Encode,
        Self::Prove,
        Self::Hash,
        Self::Compress,
        Self::Append,
        Self::Sync,
        Self::Memory,
    ];

    /// Its name, for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decode => "decode",
            Self::Encode => "encode",
            Self::Prove => "prove",
            Self::Hash => "hash",
            Self::Compress => "compress",
            Self::Append => "append",
            Self::Sync => "sync",
            Self::Memory => "memory",
        }
    }
}

/// The counters of a run. Shared by everybody who works for it.
#[derive(Debug, Default)]
pub struct Stats([Counters; Stage::ALL.len()]);

#[derive(Debug, Default)]
struct Counters {
    busy: AtomicU64,
    waiting: AtomicU64,
    bytes: AtomicU64,
}

/// What was counted of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Time that somebody worked.
    pub busy: Duration,
    /// Time that somebody waited.
    pub waiting: Duration,
    /// Bytes that went in.
    pub bytes: u64,
}

impl Stats {
    /// Does some work on so many bytes, and counts it.
    pub fn work<T>(&self, stage: Stage, bytes: usize, work: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let done = work();
        self.add(stage, since.elapsed(), Duration::ZERO, bytes as u64);
        done
    }

    /// Waits for something, and counts it.
    pub async fn wait<T>(&self, stage: Stage, something: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let came = something.await;
        self.add(stage, Duration::ZERO, since.elapsed(), 0);
        came
    }

    /// Counts times and bytes that were measured elsewhere.
    pub fn add(&self, stage: Stage, busy: Duration, waiting: Duration, bytes: u64) {
        let Some(counters) = self.0.get(stage as usize) else {
            return;
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        counters.busy.fetch_add(nanos(busy), Ordering::Relaxed);
        counters
            .waiting
            .fetch_add(nanos(waiting), Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn of(&self, stage: Stage) -> StageTimes {
        let Some(counters) = self.0.get(stage as usize) else {
            return StageTimes::default();
        };
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        StageTimes {
            busy: time(&counters.busy),
            waiting: time(&counters.waiting),
            bytes: counters.bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_counters_of_its_own() {
        let stats = Stats::default();
        for (number, stage) in (1..).zip(Stage::ALL) {
            let time = Duration::from_millis(number);
            stats.add(stage, time, 2 * time, number);
            stats.add(stage, time, Duration::ZERO, 0);
        }
        for (number, stage) in (1..).zip(Stage::ALL) {
            let time = Duration::from_millis(2 * number);
            let counted = StageTimes {
                busy: time,
                waiting: time,
                bytes: number,
            };
            assert_eq!(stats.of(stage), counted, "{}", stage.name());
        }
    }
}
