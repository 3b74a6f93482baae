//! The archive comment: where the manifest is, and its hash.
//!
//! It is what a reader looks at first, with one read at the end of the file, and the root of
//! everything a bundle proves: it covers the manifest, the manifest covers all other bytes.
//! Unzip programs print it as a harmless line of text.

use chrono::{DateTime, Utc};

use arkstream_format::{Component, Compression, Crc32, Digest, Member, member_names};

use crate::document::DESCRIPTION_MODE;

/// Place and hash of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Format version of the writer.
    pub(crate) format_version: String,
    /// Offset of the manifest's local header.
    pub(crate) header_offset: u64,
    /// Offset of its first data byte.
    pub(crate) data_offset: u64,
    /// Bytes in the file.
    pub(crate) stored_len: u64,
    /// Bytes before compression.
    pub(crate) raw_len: u64,
    /// BLAKE3 of the stored bytes.
    pub(crate) blake3: Digest,
}

const INTRODUCTION: &str = "Arkstream bundle, format ";

impl Trailer {
    pub(crate) fn comment(&self) -> String {
        format!(
            "{INTRODUCTION}{}; manifest.json at {}+{}, {} of {} bytes, blake3 {}",
            self.format_version,
            self.header_offset,
            self.data_offset - self.header_offset,
            self.stored_len,
            self.raw_len,
            self.blake3
        )
    }

    /// The entry of `manifest.json` in the directory, which the manifest cannot list.
    pub(crate) fn entry(&self, crc32: Crc32, modified_at: DateTime<Utc>) -> Member {
        Member {
            name: member_names::MANIFEST.to_owned(),
            component: Component::Description,
            compression: Compression::Deflate,
            header_offset: self.header_offset,
            data_offset: self.data_offset,
            raw_len: self.raw_len,
            stored_len: self.stored_len,
            crc32,
            digest: self.blake3,
            descriptor: false,
            modified_at,
            mode: DESCRIPTION_MODE,
            rows: None,
            proof: None,
            copied: None,
            chunks: Vec::new(),
        }
    }

    /// Reads a comment. It must be as [`Self::comment`] writes it, to the letter.
    pub(crate) fn parse(comment: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(comment).ok()?;
        let (version, rest) = text
            .strip_prefix(INTRODUCTION)?
            .split_once("; manifest.json at ")?;
        let (place, rest) = rest.split_once(", ")?;
        let (sizes, blake3) = rest.split_once(" bytes, blake3 ")?;
        let (header_offset, header_len) = place.split_once('+')?;
        let (stored_len, raw_len) = sizes.split_once(" of ")?;
        let header_offset: u64 = header_offset.parse().ok()?;
        let trailer = Self {
            format_version: version.to_owned(),
            header_offset,
            data_offset: header_offset.checked_add(header_len.parse().ok()?)?,
            stored_len: stored_len.parse().ok()?,
            raw_len: raw_len.parse().ok()?,
            blake3: blake3.parse().ok()?,
        };
        (trailer.comment() == text).then_some(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_round_trips() {
        let trailer = Trailer {
            format_version: "1.0.0".into(),
            header_offset: 12,
            data_offset: 60,
            stored_len: 7,
            raw_len: 70,
            blake3: Digest::of(b"m"),
        };
        let comment = trailer.comment();
        assert_eq!(Trailer::parse(comment.as_bytes()), Some(trailer));
        // A flipped bit may leave the same number.
        let (head, hash) = comment.split_at(comment.len() - 64);
        let shouted = format!("{head}{}", hash.to_uppercase());
        assert_eq!(Trailer::parse(shouted.as_bytes()), None);
        assert_eq!(
            Trailer::parse(comment.replace("7 of", "07 of").as_bytes()),
            None
        );
        assert_eq!(Trailer::parse(b"made by zip"), None);
    }
}
