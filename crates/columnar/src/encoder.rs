//! Record batches to one Parquet file in memory.
//!
//! Format: data pages v1 of about 2 MiB, zstd; row groups of at most
//! [`EncodeOptions::row_group_bytes`] uncompressed bytes, a single larger row aside. Where all rows together
//! are smaller than what that costs, they stand there plain. Else integers,
//! dates, times and timestamps are DELTA_BINARY_PACKED, floats BYTE_STREAM_SPLIT, columns marked
//! [`KEY_DICTIONARY`] dictionary-encoded, all others plain. Statistics are kept per column chunk
//! and cut at 64 bytes. The Arrow schema with all its metadata is in the file (`ARROW:schema`),
//! and the file's metadata also as plain Parquet key-value pairs.
//!
//! The output is a function of schema, options and the sequence of batches.
//!
//! Peak memory: the bytes written so far (a growing buffer: up to twice their number while it
//! grows), plus one row group in progress — at most `row_group_bytes` or one row, encoded and
//! compressed page by page —, plus per column one page and one zstd context that follows the
//! page's size. Measured with the defaults, beside the file itself: 16 MB for one text column,
//! 45 MB for two hundred.

use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::error::EncodeError;
use crate::layout::KEY_DICTIONARY;
use crate::pgtype::ELEMENT;

/// Bytes of a minimum or maximum that are kept.
const STATISTICS_BYTES: usize = 64;

/// Fewer bytes stand plain in their file: a compressor and a packer for each column would take ten times as
/// long as everything else, and a mebibyte a column.
const SMALL: usize = 4096;

const ENCODING: &str = "encoding a record batch";

/// How Parquet files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The zstd level, 1 to 22.
    pub zstd_level: i32,
    /// Uncompressed bytes at which a row group ends.
    pub row_group_bytes: usize,
    /// Uncompressed bytes at which a data page ends.
    pub page_bytes: usize,
}

impl Default for EncodeOptions {
    /// Measured on chat messages: level 2 takes a third less time than level 3, and what it loses in
    /// size (4 %), pages of 2 MiB instead of 1 MiB bring back. Level 1 is a sixth larger.
    fn default() -> Self {
        EncodeOptions {
            zstd_level: 2,
            row_group_bytes: 16 << 20,
            page_bytes: 2 << 20,
        }
    }
}

impl EncodeOptions {
    /// Bytes at which a batch should be written, so that it makes one row group: somewhat less than
    /// its limit, for who counts them sees whole rows.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.row_group_bytes - self.row_group_bytes / 8
    }
}

/// Writes one Parquet file into memory.
pub struct PartEncoder {
    /// From the batch on with which the rows are worth compressing.
    writer: Option<ArrowWriter<Vec<u8>>>,
    /// A small first batch, until it is known whether others follow.
    held: Option<RecordBatch>,
    properties: WriterPropertiesBuilder,
    compression: Compression,
    schema: SchemaRef,
    notes: Vec<KeyValue>,
    row_group_limit: usize,
    /// Uncompressed bytes of the row group in progress.
    row_group_bytes: usize,
}

impl PartEncoder {
    /// Begins a file; `schema` carries the file's metadata.
    pub fn new(schema: SchemaRef, options: &EncodeOptions) -> Result<Self, EncodeError> {
        let level =
            ZstdLevel::try_new(options.zstd_level).map_err(|source| EncodeError::Level {
                level: options.zstd_level,
                source,
            })?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("arkstream ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .set_data_page_size_limit(options.page_bytes)
            .set_dictionary_page_size_limit(options.page_bytes)
            .set_max_row_group_row_count(None)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(STATISTICS_BYTES))
            .set_column_index_truncate_length(Some(STATISTICS_BYTES))
            .set_key_value_metadata(Some(file_metadata(&schema)));
        Ok(PartEncoder {
            writer: None,
            held: None,
            properties,
            compression: Compression::ZSTD(level),
            schema,
            notes: Vec::new(),
            row_group_limit: options.row_group_bytes.max(1),
            row_group_bytes: 0,
        })
    }

    fn begin(&self, small: bool) -> Result<ArrowWriter<Vec<u8>>, EncodeError> {
        let mut properties = self.properties.clone();
        if !small {
            let fields = self.schema.fields().iter();
            properties = fields.fold(
                properties.set_compression(self.compression),
                |all, field| encode_as(all, field),
            );
        }
        ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(properties.build()))
            .map_err(failed("beginning a Parquet file"))
    }

    /// Encodes a batch; its fields must be the schema's.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        if batch.schema_ref().fields() != self.schema.fields() {
            return Err(EncodeError::Schema);
        }
        if batch.num_columns() == 0 && batch.num_rows() > 0 {
            let rows = batch.num_rows();
            return Err(EncodeError::NoColumns { rows });
        }
        self.write_within_limit(batch)
    }

    /// Bytes written and, estimated, those of the row group in progress.
    pub fn encoded_bytes(&self) -> usize {
        let writer = self.writer.as_ref();
        writer.map_or(self.row_group_bytes, |writer| {
            writer.bytes_written() + writer.in_progress_size()
        })
    }

    /// Notes something in the file's metadata, as [`PartEncoder::new`] does of the schema's.
    pub fn note(&mut self, key: &str, value: String) {
        self.notes.push(KeyValue::new(key.to_owned(), value));
    }

    /// Ends the file and hands it out.
    pub fn finish(mut self) -> Result<Bytes, EncodeError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin(true)?,
        };
        if let Some(batch) = self.held {
            writer.write(&batch).map_err(failed(ENCODING))?;
        }
        for note in self.notes {
            writer.append_key_value_metadata(note);
        }
        let file = writer
            .into_inner()
            .map_err(failed("ending a Parquet file"))?;
        Ok(Bytes::from(file))
    }

    /// Writes a batch, cut into halves until each piece fits a row group.
    fn write_within_limit(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        let rows = batch.num_rows();
        let bytes = data_bytes(batch)
            .map_err(ParquetError::from)
            .map_err(failed("measuring a record batch"))?;
        if bytes > self.row_group_limit && rows > 1 {
            let half = rows / 2;
            self.write_within_limit(&batch.slice(0, half))?;
            return self.write_within_limit(&batch.slice(half, rows - half));
        }
        if self.writer.is_none() && self.held.is_none() && bytes < SMALL {
            self.held = Some(batch.clone());
            self.row_group_bytes = bytes;
            return Ok(());
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin(false)?,
        };
        if let Some(batch) = self.held.take() {
            writer.write(&batch).map_err(failed(ENCODING))?;
        }
        if self.row_group_bytes > 0 && self.row_group_bytes + bytes > self.row_group_limit {
            writer
                .flush()
                .map_err(failed("ending a row group of a Parquet file"))?;
            self.row_group_bytes = 0;
        }
        writer.write(batch).map_err(failed(ENCODING))?;
        self.row_group_bytes += bytes;
        self.writer = Some(writer);
        Ok(())
    }
}

/// Bytes of the data a batch refers to, whatever its buffers hold beside.
fn data_bytes(batch: &RecordBatch) -> Result<usize, ArrowError> {
    batch.columns().iter().try_fold(0, |sum, column| {
        Ok(sum + column.to_data().get_slice_memory_size()?)
    })
}

fn file_metadata(schema: &SchemaRef) -> Vec<KeyValue> {
    let mut pairs: Vec<KeyValue> = schema
        .metadata()
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    pairs.sort_by(|one, other| one.key.cmp(&other.key));
    pairs
}

fn encode_as(properties: WriterPropertiesBuilder, field: &Field) -> WriterPropertiesBuilder {
    let mut path = vec![field.name().clone()];
    let mut data_type = field.data_type();
    if let DataType::List(element) = data_type {
        path.extend(["list".to_owned(), ELEMENT.to_owned()]);
        data_type = element.data_type();
    }
    let path = ColumnPath::new(path);
    let encoding = match data_type {
        DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => Encoding::DELTA_BINARY_PACKED,
        DataType::Float32 | DataType::Float64 => Encoding::BYTE_STREAM_SPLIT,
        _ => Encoding::PLAIN,
    };
    let dictionary = field
        .metadata()
        .get(KEY_DICTIONARY)
        .is_some_and(|value| value == "true");
    properties
        .set_column_encoding(path.clone(), encoding)
        .set_column_dictionary_enabled(path, dictionary)
}

fn failed(attempt: &'static str) -> impl Fn(ParquetError) -> EncodeError {
    move |source| EncodeError::Parquet { attempt, source }
}
