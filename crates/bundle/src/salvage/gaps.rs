//! The bytes of a damaged bundle that no sound index speaks of.
//!
//! What is left of the ZIP directory is asked first: it says which members stand there. Where none of
//! it is left, local headers are looked for. Either proves a member as a whole, by its CRC-32, but not
//! its name, which no checksum covers. Where there is a directory, a local header that it does not confirm
//! proves nothing: its name may be damaged, or it may be an attempt that was superseded.

use std::collections::{HashMap, HashSet};

use arkstream_format::{Component, LostMember, LostRange, member_names};
use arkstream_pipeline::{Cancel, Failure};

use crate::{
    framing::LOCAL_HEADER,
    salvage::{
        directory::Directory,
        headers::{Header, Verdict, header_at, judge},
        judge::{ByCrc, Examined, Unproven, unknown},
        scan::Signatures,
    },
};

const UNCONFIRMED: &str = "neither an index nor the ZIP directory confirms it";

impl Examined {
    /// Looks at the bytes that no claim covers.
    pub(super) fn search_gaps(&mut self, cancel: &Cancel) -> Result<(), Failure> {
        let gaps = self.gaps();
        let mut directory = Directory::default();
        for (start, end) in &gaps {
            directory.read(&self.damaged.file, *start, *end);
        }
        self.drop_unlisted(&directory);
        let mut effort = self.damaged.len.saturating_mul(2048) + (64 << 20);
        let limit = self.described_end();
        for (start, end) in gaps {
            let end = end.min(limit);
            let mut at = start;
            let entries = directory.entries.range(start..end);
            let headers: Vec<Header> = entries.map(|(_, header)| header.clone()).collect();
            for header in headers {
                // One that lies over another is none.
                if header.header_offset < at {
                    continue;
                }
                self.search(at, header.header_offset, &directory, cancel, &mut effort)?;
                at = self.take(header, end, true, &mut effort);
            }
            self.search(at, end, &directory, cancel, &mut effort)?;
        }
        self.drop_superseded();
        Ok(())
    }

    fn gaps(&self) -> Vec<(u64, u64)> {
        let len = self.damaged.len;
        let mut gaps = Vec::new();
        let mut at = 0;
        for (start, end) in self.damaged.claims.known().into_iter().chain([(len, len)]) {
            if start.min(len) > at {
                gaps.push((at, start.min(len)));
            }
            at = at.max(end);
        }
        gaps
    }

    /// Behind the last index, and behind the manifest where that is found, come no members.
    fn described_end(&self) -> u64 {
        let last = self.damaged.claims.indexes.iter().map(|(_, end)| *end);
        match (&self.damaged.claims.description, last.max()) {
            (Some(_), Some(end)) => end.min(self.damaged.len),
            _ => self.damaged.len,
        }
    }

    /// Looks for local headers.
    fn search(
        &mut self,
        start: u64,
        end: u64,
        directory: &Directory,
        cancel: &Cancel,
        effort: &mut u64,
    ) -> Result<(), Failure> {
        // A directory that is whole says that only dead bytes stand here.
        if start >= end || directory.complete {
            return Ok(());
        }
        let mut unknown_from = start;
        let mut headers = Vec::new();
        let mut signatures = Signatures::new(&self.damaged.file, LOCAL_HEADER, start, end);
        while let Some(at) = signatures.next() {
            headers.extend(header_at(&self.damaged.file, at, end));
        }
        for header in headers {
            cancel.check()?;
            let at = header.header_offset;
            if at < unknown_from {
                continue;
            }
            self.unknown(unknown_from, at);
            unknown_from = self.take(header, end, directory.entries.is_empty(), effort);
        }
        self.unknown(unknown_from, end);
        Ok(())
    }

    /// Reads a header's member. Returns where to go on.
    fn take(&mut self, header: Header, limit: u64, confirmed: bool, effort: &mut u64) -> u64 {
        let file_ends = limit == self.damaged.len;
        let verdict = judge(&self.damaged.file, &header, limit, file_ends, effort);
        let name = header.name.as_str();
        // They describe the damaged file, and are of no use in another.
        let ours = name.starts_with(member_names::INDEX_DIR) || name == member_names::MANIFEST;
        match verdict {
            Verdict::Whole { end, .. } if ours => end,
            Verdict::Whole {
                crc32,
                raw_len,
                end,
            } if confirmed => {
                self.by_crc.push(ByCrc {
                    header,
                    crc32,
                    raw_len,
                    end,
                });
                end
            }
            Verdict::Whole { raw_len, end, .. } => {
                self.unproven(header, UNCONFIRMED, raw_len, Some(end));
                end
            }
            Verdict::Damaged {
                why,
                decodable,
                end,
            } => {
                let next = end.or(header.listed_end()).unwrap_or(header.data_offset);
                if !ours {
                    self.unproven(header, why, decodable, end);
                }
                next
            }
        }
    }

    fn unproven(&mut self, header: Header, why: &str, decodable: u64, end: Option<u64>) {
        self.lost.push(LostMember {
            component: Some(Component::of_member(&header.name)),
            member: Some(header.name.clone()),
            rows: None,
            ranges: vec![LostRange {
                raw_start: Some(0),
                raw_end: header.totals.map(|(_, raw_len, _)| raw_len),
                file_start: Some(header.data_offset),
                file_end: end,
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

    fn unknown(&mut self, start: u64, end: u64) {
        // That a file lost its end is told once, at the end.
        let told = end == self.damaged.len && self.damaged.claims.description.is_none();
        if start < end && !told {
            let reason = "the index that says what stood there is damaged";
            self.lost.push(unknown(start, Some(end), reason));
        }
    }

    /// What an index lists and a later one, which is lost, buried: a whole directory does not list it.
    /// Neither place nor name, for an entry has no checksum, and one of the two may be damaged.
    fn drop_unlisted(&mut self, directory: &Directory) {
        if directory.complete {
            let entries = &directory.entries;
            let names: HashSet<&str> = entries.values().map(|entry| entry.name.as_str()).collect();
            self.damaged.claims.members.retain(|place, member| {
                entries.contains_key(place) || names.contains(member.name.as_str())
            });
        }
    }

    /// Of two members of one name the later in the file is the newer.
    fn drop_superseded(&mut self) {
        let mut newest = HashMap::new();
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
