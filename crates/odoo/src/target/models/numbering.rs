//! Sequences: where numbering goes on.
//!
//! A sequence is only ever raised, never set back: numbers that were given away stay given away.
//! `setval` is no part of a transaction, so it runs after the rows are applied and before they are
//! committed; what a rollback leaves behind is a gap. `ir_sequence_NNN` is named after the id of its
//! `ir_sequence` row, so it goes by the row's id in the target, and is created where it is missing.
//! The signalling sequences of Odoo's caches are never restored, but advanced once the rows are
//! live, so that running workers drop what they hold.

use std::collections::BTreeSet;

use arkstream_pipeline::Failure;
use arkstream_postgres::{
    CatalogTable, Staged, Staging, TableDiff, failure_of, quote_ident, quote_literal,
};
use tokio_postgres::Client;

use super::tables::{Tables, from_live, has_id};

/// Columns of the sequences' rows with their types.
const COLUMNS: &[(&str, &str)] = &[
    ("schema", "text"),
    ("name", "text"),
    ("last_value", "int8"),
    ("is_called", "bool"),
    ("data_type", "text"),
    ("increment", "int8"),
    ("start", "int8"),
    ("min", "int8"),
    ("max", "int8"),
    ("cache", "int8"),
    ("cycle", "bool"),
    ("ir_sequence_id", "int8"),
    ("date_range_id", "int8"),
    ("restore", "bool"),
];

/// Raises every sequence that belongs to restored rows.
pub(super) async fn raise(
    client: &Client,
    staging: &Staging,
    tables: &Tables,
    staged: Option<&Staged>,
    undo: &str,
    diffs: &[TableDiff],
) -> Result<(), Failure> {
    let created = format!(
        "CREATE TABLE {}.sequences (name pg_catalog.text PRIMARY KEY)",
        quote_ident(undo)
    );
    run(client, "note the sequences that are created", &created).await?;
    if let Some(staged) = staged {
        from_bundle(client, staging, tables, staged, undo).await?;
    }
    let written = tables.written().map(|table| &table.live);
    let others = diffs.iter().map(|diff| &diff.table);
    let mut seen = BTreeSet::new();
    for table in written.chain(others).filter(|table| has_id(table)) {
        if seen.insert(table.table.oid) {
            beyond_rows(client, table).await?;
        }
    }
    Ok(())
}

async fn from_bundle(
    client: &Client,
    staging: &Staging,
    tables: &Tables,
    staged: &Staged,
    undo: &str,
) -> Result<(), Failure> {
    let columns: Vec<String> = COLUMNS
        .iter()
        .filter_map(|(name, pg_type)| {
            let value = staged.expression(name, "s", pg_type)?;
            Some(format!("{value} AS {}", quote_ident(name)))
        })
        .collect();
    let map = |name: &str, column: &str| {
        let table = tables.odoo(name).filter(|table| table.has_id());
        match table {
            Some(table) => format!(
                "(SELECT m.new FROM {} m WHERE m.old = q.{column} AND m.write)",
                staging.name(&format!("m{}", table.number))
            ),
            None => "NULL::pg_catalog.int8".to_owned(),
        }
    };
    let sql = format!(
        "SELECT q.*, {}, {} FROM (SELECT {} FROM {} s) q WHERE q.restore ORDER BY q.schema, q.name",
        map("ir_sequence", "ir_sequence_id"),
        map("ir_sequence_date_range", "date_range_id"),
        columns.join(", "),
        staged.sql
    );
    let rows = client
        .query(&sql, &[])
        .await
        .map_err(|error| failure_of("read the bundle's sequences", &error))?;
    let new_id = COLUMNS.len();
    for row in &rows {
        let numbering: Option<i64> = row.get(11);
        let range: Option<i64> = row.get(12);
        let schema: String = row.get(0);
        let name = match numbering {
            None => row.get::<_, String>(1),
            Some(_) => match (row.get::<_, Option<i64>>(new_id), range) {
                (Some(id), None) => format!("ir_sequence_{id:03}"),
                (Some(id), Some(_)) => match row.get::<_, Option<i64>>(new_id + 1) {
                    Some(range) => format!("ir_sequence_{id:03}_{range:03}"),
                    None => continue,
                },
                // Its row is not restored, or is kept as the target has it.
                (None, _) => continue,
            },
        };
        let sequence = format!("{}.{}", quote_ident(&schema), quote_ident(&name));
        if !exists(client, &sequence).await? {
            if numbering.is_none() {
                continue;
            }
            let create = format!(
                "CREATE SEQUENCE {sequence} AS {} INCREMENT {} MINVALUE {} MAXVALUE {} START {} CACHE {} {}; \
                 INSERT INTO {}.sequences VALUES ({})",
                row.get::<_, String>(4),
                row.get::<_, i64>(5),
                row.get::<_, i64>(7),
                row.get::<_, i64>(8),
                row.get::<_, i64>(6),
                row.get::<_, i64>(9),
                if row.get(10) { "CYCLE" } else { "NO CYCLE" },
                quote_ident(undo),
                quote_literal(&sequence),
            );
            run(client, &format!("create the sequence {name}"), &create).await?;
            let set = format!(
                "SELECT pg_catalog.setval({}, {}, {})",
                quote_literal(&sequence),
                row.get::<_, i64>(2),
                row.get::<_, bool>(3)
            );
            run(client, &format!("set the sequence {name}"), &set).await?;
        } else {
            raise_to(
                client,
                &sequence,
                &row.get::<_, i64>(2).to_string(),
                row.get(3),
            )
            .await?;
        }
    }
    Ok(())
}

/// A sequence that gives ids must not give one that a row has.
async fn beyond_rows(client: &Client, table: &CatalogTable) -> Result<(), Failure> {
    let sql = format!(
        "SELECT pg_catalog.pg_get_serial_sequence({}, 'id')::pg_catalog.text, (SELECT pg_catalog.max(t.id)::pg_catalog.int8 FROM {} t)",
        quote_literal(&table.table.sql()),
        from_live(table)
    );
    let row = client.query_one(&sql, &[]).await.map_err(|error| {
        failure_of(
            &format!("look for the sequence of {}", table.table.qualified()),
            &error,
        )
    })?;
    if let (Some(sequence), Some(largest)) = (
        row.get::<_, Option<String>>(0),
        row.get::<_, Option<i64>>(1),
    ) {
        raise_to(client, &sequence, &largest.to_string(), true).await?;
    }
    Ok(())
}

/// Sets a sequence to a value unless it is further on.
async fn raise_to(
    client: &Client,
    sequence: &str,
    value: &str,
    called: bool,
) -> Result<(), Failure> {
    let sql = format!(
        "SELECT pg_catalog.setval({}, {value}, {called} OR (s.last_value = {value} AND s.is_called)) \
         FROM {sequence} s WHERE s.last_value < {value} OR (s.last_value = {value} AND NOT s.is_called AND {called})",
        quote_literal(sequence)
    );
    run(client, &format!("raise the sequence {sequence}"), &sql).await
}

async fn exists(client: &Client, sequence: &str) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT pg_catalog.to_regclass({}) IS NOT NULL",
        quote_literal(sequence)
    );
    let row = client
        .query_one(&sql, &[])
        .await
        .map_err(|error| failure_of(&format!("look for the sequence {sequence}"), &error))?;
    Ok(row.get(0))
}

/// Tells running Odoo workers that their caches are out of date.
pub(super) async fn signal(client: &Client) -> Result<(), Failure> {
    let sql = "SELECT pg_catalog.count(pg_catalog.nextval(c.oid::pg_catalog.regclass)) FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'S' AND n.nspname = 'public' AND (c.relname = 'base_registry_signaling' \
               OR pg_catalog.starts_with(c.relname::pg_catalog.text, 'base_cache_signaling'))";
    run(client, "tell Odoo's workers to drop their caches", sql).await
}

/// Drops the sequences that the restore created.
pub(super) async fn drop_created(client: &Client, undo: &str) -> Result<(), Failure> {
    let attempted = "drop the sequences that the restore created";
    let table = format!("{}.sequences", quote_ident(undo));
    if !exists(client, &table).await? {
        return Ok(());
    }
    let rows = client
        .query(&format!("SELECT name FROM {table} ORDER BY 1"), &[])
        .await
        .map_err(|error| failure_of(attempted, &error))?;
    for row in rows {
        let drop = format!("DROP SEQUENCE IF EXISTS {}", row.get::<_, String>(0));
        run(client, attempted, &drop).await?;
    }
    Ok(())
}

async fn run(client: &Client, attempted: &str, sql: &str) -> Result<(), Failure> {
    client
        .batch_execute(sql)
        .await
        .map_err(|error| failure_of(attempted, &error))
}
