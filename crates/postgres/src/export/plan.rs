//! From tables to parts: which columns are read, in which ranges, under which names they are kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arkstream_columnar::{Encoding, PgColumn, TableLayout};
use arkstream_format::{ColumnEncoding, ColumnEntry, Component, PartEntry, TableEntry};
use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;

use super::definition;
use super::earlier::{Earlier, reuse};
use super::ranges::{Part, Parts, Range, Relation, Work, relations_of, select};
use super::versions::ask_all;
use super::{DurablePart, Setting};
use crate::catalog::{TableRef, describe_query};
use crate::failure::failure_of;
use crate::holder::internal;
use crate::session::Session;
use crate::task::TableTask;

/// A byte of TOAST is compressed; this many come out of it.
const TOAST_EXPANSION: u64 = 3;

/// Raw bytes of a part, whatever the budget: small enough to redo, large enough to compress.
const SMALLEST_PART: u64 = 256 << 10;
const LARGEST_PART: u64 = 128 << 20;

/// One table, ready to be read.
pub(super) struct Table {
    pub(super) task: Arc<TableTask>,
    pub(super) layout: TableLayout,
    pub(super) parts: Vec<Part>,
    columns_left_out: Vec<String>,
}

/// A relation as it lies on disk, under the locks.
pub(super) struct Stored {
    pub(super) relfilenode: Option<u32>,
    pub(super) in_blocks: bool,
    pub(super) blocks: u32,
    pub(super) bytes: u64,
}

/// Plans all tables. `share` is a worker's part of the memory budget. What earlier runs and older
/// bundles left is proven on all sessions at once, and what is proven is copied meanwhile.
pub(super) async fn plan(
    setting: &Setting<'_>,
    sessions: &[Session],
    tasks: Vec<Arc<TableTask>>,
    share: u64,
) -> Result<Vec<Table>, Failure> {
    let (client, options) = (setting.coordinator, setting.options);
    let version = server_version(client).await?;
    let part_bytes = options
        .part_bytes
        .unwrap_or((share / 3).clamp(SMALLEST_PART, LARGEST_PART))
        .max(1);
    let oids: Vec<u32> = tasks
        .iter()
        .flat_map(|task| task.table.leaves.iter().chain([&task.table.table]))
        .map(|table| table.oid)
        .collect();
    let definitions = definition::read(client, &oids).await?;
    let stored = read_stored(client, oids).await?;
    let earlier = Earlier::of(setting).await?;
    let mut drafts = Vec::with_capacity(tasks.len());
    for mut task in tasks {
        let (columns, columns_left_out) = columns(client, &task).await?;
        if columns.is_empty() {
            leave_out_bare_rows(setting, Arc::make_mut(&mut task)).await?;
        }
        let layout = TableLayout::new(columns);
        let found = relations_of(&task);
        let mut relations = Vec::with_capacity(found.len());
        for relation in found {
            let relation = match relation {
                None => Relation::of_query(&task, &layout),
                Some(relation) => {
                    let found = stored.get(&relation.oid).filter(|found| {
                        relation.oid != task.table.table.oid
                            || found.relfilenode == task.table.relfilenode
                    });
                    let found = found.ok_or_else(|| rewritten(relation))?;
                    let definition = definitions.get(&relation.oid);
                    Relation::stored(&task, &layout, relation, found, definition, version)
                }
            };
            let candidates = earlier.candidates(&task, &relation);
            relations.push((relation, candidates));
        }
        let table = Table {
            layout,
            parts: Vec::new(),
            task,
            columns_left_out,
        };
        drafts.push((table, relations));
    }

    let queries = drafts.iter().flat_map(|(table, relations)| {
        let candidates = relations.iter().flat_map(|(_, candidates)| candidates);
        candidates.filter_map(|candidate| candidate.query(&table.task))
    });
    let (asking, mut answers) = ask_all(sessions, queries.collect());
    let deciding = async {
        let mut tables = Vec::with_capacity(drafts.len());
        for (mut table, relations) in drafts {
            let task = &table.task;
            let mut parts = Parts::new(&task.member_dir, earlier.names(&task.member_dir));
            for (relation, candidates) in relations {
                reuse(setting, task, candidates, &mut answers, &mut parts).await?;
                parts.fill_gaps(&relation, part_bytes);
            }
            table.parts = parts.in_order();
            tables.push(table);
        }
        Ok(tables)
    };
    let ((), tables) = futures::future::try_join(asking, deciding).await?;
    Ok(tables)
}

async fn server_version(client: &Client) -> Result<i32, Failure> {
    let query = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4";
    let row = client.query_one(query, &[]).await;
    row.map(|row| row.get(0))
        .map_err(|error| failure_of("ask for the server's version", &error))
}

/// A table without columns may still have rows, which are nothing but their number. Parquet
/// cannot say that; the rows are counted as left out, and the table itself is kept.
async fn leave_out_bare_rows(setting: &Setting<'_>, task: &mut TableTask) -> Result<(), Failure> {
    let table = &task.table.table;
    let name = table.qualified();
    let query = format!("SELECT pg_catalog.count(*) FROM {}", table.sql());
    let count = setting.coordinator.query_one(&query, &[]).await;
    let rows: i64 = count
        .map_err(|error| failure_of(&format!("count {name}"), &error))?
        .get(0);
    if rows > 0 {
        let what = format!("{rows} rows of {name}");
        setting.run.omit(
            Component::Models,
            what,
            "the table has no columns, so they hold nothing",
        );
    }
    task.filter = Some("false".to_owned());
    task.cheaper_filter = None;
    Ok(())
}

/// Fails when a relation has another file than the one that was planned and read.
pub(super) async fn verify_relfilenodes(client: &Client, tables: &[Table]) -> Result<(), Failure> {
    let ranges = || tables.iter().flat_map(|t| t.parts.iter().map(|p| &p.range));
    let oids: HashSet<u32> = ranges()
        .filter_map(|r| r.relation.as_ref())
        .map(|t| t.oid)
        .collect();
    let stored = read_stored(client, oids.into_iter().collect()).await?;
    for range in ranges() {
        if let Some(relation) = &range.relation
            && stored.get(&relation.oid).map(|s| s.relfilenode) != Some(range.relfilenode)
        {
            return Err(rewritten(relation));
        }
    }
    Ok(())
}

fn rewritten(relation: &TableRef) -> Failure {
    Failure::new(
        FailureKind::Source,
        format!("export {}", relation.qualified()),
        "it was rewritten in spite of its lock, so that what was read may lack rows",
    )
    .help("run again; a materialised view must not be refreshed meanwhile")
}

async fn read_stored(client: &Client, oids: Vec<u32>) -> Result<HashMap<u32, Stored>, Failure> {
    let rows = client
        .query(
            "SELECT c.oid, pg_catalog.pg_relation_filenode(c.oid), \
                    c.relkind IN ('r', 'm') AND a.amname = 'heap', \
                    CASE WHEN c.relkind IN ('r', 'm') \
                         THEN pg_catalog.pg_relation_size(c.oid) END, \
                    CASE WHEN c.reltoastrelid <> 0 \
                         THEN pg_catalog.pg_relation_size(c.reltoastrelid) END, \
                    pg_catalog.current_setting('block_size')::pg_catalog.int8 \
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam \
             WHERE c.oid = ANY ($1)",
            &[&oids],
        )
        .await
        .map_err(|error| failure_of("count the blocks of the tables", &error))?;
    Ok(rows
        .iter()
        .map(|row| {
            let size = |index| {
                row.get::<_, Option<i64>>(index)
                    .unwrap_or_default()
                    .unsigned_abs()
            };
            let (heap, toast) = (size(3), size(4));
            let blocks = heap / row.get::<_, i64>(5).unsigned_abs().max(1);
            let stored = Stored {
                relfilenode: row.get(1),
                in_blocks: row.get::<_, Option<bool>>(2).unwrap_or_default(),
                blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
                bytes: heap + toast * TOAST_EXPANSION,
            };
            (row.get(0), stored)
        })
        .collect())
}

/// The columns to export with Odoo's annotations, and the names of those left out.
async fn columns(
    client: &Client,
    task: &TableTask,
) -> Result<(Vec<PgColumn>, Vec<String>), Failure> {
    let attempted = format!("export {}", task.table.table.qualified());
    let all: Vec<PgColumn> = match &task.virtual_query {
        Some(query) => describe_query(client, &query.sql)
            .await
            .map_err(|error| failure_of(&format!("read {}", query.name), &error))?,
        None => task
            .table
            .columns
            .iter()
            .map(|column| column.pg.clone())
            .collect(),
    };
    let (mut kept, left_out): (Vec<_>, Vec<_>) = match &task.columns {
        None => (all, Vec::new()),
        Some(names) => {
            if let Some(unknown) = names.iter().find(|n| all.iter().all(|c| c.name != **n)) {
                return Err(internal(&attempted, &format!("it has no column {unknown}")));
            }
            all.into_iter()
                .partition(|column| names.contains(&column.name))
        }
    };
    for column in &mut kept {
        if let Some((odoo_type, relation)) = task.annotations.get(&column.name) {
            column.odoo_type.clone_from(odoo_type);
            column.relation.clone_from(relation);
        }
    }
    Ok((
        kept,
        left_out.into_iter().map(|column| column.name).collect(),
    ))
}

impl Table {
    /// What a range belongs to.
    pub(super) fn relation<'a>(&'a self, range: &'a Range) -> &'a TableRef {
        range.relation.as_ref().unwrap_or(&self.task.table.table)
    }

    /// The COPY of one part.
    pub(super) fn copy_sql(&self, range: &Range) -> String {
        format!(
            "COPY ({} {}) TO STDOUT (FORMAT binary)",
            select(&self.layout),
            range.from(&self.task)
        )
    }

    /// The parts for which there is nothing to do.
    pub(super) fn kept(&self, table: usize) -> impl Iterator<Item = DurablePart> + '_ {
        let parts = self.parts.iter().enumerate();
        parts.filter_map(move |(number, part)| match &part.work {
            Work::Keep(entries) => Some(DurablePart {
                table,
                number,
                entries: entries.clone(),
            }),
            Work::Export | Work::Compare(..) => None,
        })
    }

    /// What the manifest says of the table.
    pub(super) fn entry(self, parts: Vec<PartEntry>) -> TableEntry {
        let table = &self.task.table;
        let columns = self.layout.into_columns().into_iter().map(|layout| {
            let encoding = match layout.encoding {
                Encoding::Native => ColumnEncoding::Native,
                Encoding::Text => ColumnEncoding::Text,
            };
            let companion = layout.companion.clone();
            let column = PgColumn::from(layout);
            ColumnEntry {
                generated: table
                    .column(&column.name)
                    .is_some_and(|known| known.generated),
                name: column.name,
                pg_type: column.type_name,
                not_null: column.not_null,
                encoding,
                companion,
                odoo_type: column.odoo_type,
                relation: column.relation,
            }
        });
        TableEntry {
            table: table.table.qualified(),
            role: self.task.role,
            model: self.task.model.clone(),
            filter: self.task.filter.clone(),
            columns: columns.collect(),
            columns_left_out: self.columns_left_out,
            primary_key: table.primary_key.clone(),
            foreign_keys: table.foreign_keys.clone(),
            rows: parts.iter().map(|part| part.rows).sum(),
            parts,
        }
    }
}
