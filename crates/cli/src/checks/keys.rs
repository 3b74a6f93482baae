//! Which columns of which tables are keys, and what they refer to within the bundle.

use std::collections::HashMap;

use arkstream_format::{Manifest, TableEntry};

/// The keys of one table.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Foreign keys of one integer column whose target is in the bundle.
    pub(super) references: Vec<Reference>,
    /// Columns that other tables of the bundle refer to.
    pub(super) targets: Vec<String>,
    /// The primary key, where it is one integer.
    pub(super) primary: Option<String>,
}

/// One foreign key.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) column: String,
    /// Number of the table that it refers to, in the manifest.
    pub(super) target: usize,
    pub(super) target_column: String,
}

impl Keys {
    /// Of each table of the manifest. One pass over the tables and their foreign keys.
    pub(super) fn of(manifest: &Manifest) -> Vec<Self> {
        let tables = &manifest.tables;
        let mut by_name: HashMap<&str, usize> = HashMap::with_capacity(tables.len());
        for (number, table) in tables.iter().enumerate() {
            by_name.entry(&table.table).or_insert(number);
        }
        let mut all: Vec<Self> = tables.iter().map(Self::own).collect();
        for (number, table) in tables.iter().enumerate() {
            for key in &table.foreign_keys {
                let ([column], [target_column]) =
                    (key.columns.as_slice(), key.referenced_columns.as_slice())
                else {
                    continue;
                };
                let Some(target) = by_name.get(key.references.as_str()).copied() else {
                    continue;
                };
                if !tables[target].has_integer(target_column) {
                    continue;
                }
                all[target].targets.push(target_column.clone());
                if table.has_integer(column) {
                    all[number].references.push(Reference {
                        column: column.clone(),
                        target,
                        target_column: target_column.clone(),
                    });
                }
            }
        }
        for keys in &mut all {
            keys.targets.sort();
            keys.targets.dedup();
        }
        all
    }

    fn own(table: &TableEntry) -> Self {
        let primary = match table.primary_key.as_slice() {
            [column] if table.has_integer(column) => Some(column.clone()),
            _ => None,
        };
        Self {
            primary,
            ..Self::default()
        }
    }

    /// Every column that matters, once.
    pub(super) fn columns(&self) -> Vec<&str> {
        let referring = self.references.iter().map(|reference| &reference.column);
        let mut columns: Vec<&str> = referring
            .chain(&self.targets)
            .chain(&self.primary)
            .map(String::as_str)
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}
