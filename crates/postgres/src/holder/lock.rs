//! Locking many tables within a limit, and naming whoever is in the way.

use std::collections::HashMap;
use std::time::Duration;

use arkstream_pipeline::{Failure, FailureKind};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::{Client, Error};

use crate::catalog::TableRef;
use crate::failure::{failure_of, is_lock_unavailable, is_vanished};
use crate::session::Session;

/// Tables in one LOCK statement.
const TABLES_PER_STATEMENT: usize = 200;

/// Characters of a blocking statement that are shown.
const SHOWN_QUERY: usize = 120;

/// What can be locked, as the items of a LOCK statement.
#[derive(Debug, Default)]
pub(super) struct LockList(Vec<String>);

impl LockList {
    /// Sorts by object id, so that two runs never wait for each other crosswise, and finds out
    /// what each is. LOCK knows tables and views only; materialised views and foreign tables are
    /// locked by reading them.
    pub(super) async fn find(client: &Client, tables: &[TableRef]) -> Result<Self, Failure> {
        let mut tables: Vec<&TableRef> = tables.iter().filter(|table| table.oid != 0).collect();
        tables.sort_by_key(|table| table.oid);
        tables.dedup_by_key(|table| table.oid);
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        let rows = client
            .query(
                "SELECT oid, relkind::pg_catalog.text FROM pg_catalog.pg_class \
                 WHERE oid = ANY ($1)",
                &[&oids],
            )
            .await
            .map_err(|error| failure_of("look up the tables to lock", &error))?;
        let kinds: HashMap<u32, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut items = Vec::with_capacity(tables.len());
        for table in tables {
            match kinds.get(&table.oid).map(String::as_str) {
                Some("r") => items.push(format!("ONLY {}", table.sql())),
                // With their partitions; of a view, the tables it reads.
                Some("p" | "v") => items.push(table.sql()),
                Some(_) => {}
                None => {
                    let attempted = format!("lock {}", table.qualified());
                    let why = "it was dropped since the catalog was read";
                    return Err(Failure::new(FailureKind::Retry, attempted, why));
                }
            }
        }
        Ok(Self(items))
    }

    /// The LOCK statements, with `suffix` at the end of each.
    pub(super) fn statements(&self, suffix: &str) -> impl Iterator<Item = String> {
        self.0.chunks(TABLES_PER_STATEMENT).map(move |items| {
            format!(
                "LOCK TABLE {} IN ACCESS SHARE MODE{suffix}",
                items.join(", ")
            )
        })
    }
}

/// Begins the coordinator's transaction and takes the locks.
///
/// Nothing here takes a snapshot: BEGIN, SET and LOCK do without, so the snapshot is taken when
/// it is exported, after all locks.
pub(super) async fn lock(
    coordinator: &Session,
    watcher: &Session,
    locks: &LockList,
    limit: Duration,
) -> Result<(), Failure> {
    let client = coordinator.client();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let fail = |error: &Error| failure_of("open the transaction of the snapshot", error);
    client
        .batch_execute(begin)
        .await
        .map_err(|error| fail(&error))?;
    let end = Instant::now() + limit;
    let mut blockers = None;
    for statement in locks.statements("") {
        // Each wait is limited by the first, all waits of a statement together by the second.
        let left = end
            .saturating_duration_since(Instant::now())
            .as_millis()
            .max(1);
        let limited = format!(
            "SET LOCAL lock_timeout = {left}; SET LOCAL statement_timeout = {left}; {statement}"
        );
        let outcome = watched(client, &limited, coordinator, watcher, limit, &mut blockers).await;
        if let Err(error) = outcome {
            return Err(explain(&error, limit, blockers));
        }
    }
    client
        .batch_execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        .await
        .map_err(|error| fail(&error))
}

/// Runs a statement and meanwhile looks who is in its way: afterwards nobody would be.
async fn watched(
    client: &Client,
    statement: &str,
    coordinator: &Session,
    watcher: &Session,
    limit: Duration,
    blockers: &mut Option<String>,
) -> Result<(), Error> {
    let mut running = std::pin::pin!(client.batch_execute(statement));
    let pause = (limit / 4).clamp(Duration::from_millis(50), Duration::from_secs(2));
    let mut ticks = tokio::time::interval_at(Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            outcome = &mut running => return outcome,
            _ = ticks.tick() => {
                match blockers_of(watcher.client(), coordinator.backend_pid()).await {
                    Ok(Some(found)) => *blockers = Some(found),
                    Ok(None) => {}
                    Err(error) => tracing::debug!("could not ask who holds a lock: {error}"),
                }
            }
        }
    }
}

/// Who holds, or awaits before us, what a server process waits for.
async fn blockers_of(client: &Client, pid: i32) -> Result<Option<String>, Error> {
    let rows = client
        .query(
            "SELECT DISTINCT a.pid, a.usename::pg_catalog.text, a.application_name, a.state, \
                    a.query, \
                    (SELECT l.relation::pg_catalog.regclass::pg_catalog.text \
                     FROM pg_catalog.pg_locks l \
                     WHERE l.pid = $1 AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1) \
             FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) AS b(pid) \
             JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid ORDER BY a.pid",
            &[&pid],
        )
        .await?;
    let described: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = |index: usize| row.get::<_, Option<&str>>(index).unwrap_or("?");
            let query = shown(text(4));
            format!(
                "process {} of {} ({}, {}) blocks {}: {query}",
                row.get::<_, i32>(0),
                text(1),
                text(2),
                text(3),
                text(5)
            )
        })
        .collect();
    Ok((!described.is_empty()).then(|| described.join("; ")))
}

/// The beginning of a statement, its literals left out: they may be anything, secrets too.
fn shown(query: &str) -> String {
    // What follows the first quote, dollar or comment may be inside a literal.
    let bare = query.split(['\'', '"', '$']).next().unwrap_or_default();
    let bare = bare.split("--").next().unwrap_or_default();
    let bare = bare.split("/*").next().unwrap_or_default();
    let words: Vec<&str> = bare.split_whitespace().collect();
    words.join(" ").chars().take(SHOWN_QUERY).collect()
}

fn explain(error: &Error, limit: Duration, blockers: Option<String>) -> Failure {
    let attempted = "lock the tables for the backup";
    let timed_out =
        is_lock_unavailable(error) || error.code().is_some_and(|code| code.code() == "57014");
    if timed_out {
        let who = blockers.unwrap_or_else(|| "who held it could not be seen".to_owned());
        return Failure::new(
            FailureKind::Source,
            attempted,
            format!("not to be had within {} s: {who}", limit.as_secs_f32()),
        )
        .help(
            "wait for that statement or transaction to end (SELECT pg_terminate_backend(PID) ends \
             it), or allow more time for locks",
        );
    }
    if is_vanished(error) {
        return Failure::new(
            FailureKind::Retry,
            attempted,
            "a table was dropped or renamed",
        );
    }
    if error.code() == Some(&tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED) {
        let why = "somebody who changes tables waited for the backup, and the backup for them";
        return Failure::new(FailureKind::Retry, attempted, why);
    }
    failure_of(attempted, error)
}
