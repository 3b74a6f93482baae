//! What differs between two bundles: rows by id, files by hash, columns and versions.
//!
//! Rows are compared within a budget, whatever a table's size. Parts that are equal by the hash of what was
//! exported cancel each other and are not read. Of what remains, the side with fewer rows is held as pairs of
//! id and row hash, 24 bytes a row, and the other is streamed past it. Where the pairs do not fit, the rows
//! are divided by a hash of their id and the remaining parts are read once for each share (`diff::rows`).
//!
//! A table with one integer as its primary key is compared by id, so a row can be *changed*. Others are sets
//! of rows, some of them more than once: a row is there on both sides, or it is *added* or *removed*.
//! Columns that only one side has are told, and not compared.
//!
//! Peak memory: [`DiffOptions::memory`], both manifests, and [`DiffOptions::limit`] rows of each kind with
//! values cut at [`CUT`] bytes, for one table at a time and in the result.

mod columns;
mod files;
mod matching;
mod rows;
mod scan;
mod tables;
mod versions;

use std::sync::Arc;

use arkstream_format::Component;
use arkstream_pipeline::{BundleReader, Failure};

pub use columns::ColumnsDiff;
pub use scan::{CUT, Shown};

/// How to compare.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// Bytes that the comparison of rows may hold.
    pub memory: u64,
    /// Rows of each kind that are given with their fields, for each table; those of the smallest ids.
    pub limit: usize,
    /// Only these tables, by model or by name, and nothing else; empty means everything.
    pub only: Vec<String>,
}

/// What differs between two bundles.
#[derive(Clone, Debug, Default)]
pub struct BundleDiff {
    /// Each table that either has, in the order of the first, then of the second.
    pub tables: Vec<TableDiff>,
    /// Components that are made of files or dumps.
    pub stores: Vec<StoreDiff>,
    /// Versions that differ.
    pub versions: Vec<VersionChange>,
}

/// Which bundle has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// Both.
    Both,
    /// The first only.
    First,
    /// The second only.
    Second,
}

/// One table.
#[derive(Clone, Debug)]
pub struct TableDiff {
    /// Schema-qualified name.
    pub table: String,
    /// Its model, if it has one.
    pub model: Option<String>,
    /// Which bundle has it.
    pub found: In,
    /// The column by which rows are told apart; `None` where whole rows are compared.
    pub id: Option<String>,
    /// Columns that differ.
    pub columns: ColumnsDiff,
    /// Rows in the first bundle and in the second.
    pub rows: (u64, u64),
    /// Rows that only the second has.
    pub added: u64,
    /// Rows that only the first has.
    pub removed: u64,
    /// Rows of one id that differ.
    pub changed: u64,
    /// How often the rows were read to compare them: 0 where equal parts were all there is.
    pub passes: u64,
    /// Why its rows were not compared, where they could not be.
    pub left_out: Option<String>,
    /// Rows that differ, with their fields: the first of each kind, as many as were asked for.
    pub samples: Vec<RowDiff>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Both have its id, with other values.
    Changed,
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDiff {
    /// What became of it.
    pub kind: Kind,
    /// Its id, where the table has one.
    pub id: Option<i64>,
    /// Of a changed row the fields that differ; of another all that are not NULL.
    pub fields: Vec<FieldDiff>,
}

/// A field on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDiff {
    /// The column.
    pub name: String,
    /// In the first bundle; `None` is NULL.
    pub first: Option<Shown>,
    /// In the second; `None` is NULL.
    pub second: Option<Shown>,
}

/// The files of one component.
#[derive(Clone, Debug)]
pub struct StoreDiff {
    /// Which.
    pub component: Component,
    /// Which bundle has it.
    pub found: In,
    /// Names of members that only the second has.
    pub added: Vec<String>,
    /// Names of members that only the first has.
    pub removed: Vec<String>,
    /// Names of members whose content differs.
    pub changed: Vec<String>,
    /// How many are equal.
    pub equal: u64,
}

/// A version that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionChange {
    /// Of what.
    pub what: String,
    /// In the first bundle, where it has one.
    pub first: Option<String>,
    /// In the second.
    pub second: Option<String>,
}

impl TableDiff {
    /// Whether both have it, with equal columns and rows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.found == In::Both
            && self.columns.is_empty()
            && self.added + self.removed + self.changed == 0
    }
}

impl StoreDiff {
    /// Whether both have the same files.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.found == In::Both
            && self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
    }
}

impl BundleDiff {
    /// Whether nothing differs, as far as it was compared.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.versions.is_empty()
            && self.tables.iter().all(TableDiff::is_equal)
            && self.stores.iter().all(StoreDiff::is_equal)
    }

    /// Whether anything could not be compared.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.tables.iter().any(|table| table.left_out.is_some())
    }
}

/// Compares two bundles.
///
/// # Errors
/// [`arkstream_pipeline::FailureKind::Damaged`] when something that has to be read is damaged,
/// [`arkstream_pipeline::FailureKind::Usage`] when neither has a table of a name in
/// [`DiffOptions::only`].
pub fn diff(
    first: &Arc<dyn BundleReader>,
    second: &Arc<dyn BundleReader>,
    options: &DiffOptions,
) -> Result<BundleDiff, Failure> {
    let mut found = BundleDiff::default();
    if options.only.is_empty() {
        found.versions = versions::compare(first.as_ref(), second.as_ref())?;
        found.stores = files::compare(first.as_ref(), second.as_ref())?;
    }
    for pair in tables::pairs(first.manifest(), second.manifest(), &options.only)? {
        found
            .tables
            .push(tables::compare(first, second, pair, options)?);
    }
    Ok(found)
}
