//! The port to the file system: what the bundle needs of a disk, and no more.
//!
//! [`LocalDisk`](crate::durable::LocalDisk) is the disk of the machine. The tests have a second one, in
//! memory, that loses what a power cut may lose. What is made of several steps stands here, so that it
//! is the same on every disk.

use std::{
    fmt::Debug,
    io::{self, Read},
    path::{Path, PathBuf},
};

use arkstream_pipeline::fault;
pub use arkstream_pipeline::os::FileId;

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends first; else as the operating system says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes at `offset`, at the end or behind it too, and returns how many bytes were written.
    ///
    /// # Errors
    /// As the operating system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As [`Self::write_at`]; a part may be written then.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts the file off, or fills it up with zeros.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn size(&self) -> io::Result<u64>;

    /// Returns when its bytes and its length outlive a power cut.
    ///
    /// # Errors
    /// As the operating system says. What was not synced may be lost then, even if a later sync
    /// succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// The same, with its times and its mode.
    ///
    /// # Errors
    /// As for [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Takes the exclusive lock without waiting. Returns whether it was free. The lock goes with the
    /// open file.
    ///
    /// # Errors
    /// As the operating system says.
    fn lock(&self) -> io::Result<bool>;

    /// Which file it is.
    ///
    /// # Errors
    /// As the operating system says.
    fn id(&self) -> io::Result<FileId>;

    /// Lets the system forget what it holds of a synced file in memory, so that what is read next comes
    /// from the disk. A hint: where it is not taken, nothing is lost.
    fn forget_cached(&self) {}

    /// Asks the system to read a part into memory, without waiting for it. A hint.
    fn read_ahead(&self, _offset: u64, _len: u64) {}
}

/// A disk: folders, names and files.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file for reading and writing that is ours alone, creating it if it does not exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] if it is somebody else's; else as the operating system says.
    fn open_private(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it is no file; else as the operating system says.
    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The file that a name stands for; `None` if there is none.
    ///
    /// # Errors
    /// As the operating system says.
    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>>;

    /// Renames a file, never over another one.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if `to` exists; else as the operating system says.
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file; one that has the name is replaced.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none; else as the operating system says.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder that is ours alone.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if it exists; else as the operating system says.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// What stands in a folder.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Syncs the folder that `path` stands in, so that names in it are durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_folder_of(&self, path: &Path) -> io::Result<()>;

    /// Whether a name stands for something.
    ///
    /// # Errors
    /// As [`Self::id_of`].
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.id_of(path)?.is_some())
    }

    /// Whether `path` still names the open file, and was not renamed or replaced in between.
    ///
    /// # Errors
    /// As [`Self::id_of`].
    fn still_names(&self, path: &Path, file: &dyn DiskFile) -> io::Result<bool> {
        match self.id_of(path)? {
            Some(there) => Ok(there == file.id()?),
            None => Ok(false),
        }
    }

    /// Gives a finished and synced file its final name, without ever overwriting another file, and
    /// syncs the folder.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if `to` exists; else as the operating system says.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_no_replace(from, to)?;
        fault::point("folder.sync")?;
        self.sync_folder_of(to)
    }

    /// Gives a finished and synced file a name that another file has, which is gone then, and syncs the
    /// folder. Whoever opens the name finds the one or the other, whole.
    ///
    /// # Errors
    /// As the operating system says.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename(from, to)?;
        fault::point("folder.sync")?;
        self.sync_folder_of(to)
    }

    /// Writes a small file under its final name, atomically: beside it first, synced, then renamed.
    /// A file of that name is replaced.
    ///
    /// # Errors
    /// As the operating system says.
    fn write_atomically(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let beside = &beside(path);
        fault::point("record.write")?;
        // A new file, whatever an interrupted run left there: that may have the final name too.
        if self.exists(beside)? {
            self.unlink(beside)?;
        }
        let file = self.open_private(beside)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        fault::point("record.rename")?;
        self.rename(beside, path)?;
        self.sync_folder_of(path)
    }

    /// Creates a folder that is ours alone, and those above it, durably. One that exists is fine.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if self.exists(path)? {
            // Whoever created it may have been killed before it was durable.
            return match self.sync_folder_of(path) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    Ok(())
                }
                outcome => outcome,
            };
        }
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            self.create_folder(above)?;
        }
        match self.make_folder(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_folder_of(path),
        }
    }

    /// Removes a file and syncs its folder. A file that is not there is fine.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // It may be gone since a moment ago, and not durably.
            gone => match self.sync_folder_of(path) {
                Err(error) if gone.is_err() && error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
        }
    }
}

/// Where a file is written before it takes a name.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    beside.into()
}

/// Removes a name that an interrupted run may have left, not durably.
pub(crate) fn unlink_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A part of a file, read from front to back.
#[derive(Clone, Debug)]
pub(crate) struct FileRange<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) at: u64,
    pub(crate) end: u64,
}

impl<'a> FileRange<'a> {
    /// The whole of it, as long as it is now.
    pub(crate) fn whole(file: &'a dyn DiskFile) -> io::Result<Self> {
        let end = file.size()?;
        Ok(Self { file, at: 0, end })
    }
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (buffer.len() as u64).min(self.end - self.at) as usize;
        self.file.read_exact_at(&mut buffer[..len], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}
