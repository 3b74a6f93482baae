//! What stands at the destination: nothing, the same bundle, an older one, an unfinished copy.

use std::{
    io,
    path::{Path, PathBuf},
};

use arkstream_format::CopyRecord;
use arkstream_pipeline::{Failure, FailureKind, fault};

use super::{CopyOrder, supply::is_same_file};
use crate::{
    disk::{Disk, DiskFile, FileId},
    journal::read_journal_on,
    reader::BundleFile,
    writer::OutputPaths,
};

/// What has the final name.
pub(super) enum Standing {
    Nothing,
    /// A bundle with the manifest of the source.
    Same(BundleFile),
    /// Another bundle, which is to be replaced.
    Older(BundleFile),
}

/// The names that belong to one copy.
pub(super) struct CopyPaths {
    pub(super) output: OutputPaths,
    /// The record of how far the unfinished copy is durable.
    pub(super) record: PathBuf,
}

impl CopyPaths {
    pub(super) fn new(bundle: &Path) -> Self {
        let mut record = bundle.as_os_str().to_owned();
        record.push(".copy");
        Self {
            output: OutputPaths::new(bundle),
            record: record.into(),
        }
    }
}

pub(super) fn attempted(order: &CopyOrder<'_>) -> String {
    format!("copy {} to {}", order.source.display(), order.to.display())
}

fn refuse(order: &CopyOrder<'_>, why: impl std::fmt::Display, help: &str) -> Failure {
    Failure::new(FailureKind::Refused, attempted(order), why).help(help)
}

/// Looks at the final name. Nothing is changed.
pub(super) fn standing(
    disk: &dyn Disk,
    order: &CopyOrder<'_>,
    source: &BundleFile,
) -> Result<Standing, Failure> {
    let io = |error| Failure::io(FailureKind::Refused, attempted(order), error);
    if !disk.exists(order.to).map_err(io)? {
        return Ok(Standing::Nothing);
    }
    let there = BundleFile::open_on(disk, order.to).map_err(|failure| {
        refuse(
            order,
            format!("what stands there is no finished bundle: {}", failure.why()),
            "only a finished bundle is ever replaced; if it is a torn copy, rename it to \
             DST.partial or name it with --have, and what is good of it is kept",
        )
    })?;
    if is_same_file(there.file.as_ref(), source.file.as_ref()) {
        return Err(refuse(
            order,
            "source and destination are the same file",
            "name another destination",
        ));
    }
    let same = there.len == source.len && there.trailer == source.trailer;
    match (same, order.replace) {
        (true, _) => Ok(Standing::Same(there)),
        (false, true) => Ok(Standing::Older(there)),
        (false, false) => Err(refuse(
            order,
            format!(
                "another bundle stands there, of a run that began {}",
                there.manifest.started_at.format("%Y-%m-%d %H:%M UTC")
            ),
            "--replace puts this one in its place once it is whole, and transfers only what differs; or \
             choose another name",
        )),
    }
}

/// Opens and locks the unfinished copy.
pub(super) fn lock(
    disk: &dyn Disk,
    order: &CopyOrder<'_>,
    paths: &CopyPaths,
) -> Result<Box<dyn DiskFile>, Failure> {
    let OutputPaths {
        partial, journal, ..
    } = &paths.output;
    let io = |error: io::Error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let failure = Failure::io(FailureKind::Refused, attempted(order), error);
        match failure.kind {
            FailureKind::NoSpace => {
                failure.help("free some space there, or choose another destination")
            }
            _ if missing => failure.help("choose a folder that exists; none is created"),
            _ => failure,
        }
    };
    let file = disk.open_private(partial).map_err(io)?;
    let locked = file.lock().map_err(io)?;
    if !locked || !disk.still_names(partial, file.as_ref()).map_err(io)? {
        return Err(refuse(
            order,
            "another run is writing it at this moment",
            "wait for it to end, or choose another destination",
        ));
    }
    // What a backup began is its own; beside an empty file a journal says nothing.
    let begun = || read_journal_on(disk, journal).is_ok_and(|state| state.begin.is_some());
    if file.size().map_err(io)? > 0 && begun() {
        return Err(refuse(
            order,
            format!("{} is what an interrupted backup left", partial.display()),
            "finish the backup first, or choose another destination",
        ));
    }
    Ok(file)
}

/// What an earlier run recorded of the unfinished copy, if it can be used.
pub(super) fn read_record(disk: &dyn Disk, path: &Path) -> Option<CopyRecord> {
    let text = read_small(disk, path)?;
    let record: CopyRecord = serde_json::from_slice(&text).ok()?;
    (record.version == CopyRecord::VERSION).then_some(record)
}

/// Gives the copy its final name. An older bundle keeps it until that moment.
pub(super) fn publish(
    disk: &dyn Disk,
    order: &CopyOrder<'_>,
    paths: &CopyPaths,
    older: Option<FileId>,
    sha256: &str,
) -> Result<(), Failure> {
    let OutputPaths {
        bundle,
        partial,
        sha256: sum,
        ..
    } = &paths.output;
    let failed = |error: io::Error| Failure::io(FailureKind::Refused, attempted(order), error);
    let appeared = || {
        refuse(
            order,
            "another file took the name in the meantime",
            "look at it, and run the same command again; the copy is kept as it is",
        )
    };
    let Some(older) = older else {
        // The checksum file beside it would be somebody else's, too.
        if disk.exists(bundle).map_err(failed)? {
            return Err(appeared());
        }
        write_sum(disk, &paths.output, sha256)?;
        let named = fault::point("bundle.rename").and_then(|()| disk.publish(partial, bundle));
        return named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => appeared(),
            _ => failed(error),
        });
    };
    if disk.id_of(bundle).map_err(failed)? != Some(older) {
        return Err(appeared());
    }
    // For a moment there is no checksum, which is better than one of another file.
    fault::point("checksum.remove")
        .and_then(|()| disk.remove(sum))
        .and_then(|()| fault::point("bundle.rename"))
        .and_then(|()| disk.replace(partial, bundle))
        .map_err(failed)?;
    write_sum(disk, &paths.output, sha256)
}

/// The checksum file beside the copy.
pub(super) fn write_sum(
    disk: &dyn Disk,
    output: &OutputPaths,
    sha256: &str,
) -> Result<(), Failure> {
    let line = sum_line(output, sha256);
    fault::point("checksum.write")
        .and_then(|()| disk.write_atomically(&output.sha256, line.as_bytes()))
        .map_err(|error| {
            let attempted = format!("write {}", output.sha256.display());
            Failure::io(FailureKind::Refused, attempted, error)
        })
}

/// What the checksum file must hold.
pub(super) fn sum_line(output: &OutputPaths, sha256: &str) -> String {
    let name = output.bundle.file_name().unwrap_or_default();
    format!("{sha256}  {}\n", name.to_string_lossy())
}

/// The SHA-256 that the file beside a bundle gives; `None` if there is none, or it is of another shape.
pub(super) fn read_sum(disk: &dyn Disk, bundle: &Path) -> Option<String> {
    let text = read_small(disk, &OutputPaths::new(bundle).sha256)?;
    let text = String::from_utf8(text).ok()?;
    let word = text.split_whitespace().next()?;
    let hex = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| word.to_ascii_lowercase())
}

/// A file of at most 64 KiB.
fn read_small(disk: &dyn Disk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.open_to_read(path).ok()?;
    let size = file.size().ok().filter(|size| *size <= 1 << 16)?;
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}
