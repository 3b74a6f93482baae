//! Which rows are identified, asked once under a snapshot.
//!
//! What leads to a user is every column of every table that names one, and so each query about users reads
//! all rows that travel. The same query stands inside those about companies, partners, external ids and
//! references: everything would be read a dozen times. So it is asked once, and its answer put in its place.

use std::{borrow::Cow, collections::BTreeMap};

use arkstream_pipeline::{Failure, Run};
use arkstream_postgres::{CatalogTable, TableTask, failure_of};
use tokio_postgres::Client;

use super::Planned;
use crate::scope::{FOLLOWED, KnownRows, Rows, Scope, plan_scope};
use crate::selection::Selection;

/// More ids than these are not written into a query.
const FEW: usize = 10_000;

/// The plan with the ids of the rows that are identified, as far as they are few.
pub(super) async fn settle<'p>(
    client: &Client,
    run: &Run,
    planned: &'p Planned,
    selection: &Selection,
) -> Result<Cow<'p, Scope>, Failure> {
    let mut known = KnownRows::new();
    let mut scope = Cow::Borrowed(&planned.scope);
    // Those that lead to others come first; in the end all that are left.
    for name in FOLLOWED.map(Some).into_iter().chain([None]) {
        let before = known.len();
        for task in &scope.tasks {
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
            scope = Cow::Owned(plan_scope(registry, catalog, selection, &known)?);
        }
    }
    Ok(scope)
}

/// The tasks of the plan, which read what was settled.
pub(super) fn cheaper(planned: &Scope, settled: &Scope) -> Vec<TableTask> {
    let filters = settled
        .tasks
        .iter()
        .map(|task| (&task.member_dir, &task.filter));
    let filters: BTreeMap<_, _> = filters.collect();
    let mut tasks = planned.tasks.clone();
    for task in &mut tasks {
        if let Some(filter) = filters.get(&task.member_dir)
            && **filter != task.filter
        {
            task.cheaper_filter.clone_from(filter);
        }
    }
    tasks
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
