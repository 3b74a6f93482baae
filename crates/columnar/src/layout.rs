//! The layout of a table: from the catalog's columns to wire columns and Arrow fields.
//!
//! The two lists differ. Each table column has one Arrow field of its name, in table order. A
//! column whose type has values that the neat Arrow type cannot carry (NaN in `numeric(10,2)`,
//! `24:00:00`, `infinity`, an array with other bounds) has a **companion** right after it,
//! `<column>__text`: such a value stands there as PostgreSQL's own text, and the neat field is
//! NULL. An array column asks the server for that text with a second wire column; for scalars the
//! decoder makes it.
//!
//! All fields are nullable, those of NOT NULL columns too: a companion empties them, and a
//! `NOT NULL … NOT VALID` constraint promises nothing about old rows.
//!
//! Metadata of a field:
//!
//! | key | value |
//! |---|---|
//! | `arkstream.pg_type` | the type as `format_type()` prints it |
//! | `arkstream.encoding` | `native`, or `text` when the field holds the type's output text |
//! | `arkstream.odoo_type`, `arkstream.relation` | of the Odoo field, when known |
//! | `arkstream.not_null` | `true` when the column is NOT NULL |
//! | `arkstream.dictionary` | `true` when few distinct texts are expected |
//! | `arkstream.companion` | on the neat field: the companion's name |
//! | `arkstream.companion_of` | on the companion: the column's name |
//!
//! Limits: PostgreSQL allows 1,664 expressions in a select list; a table with more than 1,600
//! columns and array columns together would exceed it and be refused by the server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::large::Content;
use crate::pgtype::{Kind, MAX_FIELD, mark_json};
use crate::select;

/// Field metadata: the PostgreSQL type.
pub const KEY_PG_TYPE: &str = "arkstream.pg_type";
/// Field metadata: `native` or `text`.
pub const KEY_ENCODING: &str = "arkstream.encoding";
/// Field metadata: the Odoo field's type.
pub const KEY_ODOO_TYPE: &str = "arkstream.odoo_type";
/// Field metadata: the Odoo model that the field refers to.
pub const KEY_RELATION: &str = "arkstream.relation";
/// Field metadata: `true` on NOT NULL columns.
pub const KEY_NOT_NULL: &str = "arkstream.not_null";
/// Field metadata: `true` where dictionary encoding pays.
pub const KEY_DICTIONARY: &str = "arkstream.dictionary";
/// Field metadata of a neat field: its companion's name.
pub const KEY_COMPANION: &str = "arkstream.companion";
/// Field metadata of a companion: its column's name.
pub const KEY_COMPANION_OF: &str = "arkstream.companion_of";

/// A table column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgColumn {
    /// `attname`.
    pub name: String,
    /// `attnum`.
    pub attnum: i16,
    /// `atttypid`.
    pub type_oid: u32,
    /// `format_type(atttypid, atttypmod)`.
    pub type_name: String,
    /// `atttypmod`.
    pub typmod: i32,
    /// `pg_type.typtype`: b e d c r m p.
    pub type_kind: char,
    /// `typelem` of an array type (`typcategory = 'A'`).
    pub element_oid: Option<u32>,
    /// `typtype` of the element.
    pub element_kind: Option<char>,
    /// `attnotnull`.
    pub not_null: bool,
    /// `ir_model_fields.ttype`, when the column is an Odoo field.
    pub odoo_type: Option<String>,
    /// `ir_model_fields.relation`, when the field refers to a model.
    pub relation: Option<String>,
}

/// Whether a field holds typed values or the type's output text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Typed values.
    Native,
    /// The text of the type's output function.
    Text,
}

impl Encoding {
    /// The word that stands in the field's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Native => "native",
            Encoding::Text => "text",
        }
    }
}

/// How one column travels.
#[derive(Debug, Clone)]
pub struct ColumnLayout {
    /// The column's name, which is its Arrow field's.
    pub name: String,
    /// Typed values or text.
    pub encoding: Encoding,
    /// Name of the companion field, when the column has one.
    pub companion: Option<String>,
    /// Whether few distinct texts are expected, so that a dictionary pays.
    pub dictionary: bool,
    pub(crate) column: PgColumn,
    pub(crate) kind: Kind,
}

/// How a table travels: its select list, its wire columns, its Arrow fields.
#[derive(Debug, Clone)]
pub struct TableLayout {
    columns: Vec<ColumnLayout>,
}

/// One field of a tuple on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WireField {
    /// Index of the column it belongs to.
    pub(crate) column: usize,
    /// Fewest bytes of a value.
    pub(crate) min: u32,
    /// Most bytes of a value.
    pub(crate) max: u32,
    /// What a large value of it holds; `None` where there is none.
    pub(crate) large: Option<Content>,
}

impl TableLayout {
    /// Lays out the columns in the order given, which is the table's.
    pub fn new(columns: Vec<PgColumn>) -> TableLayout {
        let mut taken: HashSet<String> = columns.iter().map(|c| c.name.clone()).collect();
        let columns = columns
            .into_iter()
            .map(|column| ColumnLayout::new(column, &mut taken))
            .collect();
        TableLayout { columns }
    }

    /// The expressions for `COPY (SELECT <here> FROM ONLY …) TO STDOUT (FORMAT binary)`.
    ///
    /// Empty for a table without columns, which PostgreSQL accepts.
    pub fn select_list(&self) -> String {
        let expressions: Vec<String> = self
            .columns
            .iter()
            .flat_map(|layout| select::expressions(&layout.name, layout.kind))
            .collect();
        expressions.join(", ")
    }

    /// The Arrow schema of the batches, with the given metadata on the file.
    pub fn arrow_schema(&self, file_metadata: HashMap<String, String>) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().flat_map(ColumnLayout::fields).collect();
        Arc::new(Schema::new_with_metadata(fields, file_metadata))
    }

    /// The columns, in table order.
    pub fn columns(&self) -> &[ColumnLayout] {
        &self.columns
    }

    /// The columns by themselves, when nothing is read any more.
    pub fn into_columns(self) -> Vec<ColumnLayout> {
        self.columns
    }

    /// Name and type of a column, for errors.
    pub(crate) fn describe(&self, column: usize) -> (String, String) {
        let column = self.columns.get(column).map(|layout| &layout.column);
        column.map_or_else(Default::default, |column| {
            (column.name.clone(), column.type_name.clone())
        })
    }

    /// The fields of a tuple, in wire order.
    pub(crate) fn wire_fields(&self) -> Vec<WireField> {
        let mut fields = Vec::with_capacity(self.columns.len());
        for (column, layout) in self.columns.iter().enumerate() {
            let (min, max) = layout.kind.wire_length().into_inner();
            let large = Content::of(layout.kind);
            fields.push(WireField {
                column,
                min,
                max,
                large,
            });
            if let Kind::List { .. } = layout.kind {
                fields.push(WireField {
                    column,
                    min: 0,
                    max: MAX_FIELD,
                    large: Some(Content::Dropped),
                });
            }
        }
        fields
    }
}

impl From<ColumnLayout> for PgColumn {
    fn from(layout: ColumnLayout) -> Self {
        layout.column
    }
}

impl ColumnLayout {
    fn new(column: PgColumn, taken: &mut HashSet<String>) -> ColumnLayout {
        let kind = Kind::of(&column);
        let companion = kind.has_companion().then(|| {
            let mut name = format!("{}__text", column.name);
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            name
        });
        let encoding = match kind {
            Kind::Scalar(_) | Kind::List { .. } => Encoding::Native,
            Kind::NumericText | Kind::Output => Encoding::Text,
        };
        let selection = column.odoo_type.as_deref() == Some("selection");
        let dictionary =
            kind.data_type() == DataType::Utf8 && (column.type_kind == 'e' || selection);
        ColumnLayout {
            name: column.name.clone(),
            encoding,
            companion,
            dictionary,
            column,
            kind,
        }
    }

    /// The column as the catalog has it.
    pub fn column(&self) -> &PgColumn {
        &self.column
    }

    /// The neat field and, when there is one, its companion.
    fn fields(&self) -> Vec<Field> {
        let column = &self.column;
        let mut metadata = HashMap::new();
        let mut put = |key: &str, value: &str| {
            metadata.insert(key.to_owned(), value.to_owned());
        };
        put(KEY_PG_TYPE, &column.type_name);
        put(KEY_ENCODING, self.encoding.as_str());
        if let Some(odoo_type) = &column.odoo_type {
            put(KEY_ODOO_TYPE, odoo_type);
        }
        if let Some(relation) = &column.relation {
            put(KEY_RELATION, relation);
        }
        if column.not_null {
            put(KEY_NOT_NULL, "true");
        }
        if self.dictionary {
            put(KEY_DICTIONARY, "true");
        }
        if let Some(companion) = &self.companion {
            put(KEY_COMPANION, companion);
        }
        let field = Field::new(&self.name, self.kind.data_type(), true).with_metadata(metadata);
        let field = match self.kind {
            Kind::Scalar(scalar) if scalar.is_json() => mark_json(field),
            _ => field,
        };
        let companion = self.companion.as_ref().map(|name| {
            Field::new(name, DataType::Utf8, true).with_metadata(HashMap::from([
                (KEY_PG_TYPE.to_owned(), column.type_name.clone()),
                (KEY_ENCODING.to_owned(), Encoding::Text.as_str().to_owned()),
                (KEY_COMPANION_OF.to_owned(), self.name.clone()),
            ]))
        });
        std::iter::once(field).chain(companion).collect()
    }
}
