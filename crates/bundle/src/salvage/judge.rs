//! What of a damaged bundle is proven good: every chunk is read and held against its hash, and where
//! no index is left, whole members against the CRC-32 of their headers.
//!
//! Memory: the claims, what was found about them, one chunk.

use std::{collections::HashSet, fs::File, ops::Range, path::Path};

use arkstream_format::{
    Chunk, Component, Compression, Crc32, Digest, LostMember, LostRange, Manifest, Member,
    member_names,
};
use arkstream_pipeline::{Cancel, Event, Failure, Observer};

use crate::{
    journal::{Torn, chunk_end},
    opening::Totals,
    reader::read_proven,
    salvage::{
        claims::Truth,
        find::{Damaged, find},
        headers::Header,
    },
};

/// A member, and which of its chunks are good.
pub(super) struct Judged {
    pub(super) member: Member,
    /// Runs of good chunks.
    pub(super) good: Vec<Range<usize>>,
    pub(super) whole: bool,
}

/// A whole member that its CRC-32 proves.
pub(super) struct ByCrc {
    pub(super) header: Header,
    pub(super) crc32: Crc32,
    pub(super) raw_len: u64,
    /// Where it ends in the damaged file.
    pub(super) end: u64,
}

/// A member whose bytes decode, but nothing proves them.
pub(super) struct Unproven {
    pub(super) header: Header,
    /// How many bytes decode.
    pub(super) raw_len: u64,
    pub(super) end: u64,
}

/// All that is known about a damaged bundle.
pub(super) struct Examined {
    pub(super) damaged: Damaged,
    pub(super) judged: Vec<Judged>,
    pub(super) by_crc: Vec<ByCrc>,
    pub(super) unproven: Vec<Unproven>,
    pub(super) lost: Vec<LostMember>,
}

/// Reads all of a damaged bundle.
pub(super) fn examine(
    path: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Examined, Failure> {
    let damaged = find(path, cancel)?;
    let mut examined = Examined {
        damaged,
        judged: Vec::new(),
        by_crc: Vec::new(),
        unproven: Vec::new(),
        lost: Vec::new(),
    };
    for component in Component::ALL {
        let members = examined.damaged.claims.members.values();
        let of_it: Vec<u64> = members
            .filter(|member| member.component == component)
            .map(|member| member.raw_len)
            .collect();
        if !of_it.is_empty() {
            let (bytes, items) = (of_it.iter().sum(), of_it.len() as u64);
            observer.event(&Event::Planned {
                component,
                bytes,
                items,
            });
        }
    }
    examined.refused();
    if examined.damaged.truth != Truth::Manifest {
        examined.search_gaps(cancel)?;
    }
    examined.check_members(observer, cancel)?;
    examined.check_torn();
    examined.judged.sort_by_key(|j| j.member.header_offset);
    match examined.damaged.claims.description.take() {
        Some(description) => {
            examined.parts_are_lost(&description);
            examined.damaged.claims.description = Some(description);
        }
        None => examined.end_is_lost(),
    }
    Ok(examined)
}

impl Examined {
    fn refused(&mut self) {
        for (member, why) in std::mem::take(&mut self.damaged.claims.refused) {
            self.lost.push(LostMember {
                ranges: vec![LostRange {
                    raw_start: None,
                    raw_end: None,
                    file_start: Some(member.header_offset),
                    file_end: None,
                    reason: why.to_owned(),
                }],
                member: Some(member.name),
                component: Some(member.component),
                rows: member.rows,
                pieces: Vec::new(),
            });
        }
    }

    fn check_members(&mut self, observer: &dyn Observer, cancel: &Cancel) -> Result<(), Failure> {
        for member in std::mem::take(&mut self.damaged.claims.members).into_values() {
            // They describe the damaged file, not the one that will be written.
            if member.is_index() || member.name == member_names::MANIFEST {
                continue;
            }
            let (good, ranges) = check_chunks(&self.damaged, &member, cancel, |bytes| {
                observer.event(&Event::Read {
                    component: member.component,
                    bytes,
                });
            })?;
            let whole = ranges.is_empty();
            if !whole {
                self.lost.push(LostMember {
                    member: Some(member.name.clone()),
                    component: Some(member.component),
                    rows: member.rows,
                    ranges,
                    pieces: Vec::new(),
                });
            }
            self.judged.push(Judged {
                member,
                good,
                whole,
            });
        }
        Ok(())
    }

    /// The member at which an unfinished bundle was interrupted.
    fn check_torn(&mut self) {
        let Some(torn) = self.damaged.claims.torn.take() else {
            return;
        };
        let end = torn.end();
        let member = member_of(torn);
        let checked = check_chunks(&self.damaged, &member, &Cancel::default(), |_| ());
        let (good, mut ranges) = checked.unwrap_or_default();
        ranges.push(LostRange {
            raw_start: Some(member.raw_len),
            raw_end: None,
            file_start: Some(end),
            file_end: None,
            reason: "the backup was interrupted in it".to_owned(),
        });
        self.lost.push(LostMember {
            member: Some(member.name.clone()),
            component: Some(member.component),
            rows: None,
            ranges,
            pieces: Vec::new(),
        });
        self.judged.push(Judged {
            member,
            good,
            whole: false,
        });
    }

    /// Parts of tables, and large values, that neither came back nor are told to be lost: no index lists them any more.
    fn parts_are_lost(&mut self, description: &Manifest) {
        let judged = self.judged.iter().map(|judged| judged.member.name.as_str());
        let by_crc = self.by_crc.iter().map(|member| member.header.name.as_str());
        let lost = self.lost.iter().filter_map(|lost| lost.member.as_deref());
        let told: HashSet<&str> = judged.chain(by_crc).chain(lost).collect();
        // Whoever salvaged it before has told of them.
        let before = |name: &str| {
            let salvage = description.salvage.as_ref();
            salvage.is_some_and(|salvage| salvage.lost_member(name))
        };
        let parts = description.tables.iter().flat_map(|table| &table.parts);
        let members = parts.flat_map(|part| {
            let large = part.large.iter().map(|name| (name, None));
            std::iter::once((&part.member, Some(part.rows))).chain(large)
        });
        let untold: Vec<LostMember> = members
            .filter(|(name, _)| !told.contains(name.as_str()) && !before(name))
            .map(|(name, rows)| LostMember {
                member: Some(name.clone()),
                component: Some(Component::Models),
                rows,
                ranges: vec![LostRange {
                    raw_start: None,
                    raw_end: None,
                    file_start: None,
                    file_end: None,
                    reason: "the index that lists it is damaged".to_owned(),
                }],
                pieces: Vec::new(),
            })
            .collect();
        self.lost.extend(untold);
    }

    /// Nobody knows what else there was.
    fn end_is_lost(&mut self) {
        let known = self.damaged.claims.known();
        let members = self.judged.iter().map(|judged| {
            let member = &judged.member;
            member.data_offset.saturating_add(member.stored_len)
        });
        let ends = known.iter().map(|(_, end)| *end);
        let crc = self.by_crc.iter().map(|member| member.end);
        let behind = members.chain(ends).chain(crc).max().unwrap_or(0);
        let reason = match self.damaged.truth {
            Truth::Journal => "the backup was not finished: what it had not written is not known",
            _ => "the end of the bundle is lost or damaged: what else it held is not known",
        };
        self.lost
            .push(unknown(behind.min(self.damaged.len), None, reason));
    }
}

pub(super) fn unknown(file_start: u64, file_end: Option<u64>, reason: &str) -> LostMember {
    LostMember {
        member: None,
        component: None,
        rows: None,
        ranges: vec![LostRange {
            raw_start: None,
            raw_end: None,
            file_start: Some(file_start),
            file_end,
            reason: reason.to_owned(),
        }],
        pieces: Vec::new(),
    }
}

fn member_of(torn: Torn) -> Member {
    let end = torn.end();
    let opening = torn.opening;
    let totals = Totals::of_chunks(opening.compression, &torn.chunks);
    Member {
        name: opening.name,
        component: opening.component,
        compression: opening.compression,
        header_offset: torn.header_offset,
        data_offset: torn.data_offset,
        raw_len: totals.raw_len,
        stored_len: end - torn.data_offset,
        crc32: totals.crc32,
        digest: Digest::of_chunks(torn.chunks.iter().map(|chunk| &chunk.blake3)),
        descriptor: true,
        modified_at: opening.modified_at,
        mode: opening.mode,
        rows: None,
        proof: None,
        copied: None,
        chunks: torn.chunks,
    }
}

type Checked = (Vec<Range<usize>>, Vec<LostRange>);

/// Reads every chunk. Returns runs of good ones, and what is lost.
fn check_chunks(
    damaged: &Damaged,
    member: &Member,
    cancel: &Cancel,
    read: impl Fn(u64),
) -> Result<Checked, Failure> {
    let (mut good, mut lost): Checked = Default::default();
    let mut raw_start = 0;
    for (number, chunk) in member.chunks.iter().enumerate() {
        cancel.check()?;
        let raw_end = raw_start + u64::from(chunk.raw_len);
        match check(&damaged.file, damaged.len, member.compression, chunk) {
            Ok(()) => match good.last_mut() {
                Some(run) if run.end == number => run.end = number + 1,
                _ => good.push(number..number + 1),
            },
            Err(reason) => match lost.last_mut() {
                Some(range) if range.raw_end == Some(raw_start) && range.reason == reason => {
                    range.raw_end = Some(raw_end);
                    range.file_end = Some(chunk_end(chunk));
                }
                _ => lost.push(LostRange {
                    raw_start: Some(raw_start),
                    raw_end: Some(raw_end),
                    file_start: Some(chunk.offset),
                    file_end: Some(chunk_end(chunk)),
                    reason,
                }),
            },
        }
        read(chunk.raw_len.into());
        raw_start = raw_end;
    }
    Ok((good, lost))
}

fn check(file: &File, len: u64, compression: Compression, chunk: &Chunk) -> Result<(), String> {
    if chunk_end(chunk) > len {
        return Err("the file ends before it does".to_owned());
    }
    read_proven(file, compression, chunk).map(drop)
}
