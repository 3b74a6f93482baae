//! The statements that change live tables.

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;

use super::identity::Identities;
use super::keys::{self, Order};
use super::outside::Outside;
use super::uniques::Uniques;
use super::{AppliedTable, ApplyOptions, Key, Strategy, TableDiff, attempted, list, run};
use crate::failure::failure_of;
use crate::sql::quote_ident;

/// How many rows of a diff table are inserted, updated, deleted.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) inserts: u64,
    pub(super) updates: u64,
    pub(super) deletes: u64,
}

/// Applies the differences and changes the rows outside. Returns what became of the tables, and the
/// number of foreign keys that were made again.
pub(super) async fn change(
    client: &Client,
    diffs: &[TableDiff],
    counts: &[Counts],
    outside: &Outside<'_>,
    options: &ApplyOptions,
) -> Result<(Vec<AppliedTable>, usize), Failure> {
    let rows: u64 = counts
        .iter()
        .map(|c| c.inserts + c.updates + c.deletes)
        .sum();
    let rebuild = options.strategy_for(rows) == Strategy::RebuildKeys;
    let oids: Vec<u32> = diffs.iter().map(|diff| diff.table.table.oid).collect();
    let uniques = Uniques::find(client, diffs, counts, outside).await?;
    let order = Order::new(
        diffs,
        &keys::read(client, &oids).await?,
        &uniques.indexes(),
        rebuild,
    );
    order.drop_keys(client).await?;
    uniques.drop(client).await?;
    let identities = Identities::open(client, diffs, counts).await?;

    outside.empty(client).await?;
    for component in &order.components {
        insert(client, diffs, counts, component).await?;
    }
    for (diff, counts) in diffs.iter().zip(counts) {
        update(client, diff, counts.updates).await?;
    }
    delete(client, diffs, counts, outside).await?;

    // Tables with events that are put off to the end of the transaction cannot be altered.
    let attempted = "check the constraints that are put off to the end of the transaction";
    run(client, attempted, "SET CONSTRAINTS ALL IMMEDIATE").await?;
    identities.close(client).await?;
    uniques.add(client).await?;
    order.add_keys(client).await?;
    let tables = diffs
        .iter()
        .zip(counts)
        .map(|(diff, counts)| AppliedTable {
            table: diff.table.table.qualified(),
            inserted: counts.inserts,
            updated: counts.updates,
            deleted: counts.deletes,
        })
        .collect();
    Ok((tables, order.dropped.len()))
}

/// [`Counts`] of all differences, in their order.
pub(super) async fn count_all(
    client: &Client,
    diffs: &[TableDiff],
) -> Result<Vec<Counts>, Failure> {
    let mut counts = Vec::with_capacity(diffs.len());
    for diff in diffs {
        counts.push(count_ops(client, diff).await?);
    }
    Ok(counts)
}

async fn count_ops(client: &Client, diff: &TableDiff) -> Result<Counts, Failure> {
    let sql = format!(
        "SELECT pg_catalog.count(*) FILTER (WHERE ark_op = 'i'), pg_catalog.count(*) FILTER (WHERE ark_op = 'u'), \
         pg_catalog.count(*) FILTER (WHERE ark_op = 'd') FROM {}",
        diff.diff
    );
    let row = client
        .query_one(&sql, &[])
        .await
        .map_err(|error| failure_of(&attempted("count the differences of", &diff.table), &error))?;
    let number = |index: usize| row.get::<_, i64>(index).unsigned_abs();
    Ok(Counts {
        inserts: number(0),
        updates: number(1),
        deletes: number(2),
    })
}

/// A statement of one table, and how many rows it has to change.
struct Part {
    table: String,
    sql: String,
    /// `None` where the number is not known before.
    rows: Option<u64>,
}

/// Runs the parts as one statement, so that foreign keys are looked at when all are done.
async fn together(client: &Client, what: &str, parts: &[Part]) -> Result<(), Failure> {
    if parts.is_empty() {
        return Ok(());
    }
    let tables: Vec<&str> = parts.iter().map(|part| part.table.as_str()).collect();
    let what = format!("{what} {}", tables.join(", "));
    let mut with = Vec::new();
    let mut counts = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        with.push(format!("p{number} AS ({} RETURNING 1)", part.sql));
        counts.push(format!(
            "SELECT {number} AS n, pg_catalog.count(*) FROM p{number}"
        ));
    }
    let sql = format!(
        "WITH {} {} ORDER BY n",
        with.join(", "),
        counts.join(" UNION ALL ")
    );
    let rows = client
        .query(&sql, &[])
        .await
        .map_err(|error| failure_of(&what, &error))?;
    for (part, row) in parts.iter().zip(&rows) {
        let changed = row.get::<_, i64>(1).unsigned_abs();
        if let Some(wanted) = part.rows.filter(|wanted| *wanted != changed) {
            return Err(Failure::new(
                FailureKind::Refused,
                what,
                format!(
                    "{wanted} rows of {} were to be changed, the server changed {changed}",
                    part.table
                ),
            )
            .help(
                "a trigger or a rule of the table suppresses changes, or its rows are not those \
                 that were compared; disable the trigger and run again",
            ));
        }
    }
    Ok(())
}

async fn insert(
    client: &Client,
    diffs: &[TableDiff],
    counts: &[Counts],
    component: &[usize],
) -> Result<(), Failure> {
    let parts: Vec<Part> = component
        .iter()
        .filter_map(|number| Some((diffs.get(*number)?, counts.get(*number)?)))
        .filter(|(_, counts)| counts.inserts > 0)
        .map(|(diff, counts)| Part {
            table: diff.table.table.qualified(),
            sql: format!(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} d WHERE d.ark_op = 'i'",
                diff.table.table.sql(),
                list(&diff.columns, ""),
                list(&diff.columns, "d"),
                diff.wanted
            ),
            rows: Some(counts.inserts),
        })
        .collect();
    together(client, "insert into", &parts).await
}

async fn update(client: &Client, diff: &TableDiff, rows: u64) -> Result<(), Failure> {
    let sets: Vec<String> = diff
        .columns
        .iter()
        .filter(|column| !diff.is_key(column))
        .map(|column| format!("{0} = d.{0}", quote_ident(column)))
        .collect();
    if rows == 0 || sets.is_empty() {
        return Ok(());
    }
    let part = Part {
        table: diff.table.table.qualified(),
        sql: format!(
            "UPDATE {} t SET {} FROM {} d WHERE d.ark_op = 'u' AND {}",
            diff.live(),
            sets.join(", "),
            diff.wanted,
            diff.joined("t", "d")
        ),
        rows: Some(rows),
    };
    together(client, "update", &[part]).await
}

async fn delete(
    client: &Client,
    diffs: &[TableDiff],
    counts: &[Counts],
    outside: &Outside<'_>,
) -> Result<(), Failure> {
    let own = diffs.iter().zip(counts).filter(|(_, c)| c.deletes > 0);
    let own = own.map(|(diff, counts)| {
        let live = diff.live();
        let sql = match &diff.key {
            Key::Columns(_) => format!(
                "DELETE FROM {live} t USING {} d WHERE d.ark_op = 'd' AND {}",
                diff.diff,
                diff.joined("t", "d")
            ),
            Key::WholeRow => format!(
                "DELETE FROM {live} t USING ({}) g WHERE t.tableoid = g.ark_rel AND t.ctid = g.ark_row",
                diff.gone()
            ),
        };
        Part {
            table: diff.table.table.qualified(),
            sql,
            rows: Some(counts.deletes),
        }
    });
    let reached = outside.deletes().map(|(table, sql)| Part {
        table: table.table.qualified(),
        sql,
        rows: None,
    });
    let parts: Vec<Part> = own.chain(reached).collect();
    together(client, "delete from", &parts).await
}
