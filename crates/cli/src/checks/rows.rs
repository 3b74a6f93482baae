//! Rows: every page of every Parquet part is decoded, counts agree, no key stands twice, foreign keys
//! inside the bundle find what they refer to, and so do references to large values.
//!
//! Peak memory: the footer and one row group of a part, the names of large values, and one compressed
//! bitmap for each key column (about a bit to a few bytes a distinct value).

use std::collections::{BTreeMap, HashSet};

use roaring::RoaringTreemap;

use arkstream_columnar::{CheckError, ParquetCheck, PartFile, check_integers, check_parquet};
use arkstream_format::{
    Component, Compression, LARGE_KEY, LargeEntry, Manifest, Member, PartEntry, TableEntry,
};
use arkstream_pipeline::{BundleReader, ContentCheck, Finding, MemberBytes, Place};

use super::keys::Keys;

/// Number of a table in the manifest, and a column.
type Key = (usize, String);

/// Checks every Parquet part.
#[derive(Debug, Default)]
pub(crate) struct RowsCheck {
    /// Values of the columns that foreign keys refer to.
    referenced: BTreeMap<Key, RoaringTreemap>,
    /// Values of the columns that refer.
    referring: BTreeMap<Key, RoaringTreemap>,
    tables: Option<Tables>,
    /// Members that parts name as large values.
    large: HashSet<String>,
}

/// What the manifest says of tables, by number.
#[derive(Debug)]
struct Tables {
    keys: Vec<Keys>,
    /// Numbers of table and part, by member.
    parts: BTreeMap<String, (usize, usize)>,
}

impl Tables {
    fn of(manifest: &Manifest) -> Self {
        let tables = manifest.tables.iter().enumerate();
        let parts = tables.flat_map(|(number, table)| {
            let parts = table.parts.iter().enumerate();
            parts.map(move |(part, entry)| (entry.member.clone(), (number, part)))
        });
        Self {
            keys: Keys::of(manifest),
            parts: parts.collect(),
        }
    }
}

impl ContentCheck for RowsCheck {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn wants(&self, member: &Member) -> bool {
        is_part(member)
    }

    fn check(&mut self, bundle: &dyn BundleReader, member: &Member) -> Vec<Finding> {
        let manifest = bundle.manifest();
        let tables = self.tables.get_or_insert_with(|| Tables::of(manifest));
        let found = tables.parts.get(&member.name).copied();
        let table = found.and_then(|(table, part)| {
            let entry = manifest.tables.get(table)?;
            Some((table, entry, entry.parts.get(part)?))
        });
        let Some((number, table, part)) = table else {
            let tables_are_lost = manifest.salvage.as_ref().is_some_and(|s| !s.described);
            return match tables_are_lost {
                true => decode(bundle, member),
                false => vec![Finding::in_member(member, "it belongs to no table")],
            };
        };
        match self.check_part(bundle, number, table, part, member) {
            Ok(()) => Vec::new(),
            Err(finding) => vec![finding],
        }
    }

    fn conclude(&mut self, bundle: &dyn BundleReader) -> Vec<Finding> {
        let manifest = bundle.manifest();
        let mut findings = Vec::new();
        for member in &manifest.members {
            if member.component == Component::Models
                && !is_part(member)
                && !self.large.contains(&member.name)
            {
                findings.push(Finding::in_member(member, "no row refers to it"));
            }
        }
        let Some(tables) = &self.tables else {
            return findings;
        };
        for (number, (table, keys)) in manifest.tables.iter().zip(&tables.keys).enumerate() {
            for reference in &keys.references {
                let (column, target_column) = (&reference.column, &reference.target_column);
                let (Some(values), Some(ids), Some(target)) = (
                    self.referring.get(&(number, column.clone())),
                    self.referenced
                        .get(&(reference.target, target_column.clone())),
                    manifest.tables.get(reference.target),
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
        bundle: &dyn BundleReader,
        number: usize,
        table: &TableEntry,
        part: &PartEntry,
        member: &Member,
    ) -> Result<(), Finding> {
        let damage = |what: String| Finding::in_member(member, what);
        let file = open(bundle, member)?;
        let (check, doubled) = self
            .read(number, file)
            .map_err(|error| damage(error.to_string()))?;
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
        if let Some(id) = doubled {
            return Err(damage(format!("the row with the key {id} stands twice")));
        }
        self.check_large(bundle, part, &check).map_err(damage)
    }

    /// Decodes a part and notes its keys. Also gives a primary key that was seen before.
    fn read(
        &mut self,
        number: usize,
        file: PartFile<'_>,
    ) -> Result<(ParquetCheck, Option<i64>), CheckError> {
        let keys = self
            .tables
            .as_ref()
            .and_then(|tables| tables.keys.get(number));
        let Some(keys) = keys else {
            return Ok((check_parquet(file)?, None));
        };
        let mut doubled = None;
        let check = check_integers(file, &keys.columns(), &mut |column, value| {
            let key = || (number, column.to_owned());
            let is_primary = keys.primary.as_deref() == Some(column);
            if is_primary || keys.targets.iter().any(|target| target == column) {
                let new = self
                    .referenced
                    .entry(key())
                    .or_default()
                    .insert(value as u64);
                if is_primary && !new {
                    doubled = Some(value);
                }
            }
            if keys.references.iter().any(|r| r.column == column) {
                self.referring
                    .entry(key())
                    .or_default()
                    .insert(value as u64);
            }
        })?;
        Ok((check, doubled))
    }

    /// The values that the part names must be there, and be those that the manifest names.
    fn check_large(
        &mut self,
        bundle: &dyn BundleReader,
        part: &PartEntry,
        check: &ParquetCheck,
    ) -> Result<(), String> {
        let values = LargeEntry::read(&check.metadata);
        let values = values.map_err(|error| format!("{LARGE_KEY}: {error}"))?;
        let mut places = HashSet::new();
        for value in &values {
            let name = &value.member;
            if value.row >= check.rows || !check.columns.contains(&value.column) {
                return Err(format!(
                    "{name} belongs to row {} and column {:?}, which it does not have",
                    value.row, value.column
                ));
            }
            if !places.insert((value.row, &value.column)) || !self.large.insert(name.clone()) {
                return Err(format!("{name} is named twice, or has another beside it"));
            }
            match bundle.member(name) {
                // The list of what is lost tells of it.
                None if is_lost(bundle, name) => {}
                None => return Err(format!("{name} is not in the bundle")),
                Some(member) if value.is_content(member) => {}
                Some(_) => return Err(format!("{name} is not the value that it names")),
            }
        }
        if !values.iter().map(|value| &value.member).eq(&part.large) {
            return Err("its large values are not those of the manifest".to_owned());
        }
        Ok(())
    }
}

fn is_lost(bundle: &dyn BundleReader, name: &str) -> bool {
    let salvage = bundle.manifest().salvage.as_ref();
    salvage.is_some_and(|salvage| salvage.lost_member(name))
}

fn is_part(member: &Member) -> bool {
    member.component == Component::Models && member.name.ends_with(".parquet")
}

/// All that can be said of a part whose table is not known.
fn decode(bundle: &dyn BundleReader, member: &Member) -> Vec<Finding> {
    let checked = open(bundle, member).and_then(|file| {
        check_parquet(file).map_err(|error| Finding::in_member(member, error.to_string()))
    });
    checked.err().into_iter().collect()
}

fn open<'a>(bundle: &'a dyn BundleReader, member: &'a Member) -> Result<PartFile<'a>, Finding> {
    // Stored, it cannot be larger than the file, whatever the manifest says.
    if member.compression != Compression::Stored || member.raw_len > bundle.file_len() {
        return Err(Finding::in_member(
            member,
            "a Parquet member must be stored",
        ));
    }
    let mut bytes = MemberBytes::new(member, |chunk| bundle.read_chunk(member, chunk));
    Ok(PartFile::new(bytes.len(), move |range| bytes.read(range)))
}
