//! What Odoo says about itself, held against what the catalog says.
//!
//! `ir_model` lists models without saying which of them have a table, or which. So each model is
//! resolved to a relation of the catalog ([`resolve`]); its kind follows from `relkind` and
//! `ir_model.transient`. Versions of modules are those installed (`ir_module_module`), never
//! those on disk.
//!
//! Peak memory: some 200 bytes a field; a stock Odoo has 15,000.

mod read;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use arkstream_postgres::{Annotations, Catalog, CatalogTable};

pub use read::read_registry;
pub use resolve::{ModelFacts, Resolution, resolve};

/// The models of a database with their tables.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The schema that holds Odoo's own tables.
    pub schema: String,
    /// First two components of the installed version of `base`, such as `18.0`.
    pub odoo_version: String,
    /// Installed version of every installed module.
    pub module_versions: BTreeMap<String, String>,
    /// `database.uuid`.
    pub database_uuid: Option<String>,
    /// Every model of `ir_model` by name.
    pub models: BTreeMap<String, Model>,
    /// Names of the models of each table, by its object id, the shortest first.
    pub(crate) by_table: BTreeMap<u32, Vec<String>>,
    /// Fields behind each many2many table, by the table's object id.
    pub relations: BTreeMap<u32, Vec<RelationUse>>,
    /// Lines for people: where a model's table was found by evidence, or not at all.
    pub notes: Vec<String>,
}

impl Registry {
    /// Models whose table has that object id, the shortest name first.
    #[must_use]
    pub fn models_of(&self, oid: u32) -> Vec<&Model> {
        let names = self.by_table.get(&oid).into_iter().flatten();
        names.filter_map(|name| self.models.get(name)).collect()
    }

    /// One of Odoo's own tables.
    #[must_use]
    pub fn odoo_table<'a>(&self, catalog: &'a Catalog, name: &str) -> Option<&'a CatalogTable> {
        catalog
            .by_name(&self.schema, name)
            .filter(|table| matches!(table.kind, 'r' | 'p'))
    }

    /// Odoo's field types and related models of a table's columns.
    #[must_use]
    pub fn annotations(&self, table: &CatalogTable) -> Annotations {
        let mut annotations = Annotations::new();
        for relation in self.relations.get(&table.table.oid).into_iter().flatten() {
            for (column, model) in [
                (&relation.column1, &relation.model),
                (&relation.column2, &relation.other),
            ] {
                annotations.insert(column.clone(), (None, Some(model.clone())));
            }
        }
        for model in self.models_of(table.table.oid) {
            for field in model.fields.values().filter(|field| field.store) {
                annotations.insert(
                    field.name.clone(),
                    (Some(field.ttype.clone()), field.relation.clone()),
                );
            }
        }
        annotations.retain(|column, _| table.column(column).is_some());
        annotations
    }
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its technical name.
    pub name: String,
    /// Whether its rows are short-lived.
    pub transient: bool,
    /// Modules that define or extend it; the first one defines it.
    pub modules: Vec<String>,
    /// Its relation in the catalog.
    pub resolution: Resolution,
    /// Its fields by name.
    pub fields: BTreeMap<String, Field>,
}

impl Model {
    /// The module that defines it: the one that registered it first. Modules that only extend a
    /// model register it too.
    #[must_use]
    pub fn defined_by(&self) -> Option<&str> {
        self.modules.first().map(String::as_str)
    }

    /// Columns that its table must have.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        self.fields
            .values()
            .filter(|field| field.has_column())
            .map(|field| field.name.as_str())
            .collect()
    }
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, and its column's.
    pub name: String,
    /// Its type in Odoo's words.
    pub ttype: String,
    /// The model a relational field points to.
    pub relation: Option<String>,
    /// The field of that model that a one2many field is the reverse of.
    pub inverse: Option<String>,
    /// Whether it is kept in the database, in a column or not.
    pub store: bool,
    /// Whether its value differs by company: a `jsonb` by company id from Odoo 18 on.
    pub company_dependent: bool,
}

impl Field {
    /// Whether there must be a column for it. Binary fields may have one, or live in attachments.
    #[must_use]
    pub fn has_column(&self) -> bool {
        self.store && !matches!(self.ttype.as_str(), "one2many" | "many2many" | "binary")
    }
}

/// One many2many field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelationUse {
    /// The model that has the field.
    pub model: String,
    /// The field.
    pub field: String,
    /// The model it points to.
    pub other: String,
    /// The column with the ids of `model`.
    pub column1: String,
    /// The column with the ids of `other`.
    pub column2: String,
}
