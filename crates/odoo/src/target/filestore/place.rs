//! Files and folders of a filestore: looking, writing, moving into place, removing.
//!
//! Durability: a file's content is synced before it gets its name; the list of added files is
//! synced before the first of them gets its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use arkstream_format::Member;
use arkstream_pipeline::{BundleReader, Failure, FailureKind, fault, os, whole_chunks};
use sha1::{Digest as _, Sha1};

/// What stands under a name.
pub(super) enum Found {
    Nothing,
    Same,
    /// Something else; why.
    Other(String),
}

/// Whose files a filestore has.
#[derive(Clone, Debug)]
pub(super) struct Owner(Option<os::Owner>);

impl Owner {
    /// The owner of a folder, or of the nearest folder above that exists.
    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        let existing = dir.ancestors().find(|folder| folder.exists());
        let metadata = fs::metadata(existing.unwrap_or(dir)).map_err(|error| {
            Failure::io(
                FailureKind::Refused,
                format!("look at {}", dir.display()),
                error,
            )
        })?;
        Ok(Self(os::owner(&metadata)))
    }

    /// Hands a path to the owner; only root can give files away, everybody else's are their own.
    fn give(&self, path: &Path) -> io::Result<()> {
        match self.0 {
            Some(owner) if os::user() == Some(0) => os::give(path, owner, false),
            _ => Ok(()),
        }
    }
}

/// The path from the root, for a record: UTF-8 and independent of the working directory.
pub(super) fn fixed(path: &Path) -> Result<PathBuf, Failure> {
    let attempted = || format!("restore files by way of {}", path.display());
    let fixed = std::path::absolute(path)
        .map_err(|error| Failure::io(FailureKind::Refused, attempted(), error))?;
    if fixed.to_str().is_none() {
        return Err(Failure::new(
            FailureKind::Refused,
            attempted(),
            "its path is not UTF-8, which the record of a restore must be",
        )
        .help("rename the folder, or name it by a link whose path is UTF-8"));
    }
    Ok(fixed)
}

/// `ab/ab` and 38 more hexadecimal digits, as Odoo names files.
pub(super) fn is_file_name(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match name.split_once('/') {
        Some((folder, file)) => {
            folder.len() == 2 && file.len() == 40 && hex(file) && file.starts_with(folder)
        }
        None => false,
    }
}

/// The folder must be one, or be possible to create, and be writable.
pub(super) fn check_folder(dir: &Path) -> Result<(), Failure> {
    let existing = dir.ancestors().find(|folder| folder.exists());
    let folder = existing.unwrap_or(Path::new("/"));
    let attempted = format!("restore files into {}", dir.display());
    if !folder.is_dir() {
        return Err(Failure::new(
            FailureKind::Refused,
            attempted,
            format!("{} is no folder", folder.display()),
        ));
    }
    os::check_folder_writable(folder).map_err(|error| {
        Failure::io(FailureKind::Refused, attempted, error)
            .help("run as the user that Odoo runs as, or as root")
    })
}

/// There must be room for that many bytes.
pub(super) fn check_space(dir: &Path, bytes: u64) -> Result<(), Failure> {
    let existing = dir.ancestors().find(|folder| folder.exists());
    let Ok(Some(os::Space { free, .. })) = os::free_space(existing.unwrap_or(dir)) else {
        return Ok(());
    };
    if free < bytes {
        return Err(Failure::new(
            FailureKind::NoSpace,
            format!("restore files into {}", dir.display()),
            format!("{bytes} bytes are needed, {free} are free"),
        )
        .help("free some space there, then run again"));
    }
    Ok(())
}

/// Looks at a name: a file of the right size counts as the right one, any other is hashed.
pub(super) fn look(dir: &Path, name: &str, size: u64) -> Result<Found, Failure> {
    inspect(dir, name, size, false)
}

/// The same, and hashes every file.
pub(super) fn look_closely(dir: &Path, name: &str, size: u64) -> Result<Found, Failure> {
    inspect(dir, name, size, true)
}

fn inspect(dir: &Path, name: &str, size: u64, hash: bool) -> Result<Found, Failure> {
    let path = super::path(dir, name);
    let failed = |error| {
        Failure::io(
            FailureKind::Refused,
            format!("look at {}", path.display()),
            error,
        )
    };
    if let Some(folder) = path.parent()
        && fs::symlink_metadata(folder).is_ok_and(|found| found.is_symlink())
    {
        let why = format!("{} is a symbolic link", folder.display());
        return Ok(Found::Other(why));
    }
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Ok(Found::Other(format!("{} is no file", path.display())));
    }
    if metadata.len() == size && !hash {
        return Ok(Found::Same);
    }
    let mut hasher = Sha1::new();
    let mut file = File::open(&path).map_err(failed)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(if hex(&hasher.finalize()) == digest_of(name) {
        Found::Same
    } else {
        Found::Other(format!(
            "{} is there with another content than its name says",
            path.display()
        ))
    })
}

fn digest_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates a folder with its parents.
pub(super) fn create_folder(dir: &Path, owner: &Owner) -> Result<(), Failure> {
    let failed = |error| {
        Failure::io(
            FailureKind::Refused,
            format!("create the folder {}", dir.display()),
            error,
        )
    };
    let mut missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    while let Some(folder) = missing.pop() {
        match fs::create_dir(folder) {
            Ok(()) => owner.give(folder).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Writes a member to its place in the staging folder, checked against the SHA-1 in its name. Chunks
/// that an earlier process wrote are kept. Returns whether the whole file was there.
pub(super) fn write(
    bundle: &dyn BundleReader,
    member: &Member,
    staging: &Path,
    name: &str,
    owner: &Owner,
) -> Result<bool, Failure> {
    let path = super::path(staging, name);
    let failed = |error| {
        Failure::io(
            FailureKind::Refused,
            format!("write {}", path.display()),
            error,
        )
    };
    if let Some(folder) = path.parent() {
        create_folder(folder, owner)?;
    }
    let mut hasher = Sha1::new();
    let (mut file, kept) = open(&path, member, &mut hasher).map_err(failed)?;
    for chunk in kept..member.chunks.len() {
        let raw = bundle.read_chunk(member, chunk).map_err(|finding| {
            Failure::new(
                FailureKind::Damaged,
                format!("read {} from the bundle", member.name),
                finding,
            )
        })?;
        hasher.update(&raw);
        fault::point("file.write")
            .and_then(|()| file.write_all(&raw))
            .map_err(failed)?;
    }
    fault::point("file.sync")
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    owner.give(&path).map_err(failed)?;
    if hex(&hasher.finalize()) != digest_of(name) {
        return Err(Failure::new(
            FailureKind::Damaged,
            format!("restore the file {name}"),
            "its content is not what its name says; it was so when it was backed up",
        )
        .help("leave the filestore out with --components, and restore the file by hand"));
    }
    Ok(kept > 0 && kept == member.chunks.len())
}

/// Opens a staged file behind the chunks that it has already, hashes them, and says how many these are.
fn open(path: &Path, member: &Member, hasher: &mut Sha1) -> io::Result<(File, usize)> {
    let options = |create_new: bool| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create_new);
        os::open_no_follow(
            os::create_with_mode(&mut options, 0o644 & member.mode),
            path,
        )
    };
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
        && let Ok(mut file) = options(false)
    {
        let kept = whole_chunks(&mut file, member, |bytes| hasher.update(bytes))?;
        return Ok((file, kept));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok((options(true)?, 0)),
    }
}

/// Writes the list of files that are about to be added, durably.
pub(super) fn write_list(list: &Path, names: &[&str]) -> Result<(), Failure> {
    let failed = |error| {
        Failure::io(
            FailureKind::Refused,
            format!("write the list {}", list.display()),
            error,
        )
    };
    if let Some(folder) = list.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fault::point("file.list").map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = os::create_with_mode(&mut options, 0o600)
        .open(list)
        .map_err(failed)?;
    let mut text = names.join("\n");
    text.push('\n');
    file.write_all(text.trim_start_matches('\n').as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    sync_folder(list.parent()).map_err(failed)
}

/// Moves a staged file to its place, never over another one.
pub(super) fn put(staging: &Path, dir: &Path, name: &str, owner: &Owner) -> Result<(), Failure> {
    let (from, to) = (super::path(staging, name), super::path(dir, name));
    if let Some(folder) = to.parent() {
        create_folder(folder, owner)?;
    }
    fault::check("file.named")?;
    let moved = match os::rename_if_free(&from, &to) {
        Ok(false) => fs::hard_link(&from, &to).and_then(|()| fs::remove_file(&from)),
        outcome => outcome.map(drop),
    };
    match moved {
        Ok(()) => Ok(()),
        // Odoo wrote the same content meanwhile; the name says so.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Failure::io(
            FailureKind::Refused,
            format!("add the file {}", to.display()),
            error,
        )),
    }
}

/// Syncs the folders of files.
pub(super) fn sync(dir: &Path, names: &[String]) -> Result<(), Failure> {
    let mut folders: Vec<_> = names
        .iter()
        .filter_map(|name| super::path(dir, name).parent().map(Path::to_owned))
        .collect();
    folders.sort();
    folders.dedup();
    folders.push(dir.to_owned());
    for folder in folders.iter().filter(|folder| folder.exists()) {
        sync_folder(Some(folder)).map_err(|error| {
            Failure::io(
                FailureKind::Refused,
                format!("sync the folder {}", folder.display()),
                error,
            )
        })?;
    }
    Ok(())
}

fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    match folder {
        Some(folder) => os::sync_folder(folder),
        None => Ok(()),
    }
}

/// Removes a file; one that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::io(
            FailureKind::Refused,
            format!("remove {}", path.display()),
            error,
        )),
        _ => Ok(()),
    }
}

/// Removes a folder with everything in it; one that is not there is fine.
pub(super) fn remove_folder(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::io(
            FailureKind::Refused,
            format!("remove {}", path.display()),
            error,
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_does_not_depend_on_the_working_directory() {
        use std::os::unix::ffi::OsStrExt as _;
        assert!(fixed(Path::new("filestore/db")).unwrap().is_absolute());
        let strange = std::ffi::OsStr::from_bytes(b"/srv/\xff");
        let refused = fixed(Path::new(strange)).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
    }

    #[test]
    fn only_names_that_odoo_gives_are_taken() {
        let file = "0".repeat(38);
        assert!(is_file_name(&format!("ab/ab{file}")));
        for bad in [
            format!("../ab{file}"),
            format!("ac/ab{file}"),
            format!("ab/AB{file}"),
            format!("ab/ab{file}0"),
            format!("ab{file}"),
            "checklist/ab/x".to_owned(),
        ] {
            assert!(!is_file_name(&bad), "{bad}");
        }
    }
}
