//! Records of restores: one file a restore in the state folder.
//!
//! `<restore id>.json`, 0600, replaced atomically and synced, so that a record is the old one or
//! the new one. `lock` keeps two restores of one state folder apart, for as long as the value
//! lives; the operating system gives it back when the process ends.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_format::RestoreRecord;
use arkstream_pipeline::{Failure, FailureKind};

use crate::{
    disk::{Disk, DiskFile, FileRange},
    durable::{self, LocalDisk},
};

/// The state folder, locked.
#[derive(Debug)]
pub struct LedgerFolder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    _lock: Box<dyn DiskFile>,
}

impl LedgerFolder {
    /// Opens the folder, creating it if need be, and locks it.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when another process restores or undoes, or the folder cannot be
    /// written to.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        Self::open_on(durable::local(), dir)
    }

    /// The same, on any disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Failure> {
        let attempted = || format!("open the state folder {}", dir.display());
        let failed = |error| {
            Failure::io(FailureKind::Refused, attempted(), error)
                .help("name another one with --state-dir")
        };
        disk.create_folder(dir).map_err(failed)?;
        let lock = disk.open_private(&dir.join("lock")).map_err(failed)?;
        if !lock.lock().map_err(failed)? {
            return Err(Failure::new(
                FailureKind::Refused,
                attempted(),
                "another restore or undo is under way",
            )
            .help("wait for it to end"));
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps a record in place of an earlier one of the same restore. Returns when it is durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, record: &RestoreRecord) -> Result<(), Failure> {
        let path = self.path(&record.restore_id)?;
        let attempted = || format!("write the record {}", path.display());
        let mut text = serde_json::to_vec_pretty(record)
            .map_err(|error| Failure::new(FailureKind::Internal, attempted(), error))?;
        text.push(b'\n');
        self.disk
            .write_atomically(&path, &text)
            .map_err(|error| Failure::io(FailureKind::Refused, attempted(), error))
    }

    /// The record of a restore.
    ///
    /// # Errors
    /// [`FailureKind::Usage`] when there is none of that name; when it cannot be read.
    pub fn load(&self, id: &str) -> Result<RestoreRecord, Failure> {
        let path = self.path(id)?;
        match read(self.disk.as_ref(), &path) {
            Ok(record) => Ok(record),
            Err(_) if !self.disk.exists(&path).unwrap_or(false) => Err(Failure::new(
                FailureKind::Usage,
                format!("find the restore {id}"),
                format!("{} knows no such restore", self.dir.display()),
            )
            .help("`arkstream restores` lists them; --state-dir names another state folder")),
            Err(failure) => Err(failure),
        }
    }

    fn path(&self, id: &str) -> Result<PathBuf, Failure> {
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("find the restore {id:?}"),
                "this is no name of a restore",
            )
            .help("`arkstream restores` lists them"));
        }
        Ok(self.dir.join(format!("{id}.json")))
    }
}

/// All records of a state folder, the oldest first; needs no lock. What cannot be read is among
/// them as a failure.
///
/// # Errors
/// When the folder cannot be read; one that does not exist has no records.
pub fn records(dir: &Path) -> Result<Vec<Result<RestoreRecord, Failure>>, Failure> {
    records_on(&LocalDisk, dir)
}

/// The same, on any disk.
///
/// # Errors
/// As [`records`].
pub fn records_on(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Vec<Result<RestoreRecord, Failure>>, Failure> {
    let attempted = || format!("read the state folder {}", dir.display());
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io(FailureKind::Refused, attempted(), error)),
    };
    let mut found = Vec::new();
    for path in entries {
        if path.extension().is_some_and(|ext| ext == "json") {
            found.push(read(disk, &path));
        }
    }
    found.sort_by_key(|record| match record {
        Ok(record) => Some(record.started_at),
        Err(_) => None,
    });
    Ok(found)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<RestoreRecord, Failure> {
    let attempted = || format!("read the record {}", path.display());
    let text = read_whole(disk, path)
        .map_err(|error| Failure::io(FailureKind::Refused, attempted(), error))?;
    let record: RestoreRecord = serde_json::from_slice(&text)
        .map_err(|error| Failure::new(FailureKind::Damaged, attempted(), error))?;
    if record.version > RestoreRecord::VERSION {
        return Err(Failure::new(
            FailureKind::Incompatible,
            attempted(),
            format!(
                "it was written by a newer Arkstream (version {})",
                record.version
            ),
        )
        .help("use the newer Arkstream"));
    }
    Ok(record)
}

fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open_to_read(path)?;
    let mut bytes = Vec::new();
    FileRange::whole(file.as_ref())?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arkstream_format::{RestorePhase, RunId};

    fn record(id: &str) -> RestoreRecord {
        RestoreRecord {
            version: RestoreRecord::VERSION,
            restore_id: id.to_owned(),
            bundle: "b.zip".to_owned(),
            bundle_run_id: RunId("0".repeat(32)),
            bundle_manifest: arkstream_format::Digest::of(&[]),
            started_at: chrono::Utc::now(),
            updated_at: chrono::Utc::now(),
            phase: RestorePhase::Staging,
            targets: Vec::new(),
        }
    }

    #[test]
    fn a_record_is_found_again_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = LedgerFolder::open(dir.path()).unwrap();
        let mut one = record("abc");
        ledger.save(&one).unwrap();
        one.phase = RestorePhase::Live;
        ledger.save(&one).unwrap();
        assert_eq!(ledger.load("abc").unwrap(), one);
        assert_eq!(records(dir.path()).unwrap().len(), 1);
        assert_eq!(ledger.load("nothing").unwrap_err().kind, FailureKind::Usage);
        assert_eq!(ledger.load("../x").unwrap_err().kind, FailureKind::Usage);
    }

    #[test]
    fn two_restores_of_one_state_folder_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let first = LedgerFolder::open(dir.path()).unwrap();
        let second = LedgerFolder::open(dir.path()).unwrap_err();
        assert_eq!(second.kind, FailureKind::Refused);
        drop(first);
        LedgerFolder::open(dir.path()).unwrap();
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = LedgerFolder::open(dir.path()).unwrap();
        ledger.save(&record("good")).unwrap();
        durable::write_atomically(&dir.path().join("bad.json"), b"{").unwrap();
        let found = records(dir.path()).unwrap();
        assert_eq!(found.iter().filter(|record| record.is_err()).count(), 1);
        assert_eq!(found.len(), 2);
    }
}
