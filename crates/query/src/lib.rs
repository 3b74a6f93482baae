//! The rows of a bundle as record batches, for whatever looks at them: exports, comparisons.
//!
//! * [`Rows`] gives the batches of one table over all its parts, hashes checked, in the order in which
//!   they stand in the bundle.
//! * [`columns`] are the table's columns in such batches, a field and its companion together.
//! * [`table_names`] are names for tables, one for each.
//! * [`Format`] writes them as CSV, JSON lines or Parquet.
//! * [`diff`] says what differs between two bundles.
//!
//! Nothing here knows where a bundle lies or what a table means.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod column;
pub mod diff;
mod large;
mod naming;
mod rows;
mod write;

pub use column::{Column, Value, columns};
pub use naming::{file_name, plain_name, table_names};
pub use rows::{Rows, lost_parts, stored_bytes};
pub use write::{Format, RowWriter};
