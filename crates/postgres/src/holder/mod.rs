//! The barrier: locks, then one snapshot, then the proof that nothing changed in between.
//!
//! 1. [`SnapshotHolder::lock`]: the coordinator opens a transaction and locks every table in
//!    ACCESS SHARE MODE. That lock stops only what rewrites or removes a table (TRUNCATE, VACUUM
//!    FULL, ALTER TABLE, DROP); without it an exported snapshot does not protect, and a COPY would
//!    return no rows without an error.
//! 2. [`SnapshotHolder::take`]: the coordinator exports its snapshot, every worker imports it and
//!    takes the same locks NOWAIT. A worker that is refused has met a DDL statement that queues
//!    behind the coordinator; it would wait for the end of the run, and the run for it.
//! 3. [`SnapshotHolder::verify_unchanged`]: the catalog under the locks equals the plan.
//!
//! From the return of [`SnapshotHolder::take`] on, every session holds every lock, so whatever
//! DDL comes waits until [`SnapshotHolder::release`].
//!
//! Locks of n tables by j workers take n·(j+1) entries of the server's lock table, which holds
//! `max_locks_per_transaction` · (`max_connections` + …) of them.

mod lock;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arkstream_format::{ServerInfo, TableEntry};
use arkstream_pipeline::{Failure, FailureKind, Run};
use futures::future::{join_all, try_join_all};
use tokio_postgres::Client;

use crate::catalog::{Catalog, CatalogTable, TableRef, read_shape};
use crate::connect::ConnectSpec;
use crate::export;
use crate::failure::{failure_of, is_lock_unavailable, is_vanished};
use crate::server::server_info;
use crate::session::Session;
use crate::sql::quote_literal;
use crate::task::{ExportOptions, TableTask};
use lock::LockList;

const APPLICATION_NAME: &str = "arkstream";

/// A coordinator and worker sessions of one database, before, in and after a shared snapshot.
pub struct SnapshotHolder {
    coordinator: Session,
    workers: Vec<Session>,
    jobs: usize,
    locks: LockList,
    snapshot: Option<(String, ServerInfo, Instant)>,
}

impl SnapshotHolder {
    /// Opens the coordinator's and `jobs` workers' sessions. No transaction is begun.
    ///
    /// # Errors
    /// When the server cannot be reached, has too few connections left, or a transaction pooler
    /// stands in between.
    pub async fn connect(spec: &ConnectSpec, jobs: usize) -> Result<Self, Failure> {
        let coordinator = Session::connect(spec, APPLICATION_NAME).await?;
        let jobs = jobs.max(1);
        let connecting = (0..jobs).map(|_| Session::connect(coordinator.spec(), APPLICATION_NAME));
        let workers = try_join_all(connecting).await?;
        let holder = Self {
            coordinator,
            workers,
            jobs,
            locks: LockList::default(),
            snapshot: None,
        };
        // Now that there are others, a pooler would have mixed them up.
        for session in holder.sessions() {
            session.check_pinned().await?;
        }
        Ok(holder)
    }

    /// The coordinator's connection: inside the snapshot's transaction once it is taken.
    #[must_use]
    pub fn coordinator(&self) -> &Client {
        self.coordinator.client()
    }

    /// How to reach the very server that the sessions are connected to.
    #[must_use]
    pub fn spec(&self) -> &ConnectSpec {
        self.coordinator.spec()
    }

    /// The server processes of all sessions, the coordinator's first.
    #[must_use]
    pub fn backend_pids(&self) -> Vec<i32> {
        self.sessions().map(Session::backend_pid).collect()
    }

    /// Opens the coordinator's transaction and locks the tables in it. Partitioned tables are
    /// locked with their partitions, views with the tables they read.
    ///
    /// # Errors
    /// [`FailureKind::Source`] when a lock is not to be had within `lock_timeout`; it names who
    /// holds it. [`FailureKind::Retry`] when a table is gone.
    pub async fn lock(
        &mut self,
        tables: &[TableRef],
        lock_timeout: Duration,
    ) -> Result<(), Failure> {
        self.release().await;
        self.reconnect().await?;
        let Some(watcher) = self.workers.first() else {
            return Err(internal("lock tables", "there is no worker session"));
        };
        self.locks = LockList::find(watcher.client(), tables).await?;
        let outcome = lock::lock(&self.coordinator, watcher, &self.locks, lock_timeout).await;
        if outcome.is_err() {
            self.release().await;
        }
        outcome
    }

    /// Exports the coordinator's snapshot and brings every worker into it, with all locks.
    /// Returns the snapshot's identifier, the server's state, and when the snapshot was taken.
    ///
    /// # Errors
    /// [`FailureKind::Retry`] when a DDL statement is waiting for one of the tables.
    pub async fn take(&mut self) -> Result<(String, ServerInfo, Instant), Failure> {
        let row = self
            .coordinator
            .client()
            .query_one("SELECT pg_catalog.pg_export_snapshot()", &[])
            .await
            .map_err(|error| failure_of("export a snapshot", &error))?;
        let taken_at = Instant::now();
        let snapshot: String = row.get(0);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(&snapshot)
        );
        let joining = self
            .workers
            .iter()
            .map(|worker| join(worker, &begin, &self.locks));
        for outcome in join_all(joining).await {
            outcome?;
        }
        let info = server_info(self.coordinator.client()).await?;
        self.snapshot = Some((snapshot.clone(), info.clone(), taken_at));
        Ok((snapshot, info, taken_at))
    }

    /// Compares the tables as they are under the locks with the plan: names, columns,
    /// relfilenodes, partitions. Returns the catalog as it is, without sizes.
    ///
    /// # Errors
    /// [`FailureKind::Retry`] when a table differs.
    pub async fn verify_unchanged(&self, planned: &[&CatalogTable]) -> Result<Catalog, Failure> {
        let present = read_shape(self.coordinator.client()).await?;
        for table in planned.iter().filter(|table| table.table.oid != 0) {
            if let Some(difference) = difference(table, present.by_oid(table.table.oid)) {
                let attempted = format!("take a snapshot of {}", table.table.qualified());
                return Err(Failure::new(FailureKind::Retry, attempted, difference));
            }
        }
        Ok(present)
    }

    /// Exports tables under the snapshot into the run's sink, with one worker a session.
    ///
    /// See [`crate::ExportOptions`] for parts and memory.
    ///
    /// # Errors
    /// The first failure of any worker; the others are stopped.
    pub async fn export(
        &mut self,
        run: &Run,
        tasks: Vec<Arc<TableTask>>,
        options: &ExportOptions,
    ) -> Result<Vec<TableEntry>, Failure> {
        let Some((snapshot, server, taken_at)) = self.snapshot.clone() else {
            return Err(internal("export tables", "no snapshot has been taken"));
        };
        let workers = std::mem::take(&mut self.workers);
        let setting = export::Setting {
            run,
            coordinator: self.coordinator.client(),
            snapshot: &snapshot,
            server: &server,
            taken_at,
            options,
        };
        // Sessions that were cut off come back closed and are replaced by the next `lock`.
        let (workers, outcome) = export::export(setting, workers, tasks).await;
        self.workers = workers;
        outcome
    }

    /// Ends all transactions, which gives up locks and snapshot. The sessions stay for another
    /// try. Safe to call at any time, any number of times.
    pub async fn release(&mut self) {
        self.snapshot = None;
        self.locks = LockList::default();
        join_all(self.sessions().map(Session::rollback)).await;
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        std::iter::once(&self.coordinator).chain(&self.workers)
    }

    /// Replaces sessions whose connection is gone, and those that an abandoned export took along.
    pub(crate) async fn reconnect(&mut self) -> Result<(), Failure> {
        let spec = self.coordinator.spec().clone();
        let all = std::iter::once(&mut self.coordinator).chain(&mut self.workers);
        for session in all.filter(|session| session.is_closed()) {
            *session = Session::connect(&spec, APPLICATION_NAME).await?;
        }
        while self.workers.len() < self.jobs {
            self.workers
                .push(Session::connect(&spec, APPLICATION_NAME).await?);
        }
        Ok(())
    }
}

async fn join(worker: &Session, begin: &str, locks: &LockList) -> Result<(), Failure> {
    let client = worker.client();
    client
        .batch_execute(begin)
        .await
        .map_err(|error| failure_of("join the exported snapshot", &error))?;
    for statement in locks.statements(" NOWAIT") {
        if let Err(error) = client.batch_execute(&statement).await {
            let attempted = "lock the tables for another connection";
            return Err(if is_lock_unavailable(&error) {
                Failure::new(
                    FailureKind::Retry,
                    attempted,
                    "a statement that changes one of the tables is waiting behind this backup",
                )
                .help("let the ALTER, TRUNCATE, VACUUM FULL or DROP finish, then run again")
            } else if is_vanished(&error) {
                Failure::new(
                    FailureKind::Retry,
                    attempted,
                    "a table was dropped or renamed",
                )
            } else {
                failure_of(attempted, &error)
            });
        }
    }
    Ok(())
}

/// What of a table is not as planned.
fn difference(planned: &CatalogTable, present: Option<&CatalogTable>) -> Option<&'static str> {
    let Some(present) = present else {
        return Some("it was dropped since the catalog was read");
    };
    if present.table != planned.table || present.kind != planned.kind {
        return Some("it was renamed or replaced since the catalog was read");
    }
    if present.relfilenode != planned.relfilenode {
        return Some("it was rewritten (TRUNCATE, VACUUM FULL, ALTER) since the catalog was read");
    }
    if present.columns != planned.columns {
        return Some("its columns changed since the catalog was read");
    }
    if present.leaves != planned.leaves {
        return Some("its partitions changed since the catalog was read");
    }
    if present.primary_key != planned.primary_key || present.foreign_keys != planned.foreign_keys {
        return Some("its keys changed since the catalog was read");
    }
    None
}

pub(crate) fn internal(attempted: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Internal, attempted, why)
}
