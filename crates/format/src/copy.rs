//! The record of an unfinished copy: which bundle it is of, and how far it is durable.
//!
//! One file, `<copy>.copy`, beside `<copy>.partial`; replaced atomically after the bytes it speaks of were
//! synced. It only says where to go on: a copy that relied on it is read back before it gets its name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyRecord {
    /// Version of this record's shape; [`CopyRecord::VERSION`]. A record of another version is not used.
    pub version: u32,
    /// BLAKE3 of the stored bytes of the source's manifest.
    pub manifest: Digest,
    /// Length of the source in bytes.
    pub bytes: u64,
    /// Bytes of the copy, from the first on, that are durable.
    pub written: u64,
}

impl CopyRecord {
    /// The version of this shape.
    pub const VERSION: u32 = 1;
}
