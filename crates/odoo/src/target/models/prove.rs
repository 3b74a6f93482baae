//! After the cut-over: the live rows against the bundle's.

use arkstream_pipeline::{Failure, Proof};
use arkstream_postgres::{failure_of, hash_of};

use super::Mode;
use super::diffs;
use super::maps::Mapping;
use super::neutralize::untouched;
use super::shared;
use super::tables::{Class, Table, bytes_of, col};

/// Compares every table that was written: the number of the restored rows and an order-independent
/// sum of hashes over the bytes of each row, live against staged; of tables that the bundle has
/// whole, in `replace`, also the number of all rows against the manifest.
pub(super) async fn prove(mapping: &Mapping<'_>) -> Result<Vec<Proof>, Failure> {
    let mut proofs = Vec::new();
    for table in mapping.tables.written() {
        if mapping.mode == Mode::Replace && table.class == Class::Whole {
            // Rows of a many2many table may have been left out with what they led to.
            if table.has_id() {
                let what = format!("{}: number of rows", table.entry.table);
                let expected = format!(
                    "SELECT ({} - pg_catalog.count(*))::pg_catalog.text FROM {} m WHERE NOT {}",
                    table.entry.rows,
                    mapping.map(table),
                    untouched(mapping, table, "m.new")
                );
                let live = format!(
                    "SELECT pg_catalog.count(*)::pg_catalog.text FROM {} t WHERE {}",
                    table.only_live(),
                    untouched(mapping, table, "t.id")
                );
                let expected = ask(mapping, table, &expected).await?;
                proofs.push(Proof::new(
                    what,
                    expected,
                    ask(mapping, table, &live).await?,
                ));
            }
        }
        if let Some((staged, live)) = sums(mapping, table) {
            let what = format!(
                "{}: restored rows and the sum of their hashes",
                table.entry.table
            );
            proofs.push(Proof::new(
                what,
                ask(mapping, table, &staged).await?,
                ask(mapping, table, &live).await?,
            ));
        }
    }
    Ok(proofs)
}

/// Two queries that give the same text when the restored rows are live as they stand in the bundle.
fn sums(mapping: &Mapping<'_>, table: &Table) -> Option<(String, String)> {
    let sum = |id: &str, bytes: &str| {
        format!(
            "SELECT pg_catalog.count(*) || ' rows, ' || COALESCE(pg_catalog.sum(\
             pg_catalog.hashtextextended({id} || {}, 0)::pg_catalog.numeric), 0)",
            hash_of(bytes)
        )
    };
    let live = table.only_live();
    let x = mapping.mapped(table);
    if table.has_id() {
        let m = mapping.map(table);
        return Some((
            format!(
                "{} FROM {x} x JOIN {m} m ON m.old = x.ark_old LEFT JOIN {live} t ON t.id = m.new WHERE m.write AND {}",
                sum("m.new", &diffs::wanted_bytes(table)),
                untouched(mapping, table, "m.new")
            ),
            format!(
                "{} FROM {live} t JOIN {m} m ON m.new = t.id WHERE m.write AND {}",
                sum("t.id", &bytes_of("t", table.values())),
                untouched(mapping, table, "m.new")
            ),
        ));
    }
    if mapping.mode != Mode::Replace {
        return None;
    }
    let given: Vec<String> = table
        .live
        .primary_key
        .iter()
        .filter(|column| table.has(column))
        .map(|column| format!("{} IS NOT NULL", col("x", column)))
        .collect();
    let given = if given.is_empty() {
        "true".to_owned()
    } else {
        given.join(" AND ")
    };
    let (mine, theirs) = match table.class {
        Class::Shared => (
            shared::owned(mapping, table, "x"),
            shared::owned(mapping, table, "t"),
        ),
        _ => ("true".to_owned(), "true".to_owned()),
    };
    Some((
        format!(
            "{} FROM {x} x WHERE {given} AND {mine}",
            sum("''", &bytes_of("x", table.values()))
        ),
        format!(
            "{} FROM {live} t WHERE {theirs}",
            sum("''", &bytes_of("t", table.values()))
        ),
    ))
}

async fn ask(mapping: &Mapping<'_>, table: &Table, sql: &str) -> Result<String, Failure> {
    let row = mapping.client.query_one(sql, &[]).await.map_err(|error| {
        failure_of(
            &format!(
                "compare the live rows of {} with the bundle",
                table.entry.table
            ),
            &error,
        )
    })?;
    Ok(row.get(0))
}
