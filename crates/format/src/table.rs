//! What the manifest says of tables: their columns, their keys, their parts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::KeptBy;

/// Why a table is in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableRole {
    /// The table of a model.
    Model,
    /// A many2many table.
    Relation,
    /// Something that travels with the models: attachments, external ids, chatter, sequences,
    /// identity columns of referenced rows.
    Support,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableEntry {
    /// Schema-qualified name, such as `public.ai_message`.
    pub table: String,
    /// Why it is here.
    pub role: TableRole,
    /// The model, where the table has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Which rows are in the bundle, as SQL; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Columns in the table's order. A subset of the table's only for identity columns.
    pub columns: Vec<ColumnEntry>,
    /// Columns of the table that are left out on purpose (identity columns only are exported).
    #[serde(default)]
    pub columns_left_out: Vec<String>,
    /// Columns of the primary key.
    pub primary_key: Vec<String>,
    /// Foreign keys of the table.
    pub foreign_keys: Vec<ForeignKeyEntry>,
    /// Rows in the bundle.
    pub rows: u64,
    /// Parts in the order of their blocks.
    pub parts: Vec<PartEntry>,
}

impl TableEntry {
    /// Whether it has a column of that name, of whole numbers.
    #[must_use]
    pub fn has_integer(&self, column: &str) -> bool {
        self.columns.iter().any(|entry| {
            entry.name == column
                && matches!(entry.pg_type.as_str(), "smallint" | "integer" | "bigint")
        })
    }
}

/// How a column's values stand in Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnEncoding {
    /// As the matching Arrow type.
    Native,
    /// As the output text of the PostgreSQL type.
    Text,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnEntry {
    /// Its name.
    pub name: String,
    /// `format_type()`, such as `character varying(64)`.
    pub pg_type: String,
    /// Whether it is `NOT NULL`.
    pub not_null: bool,
    /// How its values stand in Parquet.
    pub encoding: ColumnEncoding,
    /// The Parquet column that holds, as text, the values which the typed column cannot carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion: Option<String>,
    /// Odoo's field type (`ttype`), where the column is a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub odoo_type: Option<String>,
    /// The model a relational field points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// Whether the server computes it (`GENERATED ALWAYS AS … STORED`).
    #[serde(default)]
    pub generated: bool,
}

/// One foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignKeyEntry {
    /// The constraint's name.
    pub name: String,
    /// Referring columns.
    pub columns: Vec<String>,
    /// Schema-qualified referenced table.
    pub references: String,
    /// Referenced columns.
    pub referenced_columns: Vec<String>,
    /// `cascade`, `set null`, `set default`, `restrict` or `no action`.
    pub on_delete: String,
}

/// One part of a table: a block range, the unit of resume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartEntry {
    /// The member that holds it.
    pub member: String,
    /// Rows in it.
    pub rows: u64,
    /// The relation that was read: the table itself or a partition of it.
    pub relation: String,
    /// `pg_relation_filenode()` when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relfilenode: Option<u32>,
    /// First heap block.
    pub first_block: u32,
    /// First heap block that is not in it; absent for the last range, which is open-ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_block: Option<u32>,
    /// The generation whose snapshot it was read under.
    pub generation: u32,
    /// How the last generation proved it unchanged, where that is a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<KeptBy>,
    /// Members that hold values of it which are too large for it. The metadata of its file says which
    /// row and column each belongs to; a reader must put it back there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large: Vec<String>,
}
