//! What every end-to-end test builds on: a stack to back up, and ways to run programs on it.
//!
//! [`Stack::shared`] is for tests that only read, [`Stack::new`] for those that write or break
//! something; [`Stack::fresh_database`] is the cheap middle. Everything lies under one scratch
//! folder, which [`janitor`] removes when the test binary has ended.

mod bundle;
mod janitor;
mod program;
mod stack;

pub(crate) use bundle::{Bundle, Profile, files_below};
pub(crate) use janitor::scratch;
pub(crate) use program::{Run, arkstream, python, run, setting, sh, soak, support_file};
pub(crate) use stack::{GRAPH_NAME, Stack, StackOptions, runtime};
