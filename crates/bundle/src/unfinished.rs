//! Output that takes its final name only when it is whole: a file, or a folder with all its files.
//!
//! Until then it stands beside that name, locked by its writer. What a killed run left there is removed by
//! the next one; a run that fails removes it itself. Nothing that has the final name is ever replaced.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use arkstream_pipeline::{Failure, FailureKind, fault, os};

use crate::{
    disk::{Disk as _, beside},
    durable::{LocalDisk, create_private, open_private},
};

/// What unfinished folders are called. A longer name than that of files: what stands there is removed.
const FOLDER_SUFFIX: &str = ".arkstream.partial";

/// A file that is being written.
#[derive(Debug)]
pub struct UnfinishedFile {
    target: PathBuf,
    partial: PathBuf,
    file: File,
    left_behind: bool,
    published: bool,
}

impl UnfinishedFile {
    /// Begins the file, over what a killed run left of it.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when something has the name or another run writes it.
    pub fn begin(target: &Path) -> Result<Self, Failure> {
        let refused = |error| refused(target, error);
        if target.try_exists().map_err(refused)? {
            return Err(exists(target));
        }
        let partial = beside(target);
        let left_behind = partial.try_exists().map_err(refused)?;
        let file = open_private(&partial).map_err(refused)?;
        // Another run may have given this very file its name between the look and the lock.
        if !os::try_lock(&file).map_err(refused)?
            || !LocalDisk.still_names(&partial, &file).map_err(refused)?
        {
            return Err(busy(target));
        }
        if target.try_exists().map_err(refused)? {
            return Err(exists(target));
        }
        file.set_len(0).map_err(refused)?;
        Ok(Self {
            target: target.to_owned(),
            partial,
            file,
            left_behind,
            published: false,
        })
    }

    /// Where the bytes go.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether a killed run had begun it.
    #[must_use]
    pub fn was_left_behind(&self) -> bool {
        self.left_behind
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// As the disk says; [`FailureKind::Refused`] when something took the name meanwhile.
    pub fn publish(mut self) -> Result<(), Failure> {
        fault::point("export.finished")
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fault::point("export.rename"))
            .and_then(|()| LocalDisk.publish(&self.partial, &self.target))
            .map_err(|error| refused(&self.target, error))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.published {
            // The failure that led here is the one to tell; the next run removes it otherwise.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A folder that is being filled.
#[derive(Debug)]
pub struct UnfinishedFolder {
    target: PathBuf,
    partial: PathBuf,
    _lock: File,
    published: bool,
}

impl UnfinishedFolder {
    /// Begins the folder, after removing what a killed run left of it. An empty folder may have the name.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when anything else has the name or another run fills it.
    pub fn begin(target: &Path) -> Result<Self, Failure> {
        let refused = |error| refused(target, error);
        // `rows/` is `rows`, and `.` has a name too.
        let target = &match target.file_name() {
            Some(_) => target.components().collect::<PathBuf>(),
            None => target.canonicalize().map_err(refused)?,
        };
        check_free(target)?;
        let partial = Self::partial(target);
        if let Some(above) = target
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
        {
            LocalDisk.create_folder(above).map_err(refused)?;
        }
        let lock = loop {
            LocalDisk.create_folder(&partial).map_err(refused)?;
            if fs::symlink_metadata(&partial)
                .map_err(refused)?
                .is_symlink()
            {
                return Err(refused(io::Error::other(format!(
                    "{} is a symbolic link",
                    partial.display()
                ))));
            }
            let Some(lock) = os::lock_movable_folder(&partial).map_err(refused)? else {
                return Err(busy(target));
            };
            check_free(target)?;
            let mut left = fs::read_dir(&partial).map_err(refused)?;
            if left.next().is_none() {
                break lock;
            }
            fs::remove_dir_all(&partial).map_err(refused)?;
        };
        Ok(Self {
            target: target.to_owned(),
            partial,
            _lock: lock,
            published: false,
        })
    }

    fn partial(target: &Path) -> PathBuf {
        let mut partial = target.as_os_str().to_owned();
        partial.push(FOLDER_SUFFIX);
        partial.into()
    }

    /// Removes what a killed run left of the folder, if anything.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn tidy(target: &Path) -> Result<(), Failure> {
        match Self::partial(target).try_exists() {
            Ok(false) => Ok(()),
            // What is begun and given up is removed.
            _ => Self::begin(target).map(drop),
        }
    }

    /// The name that it will have.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Creates a file of that relative name in it, and the folders above it. It must be synced by whoever
    /// writes it.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when the name leaves the folder or is taken; as the disk says.
    pub fn create(&self, name: &str) -> Result<File, Failure> {
        let refused = |error| refused(&self.target.join(name), error);
        arkstream_format::check_name(name)
            .and_then(|()| os::check_nameable(name))
            .map_err(|why| refused(io::Error::new(io::ErrorKind::InvalidInput, why)))?;
        let path = self.partial.join(name);
        if let Some(above) = path.parent() {
            LocalDisk.create_folder(above).map_err(refused)?;
        }
        fault::point("export.file")
            .and_then(|()| create_private(&path))
            .map_err(refused)
    }

    /// Gives it its name. Its files must be synced.
    ///
    /// # Errors
    /// As the disk says; [`FailureKind::Refused`] when something took the name meanwhile.
    pub fn publish(mut self) -> Result<(), Failure> {
        let refused = |error| refused(&self.target, error);
        fault::point("export.finished").map_err(refused)?;
        sync_folders(&self.partial).map_err(refused)?;
        check_free(&self.target)?;
        match fs::remove_dir(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => fault::point("export.rename")
                .and_then(|()| os::rename_no_replace(&self.partial, &self.target))
                .map_err(refused)?,
        }
        self.published = true;
        LocalDisk.sync_folder_of(&self.target).map_err(refused)
    }
}

impl Drop for UnfinishedFolder {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Removes a folder that an interrupted run had named before the file that goes with it. The caller knows
/// that it did.
///
/// # Errors
/// As the disk says.
pub fn remove_folder(path: &Path) -> Result<(), Failure> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    let removed = removed.and_then(|()| LocalDisk.sync_folder_of(path));
    removed.map_err(|error| {
        let attempted = format!("remove what an interrupted run left, {}", path.display());
        Failure::io(FailureKind::Refused, attempted, error)
    })
}

/// Nothing, or an empty folder.
fn check_free(target: &Path) -> Result<(), Failure> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotADirectory => Err(refused(target, error)),
        _ => Err(exists(target)),
    }
}

/// Syncs every folder from the deepest up, so that the names in them are durable.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    os::sync_folder(folder)
}

fn refused(target: &Path, error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return exists(target);
    }
    Failure::io(
        FailureKind::Refused,
        format!("write {}", target.display()),
        error,
    )
}

fn exists(target: &Path) -> Failure {
    let attempted = format!("write {}", target.display());
    Failure::new(FailureKind::Refused, attempted, "it exists already")
        .help("choose another name, or remove it yourself; nothing is ever overwritten")
}

fn busy(target: &Path) -> Failure {
    let attempted = format!("write {}", target.display());
    Failure::new(
        FailureKind::Refused,
        attempted,
        "another run is writing it at this moment",
    )
    .help("wait for it to end, or choose another name")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        let folder = UnfinishedFolder::begin(&root.path().join("out/")).unwrap();
        folder.create("a/b").unwrap().write_all(b"x").unwrap();
        assert!(!target.exists());
        assert_eq!(names(root.path()), ["out.arkstream.partial"]);
        let second = UnfinishedFolder::begin(&target).unwrap_err();
        assert!(second.why().contains("another run"), "{second}");
        drop(folder);
        assert!(names(root.path()).is_empty(), "a run that fails tidies up");

        let killed = UnfinishedFolder::begin(&target).unwrap();
        killed.create("old").unwrap();
        let (partial, lock) = (killed.partial.clone(), killed._lock.try_clone().unwrap());
        std::mem::forget(killed);
        lock.unlock().unwrap();
        assert!(partial.join("old").exists());
        fs::create_dir(&target).unwrap();
        let folder = UnfinishedFolder::begin(&target).unwrap();
        folder.create("new").unwrap();
        folder.publish().unwrap();
        assert_eq!(names(root.path()), ["out"]);
        assert_eq!(names(&target), ["new"]);
        let refused = UnfinishedFolder::begin(&target).unwrap_err();
        assert!(refused.why().contains("exists already"), "{refused}");
    }

    #[test]
    fn names_stay_in_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = UnfinishedFolder::begin(&root.path().join("out")).unwrap();
        assert!(folder.create("../x").is_err());
        folder.create("x").unwrap();
        assert!(folder.create("x").is_err());
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out.xlsx");
        let partial = beside(&target);
        fs::create_dir(root.path().join("other")).unwrap();
        open_private(&partial)
            .unwrap()
            .write_all(b"of a killed run, longer")
            .unwrap();
        let file = UnfinishedFile::begin(&target).unwrap();
        assert!(file.was_left_behind());
        assert!(UnfinishedFile::begin(&target).is_err());
        file.file().write_all(b"new").unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(root.path()), ["other", "out.xlsx"]);
        assert!(UnfinishedFile::begin(&target).is_err());
    }
}
