//! Rows as files that other programs read. Each writer takes batches of one schema, in order, and keeps
//! no more of them than a row group.

mod csv;
mod jsonl;
mod parquet;

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use arkstream_pipeline::{Failure, FailureKind};

/// Bytes that are kept for the next line and its values. What a longer one took is given back.
const KEPT: usize = 256 << 10;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values as PostgreSQL's `COPY … (FORMAT csv, HEADER)` reads and writes them.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Parquet, all parts of a table in one file.
    Parquet,
}

impl Format {
    /// What names of such files end with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// Begins a file of rows of this schema. CSV and JSON come line by line: `out` should gather them.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn begin<'a, W: Write + Send + 'a>(
        self,
        out: W,
        schema: &SchemaRef,
    ) -> Result<Box<dyn RowWriter + 'a>, Failure> {
        Ok(match self {
            Self::Csv => Box::new(csv::CsvWriter::begin(out, schema)?),
            Self::Jsonl => Box::new(jsonl::JsonWriter::begin(out, schema)),
            Self::Parquet => Box::new(parquet::ParquetWriter::begin(out, schema)?),
        })
    }
}

/// Takes rows. What it wrote is a whole file only after [`RowWriter::finish`].
pub trait RowWriter {
    /// Appends the rows of a batch.
    ///
    /// # Errors
    /// When the output fails, or a value has a type that no part can have.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure>;

    /// Completes the file. The output is flushed, not synced.
    ///
    /// # Errors
    /// When the output fails.
    fn finish(self: Box<Self>) -> Result<(), Failure>;
}

fn failed(error: io::Error) -> Failure {
    Failure::io(FailureKind::Refused, "write the rows", error)
}
