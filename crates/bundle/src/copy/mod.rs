//! Copies a finished bundle, piece by piece as its manifest lists them.
//!
//! ```text
//! <copy>.partial   the unfinished copy, locked by its writer; written front to back
//! <copy>.copy      the record: of which bundle it is, and how far it is durable
//! ```
//!
//! - Every piece (a chunk, a header, dead bytes) is proven before it is kept, taken from an older bundle or
//!   taken from the source. A piece that stands in the unfinished copy already is read and kept by its
//!   hash, whoever wrote it; a place in a file proves nothing by itself.
//! - After a kill, what the record vouches for is passed over at first, so that a transfer gets on however
//!   often it is interrupted. In exchange such a copy is read back as a whole before it gets its name,
//!   and what is wrong in it is fetched again. So every byte under the final name was hashed by the run
//!   that named it.
//! - An older bundle under the final name stays as it is until the whole copy takes its name by one rename.
//!
//! Peak memory: the manifests of the source and of one other bundle, 100 bytes a chunk of the source, and
//! three chunks.

mod claim;
mod layout;
mod output;
mod proof;
mod supply;
mod transfer;

use std::{
    io,
    path::{Path, PathBuf},
};

use arkstream_format::CopyRecord;
use arkstream_pipeline::{BundleReader as _, Cancel, Event, Failure, FailureKind, Observer, fault};

use crate::{
    disk::{Disk, DiskFile, beside, unlink_if_there},
    durable::LocalDisk,
    hashing::hex,
    reader::BundleFile,
    writer::OutputPaths,
};
use claim::{CopyPaths, Standing};
use layout::Layout;
use output::Output;
use proof::prove;
use supply::{Supply, damaged};
use transfer::Transfer;

/// What is to be copied, and how.
#[derive(Clone, Copy, Debug)]
pub struct CopyOrder<'a> {
    /// The finished bundle.
    pub source: &'a Path,
    /// The copy's final name.
    pub to: &'a Path,
    /// Older bundles and torn copies, whose chunks need not be read from the source.
    pub have: &'a [PathBuf],
    /// Let the copy take the name of another bundle, or of a damaged copy.
    pub replace: bool,
    /// Read the copy back before it gets its name, though nothing interrupted it.
    pub read_back: bool,
}

/// A finished copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes that were read from the source.
    pub transferred: u64,
    /// Bytes that older bundles or torn copies supplied.
    pub reused: u64,
    /// Bytes that stood in the unfinished copy already, or in the finished one.
    pub kept: u64,
    /// Bytes among those transferred and reused that the read-back found wrong and made good.
    pub mended: u64,
    /// Whether all of it was read back from the destination's disk.
    pub read_back: bool,
    /// Whether it was there already.
    pub already_there: bool,
    /// Whether it took the place of another file.
    pub replaced: bool,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// Copies a bundle, or goes on with its copy.
///
/// # Errors
/// [`FailureKind::Damaged`] where the source or a finished copy is damaged, [`FailureKind::Refused`] where
/// something else has the name or another run writes the copy, and what reading and writing may say.
/// Nothing is then under the final name that was not there before, and what is copied stays for the next run.
pub fn copy_bundle(
    order: &CopyOrder<'_>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Copied, Failure> {
    copy_bundle_on(&LocalDisk, order, observer, cancel)
}

/// The same, on any disk.
///
/// # Errors
/// As [`copy_bundle`].
pub fn copy_bundle_on(
    disk: &dyn Disk,
    order: &CopyOrder<'_>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Copied, Failure> {
    let source = BundleFile::open_on(disk, order.source)?;
    let layout = Layout::of(&source).map_err(|finding| damaged(&source, finding))?;
    let paths = CopyPaths::new(order.to);
    let mut standing = claim::standing(disk, order, &source)?;
    if let Standing::Same(there) = &standing {
        plan(&source, observer);
        let proven = prove(there.file.as_ref(), &layout, None, observer, cancel)?;
        if let Some(first) = proven.first {
            if !order.replace {
                let mut why = format!("it is there already, and damaged: {first}");
                if proven.wrong > 1 {
                    why.push_str(&format!("; and {} places more", proven.wrong - 1));
                }
                let attempted = claim::attempted(order);
                return Err(Failure::new(FailureKind::Damaged, attempted, why).help(
                    "--replace puts a whole copy in its place, and transfers only what is damaged",
                ));
            }
        } else {
            finished(&source, observer);
            return already_there(disk, order, &paths, &source, proven.sha256, observer);
        }
    }
    let file = claim::lock(disk, order, &paths)?;
    // Another run may have published between the look and the lock.
    let before = std::mem::replace(&mut standing, claim::standing(disk, order, &source)?);
    if matches!(before, Standing::Nothing) && !matches!(standing, Standing::Nothing) {
        return Err(Failure::new(
            FailureKind::Refused,
            claim::attempted(order),
            "another run has just finished it",
        )
        .help("run the same command again: it proves what is there"));
    }
    let older = match standing {
        Standing::Nothing => None,
        Standing::Same(there) | Standing::Older(there) => Some(there),
    };
    write(
        disk,
        order,
        &paths,
        &layout,
        (file, older),
        observer,
        cancel,
    )
    .map_err(|failure| with_leftover(failure, &paths))
}

/// Writes, proves and names the copy.
fn write(
    disk: &dyn Disk,
    order: &CopyOrder<'_>,
    paths: &CopyPaths,
    layout: &Layout<'_>,
    (file, older): (Box<dyn DiskFile>, Option<BundleFile>),
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Copied, Failure> {
    let source = layout.bundle;
    let refused = |error| Failure::io(FailureKind::Refused, claim::attempted(order), error);
    let older_id = match &older {
        Some(older) => Some(older.file.id().map_err(refused)?),
        None => None,
    };
    let mut supply = Supply::new(source, observer);
    supply.add(disk, layout, older, order.have)?;

    let mut there = file.size().map_err(refused)?;
    let record = record(disk, paths, source, there, observer);
    if there > source.len {
        fault::point("bundle.truncate")
            .and_then(|()| file.set_size(source.len))
            .map_err(refused)?;
        there = source.len;
    }
    let passed_over = record.written;
    let partial = paths.output.partial.clone();
    let mut out = Output::new(disk, file, partial, paths.record.clone(), record);
    plan(source, observer);
    let mut transfer = Transfer {
        out: &mut out,
        supply: &mut supply,
        there,
        observer,
        cancel,
        transferred: 0,
        reused: 0,
        kept: 0,
    };
    let outcome = transfer.run(layout, passed_over);
    let (transferred, reused, kept) = (transfer.transferred, transfer.reused, transfer.kept);
    match outcome {
        Err(failure) if failure.kind != FailureKind::Interrupted => return Err(failure),
        // So that the next run need not fetch it, nor look at it first.
        outcome => out.sync().and(outcome)?,
    }
    let mut copied = Copied {
        bytes: source.len,
        transferred,
        reused,
        kept,
        mended: 0,
        read_back: passed_over > 0 || order.read_back,
        already_there: false,
        replaced: older_id.is_some(),
        sha256: String::new(),
    };
    out.sync_all()?;
    finished(source, observer);
    copied.sha256 = if copied.read_back {
        read_back(&mut out, layout, &mut supply, &mut copied, observer, cancel)?
    } else {
        hex(&sha2::Digest::finalize(out.sha256.clone()))
    };
    check_whole(disk, source, &paths.output.partial)?;
    check_sum(disk, order, &copied.sha256)?;
    cancel.check()?;
    claim::publish(disk, order, paths, older_id, &copied.sha256)?;
    forget_record(disk, paths);
    Ok(copied)
}

/// What an earlier run recorded, if it was about this bundle.
fn record(
    disk: &dyn Disk,
    paths: &CopyPaths,
    source: &BundleFile,
    there: u64,
    observer: &dyn Observer,
) -> CopyRecord {
    let found = claim::read_record(disk, &paths.record).filter(|_| there > 0);
    let ours = |record: &CopyRecord| {
        record.manifest == source.trailer.blake3 && record.bytes == source.len
    };
    if there > 0 {
        let partial = paths.output.partial.display();
        observer.event(&Event::Resumed(match &found {
            Some(record) if ours(record) => format!("continuing {partial}, {there} bytes"),
            Some(_) => format!("{partial} is of another bundle: what is equal in it is kept"),
            None => format!("{partial} is there without a record: what is good in it is kept"),
        }));
    }
    match found {
        Some(record) if ours(&record) && record.written <= there => record,
        _ => CopyRecord {
            version: CopyRecord::VERSION,
            manifest: source.trailer.blake3,
            bytes: source.len,
            written: 0,
        },
    }
}

/// Reads all of the copy from its disk; makes good what is wrong, once. Returns its SHA-256.
fn read_back(
    out: &mut Output<'_>,
    layout: &Layout<'_>,
    supply: &mut Supply<'_>,
    copied: &mut Copied,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<String, Failure> {
    observer.event(&Event::Note("reading the copy back".into()));
    out.file.forget_cached();
    plan(layout.bundle, observer);
    let proven = prove(
        out.file.as_ref(),
        layout,
        Some((&*out, supply)),
        observer,
        cancel,
    )?;
    finished(layout.bundle, observer);
    copied.transferred += proven.transferred;
    copied.reused += proven.reused;
    copied.mended = proven.transferred + proven.reused;
    copied.kept = copied.kept.saturating_sub(copied.mended);
    let Some(first) = proven.first else {
        return Ok(proven.sha256);
    };
    observer.event(&Event::Warning(format!(
        "{} places of the unfinished copy were wrong, and are made good; the first: {first}",
        proven.wrong
    )));
    out.sync_all()?;
    out.file.forget_cached();
    plan(layout.bundle, observer);
    let again = prove(out.file.as_ref(), layout, None, observer, cancel)?;
    finished(layout.bundle, observer);
    match again.first {
        None => Ok(again.sha256),
        Some(first) => Err(out
            .failure(io::Error::other(format!(
                "the disk does not hold what was written to it, twice: {first}"
            )))
            .help("do not trust this disk; copy to another one")),
    }
}

/// The copy as any reader sees it.
fn check_whole(disk: &dyn Disk, source: &BundleFile, partial: &Path) -> Result<(), Failure> {
    let copy = BundleFile::open_on(disk, partial)?;
    let findings = copy.check_framing();
    match findings.first() {
        None if copy.trailer == source.trailer && copy.len == source.len => Ok(()),
        first => {
            let attempted = format!("prove the copy {}", partial.display());
            let why = first.map_or("it is another bundle".into(), ToString::to_string);
            Err(Failure::new(FailureKind::Internal, attempted, why))
        }
    }
}

/// The checksum beside the source, if there is one, must be that of what was copied.
fn check_sum(disk: &dyn Disk, order: &CopyOrder<'_>, sha256: &str) -> Result<(), Failure> {
    match claim::read_sum(disk, order.source) {
        Some(beside) if beside != sha256 => Err(Failure::new(
            FailureKind::Damaged,
            claim::attempted(order),
            format!(
                "{}.sha256 says {beside}, the bundle has {sha256}, although all of it agrees with its manifest",
                order.source.display()
            ),
        )
        .help("one of the two is not what the backup wrote: find out which; without the .sha256 the bundle is copied")),
        _ => Ok(()),
    }
}

fn already_there(
    disk: &dyn Disk,
    order: &CopyOrder<'_>,
    paths: &CopyPaths,
    source: &BundleFile,
    sha256: String,
    observer: &dyn Observer,
) -> Result<Copied, Failure> {
    check_sum(disk, order, &sha256)?;
    if claim::read_sum(disk, order.to).as_ref() != Some(&sha256) {
        claim::write_sum(disk, &paths.output, &sha256)?;
        observer.event(&Event::Note(format!(
            "{} was missing or wrong, and is written",
            paths.output.sha256.display()
        )));
    }
    // What a kill right after the rename leaves, or a power cut within it: both names, or the record alone.
    let OutputPaths {
        bundle, partial, ..
    } = &paths.output;
    let id = |path| disk.id_of(path).ok().flatten();
    if id(partial).is_some_and(|unfinished| Some(unfinished) == id(bundle)) {
        let removed = disk.remove(partial);
        warn_if_it_stays(partial, removed);
    }
    if disk.exists(partial).is_ok_and(|there| !there) {
        forget_record(disk, paths);
    }
    Ok(Copied {
        bytes: source.len,
        transferred: 0,
        reused: 0,
        kept: source.len,
        mended: 0,
        read_back: true,
        already_there: true,
        replaced: false,
        sha256,
    })
}

/// Removes the record, and what a power cut left of one that was being written.
fn forget_record(disk: &dyn Disk, paths: &CopyPaths) {
    let removed = fault::point("journal.remove").and_then(|()| {
        unlink_if_there(disk, &beside(&paths.record))?;
        disk.remove(&paths.record)
    });
    warn_if_it_stays(&paths.record, removed);
}

/// What stays behind says nothing.
fn warn_if_it_stays(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::warn!("{} could not be removed: {error}", path.display());
    }
}

/// After a failure the unfinished copy stays; whoever reads the message must know.
fn with_leftover(failure: Failure, paths: &CopyPaths) -> Failure {
    let kept = format!(
        "what was copied is kept in {}: run the same command again to continue",
        paths.output.partial.display()
    );
    let help = match failure.advice() {
        _ if failure.kind == FailureKind::NoSpace => {
            format!("free some space there, or choose another destination\n        {kept}")
        }
        Some(advice) => format!("{advice}\n        {kept}"),
        None => kept,
    };
    failure.help(help)
}

/// Tells how much there is to go through, by component.
fn plan(source: &BundleFile, observer: &dyn Observer) {
    for (component, sum) in &source.manifest.components {
        observer.event(&Event::Planned {
            component: *component,
            bytes: sum.stored_bytes,
            items: sum.members,
        });
        observer.event(&Event::Started {
            component: *component,
        });
    }
}

fn finished(source: &BundleFile, observer: &dyn Observer) {
    for component in source.manifest.components.keys() {
        observer.event(&Event::Finished {
            component: *component,
        });
    }
}

/// The files of a folder that are called like bundles (`*.zip`), by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn bundles_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| {
        let attempted = format!("read the folder {}", folder.display());
        Failure::io(FailureKind::Source, attempted, error)
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let zip = path.extension().is_some_and(|extension| extension == "zip");
        if zip && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
