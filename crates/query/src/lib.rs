//! The rows of a bundle as record batches, for whatever looks at them: exports, comparisons.
//!
//! [`Rows`] gives the batches of one table over all its parts, hashes checked, in the order in which
//! they stand in the bundle. Nothing here knows where a bundle lies or what a table means.

mod member;
mod rows;

pub use rows::{Rows, lost_parts};
