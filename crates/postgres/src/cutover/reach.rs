//! Rows outside the differences that deletions reach through foreign keys.
//!
//! The server would act on them silently: CASCADE deletes, SET NULL empties, RESTRICT refuses. They
//! are found first, through every key of the database and as far as it goes, so that they can be
//! shown, agreed to, and kept for an undo.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_pipeline::{Failure, FailureKind, Reach};
use tokio_postgres::Client;

use super::keys::{self, ForeignKey};
use super::{Key, TableDiff, attempted, count, from_live, list, row_security, run};
use crate::catalog::{Catalog, CatalogTable};
use crate::sql::quote_literal;

/// The rows that are reached, in a temporary table `ark_reach`: table, place, and the columns that
/// are emptied; without columns the row is deleted.
pub(super) struct Reached {
    pub(super) found: Vec<Reach>,
    /// Tables with such rows, and the column sets that are emptied in them.
    pub(super) tables: BTreeMap<u32, BTreeSet<Vec<String>>>,
    /// Tables whose row-level security was lifted.
    pub(super) forced: Vec<String>,
}

/// Whether rows that go, or that are reached, are locked when they are found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// Nobody can change them, or refer to them, until the transaction ends.
    Rows,
    /// For a look only.
    None,
}

/// Rows outside the diffs that deletions reach. Leaves nothing behind but a temporary table of the
/// transaction, in which it has to be called.
///
/// # Errors
/// When the server refuses.
pub async fn reach(
    client: &Client,
    catalog: &Catalog,
    diffs: &[TableDiff],
) -> Result<Vec<Reach>, Failure> {
    let reached = find(client, catalog, diffs, Locking::None).await?;
    row_security::force(client, &reached.forced).await?;
    Ok(reached.found)
}

pub(super) async fn find(
    client: &Client,
    catalog: &Catalog,
    diffs: &[TableDiff],
    locking: Locking,
) -> Result<Reached, Failure> {
    let what = "find what deletions reach";
    run(
        client,
        what,
        "DROP TABLE IF EXISTS pg_temp.ark_reach; \
         CREATE TEMPORARY TABLE ark_reach (tab pg_catalog.oid, rel pg_catalog.oid, row pg_catalog.tid, \
           columns pg_catalog.text) ON COMMIT DROP; \
         CREATE UNIQUE INDEX ark_reach_row ON pg_temp.ark_reach (tab, rel, row, (COALESCE(columns, '')))",
    )
    .await?;
    let by_oid = by_oid(diffs);
    let mut reached = Reached {
        found: Vec::new(),
        tables: BTreeMap::new(),
        forced: Vec::new(),
    };
    let mut work: Vec<u32> = Vec::new();
    for diff in diffs {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} WHERE ark_op = 'd'",
            diff.diff
        );
        if count(client, what, &sql).await? > 0 {
            if locking == Locking::Rows {
                let sql = format!(
                    "DO $$BEGIN PERFORM FROM {} l JOIN ({}) g ON l.tableoid = g.ark_rel AND l.ctid = g.ark_row \
                     FOR UPDATE OF l; END$$",
                    diff.live(),
                    diff.gone()
                );
                run(
                    client,
                    &attempted("lock the rows that go of", &diff.table),
                    &sql,
                )
                .await?;
            }
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
            let lifted = row_security::lift(client, &[key.child]).await?;
            reached.forced.extend(lifted);
            let deletes = deletes(&key);
            let rows = follow(client, table, child, &key, &by_oid, locking).await?;
            if rows == 0 {
                continue;
            }
            reached.found.push(Reach {
                table: child.table.qualified(),
                key: key.name.clone(),
                rule: rule(key.on_delete).to_owned(),
                rows,
            });
            let emptied = reached.tables.entry(key.child).or_default();
            if deletes {
                work.push(key.child);
            } else {
                emptied.insert(key.columns.clone());
            }
        }
    }
    Ok(reached)
}

fn by_oid(diffs: &[TableDiff]) -> BTreeMap<u32, &TableDiff> {
    diffs
        .iter()
        .map(|diff| (diff.table.table.oid, diff))
        .collect()
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

/// A query for what `key` refers to, of the rows of `parent` that go.
fn values_that_go(parent: &CatalogTable, diff: Option<&TableDiff>, key: &ForeignKey) -> String {
    let live = from_live(parent);
    let values = list(&key.referenced, "p");
    let mut sql = format!(
        "SELECT {values} FROM {live} p JOIN pg_temp.ark_reach r ON r.tab = {} AND r.columns IS NULL \
         AND r.rel = p.tableoid AND r.row = p.ctid",
        parent.table.oid
    );
    if let Some(diff) = diff {
        sql.push_str(&format!(
            " UNION ALL SELECT {values} FROM {live} p JOIN ({}) g ON g.ark_rel = p.tableoid AND g.ark_row = p.ctid",
            diff.gone()
        ));
        if taken_over(diff, key) {
            sql = format!(
                "({sql}) EXCEPT SELECT {} FROM {} d WHERE d.ark_op IN ('i', 'u')",
                list(&key.referenced, "d"),
                diff.wanted
            );
        }
    }
    sql
}

/// Whether a wanted row may have the value of one that goes: where rows are told by something else.
fn taken_over(parent: &TableDiff, key: &ForeignKey) -> bool {
    let told =
        matches!(&parent.key, Key::Columns(of) if of.iter().all(|c| key.referenced.contains(c)));
    !told && key.referenced.iter().all(|c| parent.columns.contains(c))
}

/// Adds the rows of `child` whose key leads to a row of `parent` that goes. Returns how many are new.
async fn follow(
    client: &Client,
    parent: &CatalogTable,
    child: &CatalogTable,
    key: &ForeignKey,
    diffs: &BTreeMap<u32, &TableDiff>,
    locking: Locking,
) -> Result<u64, Failure> {
    let mut own = String::new();
    if let Some(diff) = diffs.get(&child.table.oid) {
        own = format!(
            " AND NOT EXISTS (SELECT FROM ({}) g WHERE g.ark_rel = c.tableoid AND g.ark_row = c.ctid)",
            diff.gone()
        );
        // An update gives the row another reference, where it sets these columns.
        if key.columns.iter().all(|c| diff.columns.contains(c)) {
            own.push_str(&format!(
                " AND NOT EXISTS (SELECT FROM {} d WHERE d.ark_op = 'u' AND {})",
                diff.diff,
                diff.joined("d", "c")
            ));
        }
    }
    let columns = if deletes(key) {
        "NULL".to_owned()
    } else {
        quote_literal(&list(&key.columns, ""))
    };
    let lock = match locking {
        Locking::Rows => "FOR UPDATE OF c",
        Locking::None => "",
    };
    let sql = format!(
        "WITH added AS (INSERT INTO pg_temp.ark_reach SELECT {}, c.tableoid, c.ctid, {columns} FROM {} c \
         WHERE ({}) IN ({}){own} {lock} ON CONFLICT DO NOTHING RETURNING 1) SELECT pg_catalog.count(*) FROM added",
        child.table.oid,
        from_live(child),
        list(&key.columns, "c"),
        values_that_go(parent, diffs.get(&parent.table.oid).copied(), key),
    );
    count(
        client,
        &attempted("find what deletions reach in", child),
        &sql,
    )
    .await
}

/// Refuses differences that want a row and take away what it refers to: a live foreign key would
/// delete or empty it without a word.
pub(super) async fn contradictions(client: &Client, diffs: &[TableDiff]) -> Result<(), Failure> {
    let by_oid = by_oid(diffs);
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    for key in keys::read(client, &oids).await? {
        let (Some(child), Some(parent)) = (by_oid.get(&key.child), by_oid.get(&key.parent)) else {
            continue;
        };
        if !key.columns.iter().all(|c| child.columns.contains(c)) {
            continue;
        }
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} d WHERE d.ark_op IN ('i', 'u') AND ({}) IN ({})",
            child.wanted,
            list(&key.columns, "d"),
            values_that_go(&parent.table, Some(parent), &key)
        );
        let what = attempted("look at the references of", &child.table);
        let rows = count(client, &what, &sql).await?;
        if rows > 0 {
            return Err(contradiction(
                &child.table,
                &format!(
                    "{rows} of them refer to rows of {} that go ({})",
                    parent.table.table.qualified(),
                    key.name
                ),
            ));
        }
    }
    for diff in diffs {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} t JOIN pg_temp.ark_reach r ON r.tab = {} AND r.columns IS NULL \
             AND r.rel = t.tableoid AND r.row = t.ctid JOIN {} d ON d.ark_op = 'u' AND {}",
            diff.live(),
            diff.table.table.oid,
            diff.diff,
            diff.joined("t", "d")
        );
        let rows = count(client, &attempted("look at the rows of", &diff.table), &sql).await?;
        if rows > 0 {
            return Err(contradiction(
                &diff.table,
                &format!("{rows} of them would go with rows that the bundle does not have"),
            ));
        }
    }
    Ok(())
}

fn contradiction(table: &CatalogTable, why: &str) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("restore the rows of {}", table.table.qualified()),
        why,
    )
    .help("restore the models of both tables together, or none of the two")
}
