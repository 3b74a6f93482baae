//! See the module above.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{
        DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _,
        PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Access, OFlags};

use super::{FileId, FileState, FolderLock, Owner, Space};

const NANOS: i128 = 1_000_000_000;

/// Which file is open.
///
/// # Errors
/// As the operating system says.
pub fn id_of(file: &File) -> io::Result<FileId> {
    Ok(id(&file.metadata()?))
}

/// Which file a name stands for, links followed. Nothing is opened.
///
/// # Errors
/// As the operating system says.
pub fn id_at(path: &Path) -> io::Result<FileId> {
    Ok(id(&std::fs::metadata(path)?))
}

/// What a name stands for, be it a link. Nothing is opened.
///
/// # Errors
/// As the operating system says.
pub fn id_of_name(path: &Path) -> io::Result<FileId> {
    Ok(id(&std::fs::symlink_metadata(path)?))
}

fn id(found: &Metadata) -> FileId {
    FileId {
        device: found.dev(),
        inode: found.ino(),
    }
}

/// The state of an open file.
///
/// # Errors
/// As the operating system says.
pub fn state_of(file: &File) -> io::Result<FileState> {
    Ok(state(&file.metadata()?))
}

/// The state of what a name stands for, be it a link; `found` is what `symlink_metadata` said of it. Nothing
/// is opened.
///
/// # Errors
/// None on this system.
pub fn state_at(_: &Path, found: &Metadata) -> io::Result<FileState> {
    Ok(state(found))
}

fn state(found: &Metadata) -> FileState {
    let ns = |seconds: i64, nanos: i64| i128::from(seconds) * NANOS + i128::from(nanos);
    FileState {
        id: id(found),
        size: found.len(),
        mtime_ns: ns(found.mtime(), found.mtime_nsec()),
        ctime_ns: Some(ns(found.ctime(), found.ctime_nsec())),
    }
}

/// Permissions, without the kind of the file.
#[must_use]
pub fn mode(found: &Metadata) -> u32 {
    found.mode() & 0o7777
}

/// Sets permissions.
///
/// # Errors
/// As the operating system says.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

/// Whose it is; `None` where the system has no such numbers.
#[must_use]
pub fn owner(found: &Metadata) -> Option<Owner> {
    Some(Owner {
        user: found.uid(),
        group: found.gid(),
    })
}

/// Gives a file, a folder or a link away: to both of the owner, or to the group alone.
///
/// # Errors
/// As the operating system says.
pub fn give(path: &Path, owner: Owner, group_alone: bool) -> io::Result<()> {
    let user = (!group_alone).then_some(owner.user);
    std::os::unix::fs::lchown(path, user, Some(owner.group))
}

/// Who runs this process; `None` where the system has no such numbers. 0 is root.
#[must_use]
pub fn user() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

/// The permissions of a file that is created.
pub fn create_with_mode(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    options.mode(mode)
}

/// The permissions of a folder that is created.
pub fn folder_with_mode(builder: &mut DirBuilder, mode: u32) -> &mut DirBuilder {
    builder.mode(mode)
}

/// Opens a file, and fails where the name is a link.
///
/// # Errors
/// As the operating system says.
pub fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(flags(OFlags::NOFOLLOW)).open(path)
}

/// Opens a file for reading, follows no link and waits for nobody.
///
/// # Errors
/// As the operating system says.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
}

/// The flags of rustix are those of the system; they fit.
fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Opens a file for reading and writing that is ours alone, creating it with mode 0600 if it does not exist:
/// a regular file of our own with one name, not reached through a link. Whether another process writes it is
/// told by [`try_lock`].
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if it is somebody else's; else as the operating system says.
pub fn open_alone(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let file = open_no_follow(&mut options, path)?;
    let found = file.metadata()?;
    let own =
        found.is_file() && found.nlink() == 1 && found.uid() == rustix::process::geteuid().as_raw();
    if !own {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} exists and belongs to somebody else", path.display()),
        ));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Takes the exclusive lock of an open file without waiting. Returns whether it was free. It goes with the
/// open file.
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

/// Opens a file for reading that nobody writes while it is open; `None` if somebody does.
///
/// # Errors
/// As the operating system says.
pub fn read_unless_written(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    Ok(try_lock(&file)?.then_some(file))
}

/// Takes the exclusive lock of a folder. The lock is on the folder itself: nothing is left behind.
///
/// # Errors
/// When it cannot be opened.
pub fn lock_folder(folder: &Path) -> io::Result<FolderLock> {
    let file = File::open(folder)?;
    Ok(match file.try_lock() {
        Ok(()) => FolderLock::Held(file),
        Err(TryLockError::WouldBlock) => FolderLock::Busy,
        Err(TryLockError::Error(_)) => FolderLock::Unknown,
    })
}

/// The same, of a folder that is renamed while it is locked; `None` when somebody else has it, or has renamed
/// or replaced it in between.
///
/// # Errors
/// As the operating system says.
pub fn lock_movable_folder(folder: &Path) -> io::Result<Option<File>> {
    let file = File::open(folder)?;
    if !try_lock(&file)? {
        return Ok(None);
    }
    match id_at(folder) {
        Ok(there) => Ok((there == id_of(&file)?).then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path from the root, all links resolved.
///
/// # Errors
/// As the operating system says.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

/// Whether a file may be read. Nothing is opened.
///
/// # Errors
/// Why not.
pub fn check_readable(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(path, Access::READ_OK)?)
}

/// Whether a file may be read and written. Nothing is opened.
///
/// # Errors
/// Why not.
pub fn check_writable(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(
        path,
        Access::READ_OK | Access::WRITE_OK,
    )?)
}

/// Whether files may be created in a folder.
///
/// # Errors
/// Why not.
pub fn check_folder_writable(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
    )?)
}

/// What is left of the file system of a path; `None` where it does not tell.
///
/// # Errors
/// As the operating system says.
pub fn free_space(path: &Path) -> io::Result<Option<Space>> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_blocks > 0).then(|| Space {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        block: found.f_frsize.max(1),
    }))
}

/// Gives a file or folder another name, never over what has that name, in one step; `false` where the system
/// or the file system cannot, and nothing has happened. Not synced.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `to` exists; else as the operating system says.
pub fn rename_if_free(from: &Path, to: &Path) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (from, to);
        Ok(false)
    }
}

/// Exchanges two names in one step; `false` where the system or the file system cannot, and nothing has
/// happened. Not synced.
///
/// # Errors
/// As the operating system says.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (one, other);
        Ok(false)
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// As the operating system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads at `offset`, without moving a cursor, and returns how many bytes.
///
/// # Errors
/// As the operating system says.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Reads exactly `buffer.len()` bytes at `offset`, without moving a cursor.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends first; else as the operating system says.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Writes at `offset`, at the end or behind it too, and returns how many bytes were written.
///
/// # Errors
/// As the operating system says.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

/// Whether the system can have a file of that name, `/`-separated.
///
/// # Errors
/// Why not.
pub fn check_nameable(_: &str) -> Result<(), &'static str> {
    Ok(())
}

/// Has the allocator give freed memory back to the system instead of keeping it. Only glibc keeps more than a
/// little; elsewhere this does nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a C function is called")]
pub fn give_back_freed_memory() {
    // The first keeps a mebibyte at the end of each heap. It would also fix at 128 KiB from where on memory is
    // mapped, each time anew; the second lets buffers be used again, and maps what grows larger: a list that grows
    // in a heap leaves its former places behind.
    for (parameter, bytes) in [
        (libc::M_TRIM_THRESHOLD, 1 << 20),
        (libc::M_MMAP_THRESHOLD, 8 << 20),
    ] {
        // SAFETY: it takes two numbers, and may be called at any time. What it refuses stays as it was.
        unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// As on Linux with glibc, which alone keeps more than a little.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_freed_memory() {}
