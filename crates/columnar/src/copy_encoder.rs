//! From record batches to COPY BINARY.
//!
//! Format (PostgreSQL's documentation of COPY): the signature, four bytes of flags, four of
//! header extension; then for each row the number of its fields and each field as a length (−1:
//! NULL) and its bytes; at last −1 as a number of fields.
//!
//! A large value, which stands outside its part, is written by its caller: [`CopyRows::large`] begins its
//! field, and its content follows as it is.
//!
//! Peak memory: the output, which its caller bounds by rows.

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::Schema;

use crate::error::StageError;
use crate::large::JSONB_VERSION;
use crate::stage::{self, Field, StageColumn, Typed, Wire};
use crate::wire::ColumnWriter;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// From the batches of a table's parts to COPY BINARY for its staging table.
#[derive(Clone, Debug)]
pub struct CopyEncoder {
    fields: Vec<Field>,
    columns: Vec<StageColumn>,
}

impl CopyEncoder {
    /// From the Arrow schema of a part; the metadata of its fields tells everything.
    ///
    /// # Errors
    /// When a column claims a type that is not known.
    pub fn new(schema: &Schema) -> Result<Self, StageError> {
        let fields = stage::fields(schema)?;
        let columns = fields.iter().map(|field| field.column.clone()).collect();
        Ok(Self { fields, columns })
    }

    /// Columns of the staging table, in COPY order.
    #[must_use]
    pub fn stage_columns(&self) -> &[StageColumn] {
        &self.columns
    }

    /// SQL for a column's value as `target_type` (the live column's, as the server prints it) from
    /// the staging row under `alias`; `None` when there is no such column.
    #[must_use]
    pub fn expression(&self, column: &str, alias: &str, target_type: &str) -> Option<String> {
        self.fields
            .iter()
            .find(|field| field.column.name == column)
            .map(|field| stage::expression(field, alias, target_type))
    }

    /// Begins the stream.
    pub fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&[0; 8]);
    }

    /// Appends the rows of a batch.
    ///
    /// # Errors
    /// When the batch has other columns than the schema, or a value is none of its type.
    pub fn encode(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), StageError> {
        let rows = self.rows(batch)?;
        (0..batch.num_rows()).try_for_each(|row| rows.row(row, out))
    }

    /// The rows of a batch, to be appended one by one.
    ///
    /// # Errors
    /// When the batch has other columns than the schema.
    pub fn rows<'a>(&'a self, batch: &'a RecordBatch) -> Result<CopyRows<'a>, StageError> {
        let fits = batch.num_columns() == self.fields.len()
            && self
                .fields
                .iter()
                .zip(batch.schema_ref().fields())
                .all(|(field, found)| field.column.name == *found.name());
        let Ok(count) = i16::try_from(self.fields.len()) else {
            return Err(StageError::Columns);
        };
        if !fits {
            return Err(StageError::Columns);
        }
        let mut fields = Vec::with_capacity(self.fields.len());
        for (field, array) in self.fields.iter().zip(batch.columns()) {
            let writer =
                ColumnWriter::new(field.typed, array).ok_or_else(|| StageError::Arrow {
                    column: field.column.name.clone(),
                    pg_type: field.pg_type.clone(),
                })?;
            fields.push(RowField {
                field,
                array,
                writer,
            });
        }
        Ok(CopyRows { count, fields })
    }

    /// Ends the stream.
    pub fn trailer(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(-1i16).to_be_bytes());
    }
}

/// The rows of one batch.
pub struct CopyRows<'a> {
    count: i16,
    fields: Vec<RowField<'a>>,
}

struct RowField<'a> {
    field: &'a Field,
    array: &'a ArrayRef,
    writer: ColumnWriter<'a>,
}

impl CopyRows<'_> {
    /// Appends a row.
    ///
    /// # Errors
    /// When a value is none of its type.
    pub fn row(&self, row: usize, out: &mut Vec<u8>) -> Result<(), StageError> {
        self.begin(out);
        (0..self.fields.len()).try_for_each(|column| self.field(row, column, out))
    }

    /// Number of fields of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.fields.len()
    }

    /// Begins a row whose fields follow one by one.
    pub fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_be_bytes());
    }

    /// Appends a field of the row that was begun.
    ///
    /// # Errors
    /// When the value is none of its type.
    pub fn field(&self, row: usize, column: usize, out: &mut Vec<u8>) -> Result<(), StageError> {
        let Some(RowField {
            field,
            array,
            writer,
        }) = self.fields.get(column)
        else {
            return Err(StageError::Columns);
        };
        if array.is_null(row) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
        } else if writer.write(row, out).is_none() {
            return Err(field.no_value());
        }
        Ok(())
    }

    /// Begins a field whose content of so many bytes the caller appends: that of a large value.
    ///
    /// # Errors
    /// When the part itself has a value there, or it is longer than a field may be.
    pub fn large(
        &self,
        row: usize,
        column: usize,
        bytes: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let Some(RowField { field, array, .. }) = self.fields.get(column) else {
            return Err(StageError::Columns);
        };
        let jsonb = matches!(
            field.typed,
            Some(Typed {
                wire: Wire::Jsonb,
                array: false,
                ..
            })
        );
        let version: &[u8] = if jsonb { &[JSONB_VERSION] } else { &[] };
        let length = bytes
            .checked_add(version.len() as u64)
            .and_then(|length| i32::try_from(length).ok())
            .filter(|_| array.is_null(row))
            .ok_or_else(|| field.no_value())?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(version);
        Ok(())
    }
}

impl Field {
    fn no_value(&self) -> StageError {
        StageError::Value {
            column: self.column.name.clone(),
            pg_type: self.pg_type.clone(),
        }
    }
}
