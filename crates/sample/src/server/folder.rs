//! The server's temporary folder.
//!
//! It is short enough for a Unix socket, open to the user the server runs as, and removed with
//! the server. A process that was killed outright cannot remove its folder; it held a lock on the
//! file `lock` in it, so the next server started anywhere finds the lock free and removes it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::user::ServerUser;
use crate::error::SampleError;

const PREFIX: &str = "arkstream-pg-";

/// A Unix socket path holds 107 bytes; `/s/.s.PGSQL.65535.lock` needs 22 of them.
const LONGEST: usize = 80;

/// A folder that vanishes with its value.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// A fresh folder, owned by `user`.
    pub(super) fn create(user: &ServerUser) -> Result<Self, SampleError> {
        let mut bases = vec![
            std::env::temp_dir(),
            PathBuf::from("/tmp"),
            PathBuf::from("/var/tmp"),
        ];
        bases.dedup();
        for base in &bases {
            if let Some(folder) = Self::create_in(base, user)? {
                return Ok(folder);
            }
        }
        let tried = bases
            .iter()
            .map(|b| b.display().to_string())
            .collect::<Vec<_>>()
            .join(", ");
        Err(SampleError::NoFolder { tried })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn create_in(base: &Path, user: &ServerUser) -> Result<Option<Self>, SampleError> {
        if !base.is_dir() || !user.may_enter(base)? {
            return Ok(None);
        }
        sweep(base);
        let name = format!(
            "{PREFIX}{}",
            &uuid::Uuid::new_v4().simple().to_string()[..10]
        );
        let path = base.join(name);
        if path.as_os_str().len() > LONGEST {
            return Ok(None);
        }
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .map_err(SampleError::io("create", &path))?;
        // Locked under another name first: a sweeper only looks at `lock`.
        let early = path.join("lock.new");
        let lock = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&early)
            .map_err(SampleError::io("create", &early))?;
        let folder = Self {
            path: path.clone(),
            _lock: lock,
        };
        rustix::fs::flock(&folder._lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(std::io::Error::from)
            .and_then(|()| fs::hard_link(&early, path.join("lock")))
            .and_then(|()| fs::remove_file(&early))
            .map_err(SampleError::io("lock", &early))?;
        user.own(&path)?;
        Ok(Some(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(folder = %path.display(), %error, "could not remove the sample server's folder");
    }
}

/// Removes folders whose owner died without removing them.
fn sweep(base: &Path) {
    let Ok(read) = fs::read_dir(base) else { return };
    for entry in read.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && abandoned(&entry.path()) {
            remove(&entry.path());
        }
    }
}

fn abandoned(folder: &Path) -> bool {
    let path = folder.join("lock");
    let ours = fs::symlink_metadata(&path)
        .is_ok_and(|m| m.is_file() && m.uid() == rustix::process::geteuid().as_raw());
    ours && OpenOptions::new()
        .write(true)
        .open(&path)
        .is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        })
}
