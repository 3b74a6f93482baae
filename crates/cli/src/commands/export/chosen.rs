//! Which tables of a bundle are exported, and under which names.

use std::collections::BTreeSet;

use arkstream_format::{Manifest, TableEntry};
use arkstream_odoo::selection::Patterns;
use arkstream_pipeline::Failure;

/// A table and the name of its file, without an ending.
pub(super) struct Chosen<'a> {
    pub(super) table: &'a TableEntry,
    pub(super) name: String,
}

/// All tables, or those whose model or table matches one of the patterns.
pub(super) fn choose<'a>(
    manifest: &'a Manifest,
    patterns: &[String],
) -> Result<Vec<Chosen<'a>>, Failure> {
    let mut named = BTreeSet::new();
    let all: Vec<Chosen<'_>> = manifest
        .tables
        .iter()
        .map(|table| {
            let name = match &table.model {
                // Tables that inherit from a model's table have its model, too.
                Some(model) if named.insert(model.as_str()) => model,
                _ => plain(&table.table),
            };
            Chosen {
                table,
                name: encoded(name),
            }
        })
        .collect();
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
    table
        .model
        .as_deref()
        .into_iter()
        .chain([plain(&table.table)])
}

/// A table's name, without the schema that all have.
fn plain(table: &str) -> &str {
    table.strip_prefix("public.").unwrap_or(table)
}

/// A name that is a file's name everywhere.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
