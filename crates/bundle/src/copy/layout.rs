//! A bundle as one sequence of pieces, from its first byte to its last, each with what proves it.
//!
//! Memory: what the manifest takes, and one piece of framing at a time.

use std::collections::HashSet;

use arkstream_format::{Chunk, Component, Compression, DeadRange, Digest, Member};
use arkstream_pipeline::{Finding, Place};

use crate::{
    check::check_sums,
    codec::{MAX_STORED, STREAM_END},
    framing::{Entry, check_name, end_records},
    reader::BundleFile,
};

/// The pieces of a bundle, by its manifest.
pub(super) struct Layout<'a> {
    pub(super) bundle: &'a BundleFile,
    units: Vec<Unit<'a>>,
    directory_at: u64,
    directory_len: u64,
}

/// A run of bytes that is copied, or proven, as a whole.
pub(super) struct Piece<'a> {
    /// Offset of its first byte.
    pub(super) at: u64,
    /// Bytes.
    pub(super) len: u64,
    /// The member that it belongs to.
    pub(super) member: Option<&'a Member>,
    pub(super) what: What,
}

/// What proves a piece.
pub(super) enum What {
    /// Structure: these bytes, regenerated from the manifest's fields; and what they are.
    Frame(Vec<u8>, &'static str),
    /// A chunk: its number in the member, and the BLAKE3 of its stored bytes.
    Chunk(usize, Digest),
    /// Dead bytes or the manifest, of any length: their BLAKE3; and what they are.
    Bulk(Digest, &'static str),
}

#[derive(Clone, Copy)]
enum Unit<'a> {
    Member(&'a Member),
    Dead(&'a DeadRange),
}

impl<'a> Layout<'a> {
    /// The pieces of a bundle.
    ///
    /// # Errors
    /// A finding when the manifest does not account for every byte of the file, once.
    pub(super) fn of(bundle: &'a BundleFile) -> Result<Self, Finding> {
        let manifest = &bundle.manifest;
        let mut names = HashSet::new();
        for member in &manifest.members {
            let wrong = |what: String| Err(Finding::in_member(member, what));
            if let Err(why) = check_name(&member.name) {
                return wrong(format!("the name is not allowed: {why}"));
            }
            if !names.insert(member.name.as_str()) {
                return wrong("another member has the same name".into());
            }
            if let Err(what) = check_sums(member) {
                return wrong(what.into());
            }
            for chunk in &member.chunks {
                let possible = chunk.stored_len as usize <= MAX_STORED;
                if !possible || stored_digest(member, chunk).is_none() {
                    return wrong(
                        "the manifest gives a chunk an impossible length or no hash".into(),
                    );
                }
            }
        }
        let mut units = Vec::with_capacity(manifest.members.len());
        let mut dead = manifest.dead_ranges.iter().peekable();
        for member in &manifest.members {
            while let Some(range) = dead.next_if(|range| range.offset < member.header_offset) {
                units.push(Unit::Dead(range));
            }
            units.push(Unit::Member(member));
        }
        units.extend(dead.map(Unit::Dead));
        let entry = &bundle.manifest_entry;
        let directory = manifest.members.iter().chain([entry]);
        let layout = Self {
            bundle,
            units,
            directory_at: entry.data_offset.saturating_add(entry.stored_len),
            directory_len: directory
                .map(|member| Entry::from(member).central_header().len() as u64)
                .sum(),
        };
        layout.check()?;
        Ok(layout)
    }

    /// Every byte of the file belongs to one piece.
    fn check(&self) -> Result<(), Finding> {
        let gap = |from: u64, to: u64, member: Option<&Member>, what: &str| {
            let place = Place {
                member: member.map(|member| member.name.clone()),
                chunk: None,
                bytes: Some((from.min(to), from.max(to))),
            };
            Err(Finding::damage(place, what))
        };
        let mut at = 0u64;
        for piece in self.pieces() {
            if piece.at != at {
                let what = "the manifest leaves a gap or an overlap before it";
                return gap(at, piece.at, piece.member, what);
            }
            at = at.saturating_add(piece.len);
        }
        if at != self.bundle.len {
            let what = "the manifest accounts for another length than the file has";
            return gap(at, self.bundle.len, None, what);
        }
        Ok(())
    }

    /// The pieces, in the order of their places.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece<'a>> {
        let bundle = self.bundle;
        let entry = &bundle.manifest_entry;
        let mut at = self.directory_at;
        let directory = bundle.manifest.members.iter().chain([entry]);
        let directory = directory.map(move |member| {
            let bytes = Entry::from(member).central_header();
            let piece = frame(at, bytes, Some(member), "the entry in the ZIP directory");
            at += piece.len;
            piece
        });
        let end = end_records(
            bundle.manifest.members.len() as u64 + 1,
            self.directory_at,
            self.directory_len,
            &bundle.trailer.comment(),
        );
        let end_at = self.directory_at.saturating_add(self.directory_len);
        self.units
            .clone()
            .into_iter()
            .flat_map(Unit::pieces)
            .chain(manifest_pieces(entry))
            .chain(directory)
            .chain([frame(
                end_at,
                end,
                None,
                "the end record of the ZIP directory",
            )])
    }
}

impl<'a> Unit<'a> {
    fn pieces(self) -> Vec<Piece<'a>> {
        match self {
            Self::Member(member) => member_pieces(member),
            Self::Dead(range) => vec![Piece {
                at: range.offset,
                len: range.len,
                member: None,
                what: What::Bulk(range.blake3, "dead bytes"),
            }],
        }
    }
}

fn member_pieces(member: &Member) -> Vec<Piece<'_>> {
    let entry = Entry::from(member);
    let header = entry.local_header();
    let mut pieces = Vec::with_capacity(member.chunks.len() + 2);
    pieces.push(frame(
        member.header_offset,
        header,
        Some(member),
        "the local header",
    ));
    for (index, chunk) in member.chunks.iter().enumerate() {
        // `Layout::of` has seen that each has one.
        let digest = stored_digest(member, chunk).unwrap_or(chunk.blake3);
        pieces.push(Piece {
            at: chunk.offset,
            len: chunk.stored_len.into(),
            member: Some(member),
            what: What::Chunk(index, digest),
        });
    }
    let mut tail = Vec::new();
    let mut tail_at = member.data_offset.saturating_add(member.stored_len);
    if member.compression == Compression::Deflate {
        tail.extend_from_slice(&STREAM_END);
        tail_at = tail_at.saturating_sub(STREAM_END.len() as u64);
    }
    tail.extend(entry.data_descriptor());
    if !tail.is_empty() {
        pieces.push(frame(tail_at, tail, Some(member), "the end of its data"));
    }
    pieces
}

/// The manifest's BLAKE3 covers its stored bytes as a whole.
fn manifest_pieces(entry: &Member) -> [Piece<'_>; 2] {
    let header = Entry::from(entry).local_header();
    [
        frame(entry.header_offset, header, Some(entry), "the local header"),
        Piece {
            at: entry.data_offset,
            len: entry.stored_len,
            member: Some(entry),
            what: What::Bulk(entry.digest, "the manifest"),
        },
    ]
}

fn frame<'a>(at: u64, bytes: Vec<u8>, member: Option<&'a Member>, what: &'static str) -> Piece<'a> {
    Piece {
        at,
        len: bytes.len() as u64,
        member,
        what: What::Frame(bytes, what),
    }
}

/// BLAKE3 of a chunk's bytes as they stand in the file.
pub(super) fn stored_digest(member: &Member, chunk: &Chunk) -> Option<Digest> {
    match member.compression {
        Compression::Stored => Some(chunk.blake3),
        Compression::Deflate => chunk.stored_blake3,
    }
}

impl Piece<'_> {
    /// Offset behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.len)
    }

    /// The component whose progress it is; structure is nobody's.
    pub(super) fn component(&self) -> Option<Component> {
        match self.what {
            What::Chunk(..) => self.member.map(|member| member.component),
            _ => None,
        }
    }

    /// What is told when its bytes are not what they must be.
    pub(super) fn damage(&self) -> Finding {
        let (chunk, what) = match &self.what {
            What::Chunk(index, _) => (
                Some(*index),
                "its stored bytes do not have their BLAKE3".to_owned(),
            ),
            What::Frame(_, what) => (None, format!("{what} is not what it must be")),
            What::Bulk(_, what) => (None, format!("{what} do not have their BLAKE3")),
        };
        let place = Place {
            member: self.member.map(|member| member.name.clone()),
            chunk,
            bytes: Some((self.at, self.end())),
        };
        Finding::damage(place, what)
    }
}
