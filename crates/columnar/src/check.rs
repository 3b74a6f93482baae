//! Reading a Parquet file back: to prove that it decodes, and to look at its integers.
//!
//! Peak memory: the footer, one page per column and one batch. Batches are sized by the row
//! group's own average to some 8 MiB, so the worst case is a row group whose size sits in a few
//! rows: then one batch can hold the whole row group (16 MiB or one row, as the encoder cuts them).
//!
//! The parquet and arrow crates panic on some damaged footers (an impossible integer width in the
//! Arrow schema, a negative offset of a column). A check must report damage, so such a panic is
//! caught and becomes [`CheckError::Reader`]; the process's panic hook still runs and prints.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::CheckError;

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
pub fn check_parquet(reader: impl ChunkReader + 'static) -> Result<ParquetCheck, CheckError> {
    let file = OpenFile::new(reader)?;
    let schema = file.metadata.schema().clone();
    let rows = file.read(ProjectionMask::all(), |_| {})?;
    Ok(ParquetCheck {
        rows,
        row_groups: file.metadata.metadata().num_row_groups(),
        columns: schema.fields().iter().map(|f| f.name().clone()).collect(),
        metadata: schema
            .metadata()
            .iter()
            .filter(|(key, _)| key.starts_with("arkstream."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        schema,
    })
}

/// Streams the non-null values of `int2`, `int4` and `int8` columns and returns the rows read.
///
/// Within a batch the columns come one after the other, in the order of `names`; so `visit` sees
/// each column's values in row order, but not the columns of a row together.
pub fn int_columns(
    reader: impl ChunkReader + 'static,
    names: &[&str],
    visit: &mut dyn FnMut(&str, i64),
) -> Result<u64, CheckError> {
    let file = OpenFile::new(reader)?;
    let schema = file.metadata.schema();
    let mut roots = Vec::with_capacity(names.len());
    for name in names {
        let (root, field) = schema
            .fields()
            .find(name)
            .ok_or_else(|| CheckError::NoColumn((*name).to_owned()))?;
        match field.data_type() {
            DataType::Int16 | DataType::Int32 | DataType::Int64 => roots.push(root),
            other => {
                return Err(CheckError::NotInteger {
                    column: (*name).to_owned(),
                    found: other.to_string(),
                });
            }
        }
    }
    let mask = file.mask(roots);
    file.read(mask, |batch| {
        for name in names {
            if let Some(column) = batch.column_by_name(name) {
                visit_integers(column, |value| visit(name, value));
            }
        }
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
pub(crate) struct OpenFile<R> {
    reader: Shared<R>,
    metadata: ArrowReaderMetadata,
}

impl<R: ChunkReader + 'static> OpenFile<R> {
    pub(crate) fn new(reader: R) -> Result<Self, CheckError> {
        let reader = Shared(Arc::new(reader));
        let metadata = guarded(|| ArrowReaderMetadata::load(&reader, ArrowReaderOptions::new()))?
            .map_err(CheckError::Footer)?;
        Ok(OpenFile { reader, metadata })
    }

    /// Decodes the masked columns, row group by row group, and returns the rows.
    fn read(
        &self,
        mask: ProjectionMask,
        mut visit: impl FnMut(&RecordBatch),
    ) -> Result<u64, CheckError> {
        let mut total = 0;
        for (row_group, described) in self.metadata.metadata().row_groups().iter().enumerate() {
            let broken = |reason: String| CheckError::RowGroup { row_group, reason };
            let mut batches = self.open_group(row_group, mask.clone())?;
            let mut rows = 0;
            while let Some(batch) = guarded(|| batches.next())? {
                let batch = batch.map_err(|error| broken(error.to_string()))?;
                rows += batch.num_rows() as u64;
                visit(&batch);
            }
            if u64::try_from(described.num_rows()) != Ok(rows) {
                return Err(CheckError::Rows {
                    row_group,
                    expected: described.num_rows(),
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

    pub(crate) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The mask of these top-level columns.
    pub(crate) fn mask(&self, roots: Vec<usize>) -> ProjectionMask {
        ProjectionMask::roots(self.metadata.parquet_schema(), roots)
    }

    /// Opens the masked columns of a row group.
    pub(crate) fn open_group(
        &self,
        row_group: usize,
        mask: ProjectionMask,
    ) -> Result<ParquetRecordBatchReader, CheckError> {
        let rows = self
            .metadata
            .metadata()
            .row_groups()
            .get(row_group)
            .map_or(1, batch_rows);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            Shared(self.reader.0.clone()),
            self.metadata.clone(),
        )
        .with_row_groups(vec![row_group])
        .with_projection(mask);
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

/// Lets one reader serve every row group.
pub(crate) struct Shared<R>(Arc<R>);

impl<R: ChunkReader> Length for Shared<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for Shared<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}
