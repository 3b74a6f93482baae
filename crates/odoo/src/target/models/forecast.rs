//! What the switch takes: foreign keys, locks, write-ahead log, disk. Decided before anything is
//! locked, for the locks depend on it.

use std::cmp::Reverse;

use arkstream_pipeline::Failure;
use arkstream_postgres::{Strategy, cutover::Foreseen, failure_of, quote_literal};
use tokio_postgres::Client;

use super::Mode;
use super::tables::{Class, Table, Tables};

/// More rows than this cannot change.
pub(super) fn at_most(tables: &Tables, mode: Mode) -> u64 {
    tables
        .written()
        .map(|table| {
            let live = if mode == Mode::Replace && table.class != Class::Identity {
                // Where the server never counted, a row is taken for short.
                match table.live.estimated_rows {
                    rows if rows >= 0.0 => rows as u64,
                    _ => table.live.bytes / 32,
                }
            } else {
                0
            };
            table.entry.rows + live
        })
        .sum()
}

/// So many rows are inserted at least, counted until there are more than `enough`: those of the
/// largest tables that go beyond what is live.
pub(super) async fn at_least(
    client: &Client,
    tables: &Tables,
    enough: u64,
) -> Result<u64, Failure> {
    // Of tables without an id rows may be left out with what they lead to; those behind row-level
    // security cannot be counted without a lock.
    let mut whole: Vec<&Table> = tables
        .of(Class::Whole)
        .filter(|table| table.has_id() && !table.live.row_security)
        .collect();
    whole.sort_by_key(|table| Reverse(table.entry.rows));
    let mut rest: u64 = whole.iter().map(|table| table.entry.rows).sum();
    let mut inserted = 0;
    for table in whole {
        if inserted > enough || inserted + rest <= enough {
            break;
        }
        let rows = table.entry.rows;
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT {rows}) t",
            table.only_live()
        );
        let what = format!("count the rows of {}", table.entry.table);
        let found = client.query_one(&sql, &[]).await;
        let found = found.map_err(|error| failure_of(&what, &error))?;
        inserted += rows.saturating_sub(found.get::<_, i64>(0).unsigned_abs());
        rest -= rows;
    }
    Ok(inserted)
}

/// Lines for people.
pub(super) async fn lines(
    client: &Client,
    foreseen: &Foreseen,
    staging_schema: &str,
    undo_schema: &str,
) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT COALESCE(pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::pg_catalog.int8 \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relkind = 'r'",
        quote_literal(staging_schema)
    );
    let row = client
        .query_one(&sql, &[])
        .await
        .map_err(|error| failure_of("measure what is staged", &error))?;
    let staged = row.get::<_, i64>(0).unsigned_abs();
    let keys = match foreseen.strategy {
        Strategy::RebuildKeys => format!(
            "{} foreign keys are dropped and made again: readers of their tables, and of the tables that \
             they lead to, wait as long as writers",
            foreseen.keys
        ),
        _ => format!(
            "{} foreign keys stay live: writers wait, readers go on",
            foreseen.keys
        ),
    };
    Ok(vec![
        format!(
            "{} rows change in one transaction; their former versions are kept in {undo_schema}",
            foreseen.rows
        ),
        keys,
        format!(
            "estimates: the tables are locked for some {} s beside the comparison, {} of write-ahead log, \
             {} more in the database, and {} for staging until the end",
            foreseen.seconds,
            size(foreseen.wal_bytes + staged),
            size(foreseen.disk_bytes),
            size(staged)
        ),
    ])
}

fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
