//! What SQLite says of a directory: counts, migrations, and a digest of what people stored.
//!
//! Chroma rewrites files by merely opening a directory: it notes that it can write, replays its
//! write-ahead log into the HNSW files, migrates. Bytes therefore do not tell whether somebody
//! stored something. Every write of a record puts an operation into the log and its number on the
//! record, so these do: the collections with their metadata, each record's number, and the number
//! of the last operation.
//!
//! Nothing is created and nothing is changed: the connection is read-only, and a database in WAL
//! mode whose `-shm` file is missing is read as it stands, because SQLite would create one.
//!
//! Memory: constant; the records are streamed.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use arkstream_format::{ChromaSummary, Digest};
use arkstream_pipeline::os;
use rusqlite::{Connection, types::ValueRef};

use super::durable::beside;
use crate::{DATABASE, claim::Claim, summary, verify::open_read_only};

/// How long a writer may keep the database from being read.
const PATIENCE: Duration = Duration::from_secs(10);

/// What people stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Number of collections.
    pub(super) collections: u64,
    /// Number of records.
    pub(super) embeddings: u64,
    /// Operations in the write-ahead log.
    pub(super) queued: u64,
    /// Number of the last operation.
    pub(super) last: i64,
    /// Of collections, their metadata and the records' numbers.
    pub(super) digest: Digest,
}

/// What a directory's database says.
pub(super) struct Told {
    /// Counts and migrations.
    pub(super) summary: ChromaSummary,
    /// Names of the folders that belong to Chroma.
    pub(super) segments: BTreeSet<String>,
}

/// Reads counts and migrations; `None` when the directory holds no database.
pub(super) fn tell(directory: &Path) -> Result<Option<Told>, String> {
    let Some(database) = Database::open(directory)? else {
        return Ok(None);
    };
    let described = summary::describe(&database.connection).map_err(|error| error.to_string())?;
    Ok(Some(Told {
        summary: described.summary,
        segments: described.segments.into_keys().collect(),
    }))
}

/// Reads what people stored; `None` when the directory holds no database.
pub(super) fn read(directory: &Path) -> Result<Option<Content>, String> {
    let Some(database) = Database::open(directory)? else {
        return Ok(None);
    };
    database
        .content()
        .map(Some)
        .map_err(|error| error.to_string())
}

/// The connection is closed before the claim is given up.
struct Database {
    connection: Connection,
    _claim: Claim,
}

impl Database {
    fn open(directory: &Path) -> Result<Option<Self>, String> {
        let path = directory.join(DATABASE);
        let claim = match Claim::take(&path, PATIENCE, || false) {
            Ok(claim) => claim.ok_or("another part of this process is reading it")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let as_it_stands = (is_in_wal_mode(&path)
            .map_err(|error| format!("it cannot be read: {error}"))?)
            && !(is_filled(&beside(&path, "-wal")) && is_filled(&beside(&path, "-shm")));
        let connection =
            open_read_only(&path, as_it_stands).map_err(|error| format!("SQLite says: {error}"))?;
        connection
            .busy_timeout(PATIENCE)
            .map_err(|error| error.to_string())?;
        Ok(Some(Self {
            connection,
            _claim: claim,
        }))
    }

    fn content(&self) -> rusqlite::Result<Content> {
        // One moment for all of it.
        self.connection.execute_batch("BEGIN")?;
        let counts = summary::describe(&self.connection)?.summary;
        let last: Option<i64> =
            self.connection
                .query_row("SELECT max(seq_id) FROM embeddings_queue", [], |row| {
                    row.get(0)
                })?;
        let mut hasher = blake3::Hasher::new();
        for rows in [
            "SELECT id, name, dimension FROM collections ORDER BY id",
            "SELECT collection_id, key, str_value, int_value, float_value
             FROM collection_metadata ORDER BY collection_id, key",
            "SELECT segment_id, embedding_id, seq_id FROM embeddings
             ORDER BY segment_id, embedding_id",
        ] {
            self.add(rows, &mut hasher)?;
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(Content {
            collections: counts.collections,
            embeddings: counts.embeddings,
            queued: counts.queued,
            last: last.unwrap_or_default(),
            digest: Digest(*hasher.finalize().as_bytes()),
        })
    }

    fn add(&self, rows: &str, hasher: &mut blake3::Hasher) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(rows)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                add_value(row.get_ref(column)?, hasher);
            }
        }
        hasher.update(b"end");
        Ok(())
    }
}

/// Type, length, bytes: no two lists of values look alike. A number of an operation is an integer
/// or, from older versions, eight bytes; a migration turns one into the other.
fn add_value(value: ValueRef<'_>, hasher: &mut blake3::Hasher) {
    let mut add = |kind: u8, bytes: &[u8]| {
        hasher.update(&[kind]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match value {
        ValueRef::Null => add(0, b""),
        ValueRef::Integer(value) => add(1, &value.to_be_bytes()),
        ValueRef::Real(value) => add(2, &value.to_be_bytes()),
        ValueRef::Text(bytes) => add(3, bytes),
        ValueRef::Blob(bytes) if bytes.len() == 8 => add(1, bytes),
        ValueRef::Blob(bytes) => add(4, bytes),
    }
}

/// Bytes 18 and 19 of an SQLite file are 2 in WAL mode.
fn is_in_wal_mode(database: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    os::open_to_read(database)?
        .take(20)
        .read_to_end(&mut head)?;
    Ok(head.get(18) == Some(&2))
}

fn is_filled(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}
