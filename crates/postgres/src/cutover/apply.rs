//! Applying differences, with the undo tables that lead back.

use arkstream_pipeline::{Failure, FailureKind, Reach};
use tokio_postgres::Client;

use super::change::{change, count_all};
use super::former::{Former, only_new};
use super::outside::Outside;
use super::reach::{self, Locking};
use super::{Applied, ApplyOptions, Key, TableDiff, row_security, run, writable};
use crate::advisory::Advisory;
use crate::catalog::Catalog;

/// Applies all differences and writes the undo tables, in the caller's open transaction: what changes or
/// goes is kept before, what is new is noted when it is there.
///
/// # Errors
/// [`FailureKind::Refused`] when deletions reach rows outside the differences and
/// [`ApplyOptions::cascade`] is not set, or when the differences contradict themselves;
/// [`FailureKind::Incompatible`] for a table without a key that is given in part; what the server
/// says otherwise, naming table and constraint. The caller rolls back.
pub async fn apply(
    client: &Client,
    catalog: &Catalog,
    diffs: &[TableDiff],
    options: &ApplyOptions,
) -> Result<Applied, Failure> {
    whole(diffs)?;
    // Held until the commit has ended one way or the other, whatever becomes of its client.
    let hold = Advisory::of(&options.undo_schema).hold_sql();
    run(client, "announce the switch of the rows", &hold).await?;
    let oids: Vec<u32> = diffs.iter().map(|diff| diff.table.table.oid).collect();
    let mut forced = row_security::lift(client, &oids).await?;
    let reached = reach::find(client, catalog, diffs, Locking::Rows).await?;
    forced.extend_from_slice(&reached.forced);
    if !reached.found.is_empty() && !options.cascade {
        return Err(refuse(&reached.found));
    }
    reach::contradictions(client, diffs).await?;
    let outside = Outside::new(catalog, &reached);
    let former = Former::create(client, &options.undo_schema).await?;
    let counts = count_all(client, diffs).await?;
    for (number, (diff, counts)) in diffs.iter().zip(&counts).enumerate() {
        let only_new = only_new(diff, counts, &outside);
        former.keep(client, number, diff, only_new).await?;
    }
    for (number, (table, emptied)) in (diffs.len()..).zip(outside.tables()) {
        let in_diff = diffs
            .iter()
            .enumerate()
            .find(|(_, diff)| diff.table.table.oid == table.table.oid);
        former
            .keep_outside(client, number, table, emptied, in_diff)
            .await?;
    }
    let (tables, keys_rebuilt) = change(client, diffs, &counts, &outside, options).await?;
    former.expect(client, diffs, &counts, &outside).await?;
    row_security::force(client, &forced).await?;
    Ok(Applied {
        tables,
        reach: reached.found,
        keys_rebuilt,
    })
}

/// What a row without a key has beside the given columns could not be kept for an undo.
pub(super) fn whole(diffs: &[TableDiff]) -> Result<(), Failure> {
    for diff in diffs.iter().filter(|diff| diff.key == Key::WholeRow) {
        let missing: Vec<String> = writable(&diff.table)
            .into_iter()
            .filter(|column| !diff.columns.contains(column))
            .collect();
        if !missing.is_empty() {
            return Err(Failure::new(
                FailureKind::Incompatible,
                format!("restore the rows of {}", diff.table.table.qualified()),
                format!(
                    "it has no primary key, and columns that the bundle does not have: {}",
                    missing.join(", ")
                ),
            )
            .help("give the table a primary key, drop the columns, or leave its model out"));
        }
    }
    Ok(())
}

pub(super) fn refuse(found: &[Reach]) -> Failure {
    let lines: Vec<String> = found
        .iter()
        .map(|reach| {
            format!(
                "{} rows of {} by {} ({})",
                reach.rows, reach.table, reach.key, reach.rule
            )
        })
        .collect();
    Failure::new(
        FailureKind::Refused,
        "delete the rows that the bundle does not have",
        format!(
            "rows outside the restored models refer to them: {}",
            lines.join(", ")
        ),
    )
    .help(
        "give --cascade to empty these references or, where they are required, to delete the rows; \
         they are kept for an undo",
    )
}
