//! What the tables of a bundle are called where each has one name: as files, as sheets.

use std::collections::HashSet;

use arkstream_format::Manifest;

/// A name for each table of the manifest, in its order, and no name twice: that of its model, else that
/// of the table, with its schema where another one has that. Tables that inherit from a model's table have
/// its model too, and go by their own name.
#[must_use]
pub fn table_names(manifest: &Manifest) -> Vec<String> {
    let mut taken = HashSet::new();
    let tables = manifest.tables.iter();
    tables
        .map(|table| {
            let model = table.model.as_deref();
            let names = model.into_iter().chain([plain_name(&table.table)]);
            // What is qualified is the table's alone.
            let name = names
                .into_iter()
                .find(|name| taken.insert((*name).to_owned()));
            name.unwrap_or(&table.table).to_owned()
        })
        .collect()
}

/// A table's name without `public.`, the schema that nearly all have.
#[must_use]
pub fn plain_name(table: &str) -> &str {
    table.strip_prefix("public.").unwrap_or(table)
}

/// A name as a file's name that every system allows: other bytes than letters, digits, `.`, `_` and `-`
/// become `%` and two hexadecimal digits.
#[must_use]
pub fn file_name(name: &str) -> String {
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
