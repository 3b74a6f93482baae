//! Matching rows of two sides by their keys: one side held, the other streamed past it.
//!
//! Memory: 24 bytes for each different row that is held, and `limit` keys of each kind.

use std::collections::BinaryHeap;

use super::Kind;

/// Bytes that a held row takes.
pub(super) const HELD: u64 = size_of::<Entry>() as u64;

/// A row: its id (or what stands for it) and the hash of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The id; where rows have none, the first bytes of the hash.
    pub(super) id: i64,
    /// Of the values.
    pub(super) hash: [u8; 12],
}

impl Key {
    /// The share that it belongs to, of `shares`.
    pub(super) fn share(&self, shares: u64) -> u64 {
        // Ids are dense and often in steps: the finaliser of SplitMix64 spreads them.
        let mut mixed = self.id.cast_unsigned().wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % shares
    }
}

/// Equal rows of the held side.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: i64,
    hash: [u8; 12],
    /// How many of them have met no equal row yet.
    left: u32,
}

impl Entry {
    fn key(&self) -> Key {
        Key {
            id: self.id,
            hash: self.hash,
        }
    }
}

/// The side that is held.
#[derive(Debug)]
pub(super) struct Held {
    entries: Vec<Entry>,
}

impl Held {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            entries: Vec::with_capacity(rows),
        }
    }

    pub(super) fn push(&mut self, key: Key) {
        if self.entries.len() == self.entries.capacity() {
            // Before it grows: rows without an id may all be the same.
            self.merge();
        }
        self.entries.push(Entry {
            id: key.id,
            hash: key.hash,
            left: 1,
        });
    }

    /// Nothing more is held from here on.
    pub(super) fn seal(&mut self) {
        self.merge();
    }

    fn merge(&mut self) {
        self.entries.sort_unstable_by_key(Entry::key);
        self.entries.dedup_by(|later, earlier| {
            let sum = earlier.left.checked_add(later.left);
            match sum.filter(|_| earlier.key() == later.key()) {
                Some(sum) => {
                    earlier.left = sum;
                    true
                }
                None => false,
            }
        });
    }

    /// Takes a row of the other side. `None` if an equal one is held; else what the row is: changed or
    /// not held at all.
    pub(super) fn take(&mut self, key: Key, by_id: bool) -> Option<Streamed> {
        let from = self.entries.partition_point(|held| held.id < key.id);
        let behind = self.entries.iter_mut().skip(from);
        let mut other = None;
        for held in behind.take_while(|held| held.id == key.id) {
            if held.left == 0 {
                continue;
            }
            if held.hash == key.hash {
                held.left -= 1;
                return None;
            }
            other.get_or_insert(held);
        }
        match other.filter(|_| by_id) {
            Some(held) => {
                held.left -= 1;
                Some(Streamed::Changed)
            }
            None => Some(Streamed::Alone),
        }
    }

    /// The held rows to which the other side has nothing, and how many there are of each.
    pub(super) fn alone(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        let left = self.entries.iter().filter(|held| held.left > 0);
        left.map(|held| (held.key(), held.left.into()))
    }
}

/// What a streamed row is that has no equal among the held ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streamed {
    /// Its id is held with other values.
    Changed,
    /// Its id is not held.
    Alone,
}

/// Counts rows of one kind, and keeps the smallest keys.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) kind: Kind,
    pub(super) count: u64,
    limit: usize,
    smallest: BinaryHeap<Key>,
}

impl Tally {
    pub(super) fn new(kind: Kind, limit: usize) -> Self {
        Self {
            kind,
            count: 0,
            limit,
            smallest: BinaryHeap::new(),
        }
    }

    pub(super) fn add(&mut self, key: Key, rows: u64) {
        self.count += rows;
        if self.smallest.len() < self.limit {
            self.smallest.push(key);
        } else if self.smallest.peek().is_some_and(|largest| key < *largest) {
            self.smallest.pop();
            self.smallest.push(key);
        }
    }

    /// The smallest keys, in their order.
    pub(super) fn keys(self) -> Vec<Key> {
        self.smallest.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i64, hash: u8) -> Key {
        Key {
            id,
            hash: [hash; 12],
        }
    }

    #[test]
    fn equal_rows_match_once_each() {
        let mut held = Held::with_capacity(2);
        for row in [key(5, 1), key(1, 1), key(5, 1), key(9, 1)] {
            held.push(row);
        }
        held.seal();
        assert_eq!(held.take(key(5, 1), false), None);
        assert_eq!(held.take(key(5, 1), false), None);
        assert_eq!(
            held.take(key(5, 1), false),
            Some(Streamed::Alone),
            "a third one"
        );
        assert_eq!(held.take(key(1, 2), true), Some(Streamed::Changed));
        assert_eq!(held.take(key(7, 1), true), Some(Streamed::Alone));
        assert_eq!(held.alone().collect::<Vec<_>>(), [(key(9, 1), 1)]);
    }

    #[test]
    fn a_million_equal_rows_are_held_as_one() {
        let mut held = Held::with_capacity(8);
        for row in 0..1_000_000 {
            held.push(key(i64::from(row == 7), 1));
        }
        held.seal();
        assert!(held.entries.capacity() <= 16, "{}", held.entries.capacity());
        for _ in 0..999_000 {
            assert_eq!(held.take(key(0, 1), false), None);
        }
        assert_eq!(
            held.alone().collect::<Vec<_>>(),
            [(key(0, 1), 999), (key(1, 1), 1)]
        );
    }

    #[test]
    fn shares_are_of_about_one_size_whatever_the_step_of_the_ids() {
        for step in [1, 2, 7, 64, 1 << 20] {
            let mut sizes = [0u32; 7];
            for row in 0..7000 {
                sizes[key(row * step, 0).share(7) as usize] += 1;
            }
            assert!(
                sizes.iter().all(|size| (850..1150).contains(size)),
                "{step}: {sizes:?}"
            );
        }
    }

    #[test]
    fn a_tally_keeps_the_smallest_in_their_order() {
        let mut tally = Tally::new(Kind::Added, 3);
        for id in [7, 3, 9, 1, 8, 2] {
            tally.add(key(id, 0), 1);
        }
        assert_eq!(tally.count, 6);
        let ids: Vec<_> = tally.keys().iter().map(|key| key.id).collect();
        assert_eq!(ids, [1, 2, 3]);
        let mut none = Tally::new(Kind::Added, 0);
        none.add(key(1, 0), 1);
        assert_eq!((none.count, none.keys().len()), (1, 0));
    }
}
