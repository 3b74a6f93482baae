//! Seeded mutations, for the short run without libFuzzer.

/// Numbers that lengths and offsets break at.
const INTERESTING: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x3fff_ffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x0001_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// xorshift64*: the same numbers for the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => (self.number() >> 11) as usize % end,
        }
    }
}

/// A changed `input`, now and then with a piece of `other`; at most `max_len` bytes.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], max_len: usize, random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        match random.below(8) {
            0 | 1 if !out.is_empty() => {
                let at = random.below(out.len());
                out[at] ^= 1 << random.below(8);
            }
            2 => out.truncate(at),
            3 => {
                let end = (at + 1 + random.below(16)).min(out.len());
                out.drain(at.min(end)..end);
            }
            4 => {
                let from = random.below(other.len());
                let len = random.below(64).min(other.len() - from);
                out.splice(at..at, other[from..from + len].iter().copied());
            }
            5 => number(&mut out, at, random),
            6 => digits(&mut out, at, random),
            _ => out.insert(at, random.number() as u8),
        }
    }
    out.truncate(max_len);
    out
}

/// Puts an interesting number over what stands there, in a width and byte order.
fn number(out: &mut [u8], at: usize, random: &mut Random) {
    let value = INTERESTING[random.below(INTERESTING.len())];
    let width = [1, 2, 4, 8][random.below(4)];
    let bytes = match random.below(2) {
        0 => value.to_le_bytes()[..width].to_vec(),
        _ => value.to_be_bytes()[8 - width..].to_vec(),
    };
    if let Some(place) = out.get_mut(at..at + width) {
        place.copy_from_slice(&bytes);
    }
}

/// Puts an interesting number in place of the next decimal one.
fn digits(out: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = out[at..].iter().position(u8::is_ascii_digit) else {
        return;
    };
    let start = at + start;
    let len = out[start..]
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(out.len() - start);
    let value = INTERESTING[random.below(INTERESTING.len())].to_string();
    out.splice(start..start + len, value.into_bytes());
}
