//! Reading a part back, batch by batch.
//!
//! Peak memory: the footer, one page per column and one batch, as in the checks.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::file::reader::ChunkReader;

use crate::check::{OpenFile, guarded};
use crate::error::CheckError;

/// The batches of a part, row group by row group.
pub struct PartBatches<R = Bytes> {
    file: OpenFile<R>,
    mask: ProjectionMask,
    schema: SchemaRef,
    next_group: usize,
    current: Option<(usize, ParquetRecordBatchReader)>,
    rows: u64,
    done: bool,
}

/// Opens a part, in memory or anywhere else. Nothing but its footer is decoded yet.
///
/// # Errors
/// When the footer is damaged.
pub fn read_part<R: ChunkReader + 'static>(reader: R) -> Result<PartBatches<R>, CheckError> {
    let file = OpenFile::new(reader)?;
    Ok(PartBatches {
        mask: ProjectionMask::all(),
        schema: file.schema(),
        file,
        next_group: 0,
        current: None,
        rows: 0,
        done: false,
    })
}

impl<R: ChunkReader + 'static> PartBatches<R> {
    /// Decodes only the fields of these names, in the order of the file. Bytes of other fields are not
    /// read.
    ///
    /// # Errors
    /// [`CheckError::NoColumn`] when there is none of a name.
    pub fn only(mut self, names: &[&str]) -> Result<Self, CheckError> {
        let whole = self.file.schema();
        let mut roots = Vec::with_capacity(names.len());
        for name in names {
            let root = whole.index_of(name);
            roots.push(root.map_err(|_| CheckError::NoColumn((*name).to_owned()))?);
        }
        roots.sort_unstable();
        roots.dedup();
        let schema = whole.project(&roots);
        self.schema = schema
            .map(Arc::new)
            .map_err(|error| CheckError::Reader(error.to_string()))?;
        self.mask = self.file.mask(roots);
        Ok(self)
    }

    /// The Arrow schema, with the metadata of its fields.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn step(&mut self) -> Result<Option<RecordBatch>, CheckError> {
        loop {
            if self.current.is_none() {
                if self.next_group == self.file.row_groups() {
                    self.file.expect_rows(self.rows)?;
                    return Ok(None);
                }
                self.current = Some((
                    self.next_group,
                    self.file.open_group(self.next_group, self.mask.clone())?,
                ));
                self.next_group += 1;
            }
            let Some((row_group, reader)) = &mut self.current else {
                continue;
            };
            let row_group = *row_group;
            match guarded(|| reader.next())? {
                Some(Ok(batch)) => {
                    self.rows += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                Some(Err(error)) => {
                    let reason = error.to_string();
                    return Err(CheckError::RowGroup { row_group, reason });
                }
                None => self.current = None,
            }
        }
    }
}

impl<R: ChunkReader + 'static> Iterator for PartBatches<R> {
    type Item = Result<RecordBatch, CheckError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        // What failed once is not trusted again.
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}
