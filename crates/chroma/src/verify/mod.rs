//! Verification of a Chroma directory without Chroma.
//!
//! SQLite alone proves little: a copy whose vectors are gone passes `integrity_check`. What proves
//! it is that everything speaks of the same records:
//!
//! | Check | What must hold |
//! |---|---|
//! | `sqlite` | the database opens, `integrity_check` says `ok`, the tables are there |
//! | `full-text` | the full-text index has as many rows as there are documents |
//! | `metadata` | every row of metadata has its record; no record stands twice |
//! | `segments` | each collection has exactly one VECTOR and one METADATA segment, of known types |
//! | `max-seq-id` | a VECTOR segment has a `max_seq_id` row if and only if it has a pickle |
//! | `hnsw` | header, level 0, link lists and lengths agree in layout and size |
//! | `pickle` | it can be read; ids and labels map onto each other |
//! | `labels` | labels that are not deleted in the index are the labels of the pickle |
//! | `records` | pickle + queued operations = metadata + queued operations, id for id |
//!
//! One exception of `max-seq-id`: when a segment is persisted for the first time, its pickle is
//! written before its row. A pickle without a row is right as long as the queue still holds every
//! operation of the collection; Chroma then applies them all again.
//!
//! The directory must not change meanwhile. Without a `-wal` file SQLite opens the database as
//! immutable and touches nothing; with one it may create an `-shm` file beside it.
//!
//! Memory: about 400 bytes a record of the largest collection, one collection at a time.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hnsw;
mod pickle;
mod records;
mod segment;
mod sqlite;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub(crate) use sqlite::open_read_only;

use arkstream_pipeline::os;

use crate::{DATABASE, directory};

/// The files of a Chroma directory, wherever they lie.
pub trait ChromaFiles {
    /// The SQLite database as a file that SQLite can open. If there is a write-ahead log, it lies
    /// beside it, under the same name with `-wal` appended.
    fn database(&self) -> &Path;

    /// Path (relative, `/`-separated) and size of every other file.
    ///
    /// # Errors
    /// When the files cannot be listed.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Opens one of the listed files.
    ///
    /// # Errors
    /// When the file cannot be opened.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>>;
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The check that found it; the module's documentation lists them.
    pub check: &'static str,
    /// The file it is about, relative to the directory.
    pub path: Option<String>,
    /// Which collection, which segment, what differs, how many.
    pub message: String,
}

impl Problem {
    fn new(check: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            check,
            path: Some(path.into()),
            message: message.into(),
        }
    }

    fn in_database(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, DATABASE, message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {} ({})", self.message, self.check),
            None => write!(f, "{} ({})", self.message, self.check),
        }
    }
}

/// Runs all checks. Blocks; an empty list means that the directory is good.
pub fn verify(files: &mut dyn ChromaFiles) -> Vec<Problem> {
    let mut problems = Vec::new();
    let listed = match files.list() {
        Ok(listed) => listed.into_iter().collect(),
        Err(error) => {
            problems.push(Problem {
                check: "hnsw",
                path: None,
                message: format!("the files of the directory cannot be listed: {error}"),
            });
            return problems;
        }
    };
    let opened = match sqlite::Database::open(files.database()) {
        Ok(opened) => opened,
        Err(why) => {
            problems.push(Problem::in_database("sqlite", why));
            return problems;
        }
    };
    opened.check_rows(&mut problems);
    for collection in opened.collections(&mut problems) {
        segment::check(&opened, files, &listed, &collection, &mut problems);
    }
    problems
}

/// A directory on disk that nobody writes to.
#[derive(Clone, Debug)]
pub struct DirectoryFiles {
    directory: PathBuf,
    database: PathBuf,
}

impl DirectoryFiles {
    /// The files of `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            database: directory.join(DATABASE),
            directory,
        }
    }
}

impl ChromaFiles for DirectoryFiles {
    fn database(&self) -> &Path {
        &self.database
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let listing = directory::list(&self.directory).map_err(io::Error::other)?;
        let sizes = listing
            .files
            .into_iter()
            .map(|(path, entry)| (path, entry.identity.size));
        Ok(sizes.collect())
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let file: File = os::open_to_read(&self.directory.join(path))?;
        Ok(Box::new(file))
    }
}

/// The first few of many, for a message.
fn some<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 3;
    let mut items = items.into_iter();
    let mut shown: Vec<_> = items
        .by_ref()
        .take(SHOWN)
        .map(|item| item.to_string().chars().take(80).collect::<String>())
        .collect();
    if items.next().is_some() {
        shown.push("…".into());
    }
    shown.join(", ")
}
