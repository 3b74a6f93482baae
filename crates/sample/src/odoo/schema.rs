//! Tables, relation tables and foreign keys as Odoo makes them.
//!
//! Keys and indexes come after the rows: checking them once is far faster than at every row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::model::{Field, Model};

/// A column that every table has.
const MAGIC: &str = "create_uid int4, write_uid int4, create_date timestamp, write_date timestamp";

pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The table of `name`, if it is a model with one.
pub(super) fn table_of<'a>(models: &'a BTreeMap<String, Model>, name: &str) -> Option<&'a Model> {
    models.get(name).filter(|m| m.has_table())
}

/// `CREATE TABLE` for every regular and transient model, parents before their heirs.
pub(super) fn create_tables(models: &BTreeMap<String, Model>) -> String {
    let mut sql = String::new();
    let (heirs, others): (Vec<_>, Vec<_>) = models
        .values()
        .filter(|m| m.has_table())
        .partition(|m| m.inherits.is_some());
    for model in others.into_iter().chain(heirs) {
        let table = quote(&model.table);
        let parent = model.inherits.as_ref().and_then(|p| models.get(p));
        let id = match parent {
            Some(p) => format!("id int4 NOT NULL DEFAULT nextval('{}_id_seq')", p.table),
            None => "id serial".to_owned(),
        };
        let mut lines = vec![format!("{id} PRIMARY KEY")];
        if parent.is_none() {
            lines.push(MAGIC.to_owned());
        }
        for field in &model.fields {
            if let Some(column_type) = field.column_type() {
                let null = if field.required { " NOT NULL" } else { "" };
                lines.push(format!("{} {column_type}{null}", quote(&field.name)));
            }
        }
        let _ = write!(sql, "CREATE TABLE {table} ({})", lines.join(", "));
        if let Some(parent) = parent {
            let _ = write!(sql, " INHERITS ({})", quote(&parent.table));
        }
        let _ = writeln!(
            sql,
            ";\nCOMMENT ON TABLE {table} IS {};",
            literal(&model.description)
        );
    }
    sql
}

/// A relation table with the models of its two columns.
pub(super) struct RelationTable<'a> {
    pub(super) table: &'a str,
    pub(super) left: (&'a str, &'a Model),
    pub(super) right: (&'a str, &'a Model),
    /// The model whose field named it first.
    pub(super) owner: &'a Model,
}

/// Every relation table once, whatever number of fields uses it; not those that are models.
pub(super) fn relation_tables(models: &BTreeMap<String, Model>) -> Vec<RelationTable<'_>> {
    let model_tables: BTreeSet<&str> = models.values().map(|m| m.table.as_str()).collect();
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    for model in models.values().filter(|m| m.has_table()) {
        for field in &model.fields {
            let (Some(rel), Some(target)) = (
                &field.rel,
                field.relation.as_ref().and_then(|r| table_of(models, r)),
            ) else {
                continue;
            };
            if model_tables.contains(rel.table.as_str()) || !seen.insert(&rel.table) {
                continue;
            }
            list.push(RelationTable {
                table: &rel.table,
                left: (&rel.column1, model),
                right: (&rel.column2, target),
                owner: model,
            });
        }
    }
    list
}

pub(super) fn create_relations(tables: &[RelationTable<'_>]) -> String {
    let mut sql = String::new();
    for rel in tables {
        let (table, a, b) = (quote(rel.table), quote(rel.left.0), quote(rel.right.0));
        let comment = format!(
            "RELATION BETWEEN {} AND {}",
            rel.left.1.table, rel.right.1.table
        );
        let _ = writeln!(
            sql,
            "CREATE TABLE {table} ({a} int4 NOT NULL, {b} int4 NOT NULL, PRIMARY KEY ({a}, {b}));\n\
             COMMENT ON TABLE {table} IS {};",
            literal(&comment)
        );
    }
    sql
}

/// Foreign keys of models and relation tables, and the indexes Odoo makes for them.
pub(super) fn create_keys(
    models: &BTreeMap<String, Model>,
    relations: &[RelationTable<'_>],
) -> String {
    let parents: BTreeSet<&str> = models
        .values()
        .filter_map(|m| m.inherits.as_deref())
        .collect();
    let mut sql = String::new();
    for model in models.values().filter(|m| m.has_table()) {
        let mut keys = Vec::new();
        for magic in ["create_uid", "write_uid"] {
            keys.push((magic, "res_users", "set null"));
        }
        let inherited = model.inherits.as_ref().and_then(|p| models.get(p));
        let own = model
            .fields
            .iter()
            .chain(inherited.into_iter().flat_map(|p| &p.fields));
        for field in own.filter(|f| f.is_reference()) {
            let Some(name) = field.relation.as_deref() else {
                continue;
            };
            // Rows of heirs are not in the parent's index, so such references have no key.
            if parents.contains(name) {
                continue;
            }
            if let (Some(target), Some(action)) = (table_of(models, name), field.on_delete) {
                keys.push((&field.name, &target.table, action.sql()));
            }
        }
        for (column, target, action) in keys {
            foreign_key(&mut sql, &model.table, column, target, action);
        }
        for field in model.fields.iter().filter(|f| indexed(f)) {
            let name = quote(&format!("{}__{}_index", model.table, field.name));
            let _ = writeln!(
                sql,
                "CREATE INDEX {name} ON {} ({});",
                quote(&model.table),
                quote(&field.name)
            );
        }
    }
    for rel in relations {
        for (column, target) in [rel.left, rel.right] {
            foreign_key(&mut sql, rel.table, column, &target.table, "cascade");
        }
        let name = quote(&format!("{}_{}_{}_idx", rel.table, rel.right.0, rel.left.0));
        let _ = writeln!(
            sql,
            "CREATE INDEX {name} ON {} ({}, {});",
            quote(rel.table),
            quote(rel.right.0),
            quote(rel.left.0)
        );
    }
    sql
}

fn indexed(field: &Field) -> bool {
    field.is_reference() && field.required
}

fn foreign_key(sql: &mut String, table: &str, column: &str, target: &str, action: &str) {
    let _ = writeln!(
        sql,
        "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} (id) ON DELETE {action};",
        quote(table),
        quote(&format!("{table}_{column}_fkey")),
        quote(column),
        quote(target)
    );
}
