//! What differs between operating systems: the only place that asks which one it is.
//!
//! Each function promises the same everywhere, or says here where it cannot. `unix` is the system that
//! everything was written for and is tested on. `windows` does as much as the standard library and two
//! small crates with safe interfaces can, and where that is less, it does the slower thing or fails;
//! it never passes over something. What is less on Windows:
//!
//! | | |
//! |---|---|
//! | owner, mode | there are none: [`owner`] is `None`, [`mode`] is 0600, and a new file has the access list that its folder gives it |
//! | [`FileState::ctime_ns`] | is not told, so no file counts as unchanged or quiet: it is read again, or under the lock |
//! | [`free_space`] | is not told |
//! | [`exchange`] | there is none: two renames, with nothing under the name in between |
//! | [`sync_folder`] | does nothing: NTFS logs names by itself, in order, but not before a rename returns. After a power cut the last renames may be undone, and the run that looks next finds the state before them |
//! | locks of files | are what the opener lets others do: see [`open_alone`] |
//!
//! Paths are given as they are; a path of more than 260 characters needs what Windows needs for it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::{fs::File, io, path::Path};

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// What tells one file or folder from another, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Which file it is.
    pub id: FileId,
    /// Bytes.
    pub size: u64,
    /// When its content was written last, since 1970; programs may set it.
    pub mtime_ns: i128,
    /// When anything of it changed last, which no program can set; `None` where the system does not tell.
    pub ctime_ns: Option<i128>,
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The number of the user.
    pub user: u32,
    /// The number of the group.
    pub group: u32,
}

/// What is left of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// What a file takes a multiple of; at least 1.
    pub block: u64,
}

/// What became of the wish to have a folder.
#[derive(Debug)]
pub enum FolderLock {
    /// It is ours while this is open.
    Held(File),
    /// Somebody else has it.
    Busy,
    /// The file system knows no locks.
    Unknown,
}

/// Gives a file or folder another name; a file that has it is replaced. Not synced.
///
/// # Errors
/// As the operating system says.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "whoever calls this syncs")]
    std::fs::rename(from, to)
}

/// Gives a file or folder another name, never over what has that name. Not synced.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `to` exists; else as the operating system says.
pub fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match rename_if_free(from, to)? {
        true => Ok(()),
        false => rename_checked(from, to),
    }
}

/// For file systems without an atomic "rename unless it exists": another program that creates the very name
/// in between loses what it wrote.
fn rename_checked(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    rename(from, to)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    #[test]
    fn a_rename_never_replaces_a_name_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&from, "from").unwrap();
        fs::write(&to, "to").unwrap();
        for rename in [rename_no_replace, rename_checked] {
            let error = rename(&from, &to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&from).unwrap(), b"from");
            assert_eq!(fs::read(&to).unwrap(), b"to");
        }
        fs::remove_file(&to).unwrap();
        rename_no_replace(&from, &to).unwrap();
        assert!(to.exists() && !from.exists());
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::create_dir(&old).unwrap();
        rename_no_replace(&old, &new).unwrap();
        assert!(new.is_dir() && !old.exists());
    }

    #[test]
    fn a_file_is_itself_under_any_name_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        let open = File::open(&one).unwrap();
        assert_eq!(id_of(&open).unwrap(), id_at(&one).unwrap());
        assert_ne!(id_at(&one).unwrap(), id_at(&two).unwrap());
        let moved = folder.path().join("moved");
        rename(&one, &moved).unwrap();
        assert_eq!(id_of(&open).unwrap(), id_of_name(&moved).unwrap());
        assert!(id_at(folder.path()).is_ok());
        let state = state_of(&open).unwrap();
        let found = fs::symlink_metadata(&moved).unwrap();
        assert_eq!(state, state_at(&moved, &found).unwrap());
        assert_eq!(state.size, 1);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "x").unwrap();
        assert!(open_to_read(&file).is_ok());
        #[cfg(unix)]
        std::os::unix::fs::symlink(&file, &link).unwrap();
        #[cfg(windows)]
        if std::os::windows::fs::symlink_file(&file, &link).is_err() || !link.is_symlink() {
            return; // Windows lets not everybody make links, and Wine says so without making one.
        }
        assert!(open_to_read(&link).is_err());
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        assert!(open_no_follow(&mut options, &link).is_err());
        assert!(open_no_follow(&mut options, &file).is_ok());
        assert_ne!(id_of_name(&link).unwrap(), id_at(&link).unwrap());
    }

    #[test]
    fn positions_are_not_moved_by_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = open_alone(&path).unwrap();
        write_at(&file, b"abcdef", 0).unwrap();
        let mut two = [0; 2];
        read_exact_at(&file, &mut two, 3).unwrap();
        assert_eq!(&two, b"de");
        let end = read_exact_at(&file, &mut two, 5).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let alone = |path: &Path| -> io::Result<Option<File>> {
            let file = open_alone(path)?;
            Ok(try_lock(&file)?.then_some(file))
        };
        let first = alone(&path).unwrap().unwrap();
        assert!(!matches!(alone(&path), Ok(Some(_))));
        assert!(read_unless_written(&path).unwrap().is_none());
        assert!(open_to_read(&path).is_ok(), "reading is nobody's concern");
        drop(first);
        let reading = read_unless_written(&path).unwrap().unwrap();
        assert!(!matches!(alone(&path), Ok(Some(_))));
        drop(reading);
        assert!(alone(&path).unwrap().is_some());
    }

    #[test]
    fn a_folder_has_one_owner() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for lock in [lock_movable_folder, |folder: &Path| {
            lock_folder(folder).map(|lock| match lock {
                FolderLock::Held(file) => Some(file),
                _ => None,
            })
        }] {
            let first = lock(&folder).unwrap().unwrap();
            assert!(lock(&folder).unwrap().is_none());
            drop(first);
            assert!(lock(&folder).unwrap().is_some());
        }
        let held = lock_movable_folder(&folder).unwrap().unwrap();
        let moved = root.path().join("moved");
        rename_no_replace(&folder, &moved).unwrap();
        drop(held);
        let left = fs::read_dir(root.path()).unwrap().count();
        assert_eq!((left, fs::read_dir(&moved).unwrap().count()), (1, 0));
    }

    #[test]
    fn what_may_be_done_is_told_without_doing_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, missing) = (folder.path().join("file"), folder.path().join("no/file"));
        fs::write(&file, "x").unwrap();
        check_readable(&file).unwrap();
        check_writable(&file).unwrap();
        check_folder_writable(folder.path()).unwrap();
        let error = check_readable(&missing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(check_folder_writable(&missing).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
