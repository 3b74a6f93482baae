//! Locks that keep writers out, and who is in the way when they are not to be had.

use std::time::Duration;

use arkstream_pipeline::{Failure, FailureKind};

use crate::catalog::TableRef;
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
    let mut sorted = tables.to_vec();
    sorted.sort();
    let client = session.client();
    let attempted = "lock the tables against writers";
    let fail = |error: tokio_postgres::Error| failure_of(attempted, &error);
    let limit = format!("SET LOCAL lock_timeout = {}", timeout.as_millis().max(1));
    client.batch_execute(&limit).await.map_err(fail)?;
    for table in &sorted {
        let sql = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", table.sql());
        match client.batch_execute(&sql).await {
            Ok(()) => {}
            Err(error) if is_lock_unavailable(&error) => {
                return Err(Failure::new(
                    FailureKind::Refused,
                    format!("lock {} against writers", table.qualified()),
                    format!(
                        "it was not to be had within {} s; {}",
                        timeout.as_secs_f32(),
                        blockers(session, table).await
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
async fn blockers(session: &Session, table: &TableRef) -> String {
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
               AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', \
                              'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
             UNION ALL SELECT pg_catalog.format('prepared transaction %s (user %s, since %s)', p.gid, p.owner, p.prepared) \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_prepared_xacts p \
               ON l.virtualtransaction = '-1/' || p.transaction::pg_catalog.text \
             WHERE l.locktype = 'relation' AND l.relation = $1 AND l.pid IS NULL \
               AND p.database = pg_catalog.current_database()",
            &[&table.oid, &session.backend_pid()],
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
