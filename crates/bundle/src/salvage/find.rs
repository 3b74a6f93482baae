//! Finding out what a damaged bundle is said to hold: from the manifest, the journal, or the copies of
//! the index.

use std::{collections::HashMap, fs::File, path::Path};

use arkstream_format::{FORMAT_MAJOR, Member, RunId, journal::Record, major_of};
use arkstream_pipeline::{BundleReader as _, Cancel, Failure, FailureKind, os};

use crate::{
    framing::LOCAL_HEADER,
    journal::read_journal,
    reader::{BundleFile, read_proven},
    salvage::{
        claims::{Claims, Truth},
        headers::{FoundIndex, index_at},
        scan::{Lines, Signatures},
    },
    writer::OutputPaths,
};

/// A damaged bundle, open and locked where it is an unfinished one.
pub(super) struct Damaged {
    pub(super) file: File,
    pub(super) len: u64,
    pub(super) claims: Claims,
    pub(super) truth: Truth,
    /// Why the bundle cannot be opened; nothing if it can.
    pub(super) why: Option<Failure>,
}

fn attempted(path: &Path) -> String {
    format!("salvage {}", path.display())
}

/// Opens what is left of a bundle.
pub(super) fn find(path: &Path, cancel: &Cancel) -> Result<Damaged, Failure> {
    let io = |error| Failure::io(FailureKind::Source, attempted(path), error);
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        let why = "it is not a file";
        return Err(Failure::new(FailureKind::Source, attempted(path), why));
    }
    let mut damaged = Damaged {
        file,
        len: metadata.len(),
        claims: Claims::default(),
        truth: Truth::Headers,
        why: None,
    };
    if let Some(finished) = path
        .to_str()
        .and_then(|name| name.strip_suffix(".partial"))
        .map(Path::new)
    {
        damaged.read_unfinished(path, &OutputPaths::new(finished))?;
    } else {
        match BundleFile::open(path) {
            Ok(bundle) => {
                damaged.truth = Truth::Manifest;
                damaged.take_manifest(&bundle);
            }
            Err(failure) if failure.kind == FailureKind::Damaged => damaged.why = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    if damaged.truth != Truth::Manifest {
        damaged.read_indexes(path, cancel)?;
    }
    damaged.claims.settle();
    Ok(damaged)
}

impl Damaged {
    fn take_manifest(&mut self, bundle: &BundleFile) {
        let mut manifest = bundle.manifest().clone();
        for member in std::mem::take(&mut manifest.members) {
            self.claims.member(member);
        }
        self.claims.generations = std::mem::take(&mut manifest.generations);
        self.claims.begun = Some((manifest.run_id.clone(), manifest.started_at));
        self.claims.description = Some(manifest);
    }

    /// An unfinished bundle has a journal, and perhaps somebody who writes it at this moment.
    fn read_unfinished(&mut self, path: &Path, paths: &OutputPaths) -> Result<(), Failure> {
        let opened = os::read_unless_written(path).and_then(|file| {
            let len = file.as_ref().map(File::metadata).transpose()?;
            Ok(file.zip(len.map(|found| found.len())))
        });
        let opened =
            opened.map_err(|error| Failure::io(FailureKind::Source, attempted(path), error))?;
        if let Some((file, len)) = opened {
            (self.file, self.len) = (file, len);
        } else {
            let why = "a run is writing it at this moment";
            return Err(
                Failure::new(FailureKind::Refused, attempted(path), why).help("wait for it to end")
            );
        }
        let state = match read_journal(&paths.journal) {
            Ok(state) => state,
            Err(error) => {
                let attempted = format!("read {}", paths.journal.display());
                self.why = Some(Failure::io(FailureKind::Source, attempted, error));
                return Ok(());
            }
        };
        let Some(begin) = state.begin else {
            return Ok(());
        };
        check_version(path, &begin.format_version)?;
        self.truth = Truth::Journal;
        self.claims.begun = Some((begin.run_id, begin.at));
        self.claims.generations = state.generations;
        self.claims.torn = state.torn;
        for member in state.members {
            self.claims.member(member);
        }
        for range in state.dead {
            self.claims.take(Record::Dead { range });
        }
        Ok(())
    }

    /// Reads every index member that the file still has, of the bundle that this file is.
    fn read_indexes(&mut self, path: &Path, cancel: &Cancel) -> Result<(), Failure> {
        // Decoded, all indexes together take about as much as the file, if its members are tiny.
        let mut budget = self.len.saturating_mul(8) + (1 << 20);
        let mut found: Vec<FoundIndex> = Vec::new();
        let mut signatures = Signatures::new(&self.file, LOCAL_HEADER, 0, self.len);
        while let Some(at) = signatures.next() {
            cancel.check()?;
            if let Some(index) = index_at(&self.file, at, self.len, &mut budget) {
                signatures.go_on_at(index.end);
                found.push(index);
            }
        }
        let Some(run_id) = self.whose(&found) else {
            return Ok(());
        };
        found.retain(|index| index.run_id == run_id);
        if let Some(first) = found.first() {
            check_version(path, &first.format_version)?;
            self.claims.begun = Some((run_id, first.begun_at));
            if self.truth == Truth::Headers {
                self.truth = Truth::Index;
            }
        }
        for index in found {
            self.claims.indexes.push((index.header_offset, index.end));
            for record in index.records {
                self.claims.take(record);
            }
        }
        self.read_listed_indexes(&mut budget);
        Ok(())
    }

    /// An index whose header is damaged may still be listed by the next one, hash and all.
    fn read_listed_indexes(&mut self, budget: &mut u64) {
        loop {
            let read = |at: &u64| self.claims.indexes.iter().any(|(start, _)| start == at);
            let unread = self.claims.members.iter().rev().find(|(at, member)| {
                member.is_index() && !read(at) && !self.claims.dead.contains_key(at)
            });
            let Some(member) = unread.map(|(_, member)| member.clone()) else {
                return;
            };
            let place = (member.header_offset, member.header_offset);
            self.claims.indexes.push(place);
            for record in self.listed_records(&member, budget) {
                self.claims.take(record);
            }
        }
    }

    fn listed_records(&self, member: &Member, budget: &mut u64) -> Vec<Record> {
        let mut records = Vec::new();
        let mut lines = Lines::new(self.len + (64 << 10));
        for chunk in &member.chunks {
            let Ok(proven) = read_proven(&self.file, member.compression, chunk) else {
                continue;
            };
            let Some(left) = budget.checked_sub(proven.raw.len() as u64) else {
                break;
            };
            *budget = left;
            lines.feed(&proven.raw, &mut |line| {
                records.extend(Record::from_line(line))
            });
        }
        records
    }

    /// The run whose bundle this file is. A file may hold bundles of others inside its members; their
    /// indexes say that they stand elsewhere, unless somebody made them for this place. So of several
    /// it is that which proves the first byte.
    fn whose(&self, found: &[FoundIndex]) -> Option<RunId> {
        if let (Truth::Journal, Some((run_id, _))) = (self.truth, &self.claims.begun) {
            return Some(run_id.clone());
        }
        let mut runs: HashMap<&RunId, u64> = HashMap::new();
        for index in found {
            runs.entry(&index.run_id).or_insert(u64::MAX);
        }
        if runs.len() > 1 {
            for index in found {
                let first = runs.entry(&index.run_id).or_insert(u64::MAX);
                *first = (*first).min(self.first_proven(&index.records, *first));
            }
        }
        let first = runs.into_iter().min_by_key(|(_, first)| *first);
        first.map(|(run_id, _)| run_id.clone())
    }

    fn first_proven(&self, records: &[Record], before: u64) -> u64 {
        let mut first = before;
        for record in records {
            let Record::Member { member, .. } = record else {
                continue;
            };
            for chunk in &member.chunks {
                if chunk.offset < first
                    && read_proven(&self.file, member.compression, chunk).is_ok()
                {
                    first = chunk.offset;
                }
            }
        }
        first
    }
}

fn check_version(path: &Path, version: &str) -> Result<(), Failure> {
    if major_of(version) == Some(FORMAT_MAJOR) {
        return Ok(());
    }
    let why = format!("its format is {version}, this program reads {FORMAT_MAJOR}.x");
    Err(
        Failure::new(FailureKind::Incompatible, attempted(path), why)
            .help("use the version of Arkstream that wrote it, or a newer one"),
    )
}
