//! What is to be exported, and how: plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use arkstream_columnar::EncodeOptions;
use arkstream_format::TableRole;

use crate::catalog::{CatalogTable, TableRef};

/// Odoo's field type and related model of a column, by column name.
pub type Annotations = BTreeMap<String, (Option<String>, Option<String>)>;

/// The rows of a query instead of a table's, such as the states of sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualQuery {
    /// What the rows are called in the manifest.
    pub name: String,
    /// One SELECT without parameters and without a semicolon at its end. Its columns are found
    /// by asking the server.
    pub sql: String,
}

/// One table to export.
#[derive(Clone, Debug, PartialEq)]
pub struct TableTask {
    /// The table as it was planned.
    pub table: Arc<CatalogTable>,
    /// Why it is exported.
    pub role: TableRole,
    /// The model, where the table has one.
    pub model: Option<String>,
    /// Which rows, as an SQL condition over the alias `t`; `None` for all.
    pub filter: Option<String>,
    /// The same rows, in words that hold under one snapshot only and cost the server less.
    pub cheaper_filter: Option<String>,
    /// Which columns; `None` for all. They are exported in the table's order.
    pub columns: Option<Vec<String>>,
    /// Where the parts go, with a slash at the end: `odoo_data/models/ai.message/`.
    pub member_dir: String,
    /// What is written into the fields' metadata and the manifest.
    pub annotations: Annotations,
    /// The query whose rows are exported instead of the table's.
    pub virtual_query: Option<VirtualQuery>,
}

impl TableTask {
    /// All rows and columns of a table.
    pub fn of_table(
        table: impl Into<Arc<CatalogTable>>,
        role: TableRole,
        member_dir: impl Into<String>,
    ) -> Self {
        Self {
            table: table.into(),
            role,
            model: None,
            filter: None,
            cheaper_filter: None,
            columns: None,
            member_dir: member_dir.into(),
            annotations: Annotations::new(),
            virtual_query: None,
        }
    }

    /// The rows of a query.
    pub fn of_query(query: VirtualQuery, role: TableRole, member_dir: impl Into<String>) -> Self {
        let table = CatalogTable {
            table: TableRef {
                schema: String::new(),
                name: query.name.clone(),
                oid: 0,
            },
            kind: 'q',
            relfilenode: None,
            columns: Vec::new(),
            primary_key: Vec::new(),
            foreign_keys: Vec::new(),
            bytes: 0,
            heap_blocks: 0,
            leaves: Vec::new(),
            children: Vec::new(),
            row_security: false,
            is_partition: false,
            estimated_rows: -1.0,
        };
        Self {
            virtual_query: Some(query),
            ..Self::of_table(table, role, member_dir)
        }
    }
}

/// How tables are exported.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// How Parquet is written.
    pub encode: EncodeOptions,
    /// Raw bytes a part should have; `None` derives it from the memory budget.
    pub part_bytes: Option<u64>,
}
