//! What of a damaged bundle is proven good: every chunk is read and held against its hash, and where
//! no index is left, whole members against the CRC-32 of their headers.
//!
//! Memory: the claims, what was found about them, one chunk.

use std::{fs::File, ops::Range, path::Path};

use arkstream_format::{
    Chunk, Component, Compression, Crc32, Digest, LostMember, LostRange, Member, member_names,
};
use arkstream_pipeline::{Cancel, Event, Failure, Observer};

use crate::{
    appender::Totals,
    framing::LOCAL_HEADER,
    journal::{Torn, chunk_end},
    reader::read_proven,
    salvage::{
        claims::Truth,
        find::{Damaged, find},
        headers::{Header, Verdict, header_at, judge},
        scan::Signatures,
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
    if examined.damaged.claims.description.is_none() {
        examined.end_is_lost();
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
                    file_start: member.header_offset,
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
            file_start: end,
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

    /// Looks at the bytes that no claim covers.
    fn search_gaps(&mut self, cancel: &Cancel) -> Result<(), Failure> {
        let len = self.damaged.len;
        // Behind the last index come manifest and directory.
        let described = self.damaged.claims.description.is_some();
        let last = self
            .damaged
            .claims
            .indexes
            .iter()
            .map(|(_, end)| *end)
            .max();
        let limit = match (described, last) {
            (true, Some(end)) => end.min(len),
            _ => len,
        };
        let mut effort = len.saturating_mul(2048) + (64 << 20);
        let mut at = 0;
        let known = self.damaged.claims.known();
        for (start, end) in known.into_iter().chain([(limit, limit)]) {
            if start.min(limit) > at {
                self.search(at, start.min(limit), cancel, &mut effort)?;
            }
            at = at.max(end);
        }
        self.drop_superseded();
        Ok(())
    }

    fn search(
        &mut self,
        start: u64,
        end: u64,
        cancel: &Cancel,
        effort: &mut u64,
    ) -> Result<(), Failure> {
        let mut unknown_from = start;
        let mut signatures = Signatures::new(&self.damaged.file, LOCAL_HEADER, start, end);
        let mut found = Vec::new();
        while let Some(at) = signatures.next() {
            cancel.check()?;
            let Some(header) = header_at(&self.damaged.file, at, end) else {
                continue;
            };
            if at > unknown_from {
                found.push(Found::Unknown(unknown_from, at));
            }
            let file_ends = end == self.damaged.len;
            let verdict = judge(&self.damaged.file, &header, end, file_ends, effort);
            let name = header.name.as_str();
            let ours = name.starts_with(member_names::INDEX_DIR) || name == member_names::MANIFEST;
            let next = match verdict {
                Verdict::Whole {
                    crc32,
                    raw_len,
                    end,
                } => {
                    if !ours {
                        found.push(Found::Whole(ByCrc {
                            header,
                            crc32,
                            raw_len,
                            end,
                        }));
                    }
                    end
                }
                Verdict::Damaged {
                    why,
                    decodable,
                    end,
                } => {
                    let next = end.unwrap_or(header.data_offset);
                    if !ours {
                        found.push(Found::Damaged(header, why, decodable, next));
                    }
                    next
                }
            };
            signatures.go_on_at(next);
            unknown_from = next;
        }
        if unknown_from < end {
            found.push(Found::Unknown(unknown_from, end));
        }
        for found in found {
            self.take_found(found);
        }
        Ok(())
    }

    fn take_found(&mut self, found: Found) {
        match found {
            Found::Whole(member) => self.by_crc.push(member),
            Found::Damaged(header, why, decodable, end) => {
                let raw_len = header.totals.map(|(_, raw_len, _)| raw_len);
                self.lost.push(LostMember {
                    component: Some(Component::of_member(&header.name)),
                    member: Some(header.name.clone()),
                    rows: None,
                    ranges: vec![LostRange {
                        raw_start: Some(0),
                        raw_end: raw_len,
                        file_start: header.data_offset,
                        file_end: Some(end).filter(|end| *end > header.data_offset),
                        reason: format!("no index with its hashes is left, and {why}"),
                    }],
                    pieces: Vec::new(),
                });
                if decodable > 0 {
                    self.unproven.push(Unproven {
                        header,
                        raw_len: decodable,
                        end: self.damaged.len,
                    });
                }
            }
            // The end of a file that lost its end is told of as such.
            Found::Unknown(_, end)
                if end == self.damaged.len && self.damaged.claims.description.is_none() => {}
            Found::Unknown(start, end) => self.lost.push(unknown(
                start,
                Some(end),
                "the index that says what stood there is damaged",
            )),
        }
    }

    /// Of two members of one name the later in the file is the newer.
    fn drop_superseded(&mut self) {
        let mut newest = std::collections::HashMap::new();
        for member in &self.by_crc {
            newest.insert(member.header.name.clone(), member.header.header_offset);
        }
        let members = &mut self.damaged.claims.members;
        members.retain(|place, member| match newest.get_mut(&member.name) {
            Some(other) if *other > *place => false,
            Some(other) => {
                *other = u64::MAX;
                true
            }
            None => true,
        });
        self.by_crc
            .retain(|member| newest.get(&member.header.name) == Some(&member.header.header_offset));
    }
}

enum Found {
    Whole(ByCrc),
    Damaged(Header, &'static str, u64, u64),
    Unknown(u64, u64),
}

fn unknown(file_start: u64, file_end: Option<u64>, reason: &str) -> LostMember {
    LostMember {
        member: None,
        component: None,
        rows: None,
        ranges: vec![LostRange {
            raw_start: None,
            raw_end: None,
            file_start,
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
                    file_start: chunk.offset,
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
