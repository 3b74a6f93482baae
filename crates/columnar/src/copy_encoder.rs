//! From record batches to COPY BINARY.
//!
//! Format (PostgreSQL's documentation of COPY): the signature, four bytes of flags, four of
//! header extension; then for each row the number of its fields and each field as a length (−1:
//! NULL) and its bytes; at last −1 as a number of fields.
//!
//! Peak memory: the output of one batch, which its caller bounds.

use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;

use crate::error::StageError;
use crate::stage::{self, Field, StageColumn};
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
        let mut writers = Vec::with_capacity(self.fields.len());
        for (field, array) in self.fields.iter().zip(batch.columns()) {
            let writer =
                ColumnWriter::new(field.typed, array).ok_or_else(|| StageError::Arrow {
                    column: field.column.name.clone(),
                    pg_type: field.pg_type.clone(),
                })?;
            writers.push((field, array, writer));
        }
        for row in 0..batch.num_rows() {
            out.extend_from_slice(&count.to_be_bytes());
            for (field, array, writer) in &writers {
                if array.is_null(row) {
                    out.extend_from_slice(&(-1i32).to_be_bytes());
                } else if writer.write(row, out).is_none() {
                    return Err(StageError::Value {
                        column: field.column.name.clone(),
                        pg_type: field.pg_type.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Ends the stream.
    pub fn trailer(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(-1i16).to_be_bytes());
    }
}
