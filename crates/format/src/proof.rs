//! What a member was read from, so that a later run can prove it unchanged without reading it again.
//!
//! A run that continues an interrupted one keeps a finished member only when its proof holds under
//! the new snapshot; so does a run that copies members out of an earlier bundle.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// How a member can be proven unchanged. A member without a proof is streamed again and compared
/// chunk by chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Proof {
    /// Rows of a range of heap blocks, or of a query.
    Rows(Box<RowsProof>),
    /// A file.
    File(FileProof),
}

/// The rows of one part, as they were exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowsProof {
    /// OID of the relation that was read; 0 for a query.
    pub relation_oid: u32,
    /// `pg_relation_filenode()` when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relfilenode: Option<u32>,
    /// First heap block.
    pub first_block: u32,
    /// First heap block that is not in it; absent for the last range, which is open-ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_block: Option<u32>,
    /// Heap blocks of the relation at the snapshot: no row of the part lies behind them.
    pub heap_blocks: u32,
    /// The generation under whose snapshot it was read.
    pub generation: u32,
    /// BLAKE3 over what decides how a row is read and written: the SELECT without its range, the
    /// columns with number, type, typmod, collation, generation expression and missing value, the
    /// table's access method, the columns of the part.
    pub definition: Digest,
    /// The set of row versions, where equal row versions prove equal values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<RowVersions>,
    /// BLAKE3 of the COPY BINARY stream.
    pub content: Digest,
    /// Members that hold the rest of the range. The part is what it was only together with them.
    ///
    /// They stand in the order of the rows: a file that could not hold the whole range (`….parquet`),
    /// before it the values that are too large for it; the last of these are the part's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<Attached>,
}

/// A member that belongs to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attached {
    /// Its name.
    pub member: String,
    /// Its digest.
    pub digest: Digest,
}

/// A set of row versions. Equal sets mean equal rows only within one uninterrupted history of the
/// server: after a restart the data directory may be an older one that was written again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowVersions {
    /// Row versions.
    pub count: u64,
    /// `bit_xor(hashtidextended(ctid, xmin))` over them, 16 hexadecimal digits.
    pub hash: String,
}

/// A file as `stat` saw it when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileProof {
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Time of the last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of the inode, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// When it was looked at, nanoseconds since 1970, by the clock of the machine that read it.
    pub seen_ns: i64,
}

/// A file that changed less than this before it was looked at may have changed again within the
/// resolution of its time stamps.
const SETTLED_NS: i64 = 2_000_000_000;

impl FileProof {
    /// Whether `now` is the same file in the same state, and the time stamps can be believed.
    #[must_use]
    pub fn holds_for(&self, now: &Self) -> bool {
        let last_change = self.mtime_ns.max(self.ctime_ns);
        self.inode == now.inode
            && self.size == now.size
            && self.mtime_ns == now.mtime_ns
            && self.ctime_ns == now.ctime_ns
            && self.seen_ns.saturating_sub(last_change) >= SETTLED_NS
    }
}

/// By which proof a later generation kept a part of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// Equal row versions within one uninterrupted history of the server.
    RowVersions,
    /// The rows were read again, and the COPY BINARY streams are equal.
    Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_just_before_it_was_read_proves_nothing() {
        let file = FileProof {
            inode: 1,
            size: 2,
            mtime_ns: 10_000_000_000,
            ctime_ns: 10_500_000_000,
            seen_ns: 12_500_000_000,
        };
        assert!(file.holds_for(&file));
        let early = FileProof {
            seen_ns: 12_499_999_999,
            ..file.clone()
        };
        assert!(!early.holds_for(&file));
        for changed in [
            FileProof {
                inode: 9,
                ..file.clone()
            },
            FileProof {
                size: 9,
                ..file.clone()
            },
            FileProof {
                mtime_ns: 9,
                ..file.clone()
            },
            FileProof {
                ctime_ns: 9,
                ..file.clone()
            },
        ] {
            assert!(!file.holds_for(&changed));
        }
    }
}
