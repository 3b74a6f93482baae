//! What every end-to-end test builds on: a stack to back up, and ways to run programs on it.
//!
//! [`Stack::shared`] is for tests that only read, [`Stack::new`] for those that write or break
//! something; [`Stack::fresh_database`] is the cheap middle. Everything lies under one scratch
//! folder, which [`janitor`] removes when the test binary has ended.

mod bundle;
mod chroma_writer;
pub(crate) mod faults;
mod janitor;
mod program;
pub(crate) mod proxy;
mod random;
mod stack;

pub(crate) use bundle::{Bundle, Profile, files_below};
pub(crate) use chroma_writer::ChromaWriter;
pub(crate) use janitor::scratch;
pub(crate) use program::{Run, arkstream, python, run, setting, sh, soak, support_file};
pub(crate) use random::{Random, seeds};
pub(crate) use stack::{GRAPH_NAME, Stack, StackOptions, runtime};
