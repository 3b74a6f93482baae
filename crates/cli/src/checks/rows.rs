//! Rows: every page of every Parquet part is decoded, counts agree, no key stands twice, and
//! foreign keys inside the bundle find what they refer to.
//!
//! Peak memory: one part (bounded by the budget of the backup), and one compressed bitmap for each
//! key column (about a bit to a few bytes a distinct value).

use std::collections::BTreeMap;

use bytes::Bytes;
use roaring::RoaringTreemap;

use arkstream_columnar::{check_parquet, int_columns};
use arkstream_format::{Component, Compression, Manifest, Member, TableEntry};
use arkstream_pipeline::{BundleReader, ContentCheck, Finding, Place};

/// Table and column.
type Key = (String, String);

/// Checks every Parquet part.
#[derive(Debug, Default)]
pub(crate) struct RowsCheck {
    /// Values of the columns that foreign keys refer to.
    referenced: BTreeMap<Key, RoaringTreemap>,
    /// Values of the columns that refer.
    referring: BTreeMap<Key, RoaringTreemap>,
    /// Number of the table in the manifest, by member.
    tables: Option<BTreeMap<String, usize>>,
}

impl ContentCheck for RowsCheck {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn wants(&self, member: &Member) -> bool {
        member.component == Component::Models && member.name.ends_with(".parquet")
    }

    fn check(&mut self, bundle: &dyn BundleReader, member: &Member) -> Vec<Finding> {
        let manifest = bundle.manifest();
        let tables = self.tables.get_or_insert_with(|| index(manifest));
        let Some(table) = tables
            .get(&member.name)
            .and_then(|number| manifest.tables.get(*number))
        else {
            let tables_are_lost = manifest.salvage.as_ref().is_some_and(|s| !s.described);
            return match tables_are_lost {
                true => decode(bundle, member),
                false => vec![Finding::in_member(member, "it belongs to no table")],
            };
        };
        match read(bundle, member).and_then(|bytes| self.check_part(manifest, table, member, bytes))
        {
            Ok(()) => Vec::new(),
            Err(finding) => vec![finding],
        }
    }

    fn conclude(&mut self, bundle: &dyn BundleReader) -> Vec<Finding> {
        let manifest = bundle.manifest();
        let mut findings = Vec::new();
        for table in &manifest.tables {
            for (column, target, target_column) in references(manifest, table) {
                let (Some(values), Some(ids)) = (
                    self.referring.get(&(table.table.clone(), column.clone())),
                    self.referenced
                        .get(&(target.table.clone(), target_column.clone())),
                ) else {
                    continue;
                };
                let dangling = values - ids;
                let Some(first) = dangling.min() else {
                    continue;
                };
                let what = format!(
                    "{}.{column} refers to {} rows of {} that are not in the bundle (the first is \
                     {target_column} = {first})",
                    table.table,
                    dangling.len(),
                    target.table
                );
                // Where only some rows of a table travel, a reference may leave the bundle.
                findings.push(if target.filter.is_some() {
                    Finding::note(what)
                } else {
                    Finding::damage(Place::default(), what)
                });
            }
        }
        findings
    }
}

impl RowsCheck {
    fn check_part(
        &mut self,
        manifest: &Manifest,
        table: &TableEntry,
        member: &Member,
        bytes: Bytes,
    ) -> Result<(), Finding> {
        let damage = |what: String| Finding::in_member(member, what);
        let check = check_parquet(bytes.clone()).map_err(|error| damage(error.to_string()))?;
        if Some(check.rows) != member.rows {
            return Err(damage(format!(
                "it holds {} rows, the manifest says {:?}",
                check.rows, member.rows
            )));
        }
        if check.metadata.get("arkstream.table") != Some(&table.table) {
            return Err(damage(format!(
                "it says it belongs to {:?}, the manifest says {}",
                check.metadata.get("arkstream.table"),
                table.table
            )));
        }
        self.collect(manifest, table, bytes)
            .map_err(|error| damage(error.to_string()))?
            .map_or(Ok(()), |id| {
                Err(damage(format!("the row with the key {id} stands twice")))
            })
    }

    /// Notes the part's keys. Returns a primary key that was seen before.
    fn collect(
        &mut self,
        manifest: &Manifest,
        table: &TableEntry,
        bytes: Bytes,
    ) -> Result<Option<i64>, arkstream_columnar::CheckError> {
        let mut columns: Vec<String> = references(manifest, table).map(|(c, ..)| c).collect();
        let referring = columns.clone();
        let targets = targets_in(manifest, table);
        let primary = match table.primary_key.as_slice() {
            [column] if is_integer(table, column) => Some(column.clone()),
            _ => None,
        };
        columns.extend(targets.iter().cloned());
        columns.extend(primary.clone());
        columns.sort();
        columns.dedup();
        if columns.is_empty() {
            return Ok(None);
        }
        let mut doubled = None;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        int_columns(bytes, &names, &mut |column, value| {
            let key = || (table.table.clone(), column.to_owned());
            let is_primary = primary.as_deref() == Some(column);
            if is_primary || targets.iter().any(|target| target == column) {
                let new = self
                    .referenced
                    .entry(key())
                    .or_default()
                    .insert(value as u64);
                if is_primary && !new {
                    doubled = Some(value);
                }
            }
            if referring.iter().any(|name| name == column) {
                self.referring
                    .entry(key())
                    .or_default()
                    .insert(value as u64);
            }
        })?;
        Ok(doubled)
    }
}

/// All that can be said of a part whose table is not known.
fn decode(bundle: &dyn BundleReader, member: &Member) -> Vec<Finding> {
    let checked = read(bundle, member).and_then(|bytes| {
        check_parquet(bytes).map_err(|error| Finding::in_member(member, error.to_string()))
    });
    checked.err().into_iter().collect()
}

fn index(manifest: &Manifest) -> BTreeMap<String, usize> {
    let parts = manifest.tables.iter().enumerate();
    parts
        .flat_map(|(number, table)| {
            let members = table.parts.iter();
            members.map(move |part| (part.member.clone(), number))
        })
        .collect()
}

fn read(bundle: &dyn BundleReader, member: &Member) -> Result<Bytes, Finding> {
    // Stored, it cannot be larger than the file, whatever the manifest says.
    if member.compression != Compression::Stored || member.raw_len > bundle.file_len() {
        return Err(Finding::in_member(
            member,
            "a Parquet member must be stored",
        ));
    }
    let mut bytes = Vec::with_capacity(member.raw_len as usize);
    for index in 0..member.chunks.len() {
        bytes.extend_from_slice(&bundle.read_chunk(member, index)?);
    }
    Ok(bytes.into())
}

fn is_integer(table: &TableEntry, column: &str) -> bool {
    table.columns.iter().any(|entry| {
        entry.name == column && matches!(entry.pg_type.as_str(), "integer" | "bigint" | "smallint")
    })
}

/// Foreign keys of one integer column whose target is in the bundle: column, target, target column.
fn references<'a>(
    manifest: &'a Manifest,
    table: &'a TableEntry,
) -> impl Iterator<Item = (String, &'a TableEntry, String)> {
    table.foreign_keys.iter().filter_map(|key| {
        let ([column], [target_column]) =
            (key.columns.as_slice(), key.referenced_columns.as_slice())
        else {
            return None;
        };
        let target = manifest.tables.iter().find(|t| t.table == key.references)?;
        (is_integer(table, column) && is_integer(target, target_column))
            .then(|| (column.clone(), target, target_column.clone()))
    })
}

/// Columns of `table` that other tables of the bundle refer to.
fn targets_in(manifest: &Manifest, table: &TableEntry) -> Vec<String> {
    let mut columns: Vec<String> = manifest
        .tables
        .iter()
        .flat_map(|other| &other.foreign_keys)
        .filter(|key| key.references == table.table)
        .filter_map(|key| match key.referenced_columns.as_slice() {
            [column] if is_integer(table, column) => Some(column.clone()),
            _ => None,
        })
        .collect();
    columns.sort();
    columns.dedup();
    columns
}
