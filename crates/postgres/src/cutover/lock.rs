//! Locks that keep writers out, and who is in the way when they are not to be had.

use std::{collections::BTreeMap, time::Duration};

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;

use super::{Strategy, keys, wait_at_most};
use crate::catalog::{Catalog, TableRef};
use crate::failure::{failure_of, is_lock_unavailable};
use crate::session::Session;

/// Locks tables in `SHARE ROW EXCLUSIVE` mode in the session's transaction: readers go on, writers
/// wait. In the order of their names, so that two restores cannot wait for one another.
///
/// # Errors
/// [`FailureKind::Refused`] naming who holds the tables, when they are not to be had in time.
pub async fn lock_tables(
    session: &Session,
    tables: &[TableRef],
    timeout: Duration,
) -> Result<(), Failure> {
    let tables = tables.iter().map(|table| (table.clone(), false)).collect();
    lock(session, &tables, timeout).await
}

/// The same for a strategy. Where foreign keys are dropped, the tables of both of their ends are
/// locked against readers, too: asked for later, while the others are held, such a lock would wait
/// for a reader who waits for us.
///
/// # Errors
/// As [`lock_tables`].
pub async fn lock_for(
    session: &Session,
    catalog: &Catalog,
    tables: &[TableRef],
    strategy: Strategy,
    timeout: Duration,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<TableRef, bool> =
        tables.iter().map(|table| (table.clone(), false)).collect();
    if strategy == Strategy::RebuildKeys {
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        let keys = keys::read(session.client(), &oids).await?;
        for key in keys.iter().filter(|key| oids.contains(&key.child)) {
            for oid in [key.child, key.parent] {
                if let Some(table) = catalog.by_oid(oid) {
                    wanted.insert(table.table.clone(), true);
                }
            }
        }
    }
    lock(session, &wanted, timeout).await
}

/// Locks tables in their order; those that are true against readers, too.
async fn lock(
    session: &Session,
    tables: &BTreeMap<TableRef, bool>,
    timeout: Duration,
) -> Result<(), Failure> {
    let client = session.client();
    let attempted = "lock the tables against writers";
    let fail = |error: tokio_postgres::Error| failure_of(attempted, &error);
    wait_at_most(client, timeout).await?;
    for (table, readers) in tables {
        let (mode, against) = match readers {
            true => ("ACCESS EXCLUSIVE", "readers and writers"),
            false => ("SHARE ROW EXCLUSIVE", "writers"),
        };
        let sql = format!("LOCK TABLE {} IN {mode} MODE", table.sql());
        match client.batch_execute(&sql).await {
            Ok(()) => {}
            Err(error) if is_lock_unavailable(&error) => {
                return Err(Failure::new(
                    FailureKind::Refused,
                    format!("lock {} against {against}", table.qualified()),
                    format!(
                        "it was not to be had within {} s; {}",
                        timeout.as_secs_f32(),
                        blockers(session, table, *readers).await
                    ),
                )
                .help(
                    "stop Odoo or wait until these transactions end, then run again; --lock-timeout \
                     sets how long is waited",
                ));
            }
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(())
}

/// Who holds a lock on the table that keeps ours out, for people.
async fn blockers(session: &Session, table: &TableRef, readers: bool) -> String {
    let unknown = || "who holds it could not be found out".to_owned();
    let Ok(other) = Session::connect(session.spec(), "arkstream restore").await else {
        return unknown();
    };
    let rows = other
        .client()
        .query(
            "SELECT DISTINCT pg_catalog.format('process %s (user %s, %s, %s since %s)', a.pid, \
                 COALESCE(a.usename, a.backend_type), \
                 COALESCE(NULLIF(a.application_name, ''), 'no application name'), \
                 COALESCE(a.state, 'unknown state') || CASE WHEN l.granted THEN '' ELSE ', waits for the table' END, \
                 COALESCE(pg_catalog.to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'), 'unknown')) \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'relation' AND l.relation = $1 AND a.pid <> $2 \
               AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
               AND ($3 OR l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', \
                              'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) \
             UNION ALL SELECT pg_catalog.format('prepared transaction %s (user %s, since %s)', p.gid, p.owner, p.prepared) \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_prepared_xacts p \
               ON l.virtualtransaction = '-1/' || p.transaction::pg_catalog.text \
             WHERE l.locktype = 'relation' AND l.relation = $1 AND l.pid IS NULL \
               AND p.database = pg_catalog.current_database()",
            &[&table.oid, &session.backend_pid(), &readers],
        )
        .await;
    match rows {
        Ok(rows) if !rows.is_empty() => {
            let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            format!("held by {}", names.join(", "))
        }
        _ => unknown(),
    }
}

/// Who holds locks on these tables that would keep a restore waiting, for people; at most ten.
///
/// # Errors
/// When the server does not answer.
pub async fn holders(client: &Client, oids: &[u32]) -> Result<Vec<String>, Failure> {
    let rows = client
        .query(
            "SELECT pg_catalog.format('process %s (user %s, %s, %s since %s) writes to %s', a.pid, \
                 COALESCE(a.usename, a.backend_type), \
                 COALESCE(NULLIF(a.application_name, ''), 'no application name'), COALESCE(a.state, 'unknown state'), \
                 COALESCE(pg_catalog.to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'), 'unknown'), \
                 pg_catalog.string_agg(DISTINCT l.relation::pg_catalog.regclass::pg_catalog.text, ', ')) \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY($1) AND a.pid <> pg_catalog.pg_backend_pid() \
               AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
               AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') \
             GROUP BY a.pid, a.usename, a.backend_type, a.application_name, a.state, a.xact_start ORDER BY a.pid LIMIT 10",
            &[&oids],
        )
        .await
        .map_err(|error| failure_of("look for locks on the tables", &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
