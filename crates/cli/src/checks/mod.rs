//! What `verify` knows of the members' meaning.

pub(crate) mod chroma;
pub(crate) mod graph;
mod keys;
mod member_file;
pub(crate) mod rows;
