//! Every byte of the ZIP structure, regenerated from the manifest and compared.
//!
//! Members, dead ranges, the manifest, the directory and the end records must follow each other
//! without a gap from the first byte to the last. Together with the chunks' hashes this leaves no
//! byte of the file unguarded.

use std::collections::HashSet;

use arkstream_format::{Compression, Crc32, DeadRange, Digest, Member};
use arkstream_pipeline::{Finding, Place};

use crate::{
    codec::STREAM_END,
    disk::DiskFile,
    durable,
    framing::{Entry, check_name, end_records},
    reader::BundleFile,
};

pub(crate) fn check_framing(bundle: &BundleFile) -> Vec<Finding> {
    let manifest = &bundle.manifest;
    let mut check = Check {
        file: bundle.file.as_ref(),
        at: 0,
        findings: Vec::new(),
    };
    let mut names = HashSet::new();
    for member in &manifest.members {
        if !names.insert(member.name.as_str()) {
            check.damage(
                member.header_offset,
                member.data_offset,
                Some(&member.name),
                "another member has the same name",
            );
        }
    }
    let mut dead = manifest.dead_ranges.iter().peekable();
    for member in &manifest.members {
        while let Some(range) = dead.next_if(|range| range.offset < member.header_offset) {
            check.dead_range(range);
        }
        check.member(member);
    }
    for range in dead {
        check.dead_range(range);
    }
    check.entry(&bundle.manifest_entry);

    let directory_offset = check.at;
    let mut entries = 0;
    for member in manifest.members.iter().chain([&bundle.manifest_entry]) {
        let header = Entry::from(member).central_header();
        check.expect(
            &header,
            Some(&member.name),
            "the entry in the ZIP directory",
        );
        entries += 1;
    }
    let end = end_records(
        entries,
        directory_offset,
        check.at - directory_offset,
        &bundle.trailer.comment(),
    );
    check.expect(&end, None, "the end record of the ZIP directory");
    if check.at < bundle.len {
        check.damage(
            check.at,
            bundle.len,
            None,
            "bytes follow behind the end of the bundle",
        );
    }
    check.findings
}

struct Check<'a> {
    file: &'a dyn DiskFile,
    /// First byte that is not accounted for.
    at: u64,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn damage(&mut self, start: u64, end: u64, member: Option<&str>, what: impl Into<String>) {
        let place = Place {
            member: member.map(str::to_owned),
            chunk: None,
            bytes: Some((start, end)),
        };
        self.findings.push(Finding::damage(place, what));
    }

    /// Compares the next bytes of the file and goes behind them.
    fn expect(&mut self, bytes: &[u8], member: Option<&str>, what: &str) {
        let mut found = vec![0; bytes.len()];
        let end = self.at.saturating_add(bytes.len() as u64);
        match self.file.read_exact_at(&mut found, self.at) {
            Err(error) => {
                self.damage(
                    self.at,
                    end,
                    member,
                    format!("{what} cannot be read: {error}"),
                );
            }
            Ok(()) => {
                if let Some(first) = bytes.iter().zip(&found).position(|(a, b)| a != b) {
                    let at = self.at + first as u64;
                    self.damage(at, end, member, format!("{what} is not what it must be"));
                }
            }
        }
        self.at = end;
    }

    fn member(&mut self, member: &Member) {
        if let Err(why) = check_name(&member.name) {
            let place = Place::default();
            let what = format!("the name {:?} is not allowed: {why}", member.name);
            self.findings.push(Finding::damage(place, what));
        }
        if let Err(what) = check_sums(member) {
            self.damage(
                member.data_offset,
                member.data_offset.saturating_add(member.stored_len),
                Some(&member.name),
                what,
            );
        }
        self.entry(member);
    }

    /// Header, end of stream and descriptor; the data between them is the chunks' affair.
    fn entry(&mut self, member: &Member) {
        let entry = Entry::from(member);
        if self.at != member.header_offset {
            self.damage(
                self.at.min(member.header_offset),
                self.at.max(member.header_offset),
                Some(&member.name),
                "the manifest leaves a gap or an overlap before it",
            );
            self.at = member.header_offset;
        }
        self.expect(
            &entry.local_header(),
            Some(&member.name),
            "the local header",
        );
        if self.at != member.data_offset {
            self.damage(
                self.at,
                self.at,
                Some(&member.name),
                "its data does not begin behind its header",
            );
        }
        self.at = member.data_offset.saturating_add(member.stored_len);
        if member.compression == Compression::Deflate {
            self.at = self.at.saturating_sub(STREAM_END.len() as u64);
            self.expect(&STREAM_END, Some(&member.name), "the end of its data");
        }
        self.expect(
            &entry.data_descriptor(),
            Some(&member.name),
            "the data descriptor",
        );
    }

    fn dead_range(&mut self, range: &DeadRange) {
        let end = range.offset.saturating_add(range.len);
        if self.at != range.offset {
            self.damage(
                self.at.min(range.offset),
                self.at.max(range.offset),
                None,
                "the manifest leaves a gap or an overlap before dead bytes",
            );
        }
        match durable::hash_range(self.file, range.offset, end) {
            Ok(digest) if digest == range.blake3 => {}
            Ok(_) => self.damage(
                range.offset,
                end,
                None,
                "dead bytes do not have their BLAKE3; no member is affected",
            ),
            Err(error) => self.damage(
                range.offset,
                end,
                None,
                format!("dead bytes cannot be read: {error}"),
            ),
        }
        self.at = end;
    }
}

/// Whether a member's sums agree with its chunks.
pub(crate) fn check_sums(member: &Member) -> Result<(), &'static str> {
    let (mut at, mut raw_len, mut crc32) = (member.data_offset, 0u64, Crc32::default());
    for chunk in &member.chunks {
        if chunk.offset != at {
            return Err("the manifest leaves a gap between its chunks");
        }
        at = at.saturating_add(chunk.stored_len.into());
        raw_len = raw_len.saturating_add(chunk.raw_len.into());
        crc32 = crc32.then(chunk.crc32, chunk.raw_len.into());
    }
    if member.compression == Compression::Deflate {
        at = at.saturating_add(STREAM_END.len() as u64);
    }
    if at != member.data_offset.saturating_add(member.stored_len) || raw_len != member.raw_len {
        return Err("its lengths are not the sums of its chunks' lengths");
    }
    if crc32 != member.crc32 {
        return Err("its CRC-32 is not that of its chunks");
    }
    if Digest::of_chunks(member.chunks.iter().map(|chunk| &chunk.blake3)) != member.digest {
        return Err("its digest is not that of its chunks");
    }
    Ok(())
}
