//! Foreign keys of the changed tables: what orders them, which are dropped and made again.

use std::collections::BTreeMap;

use arkstream_pipeline::{Failure, FailureKind};
use petgraph::{algo::tarjan_scc, graph::DiGraph};
use tokio_postgres::Client;

use super::{Key, TableDiff, run};
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
    /// The unique index of the referenced table that it leads to.
    index: u32,
    definition: String,
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
         pg_catalog.pg_get_constraintdef(k.oid), pg_catalog.obj_description(k.oid, 'pg_constraint'), \
         k.conindid FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 \
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
            let definition: String = row.get(8);
            let quoted = quote_ident(&name);
            ForeignKey {
                index: row.get(10),
                child: row.get(1),
                columns: row.get(2),
                nullable: row.get(3),
                parent: row.get(4),
                referenced: row.get(5),
                on_delete: row.get::<_, String>(6).chars().next().unwrap_or('a'),
                drop: format!("ALTER TABLE {table} DROP CONSTRAINT {quoted}"),
                add: with_comment(
                    format!("ALTER TABLE {table} ADD CONSTRAINT {quoted} {definition}"),
                    &format!("CONSTRAINT {quoted} ON {table}"),
                    comment,
                ),
                definition,
                name,
            }
        })
        .collect())
}

pub(super) fn with_comment(sql: String, object: &str, comment: Option<String>) -> String {
    match comment {
        Some(comment) => format!("{sql}; COMMENT ON {object} IS {}", quote_literal(&comment)),
        None => sql,
    }
}

/// The order of the tables and what has to be dropped for it.
pub(super) struct Order {
    /// Numbers of the diffs: what is referred to comes first; tables that refer to one another stand
    /// together.
    pub(super) components: Vec<Vec<usize>>,
    /// Keys that are dropped and made again.
    pub(super) dropped: Vec<ForeignKey>,
}

impl Order {
    /// Orders the diffs. Dropped are the keys that lead to one of `indexes`, those that lead to
    /// values that an update changes, and with `rebuild` all keys of the diffs' tables.
    pub(super) fn new(
        diffs: &[TableDiff],
        keys: &[ForeignKey],
        indexes: &[u32],
        rebuild: bool,
    ) -> Self {
        let by_oid: BTreeMap<u32, usize> = diffs
            .iter()
            .enumerate()
            .map(|(number, diff)| (diff.table.table.oid, number))
            .collect();
        let mut graph = DiGraph::<usize, ()>::new();
        let nodes: Vec<_> = (0..diffs.len()).map(|n| graph.add_node(n)).collect();
        for key in keys {
            let node = |oid: &u32| by_oid.get(oid).and_then(|number| nodes.get(*number));
            if let (Some(from), Some(to)) = (node(&key.child), node(&key.parent)) {
                graph.update_edge(*from, *to, ());
            }
        }
        let components = tarjan_scc(&graph)
            .iter()
            .map(|component| {
                let mut members: Vec<usize> = component
                    .iter()
                    .filter_map(|node| graph.node_weight(*node).copied())
                    .collect();
                members.sort_unstable();
                members
            })
            .collect();
        let dropped = keys
            .iter()
            .filter(|key| {
                let owned = by_oid.contains_key(&key.child);
                let parent = by_oid
                    .get(&key.parent)
                    .and_then(|number| diffs.get(*number));
                indexes.contains(&key.index)
                    || owned
                        && (rebuild || parent.is_some_and(|parent| key.leads_to_values(parent)))
            })
            .cloned()
            .collect();
        Self {
            components,
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
            let what = format!("make the foreign key {} again", key.name);
            run(client, &what, &key.add).await?;
            let sql = "SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k \
                       WHERE k.conrelid = $1 AND k.conname::pg_catalog.text = $2";
            let row = client
                .query_one(sql, &[&key.child, &key.name])
                .await
                .map_err(|error| failure_of(&what, &error))?;
            let now: String = row.get(0);
            if now != key.definition {
                let why = format!("it was {} and would be {now}", key.definition);
                return Err(Failure::new(FailureKind::Internal, what, why));
            }
        }
        Ok(())
    }
}

impl ForeignKey {
    /// Whether it refers to columns that updates of `parent` set.
    fn leads_to_values(&self, parent: &TableDiff) -> bool {
        matches!(parent.key, Key::Columns(_))
            && self
                .referenced
                .iter()
                .any(|column| parent.columns.contains(column) && !parent.is_key(column))
    }
}
