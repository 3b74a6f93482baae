//! What the backup wants to know from SQLite while the lock is held.

use std::collections::BTreeMap;

use arkstream_format::{ChromaSummary, MigrationEntry};
use rusqlite::Connection;

/// The state that the lock fixes.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) summary: ChromaSummary,
    /// Every segment by its id, which is also the name of its folder if it has one.
    pub(crate) segments: BTreeMap<String, Segment>,
    /// Whether part of the state lies in `chroma.sqlite3-wal`.
    pub(crate) has_wal: bool,
}

/// One row of `segments`.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The name of the collection it belongs to, or its id where that is not known.
    pub(crate) collection: String,
    /// Whether vectors of it exist only in its folder: it was persisted at least once.
    pub(crate) persisted: bool,
}

pub(crate) fn describe(connection: &Connection) -> rusqlite::Result<Described> {
    let count = |sql: &str| -> rusqlite::Result<u64> {
        let rows: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(rows.unsigned_abs())
    };
    let journal_mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(Described {
        summary: ChromaSummary {
            migrations: migrations(connection)?,
            collections: count("SELECT count(*) FROM collections")?,
            embeddings: count("SELECT count(*) FROM embeddings")?,
            queued: count("SELECT count(*) FROM embeddings_queue")?,
        },
        segments: segments(connection)?,
        has_wal: journal_mode.eq_ignore_ascii_case("wal"),
    })
}

fn migrations(connection: &Connection) -> rusqlite::Result<Vec<MigrationEntry>> {
    connection
        .prepare("SELECT dir, version, filename, hash FROM migrations ORDER BY dir, version")?
        .query_map([], |row| {
            Ok(MigrationEntry {
                dir: row.get(0)?,
                version: row.get(1)?,
                filename: row.get(2)?,
                hash: row.get(3)?,
            })
        })?
        .collect()
}

fn segments(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Segment>> {
    connection
        .prepare(
            "SELECT s.id, coalesce(c.name, s.collection, 'unknown'),
                    s.scope = 'VECTOR' AND EXISTS (SELECT 1 FROM max_seq_id m WHERE m.segment_id = s.id)
             FROM segments s LEFT JOIN collections c ON c.id = s.collection",
        )?
        .query_map([], |row| {
            let segment = Segment {
                collection: row.get(1)?,
                persisted: row.get(2)?,
            };
            Ok((row.get(0)?, segment))
        })?
        .collect()
}
