//! A worker: takes parts from the queue until there is none or somebody stops it.

use std::convert::Infallible;
use std::future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arkstream_columnar::EncodeOptions;
use arkstream_format::{Proof, RowsProof};
use arkstream_pipeline::{Budget, Cancel, Failure, Run, Stage};
use chrono::{DateTime, Utc};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::PartDone;
use super::flushed::Flushed;
use super::plan::Table;
use super::ranges::Work;
use crate::session::Session;

/// All parts, the biggest tables' first, the parts of a table in the order of their blocks.
pub(super) struct Queue {
    parts: Vec<(usize, usize)>,
    next: AtomicUsize,
}

impl Queue {
    pub(super) fn new(tables: &[Table]) -> Self {
        let mut order: Vec<usize> = (0..tables.len()).collect();
        order
            .sort_by_key(|index| std::cmp::Reverse(tables.get(*index).map(|t| t.task.table.bytes)));
        let parts = order.into_iter().flat_map(|index| {
            let parts = tables.get(index).map_or(&[][..], |table| &table.parts);
            let parts = parts.iter().enumerate();
            parts
                .filter(|(_, part)| !matches!(part.work, Work::Keep(_)))
                .map(move |(number, _)| (index, number))
        });
        Self {
            parts: parts.collect(),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn take(&self) -> Option<(usize, usize)> {
        self.parts
            .get(self.next.fetch_add(1, Ordering::Relaxed))
            .copied()
    }
}

pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) budget: Budget,
    pub(super) run: Run,
    pub(super) stop: Cancel,
    pub(super) queue: Arc<Queue>,
    pub(super) tables: Arc<Vec<Table>>,
    pub(super) snapshot: String,
    pub(super) taken_at: DateTime<Utc>,
    pub(super) encode: EncodeOptions,
    pub(super) done: UnboundedSender<PartDone>,
    /// Nanoseconds that the worker spent on reading from its socket.
    pub(super) reading: Arc<AtomicU64>,
    pub(super) flushed: Flushed,
    /// Proofs of parts that were written before it was known whether their row versions prove anything.
    pub(super) unproven: Mutex<Vec<(String, RowsProof)>>,
}

impl Worker {
    /// Works until the queue is empty or somebody stops it, in the middle of whatever it waits for,
    /// and gives the session back. When it ends early, the session may be in the middle of a stream
    /// and is cut off.
    pub(super) async fn work(mut self) -> (Session, Result<(), Failure>) {
        let mut connection = self.session.take_connection().await;
        self.reading = connection.driven();
        let work = async {
            tokio::select! {
                biased;
                () = self.stop.raised() => Ok(()),
                outcome = self.work_off() => outcome,
            }
        };
        let outcome = connection.alongside(work).await;
        self.session.give_back(connection);
        let read = Duration::from_nanos(self.reading.load(Ordering::Relaxed));
        let stats = &self.run.stats;
        stats.add(Stage::Receive, read, Duration::ZERO, 0);
        if outcome.is_err() || self.stop.is_raised() {
            self.session.abort().await;
        }
        (self.session, outcome)
    }

    async fn work_off(&self) -> Result<(), Failure> {
        let (asked, mut parts) = mpsc::channel(1);
        let asking = async {
            self.ask_ahead(asked).await;
            future::pending::<Infallible>().await
        };
        let working = async {
            while let Some(asked) = parts.recv().await {
                let (table, number) = asked.place;
                let reading = asked.reading?;
                let done = self.work_on(asked.table, asked.part, number, reading);
                let (entries, receipts) = done.await?;
                let part = PartDone {
                    table,
                    number,
                    entries,
                    receipts,
                };
                if self.done.send(part).is_err() {
                    return Ok(());
                }
                if self.flushed.known().is_some() {
                    self.prove_later().await?;
                }
            }
            self.prove_later().await
        };
        tokio::select! {
            biased;
            outcome = working => outcome,
            never = asking => match never {},
        }
    }

    /// Adds row versions to the proofs of parts that were written without, if they prove anything.
    async fn prove_later(&self) -> Result<(), Failure> {
        let unproven = std::mem::take(&mut *self.unproven());
        if unproven.is_empty() || !self.flushed.wait().await {
            return Ok(());
        }
        for (member, proof) in unproven {
            let proof = Proof::Rows(Box::new(proof));
            self.run.sink.prove(&member, proof).await?;
        }
        Ok(())
    }

    pub(super) fn unproven(&self) -> MutexGuard<'_, Vec<(String, RowsProof)>> {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
