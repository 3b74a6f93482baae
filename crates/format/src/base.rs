//! Older bundles that parts of a bundle were copied out of (`arkstream backup --base`).
//!
//! What is copied is in the new bundle with all its bytes, so nothing of an older one is needed to read
//! it. These entries say where the bytes came from, for people.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Component, Digest, Member, RunId};

/// An older bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaseBundle {
    /// Counted from 1.
    pub number: u32,
    /// BLAKE3 of its manifest as it stands in its file.
    pub manifest: Digest,
    /// The run that published it.
    pub run_id: RunId,
    /// When its last snapshots were taken.
    pub taken_at: DateTime<Utc>,
    /// The name its file had.
    pub name: String,
    /// What was copied out of it, by component.
    #[serde(default)]
    pub copied: BTreeMap<Component, CopiedSum>,
}

/// Sums over what was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopiedSum {
    /// Members of which every byte was copied.
    pub members: u64,
    /// Stored bytes, those of members that were copied in part among them.
    pub bytes: u64,
}

/// What of a member was copied out of an older bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// [`BaseBundle::number`].
    pub base: u32,
    /// Stored bytes of its chunks that were copied.
    pub bytes: u64,
}

impl BaseBundle {
    /// What of `members` was copied out of it.
    #[must_use]
    pub fn copied_in<'a>(
        &self,
        members: impl IntoIterator<Item = &'a Member>,
    ) -> BTreeMap<Component, CopiedSum> {
        let mut sums: BTreeMap<Component, CopiedSum> = BTreeMap::new();
        for member in members {
            let Some(copied) = member.copied.filter(|copied| copied.base == self.number) else {
                continue;
            };
            let stored: u64 = member.chunks.iter().map(|c| u64::from(c.stored_len)).sum();
            let sum = sums.entry(member.component).or_default();
            sum.members += u64::from(copied.bytes == stored);
            sum.bytes += copied.bytes;
        }
        sums
    }

    /// Sums over all components.
    #[must_use]
    pub fn copied_sum(&self) -> CopiedSum {
        let sums = self.copied.values();
        sums.fold(CopiedSum::default(), |all, sum| CopiedSum {
            members: all.members + sum.members,
            bytes: all.bytes + sum.bytes,
        })
    }
}
