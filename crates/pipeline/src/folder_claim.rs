//! Keeps other processes away from a folder that is restored into.
//!
//! The lock belongs to an open descriptor ([`os::lock_folder`]): no file is left behind, and the
//! operating system gives it back when the process ends, however it ends. Within one process the
//! claim of a folder is shared, for two targets may lie in the same folder.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure, FailureKind,
    os::{self, FileId, FolderLock},
};

/// How long a claim is tried: a process that was killed may not be quite gone.
const LIMIT: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(50);

/// Claims of this process by what identifies their folders.
type Taken = HashMap<FileId, Weak<File>>;

static TAKEN: LazyLock<Mutex<Taken>> = LazyLock::new(Mutex::default);

/// A folder, or the nearest folder above it that exists, for as long as the value lives.
#[derive(Clone, Debug)]
pub struct FolderClaim {
    /// `None` where the file system knows no locks: there nothing keeps two restores apart.
    _lock: Option<Arc<File>>,
}

impl FolderClaim {
    /// Claims a folder. Waits a moment for a process that ends.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when another process has claimed it, or it cannot be opened.
    pub fn take(folder: &Path) -> Result<Self, Failure> {
        let existing = folder.ancestors().find(|folder| folder.is_dir());
        let existing = existing.unwrap_or(Path::new("/"));
        let attempted = || format!("claim the folder {}", existing.display());
        let start = Instant::now();
        loop {
            match Self::try_take(existing) {
                Ok(Some(claim)) => return Ok(claim),
                Ok(None) if start.elapsed() < LIMIT => thread::sleep(PAUSE),
                Ok(None) => {
                    return Err(Failure::new(
                        FailureKind::Refused,
                        attempted(),
                        "another restore or undo is under way there",
                    )
                    .help("wait for it to end"));
                }
                Err(error) => return Err(Failure::io(FailureKind::Refused, attempted(), error)),
            }
        }
    }

    fn try_take(folder: &Path) -> io::Result<Option<Self>> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let id = os::id_at(folder)?;
        if let Some(lock) = taken.get(&id).and_then(Weak::upgrade) {
            return Ok(Some(Self { _lock: Some(lock) }));
        }
        match os::lock_folder(folder)? {
            FolderLock::Held(file) => {
                let lock = Arc::new(file);
                taken.retain(|_, lock| lock.strong_count() > 0);
                taken.insert(id, Arc::downgrade(&lock));
                Ok(Some(Self { _lock: Some(lock) }))
            }
            FolderLock::Busy => Ok(None),
            FolderLock::Unknown => Ok(Some(Self { _lock: None })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_descriptor_is_kept_out_and_this_process_is_not() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("not/there");
        let one = FolderClaim::take(&missing).unwrap();
        let two = FolderClaim::take(root.path()).unwrap();
        let stranger = || os::lock_folder(root.path()).unwrap();
        assert!(matches!(stranger(), FolderLock::Busy));
        drop(one);
        assert!(matches!(stranger(), FolderLock::Busy));
        drop(two);
        let held = stranger();
        assert!(matches!(held, FolderLock::Held(_)));
        let refused = FolderClaim::take(root.path()).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
        assert!(refused.why().contains("another restore"), "{refused}");
        drop(held);
        FolderClaim::take(root.path()).unwrap();
    }
}
