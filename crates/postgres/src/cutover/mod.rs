//! The cut-over of rows: differences applied to live tables in one transaction of the tables'
//! owner, with everything kept that an undo needs.
//!
//! A **diff table** says what becomes of one live table: `ark_op` (`i` insert, `u` update, `d`
//! delete), `ark_n` (the occurrence number where rows have no key), then columns named and typed
//! as the live ones: the key always, the others for `i` and `u`. The others may also stand
//! elsewhere ([`TableDiff::wanted`]), so that large rows need not be written once more.
//!
//! The order, with foreign keys live (none of Odoo's is deferrable):
//!
//! 1. rows outside the differences that deletions reach lose these references, or go with the
//!    deletions: explicitly, never by an action of the server, so that they too are kept;
//! 2. inserts, what is referred to first. Tables that refer to one another in a cycle are filled by
//!    **one** statement: the server looks at foreign keys when a statement ends, so that required
//!    references around a cycle need no second step;
//! 3. updates, for now everything they refer to is there;
//! 4. deletes, of all tables and of the rows outside, by one statement for the same reason.
//!
//! Unique constraints and indexes that a wanted value would meet on the way (swapped values, a value
//! whose holder goes) are dropped and made again, with the foreign keys that lead to them. The
//! foreign keys of all changed tables are dropped and made again above
//! [`ApplyOptions::rebuild_above_rows`]: 1.5 million rows under five live keys took 71 s, dropping
//! and adding the keys 6 s.
//!
//! Dropping and adding a foreign key locks both of its tables against readers, too. Such locks must
//! not be asked for while others are held: who decides for it says so to [`lock_for`], which takes all
//! locks at once, in one order.
//!
//! What a deletion reaches is locked row by row, which also keeps out who would refer to a row that
//! goes. Tables of the differences are locked by the caller ([`lock_tables`]).
//!
//! **Undo tables** (`arkstream_undo_<id>.t<n>`) are diff tables that lead back, with `ark_expect`:
//! the hash of the row as the restore left it. They are written in the same transaction, so they
//! exist exactly when the change is live.
//!
//! Limits: a role that owns the tables and may make temporary ones; no superuser, no
//! `session_replication_role`. A table without a key is only taken with all of its columns; its rows are
//! compared as text. Hashes are of the bytes that the server would send of a row. The server queues some 12 bytes a row and live foreign key
//! in a statement. No row comes to this process.

mod apply;
mod change;
mod foresee;
mod former;
mod identity;
mod keys;
mod lock;
mod outside;
mod reach;
pub mod row_security;
mod undo;
mod uniques;

use arkstream_pipeline::{Failure, Reach};
use tokio_postgres::Client;

use crate::catalog::CatalogTable;
use crate::failure::failure_of;
use crate::sql::{compared, quote_ident};

pub use apply::apply;
pub use foresee::{Foreseen, foresee, wait_at_most};
pub use lock::{holders, lock_for, lock_tables};
pub use reach::reach;
pub use undo::{Undone, is_kept, is_live, prepare_undo, undo};

/// What becomes of one live table.
#[derive(Clone, Debug)]
pub struct TableDiff {
    /// The live table.
    pub table: CatalogTable,
    /// The diff table as SQL.
    pub diff: String,
    /// What has the wanted values of its `i` and `u` beside operation, number and key, as SQL: the
    /// diff table itself, or a table or view that gives the same rows for as long as the transaction
    /// lasts, whatever is written to live tables. Rows without a key have theirs in the diff table.
    pub wanted: String,
    /// Bytes that a wanted row takes in the database. An estimate.
    pub row_bytes: u64,
    /// What tells rows apart.
    pub key: Key,
    /// Live columns that `i` and `u` set; others keep their value, or take their default. Generated
    /// columns are never among them.
    pub columns: Vec<String>,
}

/// What tells the rows of a table apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Columns that are unique and not null.
    Columns(Vec<String>),
    /// Nothing: equal rows are counted. Only `i` and `d`, with all columns filled.
    WholeRow,
}

/// How foreign keys are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// By the number of rows.
    #[default]
    Auto,
    /// Live wherever an order exists.
    LiveKeys,
    /// Dropped and made again.
    RebuildKeys,
}

/// How differences are applied.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// The schema that keeps the former versions; must not exist.
    pub undo_schema: String,
    /// How foreign keys are kept.
    pub strategy: Strategy,
    /// From how many changed rows on [`Strategy::Auto`] drops foreign keys.
    pub rebuild_above_rows: u64,
    /// Whether rows outside the differences may be emptied or deleted.
    pub cascade: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            undo_schema: String::new(),
            strategy: Strategy::Auto,
            rebuild_above_rows: 200_000,
            cascade: false,
        }
    }
}

impl ApplyOptions {
    /// What becomes of foreign keys when so many rows change.
    #[must_use]
    pub fn strategy_for(&self, rows: u64) -> Strategy {
        match self.strategy {
            Strategy::Auto if rows > self.rebuild_above_rows => Strategy::RebuildKeys,
            Strategy::Auto => Strategy::LiveKeys,
            decided => decided,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// What became of each table of the differences.
    pub tables: Vec<AppliedTable>,
    /// Rows outside the differences that were reached.
    pub reach: Vec<Reach>,
    /// Foreign keys that were dropped and made again.
    pub keys_rebuilt: usize,
}

/// What became of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedTable {
    /// Schema-qualified name.
    pub table: String,
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that went.
    pub deleted: u64,
}

impl TableDiff {
    fn live(&self) -> String {
        from_live(&self.table)
    }

    /// `a.k = b.k AND …`; for tables without a key, never true.
    fn joined(&self, a: &str, b: &str) -> String {
        match &self.key {
            Key::Columns(columns) => columns
                .iter()
                .map(|column| format!("{a}.{0} = {b}.{0}", quote_ident(column)))
                .collect::<Vec<_>>()
                .join(" AND "),
            Key::WholeRow => "false".to_owned(),
        }
    }

    /// A query for the places (`ark_rel`, `ark_row`) of the live rows that go.
    fn gone(&self) -> String {
        let live = self.live();
        match &self.key {
            Key::Columns(_) => format!(
                "SELECT t.tableoid AS ark_rel, t.ctid AS ark_row FROM {live} t JOIN {} d ON {} WHERE d.ark_op = 'd'",
                self.diff,
                self.joined("t", "d")
            ),
            Key::WholeRow => format!(
                "SELECT n.ark_rel, n.ark_row FROM (SELECT t.tableoid AS ark_rel, t.ctid AS ark_row, {0} AS ark_text, \
                 pg_catalog.row_number() OVER (PARTITION BY {0} ORDER BY t.tableoid, t.ctid) AS ark_n FROM {live} t) n \
                 JOIN (SELECT {1} AS ark_text, pg_catalog.count(*) AS n FROM {2} d WHERE d.ark_op = 'd' GROUP BY 1) d \
                 ON d.ark_text = n.ark_text AND n.ark_n <= d.n",
                row_text(&self.columns, &self.binary(), "t"),
                row_text(&self.columns, &self.binary(), "d"),
                self.diff
            ),
        }
    }

    fn binary(&self) -> Vec<String> {
        let columns = self.table.columns.iter();
        let binary = columns.filter(|column| column.pg.type_name == "bytea");
        binary.map(|column| column.pg.name.clone()).collect()
    }

    fn is_key(&self, column: &str) -> bool {
        matches!(&self.key, Key::Columns(columns) if columns.iter().any(|c| c == column))
    }
}

/// The table as SQL without the rows of tables that inherit from it; a partitioned table has its
/// rows in its leaves.
fn from_live(table: &CatalogTable) -> String {
    let only = if table.kind == 'p' { "" } else { "ONLY " };
    format!("{only}{}", table.table.sql())
}

/// Columns that can be written.
fn writable(table: &CatalogTable) -> Vec<String> {
    table
        .columns
        .iter()
        .filter(|column| !column.generated)
        .map(|column| column.pg.name.clone())
        .collect()
}

fn list(columns: &[String], alias: &str) -> String {
    columns
        .iter()
        .map(|column| {
            if alias.is_empty() {
                quote_ident(column)
            } else {
                format!("{alias}.{}", quote_ident(column))
            }
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A row as text: what tells equal rows. `binary` are the columns of type `bytea`.
fn row_text(columns: &[String], binary: &[String], alias: &str) -> String {
    let values = columns.iter().map(|column| {
        let sql_type = if binary.contains(column) { "bytea" } else { "" };
        compared(&format!("{alias}.{}", quote_ident(column)), sql_type)
    });
    let values: Vec<String> = values.collect();
    format!("ROW({})::pg_catalog.text", values.join(", "))
}

fn attempted(what: &str, table: &CatalogTable) -> String {
    format!("{what} {}", table.table.qualified())
}

async fn run(client: &Client, attempted: &str, sql: &str) -> Result<(), Failure> {
    client
        .batch_execute(sql)
        .await
        .map_err(|error| failure_of(attempted, &error))
}

async fn count(client: &Client, attempted: &str, sql: &str) -> Result<u64, Failure> {
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(|error| failure_of(attempted, &error))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}
