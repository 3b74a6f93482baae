//! Names of members, in little memory: which are taken, and where in a list they stand.

use std::{collections::HashSet, sync::OnceLock};

use arkstream_format::{Digest, Member};

/// A set of names: of each the first half of its BLAKE3, 16 bytes.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<u128>);

impl Names {
    pub(crate) fn insert(&mut self, name: &str) {
        self.0.insert(hash(name));
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(&hash(name))
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(&hash(name))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

fn hash(name: &str) -> u128 {
    let Digest(digest) = Digest::of(name.as_bytes());
    let half = digest.first_chunk::<16>();
    half.map_or(0, |half| u128::from_be_bytes(*half))
}

/// Numbers of members in the order of their names, made when the first is looked up.
#[derive(Debug, Default)]
pub(crate) struct ByName(OnceLock<Vec<u32>>);

impl ByName {
    /// The first member of that name; `members` are the same at every call.
    pub(crate) fn find<'a>(&self, members: &'a [Member], name: &str) -> Option<&'a Member> {
        let name_of = |number: &u32| members.get(*number as usize).map(|m| m.name.as_str());
        let by_name = self.0.get_or_init(|| {
            let mut numbers: Vec<u32> = (0..members.len() as u32).collect();
            numbers.sort_by_key(&name_of);
            numbers
        });
        // A damaged manifest may list one twice.
        let place = by_name.partition_point(|number| name_of(number) < Some(name));
        let member = members.get(*by_name.get(place)? as usize)?;
        (member.name == name).then_some(member)
    }
}
