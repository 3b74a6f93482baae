//! The typed errors of this crate.
//!
//! They name the column, the row and what was wrong with the bytes, never the value itself:
//! tables hold secrets, and error messages travel into logs.

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// Why a COPY BINARY stream could not be decoded.
///
/// A decoder that returned an error stays in error: rows it had not handed out are lost, because
/// a stream that was wrong once cannot be trusted to have been right before.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The stream does not begin with PostgreSQL's COPY BINARY signature.
    #[error(
        "reading a COPY stream: it does not begin with the PGCOPY signature; \
         the command must be COPY … TO STDOUT (FORMAT binary)"
    )]
    Signature,
    /// A flag is set whose meaning this decoder does not know.
    #[error(
        "reading a COPY stream: the header's critical flags are {0:#010x}, none is known to this \
         version; a newer Arkstream may read what this server sends"
    )]
    Flags(u32),
    /// The length of the header extension is negative.
    #[error("reading a COPY stream: the header extension claims a length of {0}")]
    HeaderExtension(i32),
    /// A tuple has another number of fields than the select list.
    #[error(
        "reading row {row} of a COPY stream: it has {found} fields where {expected} were selected; \
         the statement must use the select list of this very layout"
    )]
    FieldCount {
        /// Number of the row, from 1.
        row: u64,
        /// Fields of the layout's select list.
        expected: usize,
        /// Fields the tuple announces.
        found: i16,
    },
    /// A field's length is impossible for its type, or beyond PostgreSQL's own limit.
    #[error(
        "reading row {row}, column {column:?} ({pg_type}): the field claims {found} bytes, \
         between {min} and {max} are possible; the table's definition may have changed since the \
         catalog was read"
    )]
    FieldLength {
        /// The column's name.
        column: String,
        /// The column's type as `format_type()` prints it.
        pg_type: String,
        /// Number of the row, from 1.
        row: u64,
        /// Length on the wire.
        found: i32,
        /// Fewest bytes of the type.
        min: u32,
        /// Most bytes of the type.
        max: u32,
    },
    /// A row is larger than PostgreSQL can send.
    #[error("reading row {row}: it claims more than {limit} bytes, which no PostgreSQL row has")]
    RowLength {
        /// Number of the row, from 1.
        row: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A value is beyond the limits, and nobody takes it.
    #[error("reading row {row}: a value of it is too large for a batch")]
    Large {
        /// Number of the row, from 1.
        row: u64,
    },
    /// The bytes of a field are no value of its type.
    #[error("reading row {row}, column {column:?} ({pg_type}): {problem}")]
    Value {
        /// The column's name.
        column: String,
        /// The column's type as `format_type()` prints it.
        pg_type: String,
        /// Number of the row, from 1.
        row: u64,
        /// What is wrong with it.
        problem: ValueProblem,
    },
    /// Bytes follow the end of the stream.
    #[error("reading a COPY stream: {bytes} bytes follow its trailer after {rows} rows")]
    AfterTrailer {
        /// Rows before the trailer.
        rows: u64,
        /// Bytes seen after it.
        bytes: usize,
    },
    /// The stream ended early.
    #[error(
        "reading a COPY stream: it ended {place} after {rows} complete rows, without its trailer; \
         the connection broke or the server reported an error, take the part again"
    )]
    Incomplete {
        /// Complete rows seen.
        rows: u64,
        /// Where it ended.
        place: &'static str,
    },
    /// An earlier call failed.
    #[error("reading a COPY stream: the decoder failed before and cannot continue")]
    Failed,
    /// Arrow refused the assembled arrays.
    #[error("assembling a record batch of {rows} rows: {source}")]
    Batch {
        /// Rows of the batch.
        rows: usize,
        /// Arrow's reason.
        source: ArrowError,
    },
}

/// What is wrong with the bytes of one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// Not UTF-8.
    #[error(
        "the text is not valid UTF-8; a database with encoding SQL_ASCII can hold such bytes, \
         and they must be repaired there before they can be exported"
    )]
    NotUtf8,
    /// A boolean other than 0 and 1.
    #[error("a boolean byte of {0}")]
    Bool(u8),
    /// An unknown version of the jsonb wire format.
    #[error("jsonb wire format version {0}, only 1 is known")]
    JsonbVersion(u8),
    /// Broken numeric.
    #[error("a numeric whose {0}")]
    Numeric(&'static str),
    /// A date, time or timestamp outside PostgreSQL's range.
    #[error("a {0} outside the range of PostgreSQL")]
    Range(&'static str),
    /// Broken array.
    #[error("an array whose {0}")]
    Array(&'static str),
    /// The array's elements are of another type than the catalog says.
    #[error("an array with elements of type oid {found}, the catalog says {expected}")]
    ArrayElement {
        /// OID by the catalog.
        expected: u32,
        /// OID on the wire.
        found: u32,
    },
    /// A value that needs its text, and no text was sent.
    #[error(
        "an array that a list cannot carry came without its text; \
         the statement must use the select list of this very layout"
    )]
    MissingText,
}

/// Why a Parquet file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The zstd level does not exist.
    #[error("choosing the compression of a Parquet file: zstd level {level}: {source}")]
    Level {
        /// The level asked for.
        level: i32,
        /// Parquet's reason.
        source: ParquetError,
    },
    /// A batch whose columns are not the file's.
    #[error(
        "writing a record batch: its columns are not the ones the Parquet file was begun with; \
         one file takes the batches of one layout"
    )]
    Schema,
    /// Rows of a table that has no columns.
    #[error(
        "writing {rows} rows of a table without columns: Parquet counts rows by their columns and \
         would lose them; leave the table out, or give it a column"
    )]
    NoColumns {
        /// Rows that would be lost.
        rows: usize,
    },
    /// The Parquet writer refused.
    #[error("{attempt}: {source}")]
    Parquet {
        /// What was attempted.
        attempt: &'static str,
        /// Parquet's reason.
        source: ParquetError,
    },
}

/// Why a Parquet file could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Footer or metadata broken.
    #[error("reading the footer of a Parquet file: {0}; the member is damaged")]
    Footer(ParquetError),
    /// The file cannot be read.
    #[error("reading a Parquet file: {0}")]
    Source(std::io::Error),
    /// A row group does not decode.
    #[error("decoding row group {row_group} of a Parquet file: {reason}; the member is damaged")]
    RowGroup {
        /// Index of the row group, from 0.
        row_group: usize,
        /// The reader's reason.
        reason: String,
    },
    /// The reader lost its footing on damaged bytes.
    #[error("reading a Parquet file: the reader failed with {0:?}; the member is damaged")]
    Reader(String),
    /// A row group's rows are not what the footer says.
    #[error(
        "decoding row group {row_group} of a Parquet file: it holds {found} rows, \
         the footer says {expected}; the member is damaged"
    )]
    Rows {
        /// Index of the row group, from 0.
        row_group: usize,
        /// Rows by the footer.
        expected: i64,
        /// Rows decoded.
        found: u64,
    },
    /// The row groups together are not what the footer says.
    #[error(
        "checking a Parquet file: its row groups hold {found} rows, the footer says {expected}; \
         the member is damaged"
    )]
    TotalRows {
        /// Rows by the footer.
        expected: i64,
        /// Rows decoded.
        found: u64,
    },
    /// A column asked for is not in the file.
    #[error("reading integers from a Parquet file: it has no column {0:?}")]
    NoColumn(String),
    /// A column asked for holds no integers.
    #[error("reading integers from a Parquet file: column {column:?} is of type {found}")]
    NotInteger {
        /// The column's name.
        column: String,
        /// Its Arrow type.
        found: String,
    },
}

/// Why the rows of a part could not be brought into a staging table.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The type that a column's metadata names is none that is staged as such.
    #[error("staging column {column:?}: {pg_type:?} is no type that this version can stage")]
    Type {
        /// The column's name.
        column: String,
        /// The type in its metadata.
        pg_type: String,
    },
    /// A column has another Arrow type than its PostgreSQL type demands.
    #[error("staging column {column:?}: its Arrow type does not go with {pg_type}")]
    Arrow {
        /// The column's name.
        column: String,
        /// The type in its metadata.
        pg_type: String,
    },
    /// A value is none of its type, or longer than a field may be.
    #[error("staging column {column:?}: a value is no {pg_type}")]
    Value {
        /// The column's name.
        column: String,
        /// The type in its metadata.
        pg_type: String,
    },
    /// The batch has other columns than the table's first part.
    #[error("staging rows: the part's columns are not those of the table's first part")]
    Columns,
}
