//! What a damaged bundle is said to hold, gathered from whatever is left of its index.
//!
//! Records of the journal and of index members may come in any order and twice: a place that is dead
//! stays dead, and of two members of one name the one that stands later in the file is the newer. So
//! an old index never brings back what a later one buried.
//!
//! Nothing here is believed. A claim is a place to look at and the hash that its bytes must have.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use arkstream_format::{
    CHUNK_SIZE, Compression, DeadRange, Generation, Manifest, Member, RunId, journal::Record,
};

use crate::{
    check::check_sums, codec::MAX_STORED, framing::check_name, journal::Torn, resume::end_of,
};

/// Offsets and lengths beyond this are no offsets and lengths. Sums of some of them do not overflow.
const LARGEST: u64 = 1 << 60;

/// Where the claims come from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The manifest, which has its hash.
    Manifest,
    /// The journal beside an unfinished bundle, and index members.
    Journal,
    /// Index members inside the file.
    Index,
    /// Nothing but local headers.
    Headers,
}

impl Truth {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Journal => "journal",
            Self::Index => "index members",
            Self::Headers => "local headers",
        }
    }
}

/// The claims of one bundle.
#[derive(Default)]
pub(super) struct Claims {
    /// By place.
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) dead: BTreeMap<u64, DeadRange>,
    pub(super) torn: Option<Torn>,
    pub(super) generations: Vec<Generation>,
    /// The manifest, or what the last index says of it.
    pub(super) description: Option<Manifest>,
    pub(super) begun: Option<(RunId, DateTime<Utc>)>,
    /// Places of the index members that were read.
    pub(super) indexes: Vec<(u64, u64)>,
    /// Claims that contradict themselves or others: name, place, what is wrong.
    pub(super) refused: Vec<(Member, &'static str)>,
}

impl Claims {
    pub(super) fn take(&mut self, record: Record) {
        match record {
            Record::Member { member, .. } => self.member(*member),
            Record::Dead { range } => {
                self.dead.insert(range.offset, range);
            }
            Record::Generation { generation } => self.generation(generation),
            Record::Description { manifest } => self.description = Some(*manifest),
            _ => {}
        }
    }

    pub(super) fn member(&mut self, member: Member) {
        self.members.insert(member.header_offset, member);
    }

    pub(super) fn generation(&mut self, generation: Generation) {
        if !self.generations.contains(&generation) {
            self.generations.push(generation);
        }
    }

    /// Drops what is dead, superseded, impossible, or lies over something else: so no byte of the
    /// damaged file is given out twice.
    pub(super) fn settle(&mut self) {
        let dead = &self.dead;
        self.members.retain(|place, _| !dead.contains_key(place));
        self.dead
            .retain(|offset, range| *offset < LARGEST && range.len < LARGEST);
        let mut newest: HashMap<String, u64> = HashMap::new();
        for (place, member) in &self.members {
            newest.insert(member.name.clone(), *place);
        }
        let mut end = 0;
        let mut kept = BTreeMap::new();
        for (place, member) in std::mem::take(&mut self.members) {
            if newest.get(&member.name) != Some(&place) {
                continue;
            }
            let overlap = match place < end {
                true => Err("its place is claimed by another member"),
                false => Ok(()),
            };
            let sound = check_claim(&member).and(overlap);
            match sound {
                Ok(()) => {
                    end = end_of(&member);
                    kept.insert(place, member);
                }
                Err(why) => self.refused.push((member, why)),
            }
        }
        self.members = kept;
        if let Some(torn) = &mut self.torn {
            let mut at = torn.data_offset;
            let sound = torn.data_offset < LARGEST
                && torn.data_offset >= end
                && check_name(&torn.opening.name).is_ok();
            torn.chunks.retain(|chunk| {
                let next = sound && chunk.offset == at && chunk.raw_len as usize <= CHUNK_SIZE;
                at += u64::from(chunk.stored_len);
                next
            });
        }
    }

    /// The ranges of the file of which something is known, in order.
    pub(super) fn known(&self) -> Vec<(u64, u64)> {
        let members = self.members.values().map(|m| (m.header_offset, end_of(m)));
        let dead = self.dead.values().map(|d| (d.offset, d.offset + d.len));
        let torn = self
            .torn
            .iter()
            .map(|torn| (torn.header_offset, torn.end()));
        let mut ranges: Vec<(u64, u64)> = members
            .chain(dead)
            .chain(torn)
            .chain(self.indexes.iter().copied())
            .collect();
        ranges.sort_unstable();
        ranges
    }
}

/// Whether a claim can be looked at without harm.
fn check_claim(member: &Member) -> Result<(), &'static str> {
    check_name(&member.name)?;
    let lengths = [
        member.header_offset,
        member.data_offset,
        member.raw_len,
        member.stored_len,
    ];
    if lengths.iter().any(|length| *length > LARGEST) || member.data_offset < member.header_offset {
        return Err("its place is impossible");
    }
    for chunk in &member.chunks {
        let possible = chunk.raw_len as usize <= CHUNK_SIZE
            && chunk.stored_len as usize <= MAX_STORED
            && (member.compression == Compression::Stored || chunk.stored_blake3.is_some());
        if !possible {
            return Err("it has a chunk of an impossible length, or without a hash");
        }
    }
    check_sums(member)
}
