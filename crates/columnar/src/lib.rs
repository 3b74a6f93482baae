//! COPY BINARY to Arrow to Parquet, and PostgreSQL types. Pure functions over bytes: no sockets,
//! no files, no clock.
//!
//! A table goes through three values:
//!
//! 1. [`TableLayout`] decides from the catalog how each column travels, and writes the select list
//!    of `COPY (SELECT … FROM ONLY …) TO STDOUT (FORMAT binary)`.
//! 2. [`CopyDecoder`] turns the bytes of that stream into record batches. The session must have
//!    `DateStyle = ISO, MDY`, `IntervalStyle = postgres`, `TimeZone = UTC`,
//!    `extra_float_digits = 3`, `bytea_output = hex` and `client_encoding = UTF8`.
//!    A value that is too large for a batch comes out by itself ([`large values`](Step)).
//! 3. [`PartEncoder`] turns the batches into one Parquet file in memory.
//!
//! And back: [`read_part`] gives the batches of such a file, [`CopyEncoder`] turns them into COPY
//! BINARY for a staging table, and says which columns that table needs and how the live values
//! are made of them.
//!
//! [`write_text`] prints a value as PostgreSQL does.
//!
//! [`check_parquet`] proves that such a file decodes, [`check_integers`] looks at its keys on the way.
//!
//! No value is lost. What an Arrow type carries, travels typed; what it cannot carry, stands as
//! PostgreSQL's own text in a companion column; types without an Arrow equivalent travel as their
//! text altogether. [`layout`] has the rules and the metadata that tell a reader.
//!
//! | PostgreSQL | Arrow |
//! |---|---|
//! | `bool`, `int2/4/8`, `float4/8` | Boolean, Int16/32/64, Float32/64, bit by bit |
//! | `numeric(p,s)`, 0 ≤ s ≤ p ≤ 38 | Decimal128(p, s) |
//! | other `numeric` | Utf8, the exact text with its trailing zeros |
//! | `text`, `varchar`, `char(n)`, `name`, `"char"` | Utf8 |
//! | `json`, `jsonb` | Utf8 with the JSON type |
//! | `bytea` | Binary |
//! | `date`, `time` | Date32, Time64(µs) |
//! | `timestamp`, `timestamptz` | Timestamp(µs), Timestamp(µs, UTC) |
//! | `uuid` | FixedSizeBinary(16) |
//! | arrays of these, but for a numeric that is text | List |
//! | everything else | Utf8, the output function's text |

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod column;
mod copy;
mod copy_encoder;
mod datetime;
mod decoder;
mod encoder;
mod error;
mod large;
pub mod layout;
mod numeric;
mod part;
mod pgtype;
mod scalar;
mod select;
mod stage;
mod text;
mod window;
mod wire;

pub use check::{ParquetCheck, check_integers, check_parquet};
pub use column::list_from_wire;
pub use copy_encoder::{CopyEncoder, CopyRows};
pub use decoder::{CopyDecoder, Step};
pub use encoder::{EncodeOptions, PartEncoder};
pub use error::{CheckError, DecodeError, EncodeError, StageError, ValueProblem};
pub use large::{LargeValue, Limits};
pub use layout::{ColumnLayout, Encoding, PgColumn, TableLayout};
pub use part::{PartBatches, read_part};
pub use stage::StageColumn;
pub use text::write_text;
pub use window::PartFile;
