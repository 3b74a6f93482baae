//! Members as files in a folder.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use arkstream_format::{Member, member_names};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, os};

use crate::{document::DESCRIPTION_MODE, durable, framing::check_name, reader::BundleFile};

/// Writes one member below `folder`, every hash checked on the way.
///
/// The file appears under its name only when it is complete, with the member's mode and
/// modification time. A file that exists is never overwritten.
///
/// # Errors
/// [`FailureKind::Damaged`] if the member is, [`FailureKind::Refused`] if the file exists or cannot
/// be written, [`FailureKind::NoSpace`].
pub fn extract_member(bundle: &BundleFile, member: &Member, folder: &Path) -> Result<(), Failure> {
    extract_with(&member.name, member.mode, folder, |file, refused| {
        write_member(bundle, member, file, refused)
    })
}

impl BundleFile {
    /// Writes `manifest.json` below `folder`, as [`extract_member`] does for listed members.
    ///
    /// # Errors
    /// As [`extract_member`].
    pub fn extract_manifest(&self, folder: &Path) -> Result<(), Failure> {
        let name = member_names::MANIFEST;
        extract_with(name, DESCRIPTION_MODE, folder, |file, refused| {
            let mut bytes = self.manifest_bytes().map_err(refused)?;
            io::copy(&mut bytes, file).map(drop).map_err(refused)
        })
    }
}

/// Lets `write` fill a file beside the final name, then gives it that name.
fn extract_with(
    name: &str,
    mode: u32,
    folder: &Path,
    write: impl FnOnce(&mut File, &dyn Fn(io::Error) -> Failure) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let attempted = || format!("extract {name} to {}", folder.display());
    check_name(name).map_err(|why| Failure::new(FailureKind::Damaged, attempted(), why))?;
    os::check_nameable(name).map_err(|why| {
        Failure::new(FailureKind::Refused, attempted(), why)
            .help("write it to a file of another name: arkstream cat, with > and that name")
    })?;
    let target = folder.join(name);
    let refused = |error: io::Error| {
        let failure = Failure::io(FailureKind::Refused, attempted(), error);
        match failure.kind {
            FailureKind::Refused => failure.help("extract into an empty folder that you may write"),
            _ => failure,
        }
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(refused)?;
    }
    if target.try_exists().map_err(refused)? {
        return Err(refused(io::ErrorKind::AlreadyExists.into()));
    }
    // A name that nobody else has: what lies in the folder is not ours to touch.
    let file_name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{file_name}.{}.partial", std::process::id()));
    let mut file = durable::create_extracted(&beside, mode).map_err(refused)?;
    let outcome = write(&mut file, &refused)
        .and_then(|()| os::rename_no_replace(&beside, &target).map_err(refused));
    if outcome.is_err() {
        // The failure that led here is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    outcome
}

fn write_member(
    bundle: &BundleFile,
    member: &Member,
    file: &mut File,
    refused: &dyn Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    for index in 0..member.chunks.len() {
        let raw = bundle.read_chunk(member, index).map_err(|finding| {
            Failure::new(
                FailureKind::Damaged,
                format!("read {}", member.name),
                finding,
            )
        })?;
        file.write_all(&raw).map_err(refused)?;
    }
    file.set_modified(SystemTime::from(member.modified_at))
        .map_err(refused)
}
