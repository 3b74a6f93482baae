//! Values that are too large for a batch, and travel beside it.
//!
//! A decoder with [`Limits`] hands the bytes of such a value out as they arrive
//! ([`crate::Step`]); in the batch its row has NULL in that column. What comes out, by the column's type:
//!
//! | type | content |
//! |---|---|
//! | `text`, `varchar`, `char(n)`, `name`, `json`, all types that travel as text | the text, checked to be UTF-8 |
//! | `jsonb` | its JSON text |
//! | `bytea` | the bytes |
//! | arrays | PostgreSQL's binary form of the array, as COPY BINARY and `array_send` have it |
//!
//! Memory: three bytes of a character that is cut.

use crate::error::ValueProblem;
use crate::pgtype::{Kind, Scalar};

/// Of values shorter than this nothing is gained, whatever the limits.
const SMALLEST: usize = 4 << 10;

/// The version of jsonb's wire format, which stands before its text.
pub(crate) const JSONB_VERSION: u8 = 1;

/// How much of a row may stand in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one value on the wire.
    pub value: usize,
    /// Bytes of one row on the wire. A value that would go beyond is large, unless it is tiny.
    pub row: usize,
}

impl Limits {
    /// Nothing is too large.
    pub const NONE: Limits = Limits {
        value: usize::MAX,
        row: usize::MAX,
    };

    /// Whether a value of that length is too large in a row of which so many bytes came before.
    pub(crate) fn exclude(&self, before: usize, length: usize) -> bool {
        let smallest = SMALLEST.min(self.value);
        length > self.value || (length > smallest && before.saturating_add(length) > self.row)
    }
}

/// A value that is too large for the batch, at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeValue {
    /// Its row, from 0, counted from the start of the stream.
    pub row: u64,
    /// Its column's name.
    pub column: String,
    /// Its column's place among the columns, from 0.
    pub place: usize,
    /// Bytes of its content.
    pub bytes: u64,
}

/// What is between the wire and the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes as they are.
    Bytes,
    /// Bytes that must be UTF-8.
    Text,
    /// A version, then UTF-8.
    Jsonb,
    /// Nothing: the text of an array that travels without it.
    Dropped,
}

impl Content {
    /// `None` for types whose values are always short, and those whose text is made here.
    pub(crate) fn of(kind: Kind) -> Option<Content> {
        match kind {
            Kind::Output | Kind::Scalar(Scalar::Text | Scalar::Json) => Some(Content::Text),
            Kind::Scalar(Scalar::Jsonb) => Some(Content::Jsonb),
            Kind::List { .. } | Kind::Scalar(Scalar::Bytea) => Some(Content::Bytes),
            Kind::Scalar(_) | Kind::NumericText => None,
        }
    }
}

/// Checks that bytes that arrive cut anywhere are UTF-8.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The bytes of a character whose end has not come.
    cut: [u8; 4],
    length: usize,
}

impl Utf8 {
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ValueProblem> {
        while self.length > 0 {
            let Some((byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            let slot = self.cut.get_mut(self.length);
            *slot.ok_or(ValueProblem::NotUtf8)? = *byte;
            self.length += 1;
            bytes = rest;
            let character = self.cut.get(..self.length).unwrap_or_default();
            match std::str::from_utf8(character) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(ValueProblem::NotUtf8),
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else {
            return Ok(());
        };
        let cut = bytes.get(error.valid_up_to()..).unwrap_or_default();
        match (error.error_len(), self.cut.get_mut(..cut.len())) {
            (None, Some(slots)) => {
                slots.copy_from_slice(cut);
                self.length = cut.len();
                Ok(())
            }
            _ => Err(ValueProblem::NotUtf8),
        }
    }

    pub(crate) fn finish(&self) -> Result<(), ValueProblem> {
        match self.length {
            0 => Ok(()),
            _ => Err(ValueProblem::NotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(bytes: &[u8], size: usize) -> bool {
        let mut check = Utf8::default();
        let pushed = bytes.chunks(size).try_for_each(|piece| check.push(piece));
        pushed.and_then(|()| check.finish()).is_ok()
    }

    proptest! {
        #[test]
        fn bytes_are_text_cut_anywhere_exactly_when_they_are_whole(
            text in "\\PC{0,12}",
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in 0usize..4,
            size in 1usize..6,
        ) {
            let mut bytes = text.into_bytes();
            if let (Some((place, byte)), false) = (damage, bytes.is_empty()) {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert_eq!(judge(&bytes, size), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
