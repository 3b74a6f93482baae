//! Ports and runtime: what every stage of a run shares.
//!
//! The archiver and the restorer know systems only through the traits of this crate. A
//! [`Source`] is something to back up, a [`Sink`] takes members in order and answers with a
//! [`Receipt`] once they are durable, a [`BundleReader`] gives verified bytes back. A [`Run`]
//! carries what all of them need: the sink, the memory [`Budget`], [`Cancel`]lation, the
//! [`Observer`] of progress and the list of what was left out.
//!
//! [`os`] is the one place that asks which operating system it is.
//!
//! Errors cross ports as [`Failure`]: one shape that says what was attempted, on what, why it
//! failed and what to do, and whose [`FailureKind`] decides the exit code.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod budget;
mod cancel;
mod failure;
pub mod fault;
mod file;
mod folder_claim;
mod member_bytes;
pub mod os;
mod progress;
mod reader;
mod run;
mod sink;
mod source;
mod stats;
mod target;
pub mod words;

pub use budget::{Budget, Permit};
pub use cancel::Cancel;
pub use failure::{Failure, FailureKind, is_no_space};
pub use file::{file_proof, whole_chunks};
pub use folder_claim::FolderClaim;
pub use member_bytes::MemberBytes;
pub use progress::{Event, Observer, Silent};
pub use reader::{BundleReader, ContentCheck, Finding, Place, Severity, read_member, read_whole};
pub use run::Run;
pub use sink::{
    BundleSink, Kept, MemberFacts, MemberSpec, MemberWriter, PendingReceipt, Published, Receipt,
    Sink,
};
pub use source::{PlannedItem, Source, SourcePlan, SourceReport};
pub use stats::{Stage, StageTimes, Stats};
pub use target::{
    Checked, Lost, Proof, Reach, ReferencePlan, Restoring, Standing, TablePlan, Target, TargetPlan,
};
