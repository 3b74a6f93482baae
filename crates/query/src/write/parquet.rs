//! All parts of a table as one Parquet file, with the metadata of its fields.
//!
//! Peak memory: a row group in progress of 16 MiB, and one batch.

use std::{collections::HashMap, io::Write, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use arkstream_format::LARGE_KEY;
use arkstream_pipeline::{Failure, FailureKind};

use super::RowWriter;
use crate::rows::with_schema;

/// Bytes in memory at which a row group ends.
const ROW_GROUP: usize = 16 << 20;

pub(super) struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
}

/// Metadata that is true of one part only. Large values are in their rows here.
const OF_A_PART: [&str; 3] = ["arkstream.part", "arkstream.snapshot", LARGE_KEY];

impl<W: Write + Send> ParquetWriter<W> {
    pub(super) fn begin(out: W, schema: &SchemaRef) -> Result<Self, Failure> {
        let metadata: HashMap<String, String> = schema
            .metadata()
            .iter()
            .filter(|(key, _)| !OF_A_PART.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let fields = schema.fields().clone();
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let properties = WriterProperties::builder()
            .set_created_by(concat!("arkstream ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(None)
            .build();
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(failed)?;
        Ok(Self { writer, schema })
    }
}

impl<W: Write + Send> RowWriter for ParquetWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let batch = with_schema(batch, &self.schema).map_err(|error| failed(error.into()))?;
        self.writer.write(&batch).map_err(failed)?;
        if self.writer.memory_size() >= ROW_GROUP {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), Failure> {
        self.writer.close().map(drop).map_err(failed)
    }
}

fn failed(error: ParquetError) -> Failure {
    let kind = FailureKind::Refused;
    match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => Failure::io(kind, "write the rows", *error),
            Err(error) => Failure::new(kind, "write the rows", error),
        },
        error => Failure::new(kind, "write the rows", error),
    }
}
