//! Numbers that depend on a seed alone, so that a failing round can be run again.

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

/// `rounds` seeds, or the one that `ARKSTREAM_SEED` names.
pub(crate) fn seeds(rounds: u64) -> Vec<u64> {
    match std::env::var("ARKSTREAM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..rounds).collect(),
    }
}
