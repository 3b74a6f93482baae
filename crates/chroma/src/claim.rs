//! The process-wide claim on one `chroma.sqlite3`.
//!
//! POSIX locks belong to the process: whoever closes a descriptor of the file drops the locks that
//! somebody else in the process relies on. So each user of the file claims its device and inode
//! first, and gives the claim up only after its last descriptor is closed.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use arkstream_pipeline::os::{self, FileId};

static CLAIMED: Mutex<BTreeSet<FileId>> = Mutex::new(BTreeSet::new());

const POLL: Duration = Duration::from_millis(20);

/// The right to open and close one file. Given up on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    file: FileId,
}

impl Claim {
    /// Claims the file at `path`; `None` when somebody else in this process keeps it for longer
    /// than `wait`, or when `stop` says so. Blocks.
    pub(crate) fn take(
        path: &Path,
        wait: Duration,
        stop: impl Fn() -> bool,
    ) -> io::Result<Option<Self>> {
        // Found by `stat`, where the system drops locks: it opens nothing.
        let file = os::id_at(path)?;
        let since = Instant::now();
        loop {
            if CLAIMED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(file)
            {
                return Ok(Some(Self { file }));
            }
            if stop() || since.elapsed() >= wait {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }

    /// Whether the claim is on this open file.
    pub(crate) fn is_on(&self, file: &File) -> io::Result<bool> {
        Ok(self.file == os::id_of(file)?)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_users_of_one_process_never_meet_on_the_same_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let claim = Claim::take(file.path(), Duration::ZERO, || false).unwrap();
        assert!(claim.is_some());
        let second = Claim::take(file.path(), Duration::ZERO, || false).unwrap();
        assert!(second.is_none());
        drop(claim);
        let third = Claim::take(file.path(), Duration::ZERO, || false).unwrap();
        assert!(third.is_some());
    }
}
