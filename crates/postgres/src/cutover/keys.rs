//! Foreign keys, unique constraints and indexes of the changed tables: what orders them, what is
//! dropped and made again.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_pipeline::Failure;
use petgraph::{algo::tarjan_scc, graph::DiGraph};
use tokio_postgres::Client;

use super::{TableDiff, run};
use crate::failure::failure_of;
use crate::sql::{quote_ident, quote_literal};

/// A foreign key of the database.
#[derive(Clone, Debug)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    /// The referring table.
    pub(super) child: u32,
    pub(super) columns: Vec<String>,
    /// Whether every referring column may be NULL.
    pub(super) nullable: bool,
    /// The referenced table.
    pub(super) parent: u32,
    pub(super) referenced: Vec<String>,
    /// `pg_constraint.confdeltype`.
    pub(super) on_delete: char,
    drop: String,
    add: String,
}

/// All foreign keys that lead from or to tables of that set.
pub(super) async fn read(client: &Client, oids: &[u32]) -> Result<Vec<ForeignKey>, Failure> {
    let names = |keys: &str, relation: &str| {
        format!(
            "ARRAY (SELECT a.attname::pg_catalog.text FROM pg_catalog.unnest(k.{keys}) WITH ORDINALITY u(attnum, position) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.{relation} AND a.attnum = u.attnum ORDER BY u.position)"
        )
    };
    let sql = format!(
        "SELECT k.conname::pg_catalog.text, k.conrelid, {}, NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
           WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) AND a.attnotnull), \
         k.confrelid, {}, k.confdeltype::pg_catalog.text, k.conrelid::pg_catalog.regclass::pg_catalog.text, \
         pg_catalog.pg_get_constraintdef(k.oid), pg_catalog.obj_description(k.oid, 'pg_constraint') \
         FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 \
         AND (k.conrelid = ANY ($1) OR k.confrelid = ANY ($1)) ORDER BY k.conrelid, k.conname",
        names("conkey", "conrelid"),
        names("confkey", "confrelid")
    );
    let rows = client
        .query(&sql, &[&oids])
        .await
        .map_err(|error| failure_of("read the foreign keys", &error))?;
    Ok(rows
        .iter()
        .map(|row| {
            let (name, table): (String, String) = (row.get(0), row.get(7));
            let comment: Option<String> = row.get(9);
            let quoted = quote_ident(&name);
            ForeignKey {
                child: row.get(1),
                columns: row.get(2),
                nullable: row.get(3),
                parent: row.get(4),
                referenced: row.get(5),
                on_delete: row.get::<_, String>(6).chars().next().unwrap_or('a'),
                drop: format!("ALTER TABLE {table} DROP CONSTRAINT {quoted}"),
                add: with_comment(
                    format!(
                        "ALTER TABLE {table} ADD CONSTRAINT {quoted} {}",
                        row.get::<_, String>(8)
                    ),
                    &format!("CONSTRAINT {quoted} ON {table}"),
                    comment,
                ),
                name,
            }
        })
        .collect())
}

fn with_comment(sql: String, object: &str, comment: Option<String>) -> String {
    match comment {
        Some(comment) => format!("{sql}; COMMENT ON {object} IS {}", quote_literal(&comment)),
        None => sql,
    }
}

/// The order of the tables and what has to be dropped for it.
pub(super) struct Order {
    /// Numbers of the diffs: what is referred to comes first.
    pub(super) diffs: Vec<usize>,
    /// Keys of each diff's table that lead into its own component, itself included, and may be
    /// NULL: filled in a second step.
    pub(super) second: BTreeMap<usize, Vec<ForeignKey>>,
    /// Keys that are dropped and made again.
    pub(super) dropped: Vec<ForeignKey>,
}

impl Order {
    /// Orders the diffs. With `rebuild`, all keys of their tables are dropped.
    pub(super) fn new(diffs: &[TableDiff], keys: &[ForeignKey], rebuild: bool) -> Self {
        let by_oid: BTreeMap<u32, usize> = diffs
            .iter()
            .enumerate()
            .map(|(number, diff)| (diff.table.table.oid, number))
            .collect();
        let mut graph = DiGraph::<usize, ()>::new();
        let nodes: Vec<_> = (0..diffs.len()).map(|n| graph.add_node(n)).collect();
        let inner: Vec<(&ForeignKey, usize, usize)> = keys
            .iter()
            .filter_map(|key| Some((key, *by_oid.get(&key.child)?, *by_oid.get(&key.parent)?)))
            .collect();
        for (_, child, parent) in &inner {
            if let (Some(from), Some(to)) = (nodes.get(*child), nodes.get(*parent)) {
                graph.update_edge(*from, *to, ());
            }
        }
        let components = tarjan_scc(&graph);
        let mut component_of = vec![0; diffs.len()];
        let mut order = Vec::new();
        for (number, component) in components.iter().enumerate() {
            let mut members: Vec<usize> = component
                .iter()
                .filter_map(|node| graph.node_weight(*node).copied())
                .collect();
            members.sort_unstable();
            for member in members {
                if let Some(of) = component_of.get_mut(member) {
                    *of = number;
                }
                order.push(member);
            }
        }
        let mut second: BTreeMap<usize, Vec<ForeignKey>> = BTreeMap::new();
        let mut dropped = Vec::new();
        let mut seen = BTreeSet::new();
        for (key, child, parent) in &inner {
            if component_of.get(*child) != component_of.get(*parent) {
                continue;
            }
            if key.nullable {
                second.entry(*child).or_default().push((*key).clone());
            } else if child != parent && seen.insert((key.child, key.name.clone())) {
                dropped.push((*key).clone());
            }
        }
        if rebuild {
            second.clear();
            dropped = keys
                .iter()
                .filter(|key| by_oid.contains_key(&key.child))
                .cloned()
                .collect();
        }
        Self {
            diffs: order,
            second,
            dropped,
        }
    }

    pub(super) async fn drop_keys(&self, client: &Client) -> Result<(), Failure> {
        for key in &self.dropped {
            run(
                client,
                &format!("drop the foreign key {} for a moment", key.name),
                &key.drop,
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn add_keys(&self, client: &Client) -> Result<(), Failure> {
        for key in &self.dropped {
            run(
                client,
                &format!("make the foreign key {} again", key.name),
                &key.add,
            )
            .await?;
        }
        Ok(())
    }
}

/// Unique constraints, exclusion constraints and unique indexes that are dropped for a moment.
pub(super) struct Uniques {
    dropped: Vec<(String, String, String)>,
}

impl Uniques {
    /// Drops those of tables in which rows could collide on the way: with updates, or with inserts
    /// beside deletes. Those that a foreign key leads to stay.
    pub(super) async fn drop(client: &Client, oids: &[u32]) -> Result<Self, Failure> {
        let rows = client
            .query(
                "SELECT c.relname::pg_catalog.text, i.indrelid::pg_catalog.regclass::pg_catalog.text, \
                        i.indexrelid::pg_catalog.regclass::pg_catalog.text, k.conname::pg_catalog.text, \
                        COALESCE(pg_catalog.pg_get_constraintdef(k.oid), pg_catalog.pg_get_indexdef(i.indexrelid)), \
                        COALESCE(pg_catalog.obj_description(k.oid, 'pg_constraint'), \
                                 pg_catalog.obj_description(i.indexrelid, 'pg_class')) \
                 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
                 LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('u', 'x') \
                 WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary \
                   AND i.indisvalid AND NOT i.indisreplident AND NOT i.indisclustered \
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid) \
                 ORDER BY 2, 1",
                &[&oids],
            )
            .await
            .map_err(|error| failure_of("read the unique constraints", &error))?;
        let mut dropped = Vec::new();
        for row in &rows {
            let (table, index, definition): (String, String, String) =
                (row.get(1), row.get(2), row.get(4));
            let comment: Option<String> = row.get(5);
            let (drop, add) = match row.get::<_, Option<String>>(3) {
                Some(constraint) => {
                    let name = quote_ident(&constraint);
                    (
                        format!("ALTER TABLE {table} DROP CONSTRAINT {name}"),
                        with_comment(
                            format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"),
                            &format!("CONSTRAINT {name} ON {table}"),
                            comment,
                        ),
                    )
                }
                None => (
                    format!("DROP INDEX {index}"),
                    with_comment(definition, &format!("INDEX {index}"), comment),
                ),
            };
            run(client, &format!("drop {index} for a moment"), &drop).await?;
            dropped.push((table, index, add));
        }
        Ok(Self { dropped })
    }

    pub(super) async fn add(&self, client: &Client) -> Result<(), Failure> {
        for (table, index, add) in &self.dropped {
            run(
                client,
                &format!("make the unique constraint {index} of {table} again"),
                add,
            )
            .await?;
        }
        Ok(())
    }
}
