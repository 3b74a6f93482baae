//! One side of a table: its rows with their keys, and values to show.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray as _,
    types::{Int16Type, Int32Type, Int64Type},
};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, Schema};

use arkstream_format::{Digest, TableEntry};
use arkstream_pipeline::{BundleReader, Failure, FailureKind};

use super::matching::Key;
use crate::{Column, Rows, columns};

/// Bytes of a value that are kept to be shown.
pub const CUT: usize = 4096;

/// One side of a table.
pub(super) struct Side<'a> {
    pub(super) bundle: &'a Arc<dyn BundleReader>,
    /// The table, with those parts only that are to be read.
    pub(super) entry: TableEntry,
}

/// How a row becomes a key: by the fields that both sides have.
pub(super) struct Comparing {
    fields: Vec<String>,
    pub(super) id: Option<String>,
    converter: RowConverter,
}

impl Comparing {
    /// The fields of `first` that `second` has with the same type.
    pub(super) fn new(
        first: &Schema,
        second: &Schema,
        id: Option<String>,
        table: &str,
    ) -> Result<Self, Failure> {
        let common: Vec<_> = first
            .fields()
            .iter()
            .filter(|one| {
                let other = second.field_with_name(one.name());
                other.is_ok_and(|other| other.data_type() == one.data_type())
            })
            .collect();
        let sorted = common
            .iter()
            .map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            fields: common.iter().map(|field| field.name().clone()).collect(),
            id,
            converter: RowConverter::new(sorted.collect()).map_err(|error| failed(table, error))?,
        })
    }

    /// The same for rows that one side alone has.
    pub(super) fn alone(schema: &Schema, id: Option<String>, table: &str) -> Result<Self, Failure> {
        Self::new(schema, schema, id, table)
    }

    /// The keys of a batch's rows.
    fn keys(&self, batch: &RecordBatch, table: &str) -> Result<Vec<Key>, Failure> {
        let column = |name: &String| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| failed(table, format!("a part has no column {name}")))
        };
        let compared: Vec<ArrayRef> = self
            .fields
            .iter()
            .map(|name| column(name).cloned())
            .collect::<Result<_, _>>()?;
        let rows = self
            .converter
            .convert_columns(&compared)
            .map_err(|error| failed(table, error))?;
        let ids = match &self.id {
            Some(id) => Some(integers(column(id)?, table)?),
            None => None,
        };
        let mut keys = Vec::with_capacity(batch.num_rows());
        for (at, row) in rows.iter().enumerate() {
            let whole = blake3::hash(row.as_ref());
            let (mut id, mut hash) = ([0; 8], [0; 12]);
            id.copy_from_slice(&whole.as_bytes()[..8]);
            hash.copy_from_slice(&whole.as_bytes()[8..20]);
            let id = match &ids {
                Some(ids) => ids.get(at).copied().unwrap_or_default(),
                None => i64::from_le_bytes(id),
            };
            keys.push(Key { id, hash });
        }
        Ok(keys)
    }
}

/// The values of a column of whole numbers without NULL.
fn integers(array: &ArrayRef, table: &str) -> Result<Vec<i64>, Failure> {
    if array.null_count() > 0 {
        return Err(failed(table, "an id is NULL"));
    }
    Ok(match array.data_type() {
        DataType::Int16 => {
            let values = array.as_primitive::<Int16Type>().values();
            values.iter().map(|id| i64::from(*id)).collect()
        }
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>().values();
            values.iter().map(|id| i64::from(*id)).collect()
        }
        DataType::Int64 => array.as_primitive::<Int64Type>().values().to_vec(),
        other => return Err(failed(table, format!("an id is of type {other}"))),
    })
}

impl Side<'_> {
    /// Rows of the remaining parts.
    pub(super) fn rows(&self) -> u64 {
        self.entry.parts.iter().map(|part| part.rows).sum()
    }

    /// Opens them; `None` if there is no part left.
    pub(super) fn open(&self) -> Result<Option<Rows>, Failure> {
        if self.entry.parts.is_empty() {
            return Ok(None);
        }
        Rows::open(Arc::clone(self.bundle), &self.entry).map(Some)
    }

    /// Gives each row's key, until `each` wants no more. Only what makes keys is read.
    pub(super) fn keys(
        &self,
        comparing: &Comparing,
        mut each: impl FnMut(Key),
    ) -> Result<(), Failure> {
        let Some(rows) = self.open()? else {
            return Ok(());
        };
        let mut names: Vec<&str> = comparing.fields.iter().map(String::as_str).collect();
        if let Some(id) = comparing.id.as_deref().filter(|id| !names.contains(id)) {
            names.push(id);
        }
        for batch in rows.only(&names)? {
            for key in comparing.keys(&batch?, &self.entry.table)? {
                each(key);
            }
        }
        Ok(())
    }

    /// Gives each row's key and its place, with all columns, until `each` wants no more.
    pub(super) fn values(
        &self,
        comparing: &Comparing,
        mut each: impl FnMut(Key, &[Column], &RecordBatch, usize) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let Some(rows) = self.open()? else {
            return Ok(());
        };
        let columns = columns(&rows.schema());
        for batch in rows {
            let batch = batch?;
            for (row, key) in comparing
                .keys(&batch, &self.entry.table)?
                .into_iter()
                .enumerate()
            {
                if !each(key, &columns, &batch, row)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A value as it is shown: as PostgreSQL prints it, cut where it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its first [`CUT`] bytes.
    pub text: String,
    /// Bytes of the whole text.
    pub bytes: u64,
    digest: Digest,
}

impl Shown {
    /// Whether it is longer than what is shown.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.text.len() as u64 != self.bytes
    }

    /// The value with that text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let fits = |end: &usize| text.is_char_boundary(*end);
        let end = (0..=CUT.min(text.len())).rev().find(fits).unwrap_or(0);
        Self {
            text: text.get(..end).unwrap_or_default().to_owned(),
            bytes: text.len() as u64,
            digest: Digest::of(text.as_bytes()),
        }
    }
}

/// The values of a row by column; `None` is NULL.
pub(super) fn shown(
    columns: &[Column],
    batch: &RecordBatch,
    row: usize,
) -> Result<Vec<(String, Option<Shown>)>, Failure> {
    let mut text = String::new();
    columns
        .iter()
        .map(|column| {
            text.clear();
            let there = column.text(batch, row, &mut text)?;
            Ok((column.name.clone(), there.then(|| Shown::of(&text))))
        })
        .collect()
}

pub(super) fn failed(table: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Damaged,
        format!("compare the rows of {table}"),
        why.to_string(),
    )
    .help("`arkstream verify` lists everything that is damaged")
}
