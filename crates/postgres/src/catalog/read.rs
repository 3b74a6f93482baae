//! The questions that the catalog is read with.
//!
//! Sizes are asked for apart, and of no table that somebody holds or awaits exclusively: the
//! size functions open the table and would wait behind such a lock for as long as it lasts.
//! Where they may not be asked, `pg_class.relpages` stands in; sizes are estimates anyway.

use std::collections::{BTreeMap, HashMap};

use arkstream_columnar::PgColumn;
use arkstream_format::ForeignKeyEntry;
use arkstream_pipeline::Failure;
use tokio_postgres::{Client, Error};

use super::{Catalog, CatalogColumn, CatalogTable, TableRef};
use crate::failure::{failure_of, is_lock_unavailable};
use crate::sql::HAS_BINARY_FORM;

/// How long the size functions may wait for a lock that was taken at that very moment.
const SIZE_LOCK_TIMEOUT: &str = "5s";

/// Every table and view of every schema that is not the system's.
///
/// # Errors
/// When the server does not answer.
pub async fn read_catalog(client: &Client) -> Result<Catalog, Failure> {
    read(client, true)
        .await
        .map_err(|error| failure_of("read the catalog", &error))
}

/// As [`read_catalog`], without sizes, which are two fifths of the server's work.
pub(crate) async fn read_shape(client: &Client) -> Result<Catalog, Failure> {
    read(client, false)
        .await
        .map_err(|error| failure_of("read the catalog", &error))
}

/// The columns that a query gives, found by preparing it.
pub(crate) async fn describe_query(client: &Client, sql: &str) -> Result<Vec<PgColumn>, Error> {
    let statement = client.prepare(sql).await?;
    let types: Vec<u32> = statement
        .columns()
        .iter()
        .map(|column| column.type_().oid())
        .collect();
    let typmods: Vec<i32> = statement
        .columns()
        .iter()
        .map(|c| c.type_modifier())
        .collect();
    let rows = client
        .query(
            "SELECT pg_catalog.format_type(t.oid, w.typmod), t.typtype::pg_catalog.text, \
                    CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem END, \
                    e.typtype::pg_catalog.text \
             FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), \
                             pg_catalog.unnest($2::pg_catalog.int4[])) \
                  WITH ORDINALITY AS w(oid, typmod, position) \
             JOIN pg_catalog.pg_type t ON t.oid = w.oid \
             LEFT JOIN pg_catalog.pg_type e ON t.typcategory = 'A' AND e.oid = t.typelem \
             ORDER BY w.position",
            &[&types, &typmods],
        )
        .await?;
    let columns = statement.columns().iter().zip(&rows).zip(1_i16..);
    Ok(columns
        .map(|((column, row), attnum)| PgColumn {
            name: column.name().to_owned(),
            attnum,
            type_oid: column.type_().oid(),
            type_name: row.get(0),
            typmod: column.type_modifier(),
            type_kind: first_char(row.get(1)),
            element_oid: row.get(2),
            element_kind: row.get::<_, Option<&str>>(3).map(first_char),
            not_null: false,
            odoo_type: None,
            relation: None,
        })
        .collect())
}

async fn read(client: &Client, measured: bool) -> Result<Catalog, Error> {
    let version: i32 = client
        .query_one(
            "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4",
            &[],
        )
        .await?
        .get(0);
    let mut tables = read_classes(client).await?;
    let wanted: Vec<u32> = tables.keys().copied().collect();
    read_columns(client, &wanted, version, &mut tables).await?;
    read_keys(client, &wanted, version, &mut tables).await?;
    let tree = read_tree(client).await?;
    let sizes = if measured {
        let children = tree.values().flatten().map(|child| child.table.oid);
        let measured: Vec<u32> = wanted.iter().copied().chain(children).collect();
        read_sizes(client, &measured).await?
    } else {
        HashMap::new()
    };
    for table in tables.values_mut() {
        let oid = table.table.oid;
        table.children = children_of(&tree, oid)
            .map(|child| child.table.oid)
            .collect();
        if table.kind == 'p' {
            collect_leaves(&tree, oid, &mut table.leaves);
            table.leaves.sort();
            table.bytes = table
                .leaves
                .iter()
                .filter_map(|l| sizes.get(&l.oid))
                .map(|s| s.0)
                .sum();
        } else if let Some((bytes, blocks)) = sizes.get(&oid) {
            (table.bytes, table.heap_blocks) = (*bytes, *blocks);
        }
    }
    Ok(Catalog::new(tables.into_values()))
}

async fn read_classes(client: &Client) -> Result<BTreeMap<u32, CatalogTable>, Error> {
    let rows = client
        .query(
            "SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
                    c.relkind::pg_catalog.text, pg_catalog.pg_relation_filenode(c.oid), \
                    c.relrowsecurity, c.relispartition, c.reltuples::pg_catalog.float8 \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
               AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
               AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)' \
               AND n.nspname !~ '^arkstream_(undo_)?[0-9a-z]{16}$'",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let table = TableRef {
                schema: row.get(1),
                name: row.get(2),
                oid: row.get(0),
            };
            let table = CatalogTable {
                table,
                kind: first_char(row.get(3)),
                relfilenode: row.get(4),
                columns: Vec::new(),
                primary_key: Vec::new(),
                foreign_keys: Vec::new(),
                bytes: 0,
                heap_blocks: 0,
                leaves: Vec::new(),
                children: Vec::new(),
                row_security: row.get(5),
                is_partition: row.get(6),
                estimated_rows: row.get(7),
            };
            (table.table.oid, table)
        })
        .collect())
}

async fn read_columns(
    client: &Client,
    oids: &[u32],
    version: i32,
    tables: &mut BTreeMap<u32, CatalogTable>,
) -> Result<(), Error> {
    let generated = if version >= 120_000 {
        "a.attgenerated <> ''"
    } else {
        "false"
    };
    let query = format!(
        "SELECT a.attrelid, a.attname::pg_catalog.text, a.attnum, a.atttypid, \
                pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypmod, \
                t.typtype::pg_catalog.text, \
                CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem END, \
                e.typtype::pg_catalog.text, a.attnotnull, {generated}, \
                a.atthasdef OR a.attidentity <> '', {HAS_BINARY_FORM} \
         FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_catalog.pg_type e ON t.typcategory = 'A' AND e.oid = t.typelem \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY ($1) \
         ORDER BY a.attrelid, a.attnum"
    );
    for row in client.query(&query, &[&oids]).await? {
        if let Some(table) = tables.get_mut(&row.get(0)) {
            table.columns.push(CatalogColumn {
                pg: PgColumn {
                    name: row.get(1),
                    attnum: row.get(2),
                    type_oid: row.get(3),
                    type_name: row.get(4),
                    typmod: row.get(5),
                    type_kind: first_char(row.get(6)),
                    element_oid: row.get(7),
                    element_kind: row.get::<_, Option<&str>>(8).map(first_char),
                    not_null: row.get(9),
                    odoo_type: None,
                    relation: None,
                },
                generated: row.get(10),
                has_default: row.get(11),
                has_binary_form: row.get(12),
            });
        }
    }
    Ok(())
}

async fn read_keys(
    client: &Client,
    oids: &[u32],
    version: i32,
    tables: &mut BTreeMap<u32, CatalogTable>,
) -> Result<(), Error> {
    // A key that refers to a partitioned table has one more constraint for each partition.
    let not_internal = if version >= 110_000 {
        "AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint p \
                         WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)"
    } else {
        ""
    };
    let names = |keys: &str, relation: &str| {
        format!(
            "ARRAY (SELECT a.attname::pg_catalog.text \
                    FROM pg_catalog.unnest(k.{keys}) WITH ORDINALITY AS u(attnum, position) \
                    JOIN pg_catalog.pg_attribute a \
                      ON a.attrelid = k.{relation} AND a.attnum = u.attnum \
                    ORDER BY u.position)"
        )
    };
    let query = format!(
        "SELECT k.conrelid, k.conname::pg_catalog.text, k.contype::pg_catalog.text, {}, \
                n.nspname::pg_catalog.text, r.relname::pg_catalog.text, {}, \
                k.confdeltype::pg_catalog.text \
         FROM pg_catalog.pg_constraint k \
         LEFT JOIN pg_catalog.pg_class r ON r.oid = k.confrelid AND k.contype = 'f' \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
         WHERE k.contype IN ('p', 'f') AND k.conrelid = ANY ($1) {not_internal} \
         ORDER BY k.conrelid, k.conname",
        names("conkey", "conrelid"),
        names("confkey", "confrelid"),
    );
    for row in client.query(&query, &[&oids]).await? {
        let Some(table) = tables.get_mut(&row.get(0)) else {
            continue;
        };
        if row.get::<_, &str>(2) == "p" {
            table.primary_key = row.get(3);
            continue;
        }
        let (schema, name): (Option<String>, Option<String>) = (row.get(4), row.get(5));
        table.foreign_keys.push(ForeignKeyEntry {
            name: row.get(1),
            columns: row.get(3),
            references: format!(
                "{}.{}",
                schema.unwrap_or_default(),
                name.unwrap_or_default()
            ),
            referenced_columns: row.get(6),
            on_delete: on_delete(row.get(7)).to_owned(),
        });
    }
    Ok(())
}

fn on_delete(code: &str) -> &'static str {
    match code {
        "c" => "cascade",
        "n" => "set null",
        "d" => "set default",
        "r" => "restrict",
        _ => "no action",
    }
}

/// A table that inherits from another one.
struct Child {
    table: TableRef,
    kind: char,
}

/// The children of each parent. A child of several parents, which only plain inheritance allows,
/// stands under each.
async fn read_tree(client: &Client) -> Result<BTreeMap<u32, Vec<Child>>, Error> {
    let rows = client
        .query(
            "SELECT i.inhparent, c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
                    c.relkind::pg_catalog.text \
             FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'f') ORDER BY i.inhparent, c.oid",
            &[],
        )
        .await?;
    let mut tree = BTreeMap::<u32, Vec<Child>>::new();
    for row in rows {
        let table = TableRef {
            schema: row.get(2),
            name: row.get(3),
            oid: row.get(1),
        };
        tree.entry(row.get(0)).or_default().push(Child {
            table,
            kind: first_char(row.get(4)),
        });
    }
    Ok(tree)
}

fn children_of(tree: &BTreeMap<u32, Vec<Child>>, parent: u32) -> impl Iterator<Item = &Child> {
    tree.get(&parent).into_iter().flatten()
}

/// PostgreSQL allows no cycle here, so this ends.
fn collect_leaves(tree: &BTreeMap<u32, Vec<Child>>, parent: u32, leaves: &mut Vec<TableRef>) {
    for child in children_of(tree, parent) {
        if child.kind == 'p' {
            collect_leaves(tree, child.table.oid, leaves);
        } else {
            leaves.push(child.table.clone());
        }
    }
}

/// Bytes of heap and TOAST, and blocks of the heap.
async fn read_sizes(client: &Client, oids: &[u32]) -> Result<HashMap<u32, (u64, u32)>, Error> {
    let limit = |value: &'static str| async move {
        client
            .execute(
                "SELECT pg_catalog.set_config('lock_timeout', $1, false)",
                &[&value],
            )
            .await
    };
    limit(SIZE_LOCK_TIMEOUT).await?;
    let exact = client
        .query(
            "SELECT c.oid, \
                    COALESCE(pg_catalog.pg_relation_size(c.oid), 0), \
                    COALESCE(pg_catalog.pg_relation_size(NULLIF(c.reltoastrelid, 0)), 0), \
                    pg_catalog.current_setting('block_size')::pg_catalog.int8 \
             FROM pg_catalog.pg_class c \
             WHERE c.oid = ANY ($1) AND c.relkind IN ('r', 'm') \
               AND c.oid <> ALL (ARRAY ( \
                   SELECT l.relation FROM pg_catalog.pg_locks l \
                   JOIN pg_catalog.pg_database d ON d.oid = l.database \
                   WHERE d.datname = pg_catalog.current_database() \
                     AND l.relation IS NOT NULL AND l.mode = 'AccessExclusiveLock'))",
            &[&oids],
        )
        .await;
    let rows = match exact {
        Err(error) if !is_lock_unavailable(&error) => return Err(error),
        exact => {
            limit("0").await?;
            exact.unwrap_or_default()
        }
    };
    let mut sizes: HashMap<u32, (u64, u32)> = rows
        .iter()
        .map(|row| {
            let number = |index| row.get::<_, i64>(index).unsigned_abs();
            let (heap, toast, block) = (number(1), number(2), number(3).max(1));
            (
                row.get(0),
                (
                    heap + toast,
                    u32::try_from(heap / block).unwrap_or(u32::MAX),
                ),
            )
        })
        .collect();
    let unmeasured: Vec<u32> = oids
        .iter()
        .copied()
        .filter(|oid| !sizes.contains_key(oid))
        .collect();
    let estimates = client
        .query(
            "SELECT c.oid, GREATEST(c.relpages, 0)::pg_catalog.int8, \
                    GREATEST(t.relpages, 0)::pg_catalog.int8, \
                    pg_catalog.current_setting('block_size')::pg_catalog.int8 \
             FROM pg_catalog.pg_class c \
             LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
             WHERE c.oid = ANY ($1) AND c.relkind IN ('r', 'm')",
            &[&unmeasured],
        )
        .await?;
    for row in estimates {
        let pages = row.get::<_, i64>(1).unsigned_abs();
        let toast = row
            .get::<_, Option<i64>>(2)
            .unwrap_or_default()
            .unsigned_abs();
        let block = row.get::<_, i64>(3).unsigned_abs();
        let blocks = u32::try_from(pages).unwrap_or(u32::MAX);
        sizes.insert(row.get(0), ((pages + toast) * block, blocks));
    }
    Ok(sizes)
}

fn first_char(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}
