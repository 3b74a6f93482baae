//! Reading a Parquet file back: to prove that it decodes, and to look at its integers.
//!
//! Peak memory: the footer, the compressed bytes of one row group, one page per column and one batch.
//! Batches are sized by the row group's own average to some 8 MiB, so the worst case is a row group whose
//! size sits in a few rows: then one batch can hold the whole row group (16 MiB or one row, as the encoder cuts them).
//!
//! The parquet and arrow crates panic on some damaged footers (an impossible integer width in the
//! Arrow schema, a negative offset of a column). A check must report damage, so such a panic is
//! caught and becomes [`CheckError::Reader`]; the process's panic hook still runs and prints.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;

use crate::error::CheckError;
use crate::window::{PartFile, Window};

const BATCH_BYTES: i64 = 8 << 20;
const BATCH_ROWS: i64 = 8192;

/// What a Parquet file proved to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetCheck {
    /// Rows decoded.
    pub rows: u64,
    /// Row groups.
    pub row_groups: usize,
    /// The columns' names, companions included.
    pub columns: Vec<String>,
    /// The file's metadata under `arkstream.`.
    pub metadata: BTreeMap<String, String>,
    /// The Arrow schema, with the metadata of its fields.
    pub schema: SchemaRef,
}

/// Decodes every page of every column.
pub fn check_parquet<'a>(file: impl Into<PartFile<'a>>) -> Result<ParquetCheck, CheckError> {
    check_integers(file, &[], &mut |_, _| {})
}

/// The same, and shows the non-null values of `int2`, `int4` and `int8` columns on the way.
///
/// Within a batch the columns come one after the other, in the order of `names`; so `visit` sees
/// each column's values in row order, but not the columns of a row together.
pub fn check_integers<'a>(
    file: impl Into<PartFile<'a>>,
    names: &[&str],
    visit: &mut dyn FnMut(&str, i64),
) -> Result<ParquetCheck, CheckError> {
    let mut file = OpenFile::new(file.into())?;
    let schema = file.schema();
    for name in names {
        let (_, field) = schema
            .fields()
            .find(name)
            .ok_or_else(|| CheckError::NoColumn((*name).to_owned()))?;
        if !matches!(
            field.data_type(),
            DataType::Int16 | DataType::Int32 | DataType::Int64
        ) {
            return Err(CheckError::NotInteger {
                column: (*name).to_owned(),
                found: field.data_type().to_string(),
            });
        }
    }
    let rows = file.read(|batch| {
        for name in names {
            if let Some(column) = batch.column_by_name(name) {
                visit_integers(column, |value| visit(name, value));
            }
        }
    })?;
    Ok(ParquetCheck {
        rows,
        row_groups: file.row_groups(),
        columns: schema.fields().iter().map(|f| f.name().clone()).collect(),
        metadata: file.notes(),
        schema,
    })
}

fn visit_integers(column: &dyn Array, visit: impl FnMut(i64)) {
    match column.data_type() {
        DataType::Int16 => visit_values::<Int16Type>(column, visit),
        DataType::Int32 => visit_values::<Int32Type>(column, visit),
        DataType::Int64 => visit_values::<Int64Type>(column, visit),
        // Refused before the first batch.
        _ => {}
    }
}

fn visit_values<T>(column: &dyn Array, visit: impl FnMut(i64))
where
    T: ArrowPrimitiveType,
    i64: From<T::Native>,
{
    let values = column.as_primitive::<T>().iter().flatten();
    values.map(i64::from).for_each(visit);
}

/// A file whose footer was read.
pub(crate) struct OpenFile<'a> {
    file: PartFile<'a>,
    window: Window,
    metadata: ArrowReaderMetadata,
}

impl<'a> OpenFile<'a> {
    pub(crate) fn new(mut file: PartFile<'a>) -> Result<Self, CheckError> {
        let window = file.open()?;
        let metadata = guarded(|| ArrowReaderMetadata::load(&window, ArrowReaderOptions::new()))?
            .map_err(CheckError::Footer)?;
        Ok(OpenFile {
            file,
            window,
            metadata,
        })
    }

    /// Decodes all columns, row group by row group, and returns the rows.
    fn read(&mut self, mut visit: impl FnMut(&RecordBatch)) -> Result<u64, CheckError> {
        let mut total = 0;
        for row_group in 0..self.row_groups() {
            let broken = |reason: String| CheckError::RowGroup { row_group, reason };
            let mut batches = self.row_group(row_group, &ProjectionMask::all())?;
            let mut rows = 0;
            while let Some(batch) = guarded(|| batches.next())? {
                let batch = batch.map_err(|error| broken(error.to_string()))?;
                rows += batch.num_rows() as u64;
                visit(&batch);
            }
            let expected = self
                .described(row_group)
                .map_or(0, RowGroupMetaData::num_rows);
            if u64::try_from(expected) != Ok(rows) {
                return Err(CheckError::Rows {
                    row_group,
                    expected,
                    found: rows,
                });
            }
            total += rows;
        }
        self.expect_rows(total)?;
        Ok(total)
    }

    /// The Arrow schema, with the metadata of its fields.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.metadata.schema().clone()
    }

    /// The file's metadata under `arkstream.`.
    pub(crate) fn notes(&self) -> BTreeMap<String, String> {
        let metadata = self.metadata.schema().metadata().iter();
        metadata
            .filter(|(key, _)| key.starts_with("arkstream."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Bytes in memory while batches are read.
    pub(crate) fn needs(&self) -> u64 {
        let groups = self.metadata.metadata().row_groups().iter();
        let needs = groups.map(|group| {
            let stored = group.compressed_size().max(0).cast_unsigned();
            let batch = group.total_byte_size().max(0).cast_unsigned();
            stored.saturating_add(batch.saturating_mul(2))
        });
        needs.max().unwrap_or_default()
    }

    pub(crate) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    fn described(&self, row_group: usize) -> Option<&RowGroupMetaData> {
        self.metadata.metadata().row_groups().get(row_group)
    }

    /// The mask of these top-level columns.
    pub(crate) fn mask(&self, roots: Vec<usize>) -> ProjectionMask {
        ProjectionMask::roots(self.metadata.parquet_schema(), roots)
    }

    /// Opens the masked columns of a row group, and leaves the one before.
    pub(crate) fn row_group(
        &mut self,
        row_group: usize,
        mask: &ProjectionMask,
    ) -> Result<ParquetRecordBatchReader, CheckError> {
        let described = self.described(row_group);
        let rows = described.map_or(1, batch_rows);
        let range = match described {
            Some(described) => guarded(|| range_of(described, mask))?,
            None => 0..0,
        };
        self.file.show(&self.window, range)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.window.clone(),
            self.metadata.clone(),
        )
        .with_row_groups(vec![row_group])
        .with_projection(mask.clone());
        guarded(|| builder.with_batch_size(rows).build())?.map_err(|error| CheckError::RowGroup {
            row_group,
            reason: error.to_string(),
        })
    }

    /// Holds the rows that were read against the footer.
    pub(crate) fn expect_rows(&self, found: u64) -> Result<(), CheckError> {
        let expected = self.metadata.metadata().file_metadata().num_rows();
        if u64::try_from(expected) == Ok(found) {
            Ok(())
        } else {
            Err(CheckError::TotalRows { expected, found })
        }
    }
}

/// Turns a panic of the reader into an error; what it panicked in is not used again.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, CheckError> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let text = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic
                .downcast::<&str>()
                .map(|text| text.to_string())
                .unwrap_or_default(),
        };
        CheckError::Reader(text)
    })
}

/// Rows of a batch that is some 8 MiB when all rows of the group are alike.
fn batch_rows(row_group: &RowGroupMetaData) -> usize {
    let row_bytes = row_group.total_byte_size().max(0) / row_group.num_rows().max(1);
    let rows = (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS);
    usize::try_from(rows).unwrap_or(1)
}

/// Where the pages of the masked columns of a row group lie. Panics on negative offsets.
fn range_of(row_group: &RowGroupMetaData, mask: &ProjectionMask) -> Range<u64> {
    let columns = row_group.columns().iter().enumerate();
    let masked = columns.filter(|(leaf, _)| mask.leaf_included(*leaf));
    let ranges = masked.map(|(_, column)| column.byte_range());
    let ends = ranges.map(|(start, length)| (start, start.saturating_add(length)));
    let whole = ends.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    whole.map_or(0..0, |(start, end)| start..end)
}
