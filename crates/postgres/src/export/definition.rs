//! What decides the values of a row beside its bytes: the columns as the catalog has them.

use std::collections::HashMap;

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
