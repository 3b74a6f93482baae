//! Tables to Parquet members, several connections at once, under one snapshot.
//!
//! **Parts.** A table is cut into ranges of heap blocks, `ctid >= '(a,0)' AND ctid < '(b,0)'`,
//! counted after the snapshot was taken; the last range is open-ended, so that no row is missed
//! whatever the count was. A partitioned table is read leaf by leaf, a view, a query or a table
//! of PostgreSQL before 14 (which would scan the whole table for each range) in one part. A table
//! without rows has one part without rows, whose schema tells its columns.
//!
//! **Workers.** Each has a session, a thread and a share of the memory budget of its own. Reading
//! from the socket, decoding and encoding all happen in the worker's thread.
//! The biggest tables come first, so that the last worker is not left alone with one.
//!
//! **Memory.** A worker holds one file: its batch in the builders (up to twice a row group and a row), the
//! row group in progress, and what is encoded. All of it is counted against the worker's share
//! while it grows. Parts are planned for a third of the share in raw bytes, and a row group for a
//! sixteenth. What the plan did not foresee does not matter: values beyond a row group go into members of
//! their own while they arrive, and a file that outgrows three eighths is followed by another (see
//! `writing`).
//!
//! **Resume.** Parts that an interrupted run finished are kept where they are proven unchanged under
//! the new snapshot (see `earlier`); the parts of this run are what those leave uncovered.
//!
//! **Errors.** The first failure stops the others between two messages of their streams; their
//! sessions are cut off. A stream is read to its end, and the session is asked once more after it,
//! so that an error the server reports late is not missed.

mod budget;
mod definition;
mod earlier;
mod flushed;
mod gather;
mod part;
mod plan;
mod questions;
mod ranges;
mod versions;
mod worker;
mod writing;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arkstream_format::{Component, PartEntry, ServerInfo, TableEntry};
use arkstream_pipeline::{Cancel, Event, Failure, FailureKind, PendingReceipt, Receipt, Run};
use chrono::Utc;
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_postgres::Client;

use crate::holder::internal;
use crate::session::Session;
use crate::task::{ExportOptions, TableTask};
use flushed::Flushed;
use plan::Table;
use worker::{Queue, Worker};

/// What an export goes by.
pub(crate) struct Setting<'a> {
    pub(crate) run: &'a Run,
    pub(crate) coordinator: &'a Client,
    pub(crate) snapshot: &'a str,
    /// The server under the snapshot.
    pub(crate) server: &'a ServerInfo,
    /// When the snapshot was taken.
    pub(crate) taken_at: Instant,
    pub(crate) options: &'a ExportOptions,
}

/// A part that is in the file.
pub(crate) struct PartDone {
    pub(crate) table: usize,
    pub(crate) number: usize,
    /// Its files.
    pub(crate) entries: Vec<PartEntry>,
    /// Of what was written; none where the part is kept.
    pub(crate) receipts: Vec<PendingReceipt>,
}

/// Exports the tables and gives the sessions back, those that were cut off closed.
pub(crate) async fn export(
    setting: Setting<'_>,
    sessions: Vec<Session>,
    tasks: Vec<Arc<TableTask>>,
) -> (Vec<Session>, Result<Vec<TableEntry>, Failure>) {
    let (asking, flushed) = Flushed::ask(setting.coordinator, setting.taken_at);
    let exporting = read_all(&setting, sessions, tasks, flushed);
    let (mut asking, mut exporting) = (pin!(asking), pin!(exporting));
    let asked = tokio::select! {
        biased;
        done = &mut exporting => return done,
        asked = &mut asking => asked,
    };
    let (sessions, outcome) = exporting.await;
    (sessions, asked.and(outcome))
}

async fn read_all(
    setting: &Setting<'_>,
    sessions: Vec<Session>,
    tasks: Vec<Arc<TableTask>>,
    flushed: Flushed,
) -> (Vec<Session>, Result<Vec<TableEntry>, Failure>) {
    let share = setting.run.budget.bytes() / sessions.len().max(1) as u64;
    let tables = match plan::plan(setting, &sessions, tasks, share).await {
        Ok(tables) => Arc::new(tables),
        Err(failure) => return (sessions, Err(failure)),
    };
    let (sessions, outcome) = run_workers(setting, sessions, &tables, flushed).await;
    let outcome = match outcome {
        Ok(parts) => match Arc::into_inner(tables) {
            Some(tables) => finish(setting, tables, parts).await,
            None => Err(internal("export tables", "a worker still reads them")),
        },
        Err(failure) => Err(failure),
    };
    (sessions, outcome)
}

/// Stops the workers when the export is given up, by an error or by being dropped.
struct StopOnDrop(Cancel);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

async fn run_workers(
    setting: &Setting<'_>,
    sessions: Vec<Session>,
    tables: &Arc<Vec<Table>>,
    flushed: Flushed,
) -> (Vec<Session>, Result<Vec<DurablePart>, Failure>) {
    let run = setting.run;
    let stop = StopOnDrop(Cancel::default());
    let queue = Arc::new(Queue::new(tables));
    let (done, mut parts) = mpsc::unbounded_channel();
    let mut running = FuturesUnordered::new();
    let shares = run.budget.split(sessions.len());
    for (session, budget) in sessions.into_iter().zip(shares) {
        let worker = Worker {
            session,
            budget,
            run: run.clone(),
            stop: stop.0.clone(),
            queue: Arc::clone(&queue),
            tables: Arc::clone(tables),
            snapshot: setting.snapshot.to_owned(),
            taken_at: Utc::now(),
            encode: setting.options.encode.clone(),
            done: done.clone(),
            reading: Arc::default(),
            flushed: flushed.clone(),
            unproven: Mutex::default(),
        };
        let runtime = tokio::runtime::Handle::current();
        running.push(spawn_blocking(move || runtime.block_on(worker.work())));
    }
    drop(done);
    let mut sessions = Vec::new();
    let mut failure = None;
    let mut receipts = FuturesUnordered::new();
    let mut finished = Vec::new();
    let (mut cancelled, mut synced) = (false, false);
    loop {
        if running.is_empty() {
            let all_taken = parts.is_empty() && receipts.is_empty();
            if failure.is_some() || all_taken {
                break;
            }
            // The receipts of the last group have no later member to wait for.
            if parts.is_empty() && !synced {
                synced = true;
                if let Err(error) = run.sink.sync().await {
                    failure = Some(error);
                    break;
                }
            }
        }
        tokio::select! {
            biased;
            () = run.cancel.raised(), if !cancelled => {
                cancelled = true;
                stop.0.raise();
                failure.get_or_insert_with(Failure::interrupted);
            }
            Some(part) = parts.recv() => {
                let PartDone { table, number, entries, receipts: written } = part;
                let durable = DurablePart { table, number, entries };
                receipts.push(async move {
                    let written = written.into_iter().map(PendingReceipt::wait);
                    try_join_all(written).await.map(|written| (written, durable))
                });
            }
            Some(receipt) = receipts.next() => match receipt {
                Ok((written, durable)) => {
                    for receipt in &written {
                        tell_member(run, receipt);
                    }
                    finished.push(durable);
                }
                Err(lost) => {
                    stop.0.raise();
                    failure.get_or_insert(lost);
                }
            },
            Some(ended) = running.next() => match ended {
                Ok((session, outcome)) => {
                    sessions.push(session);
                    if let Err(first) = outcome {
                        stop.0.raise();
                        failure.get_or_insert(first);
                    }
                }
                Err(panic) => {
                    stop.0.raise();
                    let attempted = "export a table";
                    failure.get_or_insert_with(|| Failure::new(FailureKind::Internal, attempted, panic));
                }
            },
            else => break,
        }
    }
    match failure {
        Some(failure) => (sessions, Err(failure)),
        None => (sessions, Ok(finished)),
    }
}

/// A part that is durable.
struct DurablePart {
    table: usize,
    number: usize,
    entries: Vec<PartEntry>,
}

fn tell_member(run: &Run, receipt: &Receipt) {
    let member = &receipt.member;
    run.tell(Event::Member {
        component: Component::Models,
        name: member.name.clone(),
        rows: member.rows.unwrap_or_default(),
        raw_bytes: member.raw_len,
        stored_bytes: member.stored_len,
    });
}

/// Makes sure once more that no table was rewritten, and writes the entries.
async fn finish(
    setting: &Setting<'_>,
    tables: Vec<Table>,
    parts: Vec<DurablePart>,
) -> Result<Vec<TableEntry>, Failure> {
    plan::verify_relfilenodes(setting.coordinator, &tables).await?;
    let mut by_table: HashMap<usize, Vec<DurablePart>> = HashMap::new();
    for part in parts {
        by_table.entry(part.table).or_default().push(part);
    }
    let entries = tables
        .into_iter()
        .enumerate()
        .map(|(index, table)| {
            let mut parts = by_table.remove(&index).unwrap_or_default();
            parts.extend(table.kept(index));
            parts.sort_by_key(|part| part.number);
            table.entry(parts.into_iter().flat_map(|part| part.entries).collect())
        })
        .collect();
    Ok(entries)
}
