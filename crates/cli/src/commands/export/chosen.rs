//! Which tables of a bundle are exported.

use std::collections::BTreeSet;

use arkstream_format::{Manifest, TableEntry};
use arkstream_odoo::selection::Patterns;
use arkstream_pipeline::Failure;
use arkstream_query::{plain_name, table_names};

/// A table and its name among all tables of the bundle.
pub(super) struct Chosen<'a> {
    pub(super) table: &'a TableEntry,
    pub(super) name: String,
}

/// All tables, or those whose model or table matches one of the patterns.
pub(super) fn choose<'a>(
    manifest: &'a Manifest,
    patterns: &[String],
) -> Result<Vec<Chosen<'a>>, Failure> {
    let tables = manifest.tables.iter().zip(table_names(manifest));
    let all: Vec<Chosen<'_>> = tables.map(|(table, name)| Chosen { table, name }).collect();
    let patterns = Patterns::new(patterns, "--models")?.of_bundle();
    if patterns.is_empty() {
        return Ok(all);
    }
    let known: BTreeSet<&str> = manifest.tables.iter().flat_map(names).collect();
    let wanted = patterns.choose(&known)?;
    let is_wanted = |chosen: &Chosen<'_>| names(chosen.table).any(|name| wanted.contains(name));
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// The names that a table may be asked for by.
fn names(table: &TableEntry) -> impl Iterator<Item = &str> {
    let model = table.model.as_deref();
    model.into_iter().chain([plain_name(&table.table)])
}
