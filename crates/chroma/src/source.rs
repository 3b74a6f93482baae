//! A Chroma directory in use, as a source of a backup.
//!
//! 1. *prepare* — without any lock, folders that nobody wrote to for a while are read; this is
//!    most of the bytes of a large directory and none of the time that writers are held.
//! 2. *lock* — SQLite's write lock, waited for at most [`ChromaOptions::lock_wait`].
//! 3. *stream*, writers held — `chroma.sqlite3` through the lock's own descriptor (in WAL mode
//!    also `-wal`), then every segment's folder that changed since it was read. One persist may
//!    still land, because it was under way when the lock was taken; so a folder is read once it
//!    was left alone for [`ChromaOptions::quiet`], and the folders are compared again until all of
//!    them are in the bundle in the state they are in.
//! 4. *stream*, writers released — files that belong to no segment. They travel too, but nobody
//!    waits for them.
//!
//! The copy is the state at the moment of the lock: operations that HNSW files hold beyond it are
//! in the queue as well, and Chroma applies them again without effect.
//!
//! Limits: links, special files and names that are not UTF-8 are left out and counted; empty
//! folders are noted, as Chroma creates what it needs. The hold is at most
//! [`ChromaOptions::max_hold`]: then writers go on and the backup fails. A file system that keeps time
//! stamps of whole seconds lengthens the quiet period to two seconds.
//!
//! Memory: one piece of 1 MiB beside the run's budget, and about 500 bytes a file.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use arkstream_format::{Component, SnapshotEntry};
use arkstream_pipeline::{
    Failure, FailureKind, PlannedItem, Run, Source, SourcePlan, SourceReport,
};
use async_trait::async_trait;

use crate::{
    DATABASE,
    copy::{Reader, Stopped, blocking},
    directory::{self, Listing},
    hold::{Hold, HoldError},
    locked,
    taken::{Outcome, Taken},
};

/// How long a [`ChromaSource`] may wait and make others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChromaOptions {
    /// The longest time for which Chroma's writers are held.
    pub max_hold: Duration,
    /// The longest wait for the lock.
    pub lock_wait: Duration,
    /// A folder is read once it was left alone for so long.
    pub quiet: Duration,
}

impl Default for ChromaOptions {
    fn default() -> Self {
        Self {
            max_hold: Duration::from_secs(60),
            lock_wait: Duration::from_secs(60),
            quiet: Duration::from_millis(100),
        }
    }
}

/// A Chroma directory, read consistently while Chroma writes to it.
#[derive(Debug)]
pub struct ChromaSource {
    given: PathBuf,
    /// `given` with all links resolved; known after the plan.
    directory: PathBuf,
    options: ChromaOptions,
    taken: Taken,
    /// Files that were listed at any time of this run.
    seen: BTreeSet<String>,
    hold: Option<Hold>,
}

impl ChromaSource {
    /// A source that reads `directory`.
    #[must_use]
    pub fn new(directory: PathBuf, options: ChromaOptions) -> Self {
        Self {
            directory: directory.clone(),
            given: directory,
            options,
            taken: Taken::default(),
            seen: BTreeSet::new(),
            hold: None,
        }
    }

    async fn list(&mut self) -> Result<Listing, Failure> {
        let directory = self.directory.clone();
        let listing = blocking(move || directory::list(&directory)).await??;
        self.seen.extend(listing.files.keys().cloned());
        Ok(listing)
    }

    /// What went wrong with the lock, for people.
    fn lock_failure(&self, error: HoldError) -> Failure {
        let database = self.directory.join(DATABASE);
        let attempted = format!("hold the writers of {}", database.display());
        match error {
            HoldError::Io(error) => directory::unreadable(&database, error),
            error => {
                let help = match &error {
                    HoldError::Busy(_) | HoldError::Claimed => {
                        "a long write or a stopped process keeps the database locked: \
                         try again when it is less busy"
                    }
                    HoldError::Expired(_) => EXPIRED_HELP,
                    HoldError::Sqlite(error) if is_read_only(error) => {
                        "the lock needs write permission on the file and its directory: \
                         run Arkstream as the user that runs Chroma"
                    }
                    _ => {
                        "see whether this is the persist directory of a Chroma of version 0.5 or \
                          later, and whether Chroma itself opens it"
                    }
                };
                Failure::new(FailureKind::Source, attempted, &error)
                    .help(help)
                    .caused_by(error)
            }
        }
    }
}

/// What the user can do when the hold ran out.
pub(crate) const EXPIRED_HELP: &str = "raise the bound with --chroma-max-hold, or back up when fewer \
     folders change; Chroma's writers go on now";

fn is_read_only(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen)
    )
}

#[async_trait]
impl Source for ChromaSource {
    fn component(&self) -> Component {
        Component::Chroma
    }

    async fn plan(&mut self) -> Result<SourcePlan, Failure> {
        let given = self.given.clone();
        self.directory = blocking(move || directory::resolve(&given)).await??;
        let listing = self.list().await?;
        let (directory, listed) = (self.directory.clone(), listing.clone());
        let database = blocking(move || {
            directory::check_access(&directory, &listed)?;
            let path = directory.join(DATABASE);
            std::fs::symlink_metadata(&path).map_err(|error| directory::unreadable(&path, error))
        })
        .await??;
        let mut items = vec![PlannedItem {
            name: DATABASE.into(),
            bytes: database.len(),
        }];
        items.extend(listing.files.iter().map(|(path, entry)| PlannedItem {
            name: path.clone(),
            bytes: entry.identity.size,
        }));
        let mut notes = vec![format!(
            "{} files in {}",
            items.len(),
            self.directory.display()
        )];
        notes.extend(listing.empty_folders.iter().map(|path| empty_folder(path)));
        notes.extend(
            listing
                .left_out
                .iter()
                .map(|(what, why)| format!("{what} is left out: {why}")),
        );
        notes.extend(
            listing
                .aliens
                .iter()
                .map(|what| format!("{what} is not part of Chroma's data and is passed over")),
        );
        let directory = self.directory.display().to_string();
        Ok(SourcePlan {
            identity: [("directory", directory)].into(),
            items,
            notes,
        })
    }

    async fn prepare(&mut self, run: &Run) -> Result<(), Failure> {
        let earlier = self.list().await?;
        tokio::time::sleep(self.options.quiet).await;
        let listing = self.list().await?;
        self.taken.keep(run, &listing).await?;
        let reader = Reader::new(run, &self.directory, None);
        for group in listing.groups() {
            if !listing.tells_changes(group)
                || !listing.is_settled(group, &earlier, self.options.quiet)
            {
                continue;
            }
            for (path, entry) in listing.group(group) {
                match self.taken.take(&reader, path, entry).await {
                    Ok(Outcome::Taken) => {}
                    // Not quiet after all; it is read again under the lock.
                    Ok(Outcome::Moved) => break,
                    Err(Stopped::Failed(failure)) => return Err(failure),
                    Err(Stopped::Expired) => break,
                }
            }
        }
        Ok(())
    }

    async fn lock(&mut self, _run: &Run) -> Result<(), Failure> {
        self.release().await;
        let database = self.directory.join(DATABASE);
        let hold = Hold::take(database, self.options.lock_wait, self.options.max_hold)
            .await
            .map_err(|error| self.lock_failure(error))?;
        self.hold = Some(hold);
        Ok(())
    }

    async fn snapshot(&mut self, _run: &Run) -> Result<Option<SnapshotEntry>, Failure> {
        // The lock is the snapshot.
        Ok(None)
    }

    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure> {
        let hold = self.hold.take().ok_or_else(|| {
            Failure::new(
                FailureKind::Internal,
                "read the Chroma directory",
                "it is not locked",
            )
        })?;
        let pass = locked::Pass {
            run,
            directory: &self.directory,
            options: self.options,
            taken: &mut self.taken,
            seen: &mut self.seen,
        };
        let streamed = pass.stream(hold).await;
        let streamed = streamed.map_err(|stopped| match stopped {
            locked::Failed::Lock(error) => self.lock_failure(error),
            locked::Failed::Other(failure) => failure,
        })?;
        self.taken.settle(run).await?;
        Ok(SourceReport {
            chroma: Some(streamed.summary),
            chroma_hold_ms: Some(u64::try_from(streamed.held.as_millis()).unwrap_or(u64::MAX)),
            ..SourceReport::default()
        })
    }

    async fn release(&mut self) {
        if let Some(hold) = self.hold.take() {
            // Whatever was held is given up; nobody relies on what was read.
            let _ = hold.end().await;
        }
    }
}

/// What is said of a folder that has no member.
pub(crate) fn empty_folder(path: &str) -> String {
    format!("{path}/ is empty and has no place in the bundle; Chroma creates what it needs")
}
