//! Which rows are identified, asked once under a snapshot.
//!
//! What leads to a user is every column of every table that names one, and so each query about users reads
//! all rows that travel. The same query stands inside those about companies, partners, external ids and
//! references: everything would be read a dozen times. So it is asked once, and its answer put in its place.

use std::{collections::BTreeMap, sync::Arc};

use arkstream_pipeline::{Failure, Run};
use arkstream_postgres::{CatalogTable, TableTask, failure_of};
use tokio_postgres::Client;

use super::Planned;
use crate::scope::{FOLLOWED, KnownRows, Rows, plan_scope};
use crate::selection::Selection;

/// More ids than these are not written into a query.
const FEW: usize = 10_000;

/// The tasks of the plan, with the ids of the rows that are identified, as far as they are few.
pub(super) async fn settle(
    client: &Client,
    run: &Run,
    planned: &Planned,
    selection: &Selection,
) -> Result<Vec<Arc<TableTask>>, Failure> {
    let mut known = KnownRows::new();
    let mut tasks = planned.scope.tasks.clone();
    // Those that lead to others come first; in the end all that are left.
    for name in FOLLOWED.map(Some).into_iter().chain([None]) {
        let before = known.len();
        for task in &tasks {
            let table = &task.table.table;
            let is_next = name.is_none_or(|name| table.name == name);
            if is_next && is_asked(task) && !known.contains_key(&table.oid) {
                let found = tokio::select! {
                    biased;
                    () = run.cancel.raised() => return Err(Failure::interrupted()),
                    found = ids(client, task) => found?,
                };
                if let Some(ids) = found {
                    known.insert(table.oid, ids);
                }
            }
        }
        if known.len() > before {
            let (registry, catalog) = (&planned.registry, &planned.catalog);
            let settled = plan_scope(registry, catalog, selection, &known)?.tasks;
            tasks = paired(&planned.scope.tasks, settled)
                .map(|(planned, settled)| match planned {
                    // Most are as they were, and are kept once.
                    Some(planned) if *planned == settled => Arc::clone(planned),
                    _ => settled,
                })
                .collect();
        }
    }
    Ok(tasks)
}

/// The tasks of the plan, which read what was settled.
pub(super) fn cheaper(
    planned: &[Arc<TableTask>],
    settled: &[Arc<TableTask>],
) -> Vec<Arc<TableTask>> {
    let pairs = paired(settled, planned.to_vec());
    let tasks = pairs.map(|(settled, mut task)| {
        if let Some(settled) = settled.filter(|settled| settled.filter != task.filter) {
            Arc::make_mut(&mut task)
                .cheaper_filter
                .clone_from(&settled.filter);
        }
        task
    });
    tasks.collect()
}

/// Tasks, each behind the one among `others` that is about the same rows.
fn paired(
    others: &[Arc<TableTask>],
    tasks: Vec<Arc<TableTask>>,
) -> impl Iterator<Item = (Option<&Arc<TableTask>>, Arc<TableTask>)> {
    let others: BTreeMap<&str, &Arc<TableTask>> = others
        .iter()
        .map(|task| (task.member_dir.as_str(), task))
        .collect();
    tasks
        .into_iter()
        .map(move |task| (others.get(task.member_dir.as_str()).copied(), task))
}

/// Whether rows of the task are identified, and an id is one row.
fn is_asked(task: &TableTask) -> bool {
    let CatalogTable {
        kind,
        children,
        primary_key,
        ..
    } = task.table.as_ref();
    let is_whole_number = task
        .table
        .column("id")
        .is_some_and(|id| matches!(id.pg.type_name.as_str(), "integer" | "bigint"));
    task.columns.is_some()
        && task.filter.is_some()
        && *kind == 'r'
        && children.is_empty()
        && is_whole_number
        && *primary_key == ["id"]
}

/// The ids of the task's rows; `None` where they are many.
async fn ids(client: &Client, task: &TableTask) -> Result<Option<Vec<i64>>, Failure> {
    let query = format!(
        "SELECT found.id FROM (SELECT t.id::int8 {} LIMIT {}) found (id) ORDER BY 1",
        Rows::of(task).and("true"),
        FEW + 1
    );
    let attempted = || format!("find the rows of {}", task.table.table.qualified());
    let rows = client.query(&query, &[]).await;
    let rows = rows.map_err(|error| failure_of(&attempted(), &error))?;
    let ids = || rows.iter().map(|row| row.get(0)).collect();
    Ok((rows.len() <= FEW).then(ids))
}
