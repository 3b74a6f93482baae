//! Loads the files of a bundle into the staging directory.
//!
//! A file is written under its own name, private to the user (0600, folders 0700). What a kill left
//! behind is read back: the chunks that agree with the bundle are kept, the file goes on behind them.
//! What does not belong there is removed. Owner and mode are set at the end.
//!
//! Durability: when [`load`] returns, every file and every folder is synced, the folder that the
//! staging directory stands in included.
//!
//! Not carried over: access control lists, extended attributes.
//!
//! Memory: one chunk of at most 4 MiB, taken from the budget.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_format::{Component, Member};
use arkstream_pipeline::{
    Event, Failure, FailureKind, Restoring, fault,
    os::{self, Owner},
    whole_chunks,
};

use super::{
    durable::{self, parent_of, refused, sync_folder},
    members::{Wanted, folders_of, tree},
    place::Paths,
};
use crate::{DATABASE, copy::blocking};

/// Owner and modes of a restored directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dress {
    /// Owner and group, where they have to be those of a directory before.
    pub(super) owner: Option<Owner>,
    folders: u32,
    /// Absent: as in the bundle.
    files: Option<u32>,
}

impl Dress {
    /// As the directory that is live; for a new one, as the bundle says.
    pub(super) fn of(paths: &Paths, wanted: &[Wanted]) -> Self {
        let database = fs::metadata(paths.live.join(DATABASE)).ok();
        match fs::metadata(&paths.live) {
            Ok(live) if paths.existed => {
                let like = database.as_ref().unwrap_or(&live);
                Self {
                    owner: os::owner(like),
                    folders: os::mode(&live),
                    files: database.as_ref().map(os::mode),
                }
            }
            _ => {
                let mode = wanted
                    .iter()
                    .find(|file| file.path == DATABASE)
                    .map_or(0o600, |file| file.member.mode);
                Self {
                    owner: None,
                    // Who may read files may enter folders.
                    folders: 0o700 | (mode & 0o666) | ((mode & 0o444) >> 2),
                    files: None,
                }
            }
        }
    }

    fn put_on(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        let dressed = || -> io::Result<()> {
            if let Some(owner) = self.owner
                && os::owner(&fs::symlink_metadata(path)?) != Some(owner)
            {
                give_to(path, owner)?;
            }
            os::set_mode(path, mode)
        };
        dressed()
            .map_err(|error| refused(format!("set owner and mode of {}", path.display()), error))
    }
}

/// Only root may give files away; the check has said so. The group may still be possible.
fn give_to(path: &Path, owner: Owner) -> io::Result<()> {
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match os::give(path, owner, false) {
        Err(error) if denied(&error) => match os::give(path, owner, true) {
            Err(error) if denied(&error) => Ok(()),
            other => other,
        },
        other => other,
    }
}

/// Loads everything; see the module.
pub(super) async fn load(
    restoring: &Restoring,
    paths: &Paths,
    wanted: &[Wanted],
) -> Result<(), Failure> {
    let (names, cloned) = (wanted.to_vec(), paths.clone());
    blocking(move || make_folders(&cloned, &names)).await??;
    for file in wanted {
        load_file(restoring, &paths.staging.join(&file.path), &file.member).await?;
        restoring.tell(Event::Member {
            component: Component::Chroma,
            name: file.member.name.clone(),
            rows: 0,
            raw_bytes: file.member.raw_len,
            stored_bytes: file.member.stored_len,
        });
    }
    restoring.cancel.check()?;
    let (names, cloned) = (wanted.to_vec(), paths.clone());
    blocking(move || dress_all(&cloned, &names)).await?
}

async fn load_file(
    restoring: &Restoring,
    path: &Path,
    member: &Arc<Member>,
) -> Result<(), Failure> {
    restoring.cancel.check()?;
    let read = |bytes: u64| {
        restoring.tell(Event::Read {
            component: Component::Chroma,
            bytes,
        });
    };
    let largest = member.chunks.iter().map(|chunk| chunk.raw_len).max();
    let permit = restoring.budget.take(largest.unwrap_or(0).into()).await;
    let (here, known) = (path.to_owned(), Arc::clone(member));
    let (mut file, kept) = blocking(move || open(&here, &known)).await??;
    let there: u64 = member
        .chunks
        .iter()
        .take(kept)
        .map(|chunk| u64::from(chunk.raw_len))
        .sum();
    if kept > 0 && kept == member.chunks.len() {
        restoring.keep(member);
    } else if there > 0 {
        read(there);
    }
    for index in kept..member.chunks.len() {
        restoring.cancel.check()?;
        let (bundle, known) = (Arc::clone(&restoring.bundle), Arc::clone(member));
        let here = path.to_owned();
        let written = blocking(move || {
            let bytes = bundle.read_chunk(&known, index).map_err(|finding| {
                Failure::new(
                    FailureKind::Damaged,
                    format!("read {} from the bundle", known.name),
                    finding,
                )
                .help(
                    "nothing live was touched; use another copy of the bundle, or restore the \
                     other components with --components",
                )
            })?;
            fault::point("chroma.write")
                .and_then(|()| file.write_all(&bytes))
                .map_err(|error| refused(format!("write {}", here.display()), error))?;
            Ok::<_, Failure>((file, bytes.len() as u64))
        });
        let (same, bytes) = written.await??;
        file = same;
        read(bytes);
    }
    let (here, known) = (path.to_owned(), Arc::clone(member));
    blocking(move || {
        fault::point("chroma.sync")
            .and_then(|()| file.set_modified(known.modified_at.into()))
            .and_then(|()| file.sync_all())
            .map_err(|error| refused(format!("sync {}", here.display()), error))
    })
    .await??;
    drop(permit);
    Ok(())
}

/// Opens the file behind the chunks that it has already, and says how many these are.
fn open(path: &Path, member: &Member) -> Result<(File, usize), Failure> {
    let failed = |error| refused(format!("create {}", path.display()), error);
    let options = |create_new: bool| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create_new);
        os::open_no_follow(os::create_with_mode(&mut options, 0o600), path)
    };
    // What cannot be opened as a file, or has been dressed for another user, is written anew.
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
        && let Ok(mut file) = options(false)
    {
        let kept = whole_chunks(&mut file, member, |_| ()).map_err(failed)?;
        return Ok((file, kept));
    }
    durable::remove(path)?;
    options(true).map(|file| (file, 0)).map_err(failed)
}

/// Creates the folders and removes what does not belong there.
fn make_folders(paths: &Paths, wanted: &[Wanted]) -> Result<(), Failure> {
    if let Some(inside) = &paths.inside {
        make_folder(inside)?;
    }
    make_folder(&paths.staging)?;
    sweep(&paths.staging, wanted)?;
    for folder in folders(wanted) {
        make_folder(&paths.staging.join(folder))?;
    }
    Ok(())
}

/// Removes what is in the staging directory and not in the bundle.
pub(super) fn sweep(staging: &Path, wanted: &[Wanted]) -> Result<(), Failure> {
    let found =
        tree(staging).map_err(|error| refused(format!("list {}", staging.display()), error))?;
    let (folders, files): (BTreeSet<_>, BTreeSet<_>) = (
        folders(wanted),
        wanted.iter().map(|file| file.path.as_str()).collect(),
    );
    let aliens = found
        .folders
        .iter()
        .filter(|path| !folders.contains(path.as_str()));
    for path in aliens {
        durable::remove(&staging.join(path))?;
    }
    for path in found
        .files
        .keys()
        .filter(|path| !files.contains(path.as_str()))
    {
        durable::remove(&staging.join(path))?;
    }
    Ok(())
}

/// A folder stands before what it holds.
fn folders(wanted: &[Wanted]) -> BTreeSet<&str> {
    wanted
        .iter()
        .flat_map(|file| folders_of(&file.path))
        .collect()
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    let failed = |error| refused(format!("create the folder {}", path.display()), error);
    match os::folder_with_mode(&mut DirBuilder::new(), 0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(path) {
                Ok(found) if found.is_dir() => Ok(()),
                _ => Err(failed(error)),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

fn dress_all(paths: &Paths, wanted: &[Wanted]) -> Result<(), Failure> {
    let dress = Dress::of(paths, wanted);
    for file in wanted {
        let mode = dress.files.unwrap_or(file.member.mode);
        dress.put_on(&paths.staging.join(&file.path), mode)?;
    }
    let below = folders(wanted);
    let inner_first: Vec<PathBuf> = below
        .iter()
        .rev()
        .map(|folder| paths.staging.join(folder))
        .collect();
    for folder in inner_first.iter().chain([&paths.staging]) {
        sync_folder(folder)?;
        dress.put_on(folder, dress.folders)?;
    }
    sync_folder(parent_of(&paths.staging))?;
    sync_folder(paths.workplace())
}
