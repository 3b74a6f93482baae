//! BLAKE3 digests and CRC-32 values as the format writes them: lower-case hexadecimal.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A BLAKE3 digest of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of a member: the digest of its chunks' digests, one after the other.
    ///
    /// So chunks are hashed in parallel and the member's digest needs no second pass. A member
    /// without chunks has the digest of the empty string.
    #[must_use]
    pub fn of_chunks<'a>(chunks: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for chunk in chunks {
            hasher.update(&chunk.0);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// A text that is no digest or CRC.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected {expected} hexadecimal digits, found `{found}`")]
pub struct ParseDigestError {
    expected: usize,
    found: String,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseDigestError> {
    let error = || ParseDigestError {
        expected: 2 * N,
        found: text.chars().take(80).collect(),
    };
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(error());
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| error())?;
    }
    Ok(bytes)
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A CRC-32 as ZIP uses it (IEEE polynomial).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Crc32(pub u32);

impl Crc32 {
    /// The CRC-32 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc32fast::hash(bytes))
    }

    /// The CRC-32 of what `self` covers followed by `len` bytes whose CRC-32 is `next`.
    #[must_use]
    pub fn then(self, next: Self, len: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.combine(&crc32fast::Hasher::new_with_initial_len(next.0, len));
        Self(hasher.finalize())
    }
}

impl FromStr for Crc32 {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex::<4>(text).map(|bytes| Self(u32::from_be_bytes(bytes)))
    }
}

impl fmt::Display for Crc32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

macro_rules! hex_serde {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

hex_serde!(Digest, "^[0-9a-f]{64}$");
hex_serde!(Crc32, "^[0-9a-f]{8}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_text_round_trips() {
        let digest = Digest::of(b"arkstream");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn malformed_digests_are_refused_without_a_panic() {
        for text in ["", "00", "zz", "é", &"0".repeat(63), &"é".repeat(32)] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
            assert!(text.parse::<Crc32>().is_err(), "{text}");
        }
    }

    #[test]
    fn combined_crc_equals_the_crc_of_the_whole() {
        let (a, b) = (b"first chunk".as_slice(), b"second".as_slice());
        let whole = Crc32::of(&[a, b].concat());
        assert_eq!(Crc32::of(a).then(Crc32::of(b), b.len() as u64), whole);
        assert_eq!(Crc32::default().then(whole, 17), whole);
    }
}
