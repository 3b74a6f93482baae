//! The bundle file: one ordinary ZIP, written once from front to back.
//!
//! ```text
//! local header · data · [data descriptor]     for every member, in the order they were finished
//! …                                           dead bytes of abandoned members may stand between
//! manifest.json                               the last member
//! central directory · end records · comment   the comment says where the manifest is, and its hash
//! ```
//!
//! - `disk` is the port to the file system. [`durable`] is the disk of this machine: the one place of the
//!   project that creates, renames and syncs files.
//! - `framing` makes every byte of the ZIP structure from the manifest's fields, so that a reader
//!   regenerates and compares them.
//! - `codec` compresses chunks so that the concatenation is one valid deflate stream.
//! - [`BundleWriter`] owns the file: one appender thread, group syncs, the journal.
//! - [`BundleFile`] reads a bundle back, every byte checked.
//! - [`copy_bundle`] copies one, piece by piece, and goes on after a kill.
//!
//! Durability order, the MUST/SHOULD form of which stands in `docs/FORMAT.md`: data is synced
//! before the journal speaks of it; the directory is written after the manifest; the file is
//! synced, then renamed to its final name, then its folder is synced. So a bundle under its final
//! name is complete.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod appender;
mod channel;
mod check;
mod claim;
mod clock;
mod codec;
mod copy;
mod disk;
mod document;
pub mod durable;
mod earlier;
mod extract;
mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hashing;
mod index;
mod journal;
mod ledger;
mod names;
mod offers;
mod older;
mod opening;
mod publish;
mod readable;
mod reader;
mod resume;
pub mod salvage;
mod space;
mod streamed;
mod survey;
mod tiles;
mod trailer;
mod unfinished;
mod writer;

pub use claim::unfinished_beside;
pub use codec::Effort;
pub use copy::{Copied, CopyOrder, bundles_in, copy_bundle, copy_bundle_on};
pub use disk::{Disk, DiskFile, FileId};
pub use extract::extract_member;
pub use journal::{Begin, JournalState, Torn, read_journal, read_journal_on};
pub use ledger::{LedgerFolder, records, records_on};
pub use readable::read_back;
pub use reader::BundleFile;
pub use space::SpaceWait;
pub use survey::{Surveyed, survey};
pub use unfinished::{UnfinishedFile, UnfinishedFolder, remove_folder};
pub use writer::{Beginning, BundleWriter, Leftover, Opened, OutputPaths, Resumed};
