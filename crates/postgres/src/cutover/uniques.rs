//! Unique constraints, exclusion constraints and unique indexes that rows would collide in on the
//! way, and that are dropped and made again for that.
//!
//! The server looks at them row by row, so a swap of two values fails however it is ordered. Whether
//! a wanted value meets a row of another key is asked beforehand; where that cannot be asked
//! (expressions, predicates, types of extensions), rows that may collide are enough.

use std::collections::BTreeMap;

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::{Client, Row};

use super::change::Counts;
use super::keys::with_comment;
use super::outside::Outside;
use super::{Key, TableDiff, attempted, run};
use crate::failure::failure_of;
use crate::sql::{quote_ident, quote_literal};

/// Those that are dropped.
pub(super) struct Uniques {
    dropped: Vec<Unique>,
}

struct Unique {
    oid: u32,
    /// Index or constraint, for people.
    name: String,
    index: String,
    definition: String,
    drop: String,
    add: String,
}

/// An index as the catalog has it.
struct Index {
    unique: Unique,
    table: u32,
    primary: bool,
    /// Columns with the collation that makes them comparable; `None` where values cannot be
    /// compared by column.
    columns: Option<Vec<(String, String)>>,
}

const READ: &str = "\
    SELECT i.indexrelid, i.indrelid, c.relname::pg_catalog.text, \
      i.indrelid::pg_catalog.regclass::pg_catalog.text, i.indexrelid::pg_catalog.regclass::pg_catalog.text, \
      k.conname::pg_catalog.text, i.indisprimary, i.indisclustered, i.indisreplident, \
      COALESCE(pg_catalog.pg_get_constraintdef(k.oid), pg_catalog.pg_get_indexdef(i.indexrelid)), \
      COALESCE(pg_catalog.obj_description(k.oid, 'pg_constraint'), \
               pg_catalog.obj_description(i.indexrelid, 'pg_class')), \
      s.spcname::pg_catalog.text, \
      i.indexprs IS NULL AND i.indpred IS NULL AND NOT i.indisexclusion \
        AND NOT COALESCE((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::pg_catalog.bool, false) \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid AND a.atttypid >= 16384), \
      ARRAY (SELECT a.attname::pg_catalog.text FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY u(attnum, position) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum \
        WHERE u.position <= i.indnkeyatts ORDER BY u.position), \
      ARRAY (SELECT CASE WHEN l.oid IS NULL THEN '' ELSE pg_catalog.format(' COLLATE %I.%I', n.nspname, l.collname) END \
        FROM pg_catalog.unnest(i.indcollation) WITH ORDINALITY u(oid, position) \
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = u.oid \
        LEFT JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace \
        WHERE u.position <= i.indnkeyatts ORDER BY u.position) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
    LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace \
    LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') \
    WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion) AND i.indisvalid \
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid) \
    ORDER BY 4, 3";

impl Uniques {
    /// Finds those that rows would collide in.
    pub(super) async fn find(
        client: &Client,
        diffs: &[TableDiff],
        counts: &[Counts],
        outside: &Outside<'_>,
    ) -> Result<Self, Failure> {
        let changed: BTreeMap<u32, &TableDiff> = diffs
            .iter()
            .zip(counts)
            .filter(|(diff, c)| {
                let goes = c.deletes > 0 || outside.touches(diff.table.table.oid);
                c.updates > 0 || (c.inserts > 0 && goes)
            })
            .map(|(diff, _)| (diff.table.table.oid, diff))
            .collect();
        let oids: Vec<u32> = changed.keys().copied().collect();
        let rows = client
            .query(READ, &[&oids])
            .await
            .map_err(|error| failure_of("read the unique constraints", &error))?;
        let mut dropped = Vec::new();
        for row in &rows {
            let index = Index::new(row);
            if let Some(diff) = changed.get(&index.table)
                && index.collides(client, diff).await?
            {
                dropped.push(index.unique);
            }
        }
        Ok(Self { dropped })
    }

    /// The indexes that are dropped.
    pub(super) fn indexes(&self) -> Vec<u32> {
        self.dropped.iter().map(|unique| unique.oid).collect()
    }

    pub(super) async fn drop(&self, client: &Client) -> Result<(), Failure> {
        for unique in &self.dropped {
            let what = format!("drop {} for a moment", unique.name);
            run(client, &what, &unique.drop).await?;
        }
        Ok(())
    }

    pub(super) async fn add(&self, client: &Client) -> Result<(), Failure> {
        for unique in &self.dropped {
            let what = format!("make {} again", unique.name);
            run(client, &what, &unique.add).await?;
            let sql = "SELECT COALESCE(pg_catalog.pg_get_constraintdef(k.oid), pg_catalog.pg_get_indexdef(c.oid)) \
                       FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_constraint k \
                       ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x') \
                       WHERE c.oid = pg_catalog.to_regclass($1)";
            let row = client
                .query_one(sql, &[&unique.index])
                .await
                .map_err(|error| failure_of(&what, &error))?;
            let now: String = row.get(0);
            if now != unique.definition {
                let why = format!("it was {} and would be {now}", unique.definition);
                return Err(Failure::new(FailureKind::Internal, what, why));
            }
        }
        Ok(())
    }
}

impl Index {
    fn new(row: &Row) -> Self {
        let (table, index, definition): (String, String, String) =
            (row.get(3), row.get(4), row.get(9));
        let comment: Option<String> = row.get(10);
        let short = quote_ident(row.get(2));
        let (drop, mut add, name) = match row.get::<_, Option<String>>(5) {
            Some(constraint) => {
                let quoted = quote_ident(&constraint);
                let add = format!("ALTER TABLE {table} ADD CONSTRAINT {quoted} {definition}");
                (
                    format!("ALTER TABLE {table} DROP CONSTRAINT {quoted}"),
                    with_comment(add, &format!("CONSTRAINT {quoted} ON {table}"), comment),
                    format!("the constraint {constraint} of {table}"),
                )
            }
            None => (
                format!("DROP INDEX {index}"),
                with_comment(definition.clone(), &format!("INDEX {index}"), comment),
                format!("the unique index {index} of {table}"),
            ),
        };
        if row.get(7) {
            add.push_str(&format!("; ALTER TABLE {table} CLUSTER ON {short}"));
        }
        if row.get(8) {
            add.push_str(&format!(
                "; ALTER TABLE {table} REPLICA IDENTITY USING INDEX {short}"
            ));
        }
        if let Some(space) = row.get::<_, Option<String>>(11) {
            add = format!(
                "SET LOCAL default_tablespace = {}; {add}; SET LOCAL default_tablespace TO DEFAULT",
                quote_literal(&space)
            );
        }
        let names: Vec<String> = row.get(13);
        let collations: Vec<String> = row.get(14);
        Self {
            table: row.get(1),
            primary: row.get(6),
            columns: row
                .get::<_, bool>(12)
                .then(|| names.into_iter().zip(collations).collect()),
            unique: Unique {
                oid: row.get(0),
                name,
                index,
                definition,
                drop,
                add,
            },
        }
    }

    /// Whether a wanted value meets a live row of another key.
    async fn collides(&self, client: &Client, diff: &TableDiff) -> Result<bool, Failure> {
        let known = self.columns.as_ref().filter(|columns| {
            columns
                .iter()
                .all(|(column, _)| diff.columns.contains(column) || diff.is_key(column))
        });
        let Some(columns) = known else {
            return Ok(!self.primary);
        };
        if let Key::Columns(key) = &diff.key
            && key.iter().all(|k| columns.iter().any(|(c, _)| c == k))
        {
            return Ok(false);
        }
        let met: Vec<String> = columns
            .iter()
            .map(|(column, collation)| format!("t.{0} = d.{0}{collation}", quote_ident(column)))
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} d JOIN {} t ON {} WHERE d.ark_op IN ('i', 'u') AND NOT ({}))",
            diff.wanted,
            diff.live(),
            met.join(" AND "),
            diff.joined("t", "d")
        );
        let row = client.query_one(&sql, &[]).await.map_err(|error| {
            failure_of(&attempted("look for equal values in", &diff.table), &error)
        })?;
        Ok(row.get(0))
    }
}
