//! The switch inside a mount point, entry by entry.
//!
//! The journal lists the entries of both sides and is synced before the first rename. Then
//!
//! 1. **out:** every former entry goes to the kept folder, the database first;
//! 2. **in:** every staged entry comes into the live directory, the database last.
//!
//! So in the middle there is no database, rather than a database without its vectors. A phase is
//! synced before the next begins. The way back does the same with the sides changed, and takes
//! along whatever Chroma has made since.
//!
//! Where an entry is tells how far the switch came: an entry of both sides that is in the kept
//! folder is the staged one where it is live; one that is not is the former one. Without a
//! journal nothing was moved.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use arkstream_pipeline::{Failure, FailureKind, Standing};

use super::{
    durable::{self, Moves, exists, sync_folder},
    place::Paths,
    record::Record,
    switch::{Switch, gone, not_staged},
};
use crate::{DATABASE, directory::is_alien};

const TITLE: &[u8] = b"arkstream chroma entries 1";

/// The entries of a mount point.
pub(super) struct Entries {
    pub(super) paths: Paths,
    /// The folder of this restore.
    pub(super) inside: PathBuf,
    pub(super) moves: Moves,
}

/// The entries of both sides.
#[derive(Debug, Default, PartialEq, Eq)]
struct Journal {
    former: BTreeSet<OsString>,
    staged: BTreeSet<OsString>,
}

impl Journal {
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let attempted = || format!("read {}", path.display());
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(durable::refused(attempted(), error)),
        };
        let mut lines = bytes.split(|byte| *byte == 0);
        let mut journal = Self::default();
        let mut known = lines.next() == Some(TITLE);
        for line in lines.filter(|line| !line.is_empty()) {
            let (side, name) = line.split_at(1);
            let Some(name) = name_of(name) else {
                known = false;
                break;
            };
            match side {
                b"-" => journal.former.insert(name),
                b"+" => journal.staged.insert(name),
                _ => {
                    known = false;
                    break;
                }
            };
        }
        if known {
            return Ok(Some(journal));
        }
        let why = "it is not the journal of a restore, or one of another version";
        Err(Failure::new(FailureKind::Refused, attempted(), why)
            .help("put the file back as it was; it says which entries are the former ones"))
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut bytes = TITLE.to_vec();
        for (side, names) in [(b'-', &self.former), (b'+', &self.staged)] {
            for name in names {
                bytes.extend([0, side]);
                bytes.extend(name.as_encoded_bytes());
            }
        }
        bytes.push(0);
        durable::replace(path, &bytes)
    }
}

impl Entries {
    fn journal_path(&self) -> PathBuf {
        self.inside.join("journal")
    }

    fn journal(&self) -> Result<Option<Journal>, Failure> {
        Journal::read(&self.journal_path())
    }

    fn is_new(&self, journal: &Journal) -> Result<bool, Failure> {
        for name in &journal.staged {
            if exists(&self.paths.staging.join(name))? {
                return Ok(false);
            }
        }
        Ok(!journal.staged.is_empty())
    }

    fn sync(&self) -> Result<(), Failure> {
        for folder in [&self.paths.live, &self.paths.staging, &self.paths.kept] {
            if exists(folder)? {
                sync_folder(folder)?;
            }
        }
        Ok(())
    }

    /// Moves what is in `from`; what is not there has been moved before.
    fn pass<'a>(
        &self,
        names: impl IntoIterator<Item = &'a OsStr>,
        from: &Path,
        to: &Path,
    ) -> Result<(), Failure> {
        for name in names {
            if exists(&from.join(name))? {
                self.moves.rename(&from.join(name), &to.join(name))?;
            }
        }
        self.sync()
    }
}

impl Switch for Entries {
    fn standing(&self) -> Result<Standing, Failure> {
        let Some(journal) = self.journal()? else {
            return Ok(Standing::Old);
        };
        if self.is_new(&journal)? {
            return Ok(Standing::New);
        }
        self.revert()?;
        Ok(Standing::Old)
    }

    fn commit(&self, _: Record) -> Result<(), Failure> {
        let Paths {
            live,
            staging,
            kept,
            ..
        } = &self.paths;
        let journal = match self.journal()? {
            Some(journal) => journal,
            None => {
                let journal = Journal {
                    former: names(live)?.into_iter().filter(|n| !is_alien(n)).collect(),
                    staged: names(staging)?,
                };
                if !journal.staged.contains(OsStr::new(DATABASE)) {
                    return Err(not_staged(&self.paths));
                }
                make_folder(kept)?;
                journal.write(&self.journal_path())?;
                journal
            }
        };
        if self.is_new(&journal)? {
            return Ok(());
        }
        let mut out = Vec::new();
        for name in database_first(&journal.former) {
            if !exists(&kept.join(name))? {
                out.push(name);
            }
        }
        self.pass(out, live, kept)?;
        let mut staged = database_first(&journal.staged);
        staged.reverse();
        self.pass(staged, staging, live)
    }

    fn revert(&self) -> Result<(), Failure> {
        let Paths {
            live,
            staging,
            kept,
            ..
        } = &self.paths;
        let Some(journal) = self.journal()? else {
            return Ok(());
        };
        if !exists(kept)? && !journal.former.is_empty() {
            return Err(gone(&self.paths));
        }
        let mut back = Vec::new();
        for name in database_first(&journal.staged) {
            let taken_over = !journal.former.contains(name) || exists(&kept.join(name))?;
            if taken_over && exists(&live.join(name))? && !exists(&staging.join(name))? {
                back.push(name);
            }
        }
        let mut all_out = true;
        for name in &journal.former {
            all_out &= exists(&kept.join(name))?;
        }
        // Chroma's files beside its database, and folders it has made since. While former entries
        // are still in their place, none of it is of the restored directory.
        let mut later = names(live)?;
        later.retain(|name| {
            let known = journal.former.contains(name) || journal.staged.contains(name);
            all_out && !known && !is_alien(name)
        });
        make_folder(staging)?;
        // The database first: from then on the directory no longer counts as new.
        self.pass(back.first().copied(), live, staging)?;
        self.pass(later.iter().map(OsString::as_os_str), live, staging)?;
        self.pass(back, live, staging)?;
        let mut former = database_first(&journal.former);
        former.reverse();
        self.pass(former, kept, live)?;
        durable::remove(&self.journal_path())?;
        sync_folder(&self.inside)
    }

    fn discard(&self) -> Result<(), Failure> {
        if self.standing()? == Standing::New || !exists(&self.inside)? {
            return Ok(());
        }
        if exists(&self.paths.kept)? && !names(&self.paths.kept)?.is_empty() {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("remove {}", self.inside.display()),
                format!(
                    "{} still holds entries of the former directory",
                    self.paths.kept.display()
                ),
            )
            .help("move them to where they belong, then run again"));
        }
        durable::remove(&self.inside)?;
        sync_folder(&self.paths.live)
    }

    fn forget(&self) -> Result<(), Failure> {
        let forgotten = self.paths.forgotten();
        if self.standing()? == Standing::New {
            durable::remove(&forgotten)?;
            self.moves.rename(&self.inside, &forgotten)?;
            sync_folder(&self.paths.live)?;
        }
        durable::remove(&forgotten)
    }

    fn describe(&self) -> Vec<String> {
        vec![
            format!(
                "swap {} entry by entry, because it is a mount point",
                self.paths.live.display()
            ),
            format!(
                "keep the former entries in {}, inside the mount",
                self.paths.kept.display()
            ),
        ]
    }
}

/// The name that was written as these bytes.
#[cfg(unix)]
fn name_of(bytes: &[u8]) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    Some(OsString::from_vec(bytes.to_vec()))
}

/// The name that was written as these bytes; names that are no Unicode cannot be read again.
#[cfg(windows)]
fn name_of(bytes: &[u8]) -> Option<OsString> {
    std::str::from_utf8(bytes).ok().map(OsString::from)
}

/// The names in a folder.
fn names(folder: &Path) -> Result<BTreeSet<OsString>, Failure> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(|error| durable::refused(format!("list {}", folder.display()), error))
}

fn database_first(names: &BTreeSet<OsString>) -> Vec<&OsStr> {
    let mut names: Vec<_> = names.iter().map(OsString::as_os_str).collect();
    names.sort_by_key(|name| *name != DATABASE);
    names
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(durable::refused(
            format!("create the folder {}", path.display()),
            error,
        )),
        _ => sync_folder(durable::parent_of(path)),
    }
}
