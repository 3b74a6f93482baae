//! Rows outside the differences that deletions reach through foreign keys.
//!
//! The server would act on them silently: CASCADE deletes, SET NULL empties, RESTRICT refuses. They
//! are found first, through every key of the database and as far as it goes, so that they can be
//! shown, agreed to, and kept for an undo.

use std::collections::BTreeMap;

use arkstream_pipeline::{Failure, Reach};
use tokio_postgres::Client;

use super::keys::{self, ForeignKey};
use super::{Key, TableDiff, count, from_live, list, run};
use crate::catalog::{Catalog, CatalogTable};
use crate::sql::quote_ident;

/// The rows that are reached, in a temporary table `ark_reach`: table, row, and the columns that
/// are emptied; without columns the row is deleted.
pub(super) struct Reached {
    pub(super) found: Vec<Reach>,
    /// Tables with deletions, in the order in which they were found.
    pub(super) deleted_from: Vec<u32>,
    /// Tables and columns that are emptied.
    pub(super) emptied: Vec<(u32, Vec<String>)>,
}

/// Rows outside the diffs that deletions reach. Leaves nothing behind but a temporary table of the
/// transaction.
///
/// # Errors
/// When the server refuses.
pub async fn reach(
    client: &Client,
    catalog: &Catalog,
    diffs: &[TableDiff],
) -> Result<Vec<Reach>, Failure> {
    Ok(find(client, catalog, diffs).await?.found)
}

pub(super) async fn find(
    client: &Client,
    catalog: &Catalog,
    diffs: &[TableDiff],
) -> Result<Reached, Failure> {
    let attempted = "find what deletions reach";
    run(
        client,
        attempted,
        "DROP TABLE IF EXISTS pg_temp.ark_reach; \
         CREATE TEMPORARY TABLE ark_reach (tab pg_catalog.oid, row pg_catalog.tid, columns pg_catalog.text) ON COMMIT DROP; \
         CREATE UNIQUE INDEX ark_reach_row ON pg_temp.ark_reach (tab, row, (COALESCE(columns, '')))",
    )
    .await?;
    let by_oid: BTreeMap<u32, &TableDiff> = diffs
        .iter()
        .map(|diff| (diff.table.table.oid, diff))
        .collect();
    let mut reached = Reached {
        found: Vec::new(),
        deleted_from: Vec::new(),
        emptied: Vec::new(),
    };
    let mut work: Vec<u32> = Vec::new();
    for diff in diffs {
        let sql = format!("SELECT count(*) FROM {} WHERE ark_op = 'd'", diff.diff);
        if matches!(diff.key, Key::Columns(_)) && count(client, attempted, &sql).await? > 0 {
            work.push(diff.table.table.oid);
        }
    }
    while let Some(parent) = work.pop() {
        let Some(table) = catalog.by_oid(parent) else {
            continue;
        };
        let keys = keys::read(client, &[parent]).await?;
        for key in keys.into_iter().filter(|key| key.parent == parent) {
            let Some(child) = catalog.by_oid(key.child) else {
                continue;
            };
            let deletes = deletes(&key);
            let rows = follow(client, table, child, &key, deletes, &by_oid).await?;
            if rows == 0 {
                continue;
            }
            reached.found.push(Reach {
                table: child.table.qualified(),
                key: key.name.clone(),
                rule: rule(key.on_delete).to_owned(),
                rows,
            });
            if deletes {
                reached.deleted_from.push(key.child);
                work.push(key.child);
            } else {
                reached.emptied.push((key.child, key.columns.clone()));
            }
        }
    }
    Ok(reached)
}

/// Whether the row goes: CASCADE says so, and a required key leaves no choice.
fn deletes(key: &ForeignKey) -> bool {
    key.on_delete == 'c' || !key.nullable
}

fn rule(on_delete: char) -> &'static str {
    match on_delete {
        'c' => "cascade",
        'n' => "set null",
        'd' => "set default",
        'r' => "restrict",
        _ => "no action",
    }
}

/// Adds the rows of `child` whose key leads to a row of `parent` that goes. Returns how many are new.
async fn follow(
    client: &Client,
    parent: &CatalogTable,
    child: &CatalogTable,
    key: &ForeignKey,
    deletes: bool,
    diffs: &BTreeMap<u32, &TableDiff>,
) -> Result<u64, Failure> {
    let oid = parent.table.oid;
    let mut gone = vec![format!(
        "p.ctid IN (SELECT r.row FROM pg_temp.ark_reach r WHERE r.tab = {oid} AND r.columns IS NULL)"
    )];
    if let Some(diff) = diffs.get(&oid) {
        gone.push(format!(
            "EXISTS (SELECT FROM {} d WHERE d.ark_op = 'd' AND {})",
            diff.diff,
            diff.joined("d", "p")
        ));
    }
    // Rows that change anyway are in the differences, with references that lead elsewhere.
    let own = match diffs.get(&child.table.oid) {
        Some(diff) => format!(
            " AND NOT EXISTS (SELECT FROM {} d WHERE {})",
            diff.diff,
            diff.joined("d", "c")
        ),
        None => String::new(),
    };
    let columns = if deletes {
        "NULL".to_owned()
    } else {
        crate::sql::quote_literal(&list(&key.columns, ""))
    };
    let on: Vec<String> = key
        .columns
        .iter()
        .zip(&key.referenced)
        .map(|(c, p)| format!("c.{} = p.{}", quote_ident(c), quote_ident(p)))
        .collect();
    let sql = format!(
        "WITH added AS (INSERT INTO pg_temp.ark_reach SELECT {}, c.ctid, {columns} FROM {} c \
         WHERE EXISTS (SELECT FROM {} p WHERE {} AND ({})){own} \
         ON CONFLICT DO NOTHING RETURNING 1) SELECT pg_catalog.count(*) FROM added",
        child.table.oid,
        from_live(child),
        from_live(parent),
        on.join(" AND "),
        gone.join(" OR "),
    );
    count(
        client,
        &format!("find what deletions reach in {}", child.table.qualified()),
        &sql,
    )
    .await
}
