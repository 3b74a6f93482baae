//! The last steps of a bundle: manifest, directory, checksum, final name.

use std::io::Write as _;

use sha2::Digest as _;

use arkstream_format::{Contents, Manifest, member_names};
use arkstream_pipeline::{Failure, FailureKind, Published, fault};

use crate::{
    appender::Appender,
    document::append_document,
    framing::{Entry, end_records},
    hashing::hex,
    trailer::Trailer,
};

/// Writes manifest and directory, syncs, and gives the bundle its final name.
pub(crate) fn publish(mut out: Appender, manifest: Manifest) -> Result<Published, Failure> {
    let mut manifest = out.write_last_index(manifest)?;
    manifest.members = std::mem::take(&mut out.members);
    manifest.members.sort_by_key(|member| member.header_offset);
    manifest.dead_ranges = std::mem::take(&mut out.dead);
    manifest.dead_ranges.sort_by_key(|range| range.offset);
    let members: Vec<_> = manifest.members.iter().collect();
    let contents = Contents::of(&members, &manifest.bases);
    manifest.components = contents.components;
    manifest.bases = contents.bases;

    let (entry, blake3) = append_document(
        &mut out,
        member_names::MANIFEST,
        manifest.started_at,
        |to| serde_json::to_writer(to, &manifest).map_err(Into::into),
    )?;
    let trailer = Trailer {
        format_version: manifest.format_version.clone(),
        header_offset: entry.header_offset,
        data_offset: entry.data_offset,
        stored_len: entry.stored_len,
        raw_len: entry.raw_len,
        blake3,
    };
    let directory_offset = out.offset;
    for member in manifest.members.iter().chain([&entry]) {
        out.write(&Entry::from(member).central_header())?;
    }
    let end = end_records(
        manifest.members.len() as u64 + 1,
        directory_offset,
        out.offset - directory_offset,
        &trailer.comment(),
    );
    out.write(&end)?;
    out.out.flush().map_err(|error| out.failure(error))?;
    fault::point("bundle.final-sync")
        .and_then(|()| out.out.get_ref().file.sync_all())
        .map_err(|error| out.failure(error))?;

    let sha256 = hex(&out.out.get_ref().sha256.clone().finalize());
    let paths = out.paths.clone();
    let refused = |attempted: String| {
        move |error: std::io::Error| Failure::io(FailureKind::Refused, attempted, error)
    };
    let file_name = paths.bundle.file_name().unwrap_or_default();
    let line = format!("{sha256}  {}\n", file_name.to_string_lossy());
    let free = match out.disk.exists(&paths.bundle) {
        // The checksum file beside it is somebody else's too.
        Ok(true) => Err(std::io::ErrorKind::AlreadyExists.into()),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    free.map_err(refused(format!(
        "name the bundle {}",
        paths.bundle.display()
    )))?;
    fault::point("checksum.write")
        .and_then(|()| out.disk.write_atomically(&paths.sha256, line.as_bytes()))
        .map_err(refused(format!("write {}", paths.sha256.display())))?;
    let named = fault::point("bundle.rename")
        .and_then(|()| out.disk.publish(&paths.partial, &paths.bundle));
    named.map_err(refused(format!(
        "name the bundle {}",
        paths.bundle.display()
    )))?;
    // The bundle is there. A journal that stays behind is ignored and overwritten by the next run.
    let removed = fault::point("journal.remove").and_then(|()| out.disk.remove(&paths.journal));
    if let Err(error) = removed {
        tracing::warn!("{} could not be removed: {error}", paths.journal.display());
    }
    Ok(Published {
        path: paths.bundle,
        bytes: out.offset,
        kept: out.kept(&manifest.members),
        sha256,
        manifest,
    })
}
