//! What a salvaged bundle says about itself: where it came from, and what was lost.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Component, RunId};

/// Where a salvaged bundle came from, and what was lost on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Salvage {
    /// Name of the damaged file, without its folder.
    pub source: String,
    /// Its length in bytes.
    pub source_bytes: u64,
    /// The run that began or published it, where that is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_run_id: Option<RunId>,
    /// When it was salvaged.
    pub at: DateTime<Utc>,
    /// Whether what the manifest says beside members was found: tables, generations, omissions,
    /// properties of graph and ChromaDB. A restore needs it.
    pub described: bool,
    /// Members whose bytes nothing but a CRC-32 proves, and whose names nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proven_by_crc: Vec<String>,
    /// What is lost; empty if only the framing was damaged.
    pub lost: Vec<LostMember>,
}

/// A member that is not in the salvaged bundle as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LostMember {
    /// Its name; absent where not even that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The system it belongs to, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    /// Rows that it held, where it held rows. None of them can be read from what is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The bytes that are lost.
    pub ranges: Vec<LostRange>,
    /// Members of the salvaged bundle that hold what is left of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<String>,
}

/// Bytes that are lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LostRange {
    /// First byte of the member, before compression, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_start: Option<u64>,
    /// First byte of the member that is not lost any more, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_end: Option<u64>,
    /// First byte in the damaged file, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_start: Option<u64>,
    /// First byte in the damaged file that is not lost any more, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_end: Option<u64>,
    /// Why.
    pub reason: String,
}

impl Salvage {
    /// Whether the restore of a component would miss something: members of its own, or what every
    /// restore must know.
    #[must_use]
    pub fn hurts(&self, component: Component) -> bool {
        use crate::member_names::{METADATA, MODEL_LIST};
        !self.described
            || self
                .lost
                .iter()
                .any(|lost| match (lost.component, lost.member.as_deref()) {
                    (Some(Component::Description), Some(METADATA)) => true,
                    (Some(Component::Description), Some(MODEL_LIST)) => {
                        component == Component::Models
                    }
                    (Some(of), _) => of == component,
                    // Nobody knows what stood there.
                    (None, _) => true,
                })
    }

    /// Whether that member is known to be lost.
    #[must_use]
    pub fn lost_member(&self, name: &str) -> bool {
        self.lost
            .iter()
            .any(|lost| lost.member.as_deref() == Some(name))
    }
}
