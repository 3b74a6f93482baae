//! End to end: the real binary, a real PostgreSQL, real ChromaDB directories, a real AGE.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod support;

mod age;
mod consistency;
mod copy;
mod documented;
mod failures;
mod golden;
mod increment;
mod models;
mod restore;
mod resume;
mod tools;
mod values;
