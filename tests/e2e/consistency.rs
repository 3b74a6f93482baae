//! A bundle is one moment of a stack that goes on writing.

mod contents;
mod ddl;
pub(crate) mod locks;
mod writers;
