//! What decides the values of a row beside its bytes: the columns as the catalog has them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arkstream_pipeline::Failure;
use tokio_postgres::Client;

use crate::failure::failure_of;

/// How a relation's rows are to be understood.
pub(super) struct Definition {
    /// Access method, and of every column: number, name, type, typmod, collation, generation
    /// expression, and the value that rows have which are older than the column.
    pub(super) columns: String,
    /// Whether an unchanged row version has unchanged values. Not so where the output of a type
    /// depends on a catalog: the labels of an enum, the attributes of a composite, the names behind
    /// `regclass`, whatever the types of an extension do, and where a column is computed when it is read.
    pub(super) versioned: bool,
}

const READ: &str = "\
    WITH RECURSIVE found AS ( \
      SELECT a.attrelid, a.atttypid FROM pg_catalog.pg_attribute a \
      WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped), \
    inside (root, oid) AS ( \
      SELECT DISTINCT atttypid, atttypid FROM found \
      UNION \
      SELECT i.root, x.oid FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.oid \
        LEFT JOIN pg_catalog.pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid) \
        CROSS JOIN LATERAL (VALUES (t.typelem), (t.typbasetype), (r.rngsubtype)) x (oid) \
        WHERE x.oid <> 0), \
    unsafe AS ( \
      SELECT DISTINCT i.root FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.oid \
      WHERE t.typtype IN ('e', 'c', 'p') \
         OR (t.oid < 16384 AND (t.typname LIKE 'reg%' OR t.typname = 'aclitem')) \
         OR (t.oid >= 16384 AND (t.typtype IN ('r', 'm') OR (t.typtype = 'b' AND t.typelem = 0)))), \
    columns AS ( \
      SELECT a.attrelid, \
        pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, pg_catalog.quote_ident(a.attname), a.atttypid, \
          a.atttypmod, a.attcollation, a.attgenerated, \
          CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END, \
          a.attmissingval::pg_catalog.text), E'\\n' ORDER BY a.attnum) AS text, \
        pg_catalog.bool_and(a.attgenerated <> 'v' \
          AND NOT EXISTS (SELECT FROM unsafe u WHERE u.root = a.atttypid)) AS safe \
      FROM pg_catalog.pg_attribute a \
      LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
      WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid) \
    SELECT c.oid, pg_catalog.concat_ws(E'\\n', c.relkind, c.relam, k.text), COALESCE(k.safe, true) \
    FROM pg_catalog.pg_class c LEFT JOIN columns k ON k.attrelid = c.oid WHERE c.oid = ANY ($1)";

/// How long the server's disk may take.
const FLUSH: Duration = Duration::from_secs(5);

/// Whether every commit that the snapshot, taken at `taken_at`, sees is on the server's disk. With `synchronous_commit = off`
/// a crash of a backend may take back commits that were seen and give their transaction ids to others,
/// without a restart of the postmaster: row versions prove nothing then.
///
/// Such commits are flushed within three delays of the WAL writer. The WAL behind them may wait for as
/// long as its page is not full.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn is_flushed(client: &Client, taken_at: Instant) -> Result<bool, Failure> {
    let fail = |error: tokio_postgres::Error| failure_of("ask how far the WAL is flushed", &error);
    let row = client
        .query_one(
            "SELECT pg_catalog.pg_is_in_recovery(), (SELECT s.setting::pg_catalog.int8 \
             FROM pg_catalog.pg_settings s WHERE s.name = 'wal_writer_delay')",
            &[],
        )
        .await
        .map_err(fail)?;
    if row.get(0) {
        // What is replayed was flushed before.
        return Ok(true);
    }
    let delay: Option<i64> = row.get(1);
    let delays = Duration::from_millis(3 * delay.unwrap_or(200).unsigned_abs());
    let inserted: String = client
        .query_one(
            "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text",
            &[],
        )
        .await
        .map_err(fail)?
        .get(0);
    let query = "SELECT pg_catalog.pg_wal_lsn_diff($1::pg_catalog.text::pg_catalog.pg_lsn, \
        pg_catalog.pg_current_wal_flush_lsn())::pg_catalog.int8";
    let since = Instant::now();
    loop {
        let row = client.query_one(query, &[&inserted]).await.map_err(fail)?;
        let behind: i64 = row.get(0);
        if behind <= 0 || (behind < PAGE && taken_at.elapsed() >= delays) {
            return Ok(true);
        }
        if since.elapsed() >= FLUSH.max(2 * delays) {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Bytes of a page of the WAL.
const PAGE: i64 = 8192;

/// Reads the definitions of relations, by OID.
pub(super) async fn read(
    client: &Client,
    oids: &[u32],
) -> Result<HashMap<u32, Definition>, Failure> {
    // Multiranges came with PostgreSQL 14; before it nothing is proven by row versions anyway.
    let query =
        "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 140000";
    let attempted = "read the definitions of the tables";
    let row = client.query_one(query, &[]).await;
    if !row
        .map_err(|error| failure_of(attempted, &error))?
        .get::<_, bool>(0)
    {
        return Ok(HashMap::new());
    }
    let rows = client
        .query(READ, &[&oids])
        .await
        .map_err(|error| failure_of(attempted, &error))?;
    Ok(rows
        .iter()
        .map(|row| {
            let definition = Definition {
                columns: row.get(1),
                versioned: row.get(2),
            };
            (row.get(0), definition)
        })
        .collect())
}
