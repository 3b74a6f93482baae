//! Crash-safe file operations: the only place that creates, renames or syncs files.
//!
//! - Files are created with mode 0600: they hold a company's memory.
//! - A name appears under its final spelling only by [`Disk::publish`], which never overwrites.
//! - After a rename or removal the folder is synced, so that the change outlives a power cut.
//! - Ownership of an unfinished file is a lock on it ([`os::open_alone`], [`os::try_lock`]): it dies with
//!   the process, whatever kills it, so a stale owner cannot exist.
//!
//! What the calls of the operating system are is in [`os`].

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_format::Digest;
use arkstream_pipeline::os;

use crate::disk::{Disk, DiskFile, FileId, beside, unlink_if_there};

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct LocalDisk;

/// The disk of this machine, as the port wants it.
pub(crate) fn local() -> Arc<dyn Disk> {
    Arc::new(LocalDisk)
}

/// Opens `path` for reading and writing, creating it with mode 0600 if it does not exist.
///
/// A file that exists must be ours alone: a regular file of our own with one name, not reached
/// through a symbolic link. So nobody who may write to the folder can read what we write.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if it is somebody else's; else as the operating system says.
pub fn open_private(path: &Path) -> io::Result<File> {
    os::open_alone(path)
}

/// Creates `path` with mode 0600; fails if it exists.
///
/// # Errors
/// As the operating system says; [`io::ErrorKind::AlreadyExists`] if it exists.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    os::open_no_follow(os::create_with_mode(&mut options, 0o600), path)
}

/// As [`Disk::write_atomically`], on the disk of this machine.
///
/// # Errors
/// As there.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    LocalDisk.write_atomically(path, content)
}

/// The same, and where it fails nothing is left of it: for what no later run would replace.
///
/// # Errors
/// As there.
pub fn write_or_leave_nothing(path: &Path, content: &[u8]) -> io::Result<()> {
    write_atomically(path, content).inspect_err(|_| {
        // The failure is what is told, whether or not this succeeds.
        let _ = unlink_if_there(&LocalDisk, &beside(path));
    })
}

/// As [`Disk::remove`], on the disk of this machine.
///
/// # Errors
/// As there.
pub fn remove(path: &Path) -> io::Result<()> {
    LocalDisk.remove(path)
}

/// Syncs the folder that `path` stands in, so that names in it are durable.
///
/// # Errors
/// As the operating system says.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    os::sync_folder(folder)
}

/// Creates a file for a member that is extracted: with the member's mode, failing if it exists.
///
/// # Errors
/// As the operating system says; [`io::ErrorKind::AlreadyExists`] if it exists.
pub fn create_extracted(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    os::create_with_mode(&mut options, mode & 0o777).open(path)
}

/// BLAKE3 of the bytes from `start` to `end`, read in pieces of 1 MiB.
///
/// # Errors
/// As [`DiskFile::read_exact_at`].
pub(crate) fn hash_range(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let piece = (end - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..piece], at)?;
        hasher.update(&buffer[..piece]);
        at += piece as u64;
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

impl DiskFile for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        os::read_exact_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        os::write_at(self, bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn lock(&self) -> io::Result<bool> {
        os::try_lock(self)
    }

    fn id(&self) -> io::Result<FileId> {
        os::id_of(self)
    }

    #[cfg(target_os = "linux")]
    fn forget_cached(&self) {
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
    }

    #[cfg(target_os = "linux")]
    fn read_ahead(&self, offset: u64, len: u64) {
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(self, offset, len, rustix::fs::Advice::WillNeed);
    }
}

impl Disk for LocalDisk {
    fn open_private(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(open_private(path)?))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(Box::new(file)),
            false => Err(io::Error::other("it is not a file")),
        }
    }

    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>> {
        match os::id_at(path) {
            Ok(there) => Ok(Some(there)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        os::rename_no_replace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        os::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        os::folder_with_mode(&mut std::fs::DirBuilder::new(), 0o700).create(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    fn sync_folder_of(&self, path: &Path) -> io::Result<()> {
        sync_folder_of(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn publish_here(from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.publish(from, to)
    }

    #[test]
    fn publish_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        drop(create_private(&from).unwrap());
        drop(create_private(&to).unwrap());
        let error = publish_here(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&to).unwrap();
        publish_here(&from, &to).unwrap();
        assert!(to.exists() && !from.exists());
    }

    #[cfg(unix)]
    #[test]
    fn files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_atomically(&path, b"x").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_laid_out_for_us_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (
            folder.path().join("theirs"),
            folder.path().join("a.partial"),
        );
        drop(create_private(&target).unwrap());
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(open_private(&link).is_err());
        fs::remove_file(&link).unwrap();
        fs::hard_link(&target, &link).unwrap();
        assert!(open_private(&link).is_err());
    }
}
