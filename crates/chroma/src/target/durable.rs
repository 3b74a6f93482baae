//! Renames that survive a crash: the only place of this crate that renames anything.
//!
//! The bundle crate keeps the crash-safe operations on bundles. They replace one file by another;
//! what a restore of Chroma needs is to exchange two whole directories in one step, and this crate
//! cannot import `bundle`. So this stands here, on the calls of [`os`].
//!
//! Durability: a rename counts only once the folders on both sides are synced. [`Moves::rename`]
//! does not sync, so that a switch of many entries syncs once a phase; its callers MUST call
//! [`sync_folder`] before they rely on it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use arkstream_pipeline::{Failure, FailureKind, fault, is_no_space, os};

/// How directories are moved.
#[derive(Clone, Debug)]
pub(super) struct Moves {
    /// Whether two names may be exchanged in one step. File systems that cannot do it say so, and
    /// are then treated as if this were false.
    exchange: bool,
    #[cfg(test)]
    fuel: Option<std::sync::Arc<std::sync::atomic::AtomicU32>>,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            exchange: true,
            #[cfg(test)]
            fuel: None,
        }
    }
}

impl Moves {
    /// Gives a file or folder another name. Not synced.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        self.step()
            .and_then(|()| os::rename(from, to))
            .map_err(|error| {
                let attempted = format!("rename {} to {}", from.display(), to.display());
                refused(attempted, error)
            })
    }

    /// Exchanges two names in one step. `false` when the file system cannot do it; then nothing
    /// has happened. Not synced.
    pub(super) fn exchange(&self, one: &Path, other: &Path) -> Result<bool, Failure> {
        if !self.exchange {
            return Ok(false);
        }
        let exchanged = self.step().and_then(|()| os::exchange(one, other));
        exchanged.map_err(|error| {
            let attempted = format!("exchange {} and {}", one.display(), other.display());
            refused(attempted, error)
        })
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn step(&self) -> io::Result<()> {
        fault::point("chroma.rename")
    }
}

#[cfg(test)]
impl Moves {
    /// Moves that come to a stop, as by a kill, after `steps` of them.
    pub(super) fn killed_after(steps: u32, exchange: bool) -> Self {
        Self {
            exchange,
            fuel: Some(std::sync::Arc::new(steps.into())),
        }
    }

    /// Moves on a file system that cannot exchange two names.
    pub(super) fn without_exchange() -> Self {
        Self {
            exchange: false,
            fuel: None,
        }
    }

    fn step(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering;
        let Some(fuel) = &self.fuel else {
            return Ok(());
        };
        fuel.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
        .map(|_| ())
        .map_err(|_| io::Error::other("killed"))
    }
}

/// Makes renames, new files and removals in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Failure> {
    os::sync_folder(folder).map_err(|error| refused(format!("sync {}", folder.display()), error))
}

/// Replaces a small file as a whole, durably. A crash leaves the former content or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = beside(path, ".tmp");
    let written = fault::point("chroma.record")
        .and_then(|()| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            os::create_with_mode(&mut options, 0o600).open(&temporary)
        })
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|error| refused(format!("write {}", temporary.display()), error))?;
    os::rename(&temporary, path)
        .map_err(|error| refused(format!("write {}", path.display()), error))?;
    sync_folder(parent_of(path))
}

/// Removes a file, a link or a folder with all it holds. What is not there is removed already.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refused(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Whether something has this name, be it a link that leads nowhere.
pub(super) fn exists(path: &Path) -> Result<bool, Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(refused(format!("look at {}", path.display()), error)),
    }
}

/// The name with something appended.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(OsStr::new(suffix));
    name.into()
}

/// The folder that a name stands in.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A file operation of the restore failed.
pub(super) fn refused(attempted: impl Into<String>, error: io::Error) -> Failure {
    let help = if is_no_space(&error) {
        "free some space on the file system of the Chroma directory, then run again"
    } else {
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "run Arkstream as the user that owns the Chroma directory and may write to the \
                 folder it lies in"
            }
            io::ErrorKind::ReadOnlyFilesystem => "mount the file system for writing",
            io::ErrorKind::CrossesDevices => {
                "this file system cannot rename the directory in place, as an image layer of a \
                 container; put the Chroma directory on a volume"
            }
            _ => "see what lies there and whether the file system is in order",
        }
    };
    Failure::io(FailureKind::Refused, attempted, error).help(help)
}
