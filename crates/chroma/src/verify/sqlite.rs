//! What SQLite holds, read without changing anything.

use std::{ffi::OsString, fmt::Write as _, fs, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension, types::ValueRef};

use super::{Problem, some};
use crate::claim::Claim;

/// How long a backup of the same process may keep the file.
const PATIENCE: Duration = Duration::from_secs(120);

/// The segment types that are known.
const VECTOR_TYPE: &str = "urn:chroma:segment/vector/hnsw-local-persisted";
const METADATA_TYPE: &str = "urn:chroma:segment/metadata/sqlite";

const TABLES: [&str; 8] = [
    "collections",
    "segments",
    "embeddings",
    "embedding_metadata",
    "embedding_fulltext_search_docsize",
    "embeddings_queue",
    "max_seq_id",
    "migrations",
];

/// The open database. The connection is closed before the claim is given up.
pub(super) struct Database {
    connection: Connection,
    _claim: Claim,
}

/// A collection with its two segments.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) dimension: Option<i64>,
    pub(super) vector: String,
    pub(super) metadata: String,
}

/// One operation of the queue.
pub(super) struct Operation {
    pub(super) seq_id: i64,
    pub(super) kind: i64,
    pub(super) id: String,
}

impl Database {
    /// Opens the file, or says why not.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            fs::metadata(name).is_ok_and(|metadata| metadata.len() > 0)
        };
        if beside("-journal") {
            return Err(
                "a rollback journal lies beside it: a write is under way, or one was cut short and \
                 will be undone when Chroma opens it next"
                    .into(),
            );
        }
        let claim = Claim::take(path, PATIENCE, || false)
            .map_err(|error| format!("it cannot be opened: {error}"))?
            .ok_or("another part of this process is reading it")?;
        let connection = open_read_only(path, !beside("-wal"))
            .map_err(|error| format!("SQLite cannot open it: {error}"))?;
        Ok(Self {
            connection,
            _claim: claim,
        })
    }

    /// Everything that can be said of the tables alone.
    pub(super) fn check_rows(&self, problems: &mut Vec<Problem>) {
        match self.texts("PRAGMA integrity_check(20)") {
            Ok(lines) if lines == ["ok"] => {}
            Ok(lines) => problems.push(Problem::in_database(
                "sqlite",
                format!(
                    "integrity_check finds: {}",
                    some(lines.iter().map(|line| line.trim()))
                ),
            )),
            Err(error) => problems.push(Problem::in_database(
                "sqlite",
                format!("integrity_check cannot run: {error}"),
            )),
        }
        let absent: Vec<_> = TABLES
            .into_iter()
            .filter(|table| !self.has_table(table))
            .collect();
        if !absent.is_empty() {
            let message = format!("it has no table {}; Chroma's has", absent.join(", "));
            problems.push(Problem::in_database("sqlite", message));
            return;
        }
        self.check_full_text(problems);
        for table in ["embedding_metadata", "embedding_metadata_array"] {
            if self.has_table(table) {
                let orphans = format!(
                    "SELECT count(*) FROM {table} m
                     WHERE NOT EXISTS (SELECT 1 FROM embeddings e WHERE e.id = m.id)"
                );
                self.expect_none(problems, "metadata", &orphans, |count| {
                    format!("{count} rows of {table} belong to no record")
                });
            }
        }
        // In the order of the unique index, whose entries integrity_check held against the table.
        let twice = "SELECT count(*) FROM (SELECT 1 FROM embeddings
                     GROUP BY segment_id, embedding_id HAVING count(*) > 1)";
        self.expect_none(problems, "metadata", twice, |count| {
            format!("{count} records stand more than once in embeddings")
        });
    }

    fn check_full_text(&self, problems: &mut Vec<Problem>) {
        let counts = self
            .count("SELECT count(*) FROM embedding_fulltext_search_docsize")
            .and_then(|indexed| {
                let documents =
                    "SELECT count(*) FROM embedding_metadata WHERE key = 'chroma:document'";
                Ok((indexed, self.count(documents)?))
            });
        match counts {
            Ok((indexed, documents)) if indexed == documents => {}
            Ok((indexed, documents)) => problems.push(Problem::in_database(
                "full-text",
                format!("the full-text index has {indexed} rows, there are {documents} documents"),
            )),
            Err(error) => problems.push(unreadable("full-text", &error)),
        }
    }

    /// Every collection that has exactly the segments it must have.
    pub(super) fn collections(&self, problems: &mut Vec<Problem>) -> Vec<Collection> {
        if !self.has_table("collections") || !self.has_table("segments") {
            return Vec::new();
        }
        let rows = self.rows(
            "SELECT id, name, dimension FROM collections ORDER BY name, id",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        );
        let rows: Vec<(String, String, Option<i64>)> = match rows {
            Ok(rows) => rows,
            Err(error) => {
                problems.push(unreadable("segments", &error));
                return Vec::new();
            }
        };
        let mut complete = Vec::new();
        for (id, name, dimension) in rows {
            let vector = self.segment(problems, (&id, &name), "VECTOR", VECTOR_TYPE);
            let metadata = self.segment(problems, (&id, &name), "METADATA", METADATA_TYPE);
            if let (Some(vector), Some(metadata)) = (vector, metadata) {
                complete.push(Collection {
                    id,
                    name,
                    dimension,
                    vector,
                    metadata,
                });
            }
        }
        complete
    }

    fn segment(
        &self,
        problems: &mut Vec<Problem>,
        (collection, name): (&str, &str),
        scope: &str,
        known_type: &str,
    ) -> Option<String> {
        let found = self.rows(
            "SELECT id, type FROM segments WHERE collection = ?1 AND scope = ?2 ORDER BY id",
            [collection, scope],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        );
        let message = match found.as_deref() {
            Ok([(id, kind)]) if kind == known_type => return Some(id.clone()),
            Ok([(id, kind)]) => format!(
                "collection {name}: segment {id} is of type {kind}, which cannot be checked; \
                 known is {known_type}"
            ),
            Ok(found) => format!(
                "collection {name} ({collection}) has {} {scope} segments instead of one",
                found.len()
            ),
            Err(error) => {
                problems.push(unreadable("segments", error));
                return None;
            }
        };
        problems.push(Problem::in_database("segments", message));
        None
    }

    /// Up to which operation a segment has seen the queue; `None` if it has no row.
    pub(super) fn max_seq_id(&self, segment: &str) -> Result<Option<i64>, String> {
        let sql = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?1";
        let found = self.connection.query_row(sql, [segment], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Integer(value) => Ok(value),
                ValueRef::Blob(bytes) => bytes
                    .try_into()
                    .map(i64::from_be_bytes)
                    .map_err(|_| format!("it is a blob of {} bytes instead of 8", bytes.len())),
                other => Err(format!("it is of type {}", other.data_type())),
            })
        });
        match found.optional() {
            Ok(found) => found.transpose(),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Hands every record of a METADATA segment to `each`.
    pub(super) fn each_record(
        &self,
        segment: &str,
        mut each: impl FnMut(String),
    ) -> rusqlite::Result<()> {
        let sql = "SELECT embedding_id FROM embeddings WHERE segment_id = ?1";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([segment])?;
        while let Some(row) = rows.next()? {
            each(row.get(0)?);
        }
        Ok(())
    }

    /// Hands every queued operation of a collection to `each`, in order.
    pub(super) fn each_operation(
        &self,
        collection: &str,
        mut each: impl FnMut(Operation),
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT seq_id, operation, id FROM embeddings_queue
             WHERE substr(topic, -length(?1) - 1) = '/' || ?1 ORDER BY seq_id",
        )?;
        let mut rows = statement.query([collection])?;
        while let Some(row) = rows.next()? {
            each(Operation {
                seq_id: row.get(0)?,
                kind: row.get(1)?,
                id: row.get(2)?,
            });
        }
        Ok(())
    }

    fn expect_none(
        &self,
        problems: &mut Vec<Problem>,
        check: &'static str,
        sql: &str,
        message: impl Fn(i64) -> String,
    ) {
        match self.count(sql) {
            Ok(0) => {}
            Ok(count) => problems.push(Problem::in_database(check, message(count))),
            Err(error) => problems.push(unreadable(check, &error)),
        }
    }

    fn has_table(&self, name: &str) -> bool {
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
        self.connection.query_row(sql, [name], |_| Ok(())).is_ok()
    }

    fn count(&self, sql: &str) -> rusqlite::Result<i64> {
        self.connection.query_row(sql, [], |row| row.get(0))
    }

    fn texts(&self, sql: &str) -> rusqlite::Result<Vec<String>> {
        self.rows(sql, [], |row| row.get(0))
    }

    fn rows<T, P: rusqlite::Params>(
        &self,
        sql: &str,
        parameters: P,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.connection
            .prepare(sql)?
            .query_map(parameters, read)?
            .collect()
    }
}

/// A query failed.
pub(super) fn unreadable(check: &'static str, error: &rusqlite::Error) -> Problem {
    Problem::in_database(
        check,
        format!("SQLite cannot read what this check needs: {error}"),
    )
}

/// Opens a database that must not be changed. `as_it_stands`: without a lock and without its
/// write-ahead log, which creates no file beside it.
pub(crate) fn open_read_only(path: &Path, as_it_stands: bool) -> rusqlite::Result<Connection> {
    let mut uri = OsString::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(*byte).to_string()),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte).to_string()),
            byte => {
                let mut escaped = String::new();
                // Writing into a string cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
                uri.push(escaped);
            }
        }
    }
    // An immutable database is read without its write-ahead log.
    uri.push(if as_it_stands {
        "?mode=ro&immutable=1"
    } else {
        "?mode=ro"
    });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(Path::new(&uri), flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}
