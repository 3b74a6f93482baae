//! ChromaDB directories: hot-consistent reading, verification and restore.
//!
//! A persistent Chroma directory holds
//!
//! ```text
//! chroma.sqlite3                    collections, segments, metadata, full text, write-ahead queue
//! <VECTOR segment id>/header.bin    one folder of HNSW files per collection that was persisted
//!                     data_level0.bin, length.bin, link_lists.bin, index_metadata.pickle
//! ```
//!
//! Chroma rewrites the HNSW files in place, without a sync and outside any SQLite lock, and purges
//! the queue afterwards: from then on the vectors exist only there. So a copy made file by file
//! while somebody writes is broken more often than not, although SQLite calls it sound.
//!
//! - [`ChromaSource`] makes a consistent copy of a directory in use: SQLite's write lock holds
//!   Chroma's writers for a bounded time, and no HNSW file counts as read before it proved stable.
//! - [`verify`] proves a copy without Chroma: SQLite, the HNSW files, the pickle, and that all of
//!   them speak of the same records.
//! - [`ChromaTarget`] restores a directory beside the live one, exchanges the two in one step, and
//!   takes it back.
//!
//! # The trap of POSIX locks
//!
//! Closing **any** descriptor of `chroma.sqlite3` drops **all** locks that the process holds on
//! it. While a [`ChromaSource`] is between `lock` and the end of `stream`, nothing else in the
//! process may open and close that file by path: no hashing, no scanning, no second SQLite
//! library. `stat`, `access` and `statvfs` are harmless. Inside this crate a process-wide claim on
//! the file's device and inode keeps two sources, or a source and [`verify`], from meeting on it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod claim;
mod copy;
mod directory;
mod hold;
mod locked;
mod source;
mod summary;
mod taken;
mod target;
mod verify;

pub use source::{ChromaOptions, ChromaSource};
pub use target::{ChromaTarget, ChromaTargetOptions};
#[cfg(feature = "fuzzing")]
pub use verify::fuzzing;
pub use verify::{ChromaFiles, DirectoryFiles, Problem, verify};

/// The name of the SQLite database in a Chroma directory.
pub const DATABASE: &str = "chroma.sqlite3";
