//! Crash-safe file operations: the only place that creates, renames or syncs files.
//!
//! - Files are created with mode 0600: they hold a company's memory.
//! - A name appears under its final spelling only by [`publish`], which never overwrites.
//! - After a rename or removal the folder is synced, so that the change outlives a power cut.
//! - Ownership of an unfinished file is an advisory lock on it ([`std::fs::File::try_lock`]): it
//!   dies with the process, whatever kills it, so a stale owner cannot exist.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use arkstream_format::Digest;
use arkstream_pipeline::fault;

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

/// Whether `path` still names the open file, and was not renamed or replaced in between.
///
/// # Errors
/// As the operating system says; a missing path is `Ok(false)`.
pub fn still_names(path: &Path, file: &File) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(there) => Ok(same_file(&there, &file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    a.dev() == b.dev() && a.ino() == b.ino()
}

#[cfg(not(unix))]
fn same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    // The lock is mandatory there, so nobody could have replaced the file.
    true
}

/// Gives a finished and synced file its final name, without ever overwriting another file, and
/// syncs the folder.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `to` exists; else as the operating system says.
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    rename_no_replace(from, to)?;
    fault::point("folder.sync")?;
    sync_folder_of(to)
}

#[cfg(target_os = "linux")]
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => rename_checked(from, to),
        outcome => Ok(outcome?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    rename_checked(from, to)
}

/// For file systems without an atomic "rename unless it exists".
fn rename_checked(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    #[expect(clippy::disallowed_methods, reason = "this is the durable module")]
    std::fs::rename(from, to)
}

/// Gives a finished and synced file a name that another file has, which is gone then, and syncs the
/// folder. Whoever opens the name finds the one or the other, whole.
///
/// # Errors
/// As the operating system says.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the durable module")]
    std::fs::rename(from, to)?;
    fault::point("folder.sync")?;
    sync_folder_of(to)
}

/// Whether two open files are the same one.
#[must_use]
pub fn is_same_file(a: &File, b: &File) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => cfg!(unix) && same_file(&a, &b),
        _ => false,
    }
}

/// Writes a small file under its final name, atomically: beside it first, synced, then renamed.
/// A file of that name is replaced.
///
/// # Errors
/// As the operating system says.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = Path::new(&beside);
    fault::point("record.write")?;
    let mut file = open_private(beside)?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_all()?;
    fault::point("record.rename")?;
    #[expect(clippy::disallowed_methods, reason = "this is the durable module")]
    std::fs::rename(beside, path)?;
    sync_folder_of(path)
}

/// Removes a file and syncs its folder. A file that is not there is fine.
///
/// # Errors
/// As the operating system says.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Syncs the folder that `path` stands in, so that names in it are durable.
///
/// # Errors
/// As the operating system says.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
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
        use std::os::unix::fs::FileExt as _;
        file.read_exact_at(buffer, offset)
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

/// Writes all of `bytes` at `offset`, without moving a cursor where the system can.
///
/// # Errors
/// As the operating system says; a part may be written then.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::FileExt as _;
        let mut done = 0;
        while done < bytes.len() {
            match file.seek_write(&bytes[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// Lets the system forget what it holds of a synced file in memory, so that what is read next comes from
/// the disk. A hint: where it is not taken, nothing is lost.
pub(crate) fn forget_cached(file: &File) {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Asks the system to read a part of a file into memory, without waiting for it. A hint.
pub(crate) fn read_ahead(file: &File, at: u64, len: u64) {
    #[cfg(target_os = "linux")]
    {
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(file, at, len, rustix::fs::Advice::WillNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, at, len);
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
/// As [`read_exact_at`].
pub(crate) fn hash_range(file: &File, start: u64, end: u64) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let piece = (end - at).min(buffer.len() as u64) as usize;
        read_exact_at(file, &mut buffer[..piece], at)?;
        hasher.update(&buffer[..piece]);
        at += piece as u64;
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn publish_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        drop(create_private(&from).unwrap());
        drop(create_private(&to).unwrap());
        for rename in [publish, rename_checked] {
            let error = rename(&from, &to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        fs::remove_file(&to).unwrap();
        publish(&from, &to).unwrap();
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
