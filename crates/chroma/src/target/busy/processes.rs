//! Who holds a directory open, found out by looking at processes and locks.
//!
//! The files are found in `/proc/<pid>/fd` and `/proc/<pid>/maps`, by device and inode, so that another
//! mount namespace (a container) hides nothing. Processes of other users may be out of sight; the locks
//! of SQLite show those that are reading or writing at this moment. `F_GETLK` asks for them and takes
//! none: `BEGIN IMMEDIATE` would roll back an interrupted write, and a check changes nothing.
//!
//! Only files with a name of the directory are looked at, so a dead network mount of another
//! process cannot stop the search.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::Duration,
};

use arkstream_pipeline::{Failure, os};
use rustix::process::{Flock, FlockType};

use super::{super::durable::beside, Found, Holder};
use crate::{DATABASE, claim::Claim, directory::is_alien};

/// How long another part of this process may keep the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks for everybody but this process. A directory that is not there is held by nobody.
pub(in super::super) fn holders(directory: &Path) -> Result<Found, Failure> {
    let Ok(metadata) = fs::metadata(directory) else {
        return Ok(Found {
            holders: Vec::new(),
            unseen: Some(0),
        });
    };
    let files = Files::of(directory);
    let mut holders = BTreeMap::new();
    let processes = fs::read_dir("/proc");
    let mut found = Found {
        holders: Vec::new(),
        unseen: processes.is_ok().then_some(0),
    };
    for process in processes.into_iter().flatten().flatten() {
        let pid = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != std::process::id()) else {
            continue;
        };
        match files.held_by(&process.path()) {
            Some(Some(file)) => {
                holders.insert(pid, format!("holds {} open", file.to_string_lossy()));
            }
            Some(None) => {}
            None => {
                let owner = process.metadata().ok().map(|metadata| metadata.uid());
                if owner == Some(metadata.uid()) {
                    found.unseen = found.unseen.map(|count| count + 1);
                }
            }
        }
    }
    let mut nameless = None;
    for file in [
        directory.join(DATABASE),
        beside(&directory.join(DATABASE), "-shm"),
    ] {
        match locked_by(&file) {
            Lock::None => {}
            Lock::Process(pid) => {
                holders
                    .entry(pid)
                    .or_insert_with(|| format!("holds a lock on {}", file.display()));
            }
            Lock::Somebody(who) => nameless = Some((who, file)),
        }
    }
    found.holders = holders
        .into_iter()
        .map(|(pid, what)| Holder {
            pid: Some(pid),
            command: command_of(pid),
            what,
        })
        .collect();
    if let Some((who, file)) = nameless {
        found.holders.push(Holder {
            pid: None,
            command: who.into(),
            what: format!("holds a lock on {}", file.display()),
        });
    }
    Ok(found)
}

/// The files of a directory, by what identifies them.
struct Files {
    names: BTreeSet<OsString>,
    identities: BTreeSet<(u64, u64)>,
}

impl Files {
    fn of(directory: &Path) -> Self {
        let mut files = Self {
            names: BTreeSet::new(),
            identities: BTreeSet::new(),
        };
        let mut folders = vec![directory.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if folder == directory && is_alien(&name) {
                    continue;
                }
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                    Ok(metadata) if metadata.is_file() => {
                        files.identities.insert((metadata.dev(), metadata.ino()));
                        files.names.insert(name);
                    }
                    _ => {}
                }
            }
        }
        files
    }

    /// A file that a process holds; `None` when the process may not be looked at.
    fn held_by(&self, process: &Path) -> Option<Option<OsString>> {
        let descriptors = match fs::read_dir(process.join("fd")) {
            Ok(descriptors) => descriptors,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
            // It has ended meanwhile.
            Err(_) => return Some(None),
        };
        for descriptor in descriptors.flatten() {
            let link = fs::read_link(descriptor.path()).unwrap_or_default();
            if self.is_mine(link.as_os_str(), &descriptor.path()) {
                return Some(Some(link.into_os_string()));
            }
        }
        let maps = fs::read(process.join("maps")).unwrap_or_default();
        for line in maps.split(|byte| *byte == b'\n') {
            // address, permissions, offset, device, inode, path
            let Some(start) = line.iter().position(|byte| *byte == b'/') else {
                continue;
            };
            let address = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            let file = process.join("map_files").join(OsStr::from_bytes(address));
            let path = OsStr::from_bytes(&line[start..]);
            if self.is_mine(path, &file) {
                return Some(Some(path.to_owned()));
            }
        }
        Some(None)
    }

    fn is_mine(&self, named: &OsStr, opened: &Path) -> bool {
        Path::new(named)
            .file_name()
            .is_some_and(|name| self.names.contains(name))
            && fs::metadata(opened)
                .is_ok_and(|metadata| self.identities.contains(&(metadata.dev(), metadata.ino())))
    }
}

enum Lock {
    None,
    Process(u32),
    Somebody(&'static str),
}

fn locked_by(file: &Path) -> Lock {
    // Closing any descriptor of the database drops all locks of this process on it.
    let claim = match Claim::take(file, PATIENCE, || false) {
        Ok(Some(claim)) => claim,
        Ok(None) => return Lock::Somebody("another part of this process"),
        Err(_) => return Lock::None,
    };
    let lock = os::open_to_read(file)
        .ok()
        .and_then(|opened| {
            let every_byte = Flock::from(FlockType::WriteLock);
            rustix::process::fcntl_getlk(&opened, &every_byte).ok()
        })
        .flatten();
    drop(claim);
    match lock {
        Some(lock) => match lock
            .pid
            .and_then(|pid| u32::try_from(pid.as_raw_pid()).ok())
        {
            Some(pid) => Lock::Process(pid),
            None => Lock::Somebody("a process outside this container"),
        },
        None => Lock::None,
    }
}

/// The program and what it runs; a command line may hold secrets further on.
fn command_of(pid: u32) -> String {
    const SHOWN: usize = 60;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).take(2);
    let shown: Vec<_> = words
        .filter(|word| !word.is_empty() && !word.starts_with(b"-"))
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let shown: String = shown.join(" ").chars().take(SHOWN).collect();
    if shown.is_empty() {
        "ended meanwhile".into()
    } else {
        shown
    }
}
