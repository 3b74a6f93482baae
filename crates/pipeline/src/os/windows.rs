//! See the module above; what the functions promise stands at those of `unix`.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io,
    os::windows::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{FileId, FileState, FolderLock, Owner, Space};

const DELETE: u32 = 0x0001_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const FILE_ADD_FILE: u32 = 0x2;
const FILE_ADD_SUBDIRECTORY: u32 = 0x4;
const FILE_TRAVERSE: u32 = 0x20;
const FILE_READ_ATTRIBUTES: u32 = 0x80;

const SHARE_READ: u32 = 0x1;
const SHARE_DELETE: u32 = 0x4;

/// Lets a folder be opened.
const FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// Opens a link, not what it leads to.
const FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
const FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;

const ERROR_SHARING_VIOLATION: i32 = 32;

/// From 1601, where Windows begins to count, to 1970, in its steps of 100 ns.
const EPOCH: u64 = 116_444_736_000_000_000;

/// Which file is open.
///
/// # Errors
/// As the operating system says.
pub fn id_of(file: &File) -> io::Result<FileId> {
    let found = winapi_util::file::information(file)?;
    Ok(FileId {
        device: found.volume_serial_number(),
        inode: found.file_index(),
    })
}

/// Which file a name stands for, links followed.
///
/// # Errors
/// As the operating system says.
pub fn id_at(path: &Path) -> io::Result<FileId> {
    id_of(&look_at(path, 0)?)
}

/// What a name stands for, be it a link.
///
/// # Errors
/// As the operating system says.
pub fn id_of_name(path: &Path) -> io::Result<FileId> {
    id_of(&look_at(path, FLAG_OPEN_REPARSE_POINT)?)
}

/// Opens a file or folder for its attributes alone, which disturbs nobody.
fn look_at(path: &Path, flags: u32) -> io::Result<File> {
    OpenOptions::new()
        .access_mode(FILE_READ_ATTRIBUTES)
        .custom_flags(FLAG_BACKUP_SEMANTICS | flags)
        .open(path)
}

/// The state of an open file.
///
/// # Errors
/// As the operating system says.
pub fn state_of(file: &File) -> io::Result<FileState> {
    let found = file.metadata()?;
    let since = i128::from(found.last_write_time()) - i128::from(EPOCH);
    Ok(FileState {
        id: id_of(file)?,
        size: found.len(),
        mtime_ns: since * 100,
        ctime_ns: None,
    })
}

/// The state of what a name stands for, be it a link. Not what is known already: a folder tells old sizes and
/// times of files that are open.
///
/// # Errors
/// As the operating system says.
pub fn state_at(path: &Path, _: &Metadata) -> io::Result<FileState> {
    state_of(&look_at(path, FLAG_OPEN_REPARSE_POINT)?)
}

/// Permissions: those of a file that is its owner's alone, for access lists do not translate.
#[must_use]
pub fn mode(_: &Metadata) -> u32 {
    0o600
}

/// Does nothing: the access list is that of the folder.
///
/// # Errors
/// None on this system.
pub fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

/// `None`: the system has no such numbers.
#[must_use]
pub fn owner(_: &Metadata) -> Option<Owner> {
    None
}

/// Nobody has an [`Owner`] to call this with.
///
/// # Errors
/// Always.
pub fn give(_: &Path, _: Owner, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `None`: the system has no such numbers.
#[must_use]
pub fn user() -> Option<u32> {
    None
}

/// Does nothing: the access list is that of the folder.
pub fn create_with_mode(options: &mut OpenOptions, _: u32) -> &mut OpenOptions {
    options
}

/// Does nothing: the access list is that of the folder above.
pub fn folder_with_mode(builder: &mut DirBuilder, _: u32) -> &mut DirBuilder {
    builder
}

/// Opens a file, and fails where the name is a link.
///
/// # Errors
/// As the operating system says.
pub fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(FLAG_OPEN_REPARSE_POINT).open(path)?;
    if file.metadata()?.is_symlink() {
        return Err(io::Error::other("it is a link, and links are not followed"));
    }
    Ok(file)
}

/// Opens a file for reading and follows no link.
///
/// # Errors
/// As the operating system says.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open_no_follow(OpenOptions::new().read(true), path)
}

/// Opens a file for reading and writing that is ours alone, creating it if it does not exist. While it is open
/// nobody else can open it for writing, which is the lock: those of byte ranges would keep its own process
/// from reading the file through a second handle.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if it has a second name or is no file; else as the operating system
/// says, also when another process writes it.
pub fn open_alone(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(SHARE_READ | SHARE_DELETE);
    let Some(file) = unless_shared(open_no_follow(&mut options, path))? else {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "{} is open elsewhere: another run is writing it at this moment",
                path.display()
            ),
        ));
    };
    let own =
        file.metadata()?.is_file() && winapi_util::file::information(&file)?.number_of_links() == 1;
    if !own {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} exists and belongs to somebody else", path.display()),
        ));
    }
    Ok(file)
}

/// Whether a file that [`open_alone`] opened is ours: it is, or it would not be open.
///
/// # Errors
/// None on this system.
pub fn try_lock(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file for reading that nobody writes while it is open; `None` if somebody does.
///
/// # Errors
/// As the operating system says.
pub fn read_unless_written(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).share_mode(SHARE_READ | SHARE_DELETE);
    unless_shared(options.open(path))
}

fn unless_shared(opened: io::Result<File>) -> io::Result<Option<File>> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes a folder for this process: a file in it that nobody else can open, and that Windows removes when it is
/// closed, however the process ends.
///
/// # Errors
/// When the file cannot be created.
pub fn lock_folder(folder: &Path) -> io::Result<FolderLock> {
    Ok(match hold(&folder.join(".arkstream_claim"))? {
        Some(file) => FolderLock::Held(file),
        None => FolderLock::Busy,
    })
}

/// The same, of a folder that is renamed while it is locked: the file lies beside it, for a folder with an open
/// file in it cannot be renamed.
///
/// # Errors
/// As the operating system says.
pub fn lock_movable_folder(folder: &Path) -> io::Result<Option<File>> {
    let mut beside = folder.as_os_str().to_owned();
    beside.push(".arkstream_claim");
    hold(&PathBuf::from(beside))
}

fn hold(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .access_mode(GENERIC_WRITE | DELETE)
        .share_mode(0)
        .custom_flags(FLAG_DELETE_ON_CLOSE | FLAG_OPEN_REPARSE_POINT);
    unless_shared(options.open(path))
}

/// Whether somebody holds a file open, in whatever way.
///
/// # Errors
/// As the operating system says.
pub fn is_open_elsewhere(path: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .share_mode(0)
        .custom_flags(FLAG_OPEN_REPARSE_POINT);
    Ok(unless_shared(options.open(path))?.is_none())
}

/// The path from the root, all links resolved, as people write it where that names the same: with `C:\`, without
/// the `\\?\` before it.
///
/// # Errors
/// As the operating system says.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    // The longest path may have 260 characters without that, and names are made below this one.
    const SHORT: usize = 180;
    let real = std::fs::canonicalize(path)?;
    let plain = real.to_str().and_then(|path| path.strip_prefix(r"\\?\"));
    let plain = plain.filter(|path| {
        let names = path.get(3..).unwrap_or_default().replace('\\', "/");
        path.len() < SHORT
            && path.as_bytes().get(1) == Some(&b':')
            && (names.is_empty() || check_nameable(&names).is_ok())
    });
    Ok(plain.map(PathBuf::from).unwrap_or(real))
}

/// Whether a file may be read, found out by opening it.
///
/// # Errors
/// Why not.
pub fn check_readable(path: &Path) -> io::Result<()> {
    open_to_read(path).map(drop)
}

/// Whether a file may be read and written, found out by opening it.
///
/// # Errors
/// Why not.
pub fn check_writable(path: &Path) -> io::Result<()> {
    open_no_follow(OpenOptions::new().read(true).write(true), path).map(drop)
}

/// Whether files may be created in a folder, found out by opening it for that.
///
/// # Errors
/// Why not.
pub fn check_folder_writable(folder: &Path) -> io::Result<()> {
    OpenOptions::new()
        .access_mode(FILE_ADD_FILE | FILE_ADD_SUBDIRECTORY | FILE_TRAVERSE)
        .custom_flags(FLAG_BACKUP_SEMANTICS)
        .open(folder)
        .map(drop)
}

/// `None`: nothing with a safe interface asks for it.
///
/// # Errors
/// None on this system.
pub fn free_space(_: &Path) -> io::Result<Option<Space>> {
    Ok(None)
}

/// Gives a file or folder another name, never over what has that name, in one step: always `true`. Not synced.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `to` exists; else as the operating system says.
pub fn rename_if_free(from: &Path, to: &Path) -> io::Result<bool> {
    // `std::fs::rename` would replace. Nothing of this is temporary: it is never cleaned up.
    let mut from = tempfile::TempPath::try_from_path(from)?;
    from.disable_cleanup(true);
    from.persist_noclobber(to)
        .map(|()| true)
        .map_err(|failed| failed.error)
}

/// `false`: the system cannot.
///
/// # Errors
/// None on this system.
pub fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Does nothing; see the module above.
///
/// # Errors
/// None on this system.
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Reads at `offset`, and returns how many bytes. The cursor moves.
///
/// # Errors
/// As the operating system says.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

/// Reads exactly `buffer.len()` bytes at `offset`. The cursor moves.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends first; else as the operating system says.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.seek_read(&mut buffer[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes at `offset`, at the end or behind it too, and returns how many bytes were written. The cursor moves.
///
/// # Errors
/// As the operating system says.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

/// Whether the system can have a file of that name, `/`-separated.
///
/// # Errors
/// Why not.
pub fn check_nameable(name: &str) -> Result<(), &'static str> {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let numbered = |stem: &str, kind: &str| {
        stem.strip_prefix(kind)
            .is_some_and(|rest| rest.chars().count() == 1 && !rest.starts_with('0'))
    };
    for part in name.split('/') {
        if part.contains(['<', '>', ':', '"', '|', '?', '*', '\\'])
            || part.contains(char::is_control)
        {
            return Err("Windows cannot have a file of that name: it holds one of <>:\"|?*\\");
        }
        if part.ends_with(['.', ' ']) {
            return Err("Windows cannot have a file of that name: it ends with a dot or a space");
        }
        let stem = part.split('.').next().unwrap_or(part).trim_end();
        let stem = stem.to_ascii_uppercase();
        if DEVICES.contains(&stem.as_str()) || numbered(&stem, "COM") || numbered(&stem, "LPT") {
            return Err("Windows cannot have a file of that name: it is that of a device");
        }
    }
    Ok(())
}

/// As on Linux with glibc, which alone keeps more than a little.
pub fn give_back_freed_memory() {}
