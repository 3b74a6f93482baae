//! Reads a bundle back and proves it, through the ports and nothing else.
//!
//! [`verify`] holds every byte of a bundle against its manifest, on all cores, then lets the
//! [`ContentCheck`]s look at what the members mean. It says which member, chunk and byte range is
//! damaged, and which members are still good.
//!
//! Memory: one chunk raw and stored for each worker, eight bytes a chunk for the list of work, and
//! what the content checks document.
//!
//! [`ContentCheck`]: arkstream_pipeline::ContentCheck
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod inventory;
mod verify;

pub use verify::{VerifyOptions, VerifyReport, verify};
