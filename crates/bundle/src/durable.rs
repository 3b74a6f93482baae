//! Crash-safe file operations: the only place that creates, renames or syncs files.
//!
//! - Files are created with mode 0600: they hold a company's memory.
//! - A name appears under its final spelling only by [`Disk::publish`], which never overwrites.
//! - After a rename or removal the folder is synced, so that the change outlives a power cut.
//! - Ownership of an unfinished file is an advisory lock on it ([`std::fs::File::try_lock`]): it
//!   dies with the process, whatever kills it, so a stale owner cannot exist.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_format::Digest;

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
    let file = private_options().create(true).truncate(false).open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let found = file.metadata()?;
        let own = found.is_file()
            && found.nlink() == 1
            && found.uid() == rustix::process::geteuid().as_raw();
        if !own {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} exists and belongs to somebody else", path.display()),
            ));
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Creates `path` with mode 0600; fails if it exists.
///
/// # Errors
/// As the operating system says; [`io::ErrorKind::AlreadyExists`] if it exists.
pub fn create_private(path: &Path) -> io::Result<File> {
    private_options().create_new(true).open(path)
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
        // The flags of rustix are those of the system; they fit.
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    options
}

/// Takes the exclusive lock of an open file without waiting. Returns whether it was free.
///
/// # Errors
/// As the operating system says.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(unix)]
fn id_from(found: &std::fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt as _;
    FileId {
        device: found.dev(),
        inode: found.ino(),
    }
}

#[cfg(not(unix))]
fn id_from(_: &std::fs::Metadata) -> FileId {
    // The lock is mandatory there, so nobody could have replaced the file.
    FileId {
        device: 0,
        inode: 0,
    }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_checked(from, to),
        outcome => Ok(outcome?),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    rename_checked(from, to)
}

/// For file systems and systems without an atomic "rename unless it exists": another program that creates
/// the very name in between loses what it wrote.
fn rename_checked(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    #[expect(clippy::disallowed_methods, reason = "this is the durable module")]
    std::fs::rename(from, to)
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
    sync_folder(folder)
}

/// Syncs a folder, so that the names in it are durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Reads exactly `buffer.len()` bytes at `offset`, without moving a cursor.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends first; else as the operating system says.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::FileExt as _;
        let mut done = 0;
        while done < buffer.len() {
            match file.seek_read(&mut buffer[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// Creates a file for a member that is extracted: with the member's mode, failing if it exists.
///
/// # Errors
/// As the operating system says; [`io::ErrorKind::AlreadyExists`] if it exists.
pub fn create_extracted(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(mode & 0o777);
    }
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)
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
        read_exact_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        {
            std::os::unix::fs::FileExt::write_at(self, bytes, offset)
        }
        #[cfg(windows)]
        {
            std::os::windows::fs::FileExt::seek_write(self, bytes, offset)
        }
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
        try_lock(self)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_from(&self.metadata()?))
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
        match std::fs::metadata(path) {
            Ok(there) => Ok(Some(id_from(&there))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_no_replace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "this is the durable module")]
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        #[cfg_attr(not(unix), expect(unused_mut))]
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt as _;
            builder.mode(0o700);
        }
        builder.create(path)
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
        for rename in [publish_here, rename_checked] {
            let error = rename(&from, &to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
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

    #[test]
    fn a_second_owner_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = open_private(&path).unwrap();
        assert!(try_lock(&first).unwrap());
        let second = open_private(&path).unwrap();
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }
}
