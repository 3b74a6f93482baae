//! What `verify` knows of the members' meaning.

pub(crate) mod chroma;
pub(crate) mod graph;
mod member_file;
pub(crate) mod rows;
