//! Holds a directory against the bundle, and against what was staged.

use std::{collections::BTreeMap, path::Path};

use arkstream_format::{Digest, Manifest};
use arkstream_pipeline::{Failure, FailureKind, Proof};

use super::{
    content, durable,
    members::{Wanted, digest_of, read_back, tree},
    record::Record,
};
use crate::{DATABASE, DirectoryFiles, directory::group_of, verify};

/// The lines that people are shown of many.
const SHOWN: usize = 20;

/// Size and BLAKE3 of files, by path.
pub(super) type Digests = BTreeMap<String, (u64, Digest)>;

/// Compares a directory with the bundle: every file, the counts, and Chroma's own consistency.
/// Returns also size and BLAKE3 of every file of the bundle that is there.
pub(super) fn prove(
    directory: &Path,
    manifest: &Manifest,
    wanted: &[Wanted],
) -> Result<(Vec<Proof>, Digests), Failure> {
    let unreadable =
        |path: &Path, error| durable::refused(format!("read back {}", path.display()), error);
    let found = tree(directory).map_err(|error| unreadable(directory, error))?;
    let mut proofs = vec![Proof::new("chroma: files", wanted.len(), found.files.len())];
    let mut files = BTreeMap::new();
    let mut different = Vec::new();
    for Wanted { path, member } in wanted {
        let here = directory.join(path);
        let proof = match found.files.get(path) {
            Some(Some(size)) => {
                let read = read_back(&here, member).map_err(|error| unreadable(&here, error))?;
                files.insert(path.clone(), (*size, read.digest));
                if read.matches {
                    continue;
                }
                Proof::new(
                    format!("chroma: {path}"),
                    format!("{} bytes with the bundle's digest", member.raw_len),
                    format!("{size} bytes with another digest"),
                )
            }
            _ => Proof::new(format!("chroma: {path}"), "there", "missing"),
        };
        different.push(proof);
    }
    proofs.push(Proof::new(
        "chroma: files with the bundle's digest",
        wanted.len(),
        wanted.len() - different.len(),
    ));
    proofs.append(&mut different);
    if let Some(summary) = &manifest.chroma {
        let counts = match content::tell(directory) {
            Ok(told) => told.map(|told| told.summary),
            Err(why) => {
                proofs.push(Proof::new("chroma: database", "readable", why));
                None
            }
        };
        let shown = |count: Option<u64>| count.map_or("unknown".to_owned(), |n| n.to_string());
        let counts = counts.as_ref();
        for (what, expected, found) in [
            (
                "collections",
                summary.collections,
                counts.map(|counts| counts.collections),
            ),
            (
                "embeddings",
                summary.embeddings,
                counts.map(|counts| counts.embeddings),
            ),
            (
                "queued operations",
                summary.queued,
                counts.map(|counts| counts.queued),
            ),
        ] {
            proofs.push(Proof::new(
                format!("chroma: {what}"),
                expected,
                shown(found),
            ));
        }
    }
    let problems: Vec<_> = verify(&mut DirectoryFiles::new(directory))
        .iter()
        .map(ToString::to_string)
        .collect();
    let verdict = if problems.is_empty() {
        "sound".to_owned()
    } else {
        problems.join("; ")
    };
    proofs.push(Proof::new("chroma: consistency", "sound", verdict));
    Ok((proofs, files))
}

/// The proofs that do not hold, as a failure.
pub(super) fn demand(directory: &Path, proofs: &[Proof]) -> Result<(), Failure> {
    let broken: Vec<_> = proofs
        .iter()
        .filter(|proof| !proof.holds())
        .take(SHOWN)
        .map(|proof| {
            format!(
                "{}: expected {}, found {}",
                proof.what, proof.expected, proof.found
            )
        })
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Damaged,
        format!("verify {}", directory.display()),
        broken.join("; "),
    )
    .help(
        "nothing live was touched; `arkstream verify` tells whether the bundle itself is damaged, \
         otherwise look at the disk and run again",
    ))
}

/// What people stored in a directory since it was restored, and files that are not Chroma's and
/// would be lost with it. Chroma rewrites its own files by merely opening them; that is no change.
pub(super) fn changed(live: &Path, record: &Record) -> Result<Vec<String>, Failure> {
    let found =
        tree(live).map_err(|error| durable::refused(format!("list {}", live.display()), error))?;
    let mut lines = Vec::new();
    let told = content::tell(live);
    let segments = match &told {
        Ok(Some(told)) => told.segments.clone(),
        _ => Default::default(),
    };
    let mut rewritten = Vec::new();
    for (path, size) in &found.files {
        let known = record.files.get(path);
        let same = match (known, size) {
            (Some((was, digest)), Some(is)) if was == is => {
                digest_of(&live.join(path)).is_ok_and(|found| found == *digest)
            }
            _ => false,
        };
        if same {
            continue;
        }
        rewritten.push(path.as_str());
        let chromas = path.starts_with(DATABASE) || segments.contains(group_of(path));
        if !chromas {
            let how = if known.is_some() { "changed" } else { "new" };
            lines.push(format!("{path} is {how}"));
        }
    }
    for path in record.files.keys() {
        let transient = path.starts_with(DATABASE) && path != DATABASE;
        if !found.files.contains_key(path) && !transient {
            lines.push(format!("{path} is gone"));
        }
    }
    if rewritten.iter().any(|path| path.starts_with(DATABASE)) {
        match content::read(live) {
            Ok(Some(now)) => lines.extend(stored(record, &now)),
            Ok(None) => {}
            Err(why) => lines.push(format!(
                "{DATABASE} differs from what was restored, and what differs cannot be read: {why}"
            )),
        }
    }
    let more = lines.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.truncate(SHOWN);
        lines.push(format!("and {more} more"));
    }
    Ok(lines)
}

fn stored(record: &Record, now: &content::Content) -> Vec<String> {
    let was = &record.content;
    if was.digest == now.digest && was.last == now.last {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "records were written since the restore: {} operations in Chroma's log",
        now.last.saturating_sub(was.last)
    )];
    for (what, was, now) in [
        ("collections", was.collections, now.collections),
        ("embeddings", was.embeddings, now.embeddings),
    ] {
        if was != now {
            lines.push(format!("{what}: {was} at the restore, {now} now"));
        }
    }
    lines
}
