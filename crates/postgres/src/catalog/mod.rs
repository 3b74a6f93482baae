//! The catalog: every user table with its columns, keys, sizes and place in a hierarchy.
//!
//! [`read_catalog`] asks a handful of questions over all tables at once, never one a table, so
//! that a database of thousands of tables is read in a second or two. Everything is read in the
//! transaction the client is in, if it is in one; sizes and relfilenodes are the present ones
//! even there, because PostgreSQL takes them from the files. The schemas of our own restores
//! (`arkstream_<id>`, `arkstream_undo_<id>`) are nobody's data and are left out.
//!
//! Memory: about 200 bytes a column; 5,000 tables of 40 columns take some 40 MB at the peak,
//! while the rows of one question are held beside what was built from them. Plans share the tables.

mod read;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arkstream_columnar::PgColumn;
use arkstream_format::ForeignKeyEntry;

pub use read::read_catalog;
pub(crate) use read::{describe_query, read_shape};

use crate::sql::quote_ident;

/// A table by name and object id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRef {
    /// Its schema; empty for the rows of a query, which belong to none.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.oid`; 0 for the rows of a query.
    pub oid: u32,
}

impl TableRef {
    /// The name as SQL, quoted and schema-qualified.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }

    /// The name for people and manifests: `schema.name`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.schema.is_empty() {
            self.name.clone()
        } else {
            format!("{}.{}", self.schema, self.name)
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogColumn {
    /// Name and type.
    pub pg: PgColumn,
    /// Whether the server computes it (`GENERATED ALWAYS AS … STORED`).
    pub generated: bool,
    /// Whether it has a default, a generation expression or an identity.
    pub has_default: bool,
    /// Whether its values can be sent in binary form.
    pub has_binary_form: bool,
}

/// One table or view.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogTable {
    /// Which one.
    pub table: TableRef,
    /// `pg_class.relkind`: `r` table, `p` partitioned table, `v` view, `m` materialised view,
    /// `f` foreign table.
    pub kind: char,
    /// `pg_relation_filenode()`; `None` for what has no file of its own.
    pub relfilenode: Option<u32>,
    /// Columns in the table's order, dropped ones left out.
    pub columns: Vec<CatalogColumn>,
    /// Columns of the primary key, in the key's order.
    pub primary_key: Vec<String>,
    /// Foreign keys by name.
    pub foreign_keys: Vec<ForeignKeyEntry>,
    /// Bytes of the heap and its TOAST table; of all leaves for a partitioned table.
    pub bytes: u64,
    /// Blocks of the heap, without TOAST; 0 where there is none.
    pub heap_blocks: u32,
    /// The leaves of a partitioned table, by name; empty for anything else.
    pub leaves: Vec<TableRef>,
    /// Tables that directly inherit from this one, partitions included.
    pub children: Vec<u32>,
    /// Whether row-level security is enabled.
    pub row_security: bool,
    /// Whether it is a partition of a partitioned table.
    pub is_partition: bool,
    /// `pg_class.reltuples`; negative when the server has never counted.
    pub estimated_rows: f64,
}

impl CatalogTable {
    /// Whether it holds rows of its own that can be locked and read: a table, a partitioned
    /// table or a materialised view.
    #[must_use]
    pub fn has_storage(&self) -> bool {
        matches!(self.kind, 'r' | 'p' | 'm')
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&CatalogColumn> {
        self.columns.iter().find(|column| column.pg.name == name)
    }
}

/// All user tables and views of a database.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tables: BTreeMap<u32, Arc<CatalogTable>>,
    by_name: HashMap<(String, String), u32>,
}

impl Catalog {
    pub(crate) fn new(tables: impl IntoIterator<Item = CatalogTable>) -> Self {
        let tables: BTreeMap<_, _> = tables
            .into_iter()
            .map(|table| (table.table.oid, Arc::new(table)))
            .collect();
        let by_name = tables
            .values()
            .map(|table| {
                (
                    (table.table.schema.clone(), table.table.name.clone()),
                    table.table.oid,
                )
            })
            .collect();
        Self { tables, by_name }
    }

    /// All tables, by object id.
    pub fn tables(&self) -> impl Iterator<Item = &CatalogTable> {
        self.tables.values().map(Arc::as_ref)
    }

    /// Number of tables and views.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The table with that object id.
    #[must_use]
    pub fn by_oid(&self, oid: u32) -> Option<&CatalogTable> {
        self.tables.get(&oid).map(Arc::as_ref)
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared(&self, oid: u32) -> Option<Arc<CatalogTable>> {
        self.tables.get(&oid).cloned()
    }

    /// The table of that name in that schema.
    #[must_use]
    pub fn by_name(&self, schema: &str, name: &str) -> Option<&CatalogTable> {
        let oid = self.by_name.get(&(schema.to_owned(), name.to_owned()))?;
        self.by_oid(*oid)
    }

    /// The table of that name in the schema `public`, where applications that never name a
    /// schema have theirs.
    #[must_use]
    pub fn in_public(&self, name: &str) -> Option<&CatalogTable> {
        self.by_name("public", name)
    }
}
