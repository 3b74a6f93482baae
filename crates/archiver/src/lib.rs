//! Plans a backup and drives it, through the ports and nothing else.
//!
//! The archiver never sees PostgreSQL, ChromaDB or a file system. It knows [`Source`]s, a
//! [`BundleSink`] and somebody who can describe the stack ([`Describe`]). A [`Backup`] has three
//! steps: [`Backup::plan`] asks every source what there is and gives a [`BackupPlan`], plain data
//! that is printed by `--dry-run` and whose fingerprint goes into the journal; [`Backup::run`]
//! passes the barrier and streams; publishing ends it.
//!
//! The barrier, after which all stores are read as of one moment: databases lock first, Chroma
//! last, so that Chroma's writers are never held while a database makes us wait; then all
//! snapshots are taken at once. When a source finds that the world changed since the plan, all
//! give up their locks, plan again and try again, up to [`BARRIER_ATTEMPTS`] times. Not a byte of
//! a table is read before the barrier.
//!
//! Memory: the lists of members and tables; all data is in the sources' and the sink's budget.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod describe;
mod drive;
mod instructions;
mod patience;
mod plan;

pub use arkstream_pipeline::{BundleSink, Source};
pub use describe::{Describe, StackFacts};
pub use drive::{Afterwards, BARRIER_ATTEMPTS, Backup, Outcome};
pub use plan::{BackupPlan, PlannedComponent};
