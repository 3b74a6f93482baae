//! Members as files in a folder.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::SystemTime,
};

use arkstream_format::{Member, member_names};
use arkstream_pipeline::{BundleReader, Failure, FailureKind};

use crate::{durable, framing::check_name, publish::DESCRIPTION_MODE, reader::BundleFile};

/// Writes one member below `folder`, every hash checked on the way.
///
/// The file appears under its name only when it is complete, with the member's mode and
/// modification time. A file that exists is never overwritten.
///
/// # Errors
/// [`FailureKind::Damaged`] if the member is, [`FailureKind::Refused`] if the file exists or cannot
/// be written, [`FailureKind::NoSpace`].
pub fn extract_member(bundle: &BundleFile, member: &Member, folder: &Path) -> Result<(), Failure> {
    extract_with(&member.name, folder, |beside, refused| {
        write_member(bundle, member, beside, refused)
    })
}

impl BundleFile {
    /// Writes `manifest.json` below `folder`, as [`extract_member`] does for listed members.
    ///
    /// # Errors
    /// As [`extract_member`].
    pub fn extract_manifest(&self, folder: &Path) -> Result<(), Failure> {
        extract_with(member_names::MANIFEST, folder, |beside, refused| {
            let mut file = durable::create_extracted(beside, DESCRIPTION_MODE).map_err(refused)?;
            let mut bytes = self.manifest_bytes().map_err(refused)?;
            io::copy(&mut bytes, &mut file).map_err(refused)?;
            Ok(())
        })
    }
}

/// Lets `write` fill a file beside the final name, then gives it that name.
fn extract_with(
    name: &str,
    folder: &Path,
    write: impl FnOnce(&Path, &dyn Fn(io::Error) -> Failure) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let attempted = || format!("extract {name} to {}", folder.display());
    check_name(name).map_err(|why| Failure::new(FailureKind::Damaged, attempted(), why))?;
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
    let mut beside = target.clone().into_os_string();
    beside.push(".partial");
    let beside = Path::new(&beside);
    let outcome = write(beside, &refused)
        .and_then(|()| durable::rename_no_replace(beside, &target).map_err(refused));
    if outcome.is_err() {
        // The failure that led here is the one to tell.
        let _ = fs::remove_file(beside);
    }
    outcome
}

fn write_member(
    bundle: &BundleFile,
    member: &Member,
    path: &Path,
    refused: &dyn Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut file = durable::create_extracted(path, member.mode).map_err(refused)?;
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
