//! Reads a bundle back: proves it, and restores it, through the ports and nothing else.
//!
//! [`Restore`] drives the targets of a restore; [`recover`], [`undo`] and [`forget`] are what
//! becomes of it later, also in another process.
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
mod recover;
mod restore;
mod salvaged;
mod targets;
mod verify;

pub use recover::{Recovered, Staged, describe, forget, is_settled, recover, undo};
pub use restore::{Ledger, Restore, Restored, unmapped};
pub use salvaged::salvaged_metadata;
pub use verify::{VerifyOptions, VerifyReport, verify};
