//! What lies in a Chroma directory, told by `stat` alone: listing opens no file where that could drop a lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arkstream_format::FileProof;
use arkstream_pipeline::{
    Failure, FailureKind, file_proof,
    os::{self, FileState},
};
use chrono::{DateTime, Utc};

use crate::DATABASE;

const NANOS: i128 = 1_000_000_000;

/// File systems that keep whole seconds cannot show a change sooner.
const COARSE_QUIET: Duration = Duration::from_secs(2);

/// What a restore into a mount point keeps inside it begins like this; see `target::place`.
pub(crate) const OWN_PREFIX: &str = ".arkstream_";

/// One regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) identity: FileState,
    pub(crate) mode: u32,
    pub(crate) modified_at: DateTime<Utc>,
}

/// A directory at one moment, without the files of SQLite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// By path relative to the directory, `/`-separated.
    pub(crate) files: BTreeMap<String, Entry>,
    /// Folders without any entry.
    pub(crate) empty_folders: Vec<String>,
    /// What cannot travel, and why.
    pub(crate) left_out: Vec<(String, String)>,
    /// Entries that are not Chroma's and are passed over; see [`is_alien`].
    pub(crate) aliens: Vec<String>,
}

impl Entry {
    /// Of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(os::state_of(file)?, &file.metadata()?))
    }

    /// Of a name, links not followed.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Self::known(path, &fs::symlink_metadata(path)?)
    }

    /// Of a name that was looked at already.
    fn known(path: &Path, found: &Metadata) -> io::Result<Self> {
        Ok(Self::from(os::state_at(path, found)?, found))
    }

    fn from(identity: FileState, found: &Metadata) -> Self {
        let seconds = i64::try_from(identity.mtime_ns.div_euclid(NANOS)).unwrap_or(0);
        Self {
            identity,
            mode: os::mode(found),
            modified_at: DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::UNIX_EPOCH),
        }
    }

    /// What can prove the file unchanged later, if it was looked at just now.
    pub(crate) fn proof(&self) -> Option<FileProof> {
        file_proof(&self.identity)
    }

    /// Whether the last change is longer ago than `quiet`. A time in the future is not.
    fn is_quiet(&self, now: SystemTime, quiet: Duration) -> bool {
        let ctime_ns = self.identity.ctime_ns.unwrap_or(self.identity.mtime_ns);
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX);
        let coarse = ctime_ns % NANOS == 0;
        let quiet = if coarse {
            quiet.max(COARSE_QUIET)
        } else {
            quiet
        };
        let quiet_ns = i128::try_from(quiet.as_nanos()).unwrap_or(i128::MAX);
        let last = self.identity.mtime_ns.max(ctime_ns);
        now_ns.saturating_sub(last) >= quiet_ns
    }
}

impl Listing {
    /// Names of the top-level folders that hold files, and `""` if files lie beside them.
    pub(crate) fn groups(&self) -> BTreeSet<&str> {
        self.files.keys().map(|path| group_of(path)).collect()
    }

    /// The files of one group.
    pub(crate) fn group<'a>(
        &'a self,
        group: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Entry)> + 'a {
        self.files
            .iter()
            .filter(move |(path, _)| group_of(path) == group)
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Whether the system tells when something of a group changed, whatever programs say of it. Where it does
    /// not, the group is read under the lock alone.
    pub(crate) fn tells_changes(&self, group: &str) -> bool {
        self.group(group)
            .all(|(_, entry)| entry.identity.ctime_ns.is_some())
    }

    /// Whether a group looked the same in `earlier`, and nothing in it changed for `quiet`.
    pub(crate) fn is_settled(&self, group: &str, earlier: &Self, quiet: Duration) -> bool {
        let now = SystemTime::now();
        self.group(group).eq(earlier.group(group))
            && self
                .group(group)
                .all(|(_, entry)| entry.is_quiet(now, quiet))
    }
}

/// The top-level folder of a relative path, `""` for a file without one.
pub(crate) fn group_of(path: &str) -> &str {
    path.split_once('/').map_or("", |(folder, _)| folder)
}

/// Lists a directory. What vanishes meanwhile is not listed.
pub(crate) fn list(directory: &Path) -> Result<Listing, Failure> {
    let database = os::id_of_name(&directory.join(DATABASE)).ok();
    let mut listing = Listing::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = directory.join(&folder);
        let mut empty = true;
        for (name, metadata) in read_folder(&path)? {
            empty = false;
            if folder.is_empty() && is_alien(&name) {
                listing.aliens.push(name.to_string_lossy().into_owned());
                continue;
            }
            let Some(name) = name.to_str() else {
                let shown = path.join(&name).to_string_lossy().into_owned();
                let why = "its name is not UTF-8, which names in a bundle must be";
                listing.left_out.push((shown, why.into()));
                continue;
            };
            let relative = if folder.is_empty() {
                name.to_owned()
            } else {
                format!("{folder}/{name}")
            };
            let kind = metadata.file_type();
            if kind.is_dir() {
                folders.push(relative);
            } else if kind.is_symlink() {
                let why = "it is a symbolic link; links are not followed";
                listing.left_out.push((relative, why.into()));
            } else if !kind.is_file() {
                let why = "it is neither a file nor a folder";
                listing.left_out.push((relative, why.into()));
            } else if belongs_to_sqlite(&relative) {
                // Read through the lock, or never.
            } else if let Some(entry) = unless_vanished(&path.join(name), &metadata)? {
                if database != Some(entry.identity.id) {
                    listing.files.insert(relative, entry);
                    continue;
                }
                let why = format!(
                    "it is a second name (hard link) of {DATABASE}; opening it would drop the lock"
                );
                listing.left_out.push((relative, why));
            }
        }
        if empty && !folder.is_empty() {
            listing.empty_folders.push(folder);
        }
    }
    listing.empty_folders.sort();
    listing.left_out.sort();
    Ok(listing)
}

/// Whether an entry of a Chroma directory belongs to somebody else: what a restore keeps inside a
/// mount point, and the folder that a file system has at its root.
pub(crate) fn is_alien(name: &OsStr) -> bool {
    name == "lost+found" || name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes())
}

fn belongs_to_sqlite(relative: &str) -> bool {
    relative
        .strip_prefix(DATABASE)
        .is_some_and(|rest| ["", "-journal", "-shm", "-wal"].contains(&rest))
}

fn read_folder(path: &Path) -> Result<Vec<(std::ffi::OsString, Metadata)>, Failure> {
    let vanished = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let failed = |error| unreadable(path, error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if vanished(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(metadata) => found.push((entry.file_name(), metadata)),
            Err(error) if vanished(&error) => {}
            Err(error) => return Err(unreadable(&entry.path(), error)),
        }
    }
    Ok(found)
}

fn unless_vanished(path: &Path, found: &Metadata) -> Result<Option<Entry>, Failure> {
    match Entry::known(path, found) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Asks for permissions, without opening anything where that could drop a lock.
pub(crate) fn check_access(directory: &Path, listing: &Listing) -> Result<(), Failure> {
    let database = directory.join(DATABASE);
    os::check_writable(&database).map_err(|error| {
        unreadable(&database, error).help(
            "the lock that holds Chroma's writers needs read and write permission: \
             run Arkstream as the user that runs Chroma, or as one of its group",
        )
    })?;
    for path in listing.files.keys() {
        let path = directory.join(path);
        match os::check_readable(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unreadable(&path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Something of the directory cannot be read.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> Failure {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let attempted = format!("read {} of the Chroma directory", path.display());
    let failure = Failure::io(FailureKind::Source, attempted, error);
    if denied {
        failure.help("run Arkstream as the user that runs Chroma, or give it read permission")
    } else {
        failure
    }
}

/// The directory with all links resolved, or why it is no Chroma directory.
pub(crate) fn resolve(directory: &Path) -> Result<PathBuf, Failure> {
    let attempted = || format!("open the Chroma directory {}", directory.display());
    let help = "name the directory that holds chroma.sqlite3 with --chroma, \
                or leave Chroma out with --no-chroma";
    let resolved = os::canonical(directory)
        .map_err(|error| Failure::io(FailureKind::Source, attempted(), error).help(help))?;
    let refuse = |why: String| Err(Failure::new(FailureKind::Source, attempted(), why).help(help));
    if !resolved.is_dir() {
        return refuse("it is not a directory".into());
    }
    match fs::symlink_metadata(resolved.join(DATABASE)) {
        Ok(metadata) if metadata.is_file() => Ok(resolved),
        Ok(metadata) if metadata.is_symlink() => refuse(format!(
            "its {DATABASE} is a symbolic link, and links are not followed"
        )),
        Ok(_) => refuse(format!("its {DATABASE} is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => refuse(format!(
            "it holds no {DATABASE}, which every persistent Chroma directory has"
        )),
        Err(error) => Err(unreadable(&resolved.join(DATABASE), error)),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DATABASE), b"db").unwrap();
        fs::create_dir(directory.path().join("seg")).unwrap();
        fs::write(directory.path().join("seg/header.bin"), b"h").unwrap();
        directory
    }

    #[test]
    fn sqlites_own_files_are_never_listed() {
        let directory = directory();
        for name in [
            "chroma.sqlite3-journal",
            "chroma.sqlite3-shm",
            "chroma.sqlite3-wal",
        ] {
            fs::write(directory.path().join(name), b"x").unwrap();
        }
        fs::write(directory.path().join("notes.txt"), b"x").unwrap();
        let listing = list(directory.path()).unwrap();
        let names: Vec<_> = listing.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["notes.txt", "seg/header.bin"]);
        assert_eq!(
            listing.groups().into_iter().collect::<Vec<_>>(),
            ["", "seg"]
        );
    }

    #[test]
    fn a_hard_link_to_the_database_is_never_opened() {
        let directory = directory();
        let path = directory.path();
        fs::hard_link(path.join(DATABASE), path.join("copy.sqlite3")).unwrap();
        let listing = list(path).unwrap();
        assert!(!listing.files.contains_key("copy.sqlite3"));
        assert_eq!(listing.left_out.len(), 1, "{listing:?}");
    }

    #[test]
    fn links_and_empty_folders_are_told_and_not_followed() {
        let directory = directory();
        let path = directory.path();
        std::os::unix::fs::symlink("/etc", path.join("outside")).unwrap();
        fs::create_dir(path.join("void")).unwrap();
        let listing = list(path).unwrap();
        assert_eq!(listing.left_out[0].0, "outside");
        assert_eq!(listing.empty_folders, ["void"]);
        assert_eq!(listing.files.len(), 1);
    }

    #[test]
    fn what_a_restore_keeps_inside_a_mount_point_is_not_chromas() {
        let directory = directory();
        let path = directory.path();
        for name in [".arkstream_0123456789abcdef", "lost+found"] {
            fs::create_dir(path.join(name)).unwrap();
            fs::write(path.join(name).join("file"), b"x").unwrap();
        }
        let mut listing = list(path).unwrap();
        assert_eq!(listing.files.len(), 1);
        listing.aliens.sort();
        assert_eq!(
            listing.aliens,
            [".arkstream_0123456789abcdef", "lost+found"]
        );
    }

    #[test]
    fn a_folder_written_to_a_moment_ago_is_not_settled() {
        let directory = directory();
        let listing = list(directory.path()).unwrap();
        assert!(!listing.is_settled("seg", &listing, Duration::from_secs(3600)));
        assert!(listing.is_settled("seg", &listing, Duration::ZERO));
        assert!(!listing.is_settled("seg", &Listing::default(), Duration::ZERO));
    }

    #[test]
    fn a_directory_without_a_database_says_what_was_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let failure = resolve(directory.path()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Source);
        assert!(
            failure.to_string().contains("holds no chroma.sqlite3"),
            "{failure}"
        );
        let failure = resolve(&directory.path().join("absent")).unwrap_err();
        assert!(failure.to_string().contains("absent"), "{failure}");
    }
}
