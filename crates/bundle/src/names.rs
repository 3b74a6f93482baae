//! Which names are taken, in little memory.

use std::collections::HashSet;

use arkstream_format::Digest;

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
