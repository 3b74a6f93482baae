//! What of the bundle goes where: each of its tables with its live counterpart and its part in
//! the restore.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_format::{Manifest, TableEntry, TableRole};
use arkstream_postgres::{Catalog, CatalogTable, Staged, compared, quote_ident, row_bytes};

use super::references::Reference;
use crate::registry::Registry;

/// What happens to the rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The bundle has all rows of the table: those of a model, or of a many2many table.
    Whole,
    /// The bundle has those rows of a shared table that belong to the models.
    Shared,
    /// The bundle has enough of the rows to know them again; nothing is written.
    Identity,
}

/// A table of the bundle and the live table.
pub(super) struct Table {
    /// Its number, which names its staging tables.
    pub(super) number: usize,
    pub(super) entry: TableEntry,
    pub(super) class: Class,
    pub(super) live: CatalogTable,
    /// Models whose rows it holds, by the bundle and by the target.
    pub(super) models: Vec<String>,
    /// Columns that both have and that can be written, `id` among them.
    pub(super) columns: Vec<Column>,
    pub(super) staged: Staged,
}

/// A column that both the bundle and the live table have.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// `format_type()` of the live column.
    pub(super) live_type: String,
    /// Whether values of that type can be sent in binary form.
    pub(super) has_binary_form: bool,
    /// Where its values lead.
    pub(super) reference: Reference,
}

impl Table {
    /// Whether rows are told apart by a whole number named `id`.
    pub(super) fn has_id(&self) -> bool {
        has_id(&self.live)
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c.name == column)
    }

    /// As [`row_text`], for rows that may hold values of any size.
    pub(super) fn row_text<'c>(
        &self,
        alias: &str,
        columns: impl IntoIterator<Item = &'c str>,
    ) -> String {
        let values = columns.into_iter().map(|name| {
            let column = self.column(name);
            let live_type = column.map_or("", |column| column.live_type.as_str());
            compared(&col(alias, name), live_type)
        });
        let values: Vec<String> = values.collect();
        format!("ROW({})::pg_catalog.text", values.join(", "))
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The live table as SQL, without the rows of tables that inherit from it.
    pub(super) fn only_live(&self) -> String {
        from_live(&self.live)
    }

    /// The name within Odoo's own schema, for lookups of what is known of a table.
    pub(super) fn name(&self) -> &str {
        &self.live.table.name
    }

    /// Columns other than `id`.
    pub(super) fn values(&self) -> impl Iterator<Item = &Column> {
        let has_id = self.has_id();
        self.columns
            .iter()
            .filter(move |column| !(has_id && column.name == "id"))
    }
}

impl Column {
    /// A value of it, as [`row_bytes`] takes it.
    pub(super) fn compared(&self, value: String) -> (String, &str, bool) {
        (value, &self.live_type, self.has_binary_form)
    }
}

pub(super) fn has_id(table: &CatalogTable) -> bool {
    table.column("id").is_some_and(|column| {
        matches!(
            column.pg.type_name.as_str(),
            "integer" | "bigint" | "smallint"
        )
    }) && table.primary_key == ["id"]
}

pub(super) fn from_live(table: &CatalogTable) -> String {
    // A partitioned table has its rows in its leaves.
    let only = if table.kind == 'p' { "" } else { "ONLY " };
    format!("{only}{}", table.table.sql())
}

/// What a table of the bundle is, before the target is looked at.
pub(super) fn class_of(entry: &TableEntry, chosen: &Chosen) -> Class {
    if !entry.columns_left_out.is_empty() {
        Class::Identity
    } else if entry.filter.is_some() {
        Class::Shared
    } else if chosen.takes(entry) {
        Class::Whole
    } else {
        Class::Identity
    }
}

/// The models that are restored.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    /// `None` restores everything that the bundle has.
    names: Option<BTreeSet<String>>,
    /// Of each many2many table of the target, the models on its sides.
    sides: BTreeMap<String, BTreeSet<String>>,
}

impl Chosen {
    pub(super) fn new(
        names: Option<BTreeSet<String>>,
        registry: &Registry,
        catalog: &Catalog,
    ) -> Self {
        let mut sides: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (oid, uses) in &registry.relations {
            if let Some(table) = catalog.by_oid(*oid) {
                let models = sides.entry(table.table.qualified()).or_default();
                for relation in uses {
                    models.insert(relation.model.clone());
                    models.insert(relation.other.clone());
                }
            }
        }
        Self { names, sides }
    }

    /// Whether only some of the bundle's models are restored.
    pub(super) fn is_subset(&self) -> bool {
        self.names.is_some()
    }

    /// Whether a table that the bundle has whole is restored. A many2many table is, when all
    /// models on its sides that the bundle has are.
    fn takes(&self, entry: &TableEntry) -> bool {
        let Some(names) = &self.names else {
            return true;
        };
        match (entry.role, &entry.model) {
            (_, Some(model)) => names.contains(model),
            (TableRole::Relation, None) => self
                .sides
                .get(&entry.table)
                .is_some_and(|models| models.iter().any(|model| names.contains(model))),
            _ => false,
        }
    }
}

/// The bundle's tables that have rows of live tables, in the manifest's order. The states of
/// sequences are rows of a query and come separately.
pub(super) fn entries(manifest: &Manifest) -> impl Iterator<Item = &TableEntry> {
    manifest
        .tables
        .iter()
        .filter(|entry| entry.table.contains('.'))
}

/// The states of sequences.
pub(super) fn sequences(manifest: &Manifest) -> Option<&TableEntry> {
    manifest
        .tables
        .iter()
        .find(|entry| entry.table == "sequences")
}

/// The live table of an entry.
pub(super) fn live<'c>(catalog: &'c Catalog, entry: &TableEntry) -> Option<&'c CatalogTable> {
    let (schema, name) = entry.table.split_once('.')?;
    catalog
        .by_name(schema, name)
        .filter(|table| matches!(table.kind, 'r' | 'p'))
}

/// All tables of a restore.
pub(super) struct Tables {
    pub(super) all: Vec<Table>,
    by_name: BTreeMap<String, usize>,
    /// Models of the tables that are restored whole.
    pub(super) models: BTreeSet<String>,
}

impl Tables {
    pub(super) fn new(all: Vec<Table>) -> Self {
        let by_name = all
            .iter()
            .enumerate()
            .map(|(index, table)| (table.entry.table.clone(), index))
            .collect();
        let models = all
            .iter()
            .filter(|table| table.class == Class::Whole)
            .flat_map(|table| table.models.iter().cloned())
            .collect();
        Self {
            all,
            by_name,
            models,
        }
    }

    pub(super) fn named(&self, qualified: &str) -> Option<&Table> {
        self.all.get(*self.by_name.get(qualified)?)
    }

    /// One of Odoo's own tables, in the schema `public` where Odoo keeps them.
    pub(super) fn odoo(&self, name: &str) -> Option<&Table> {
        self.all.iter().find(|table| table.name() == name)
    }

    pub(super) fn of(&self, class: Class) -> impl Iterator<Item = &Table> {
        self.all.iter().filter(move |table| table.class == class)
    }

    /// Tables that are written to.
    pub(super) fn written(&self) -> impl Iterator<Item = &Table> {
        self.all
            .iter()
            .filter(|table| table.class != Class::Identity)
    }
}

/// `alias."column"`.
pub(super) fn col(alias: &str, column: &str) -> String {
    format!("{alias}.{}", quote_ident(column))
}

/// What tells equal rows: their bytes, of columns in the live types.
pub(super) fn bytes_of<'c>(alias: &str, columns: impl IntoIterator<Item = &'c Column>) -> String {
    let columns = columns.into_iter();
    row_bytes(columns.map(|column| column.compared(col(alias, &column.name))))
}

/// `ROW(alias.a, alias.b)::text`: the exact text of the values, whatever their types; equal texts
/// are equal values.
pub(super) fn row_text<'c>(alias: &str, columns: impl IntoIterator<Item = &'c str>) -> String {
    let columns: Vec<_> = columns
        .into_iter()
        .map(|column| col(alias, column))
        .collect();
    format!("ROW({})::pg_catalog.text", columns.join(", "))
}
