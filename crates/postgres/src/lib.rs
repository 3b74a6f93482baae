//! PostgreSQL as a source: connections, catalog, snapshots under locks, parallel COPY, `pg_dump`.
//!
//! * [`ConnectSpec`] reads what libpq reads (URLs, key=value strings, `PG…` variables, `.pgpass`)
//!   and keeps the password out of everything that is shown. [`Session`] is one connection with
//!   every setting pinned that could change what is read.
//! * [`read_catalog`] reads all tables with a handful of set-based queries.
//! * [`SnapshotHolder`] is the barrier: table locks first, then one exported snapshot that all
//!   workers share, then the proof that nothing changed in between. It exports [`TableTask`]s as
//!   Parquet members, in parallel.
//! * [`DumpSource`] streams `pg_dump` into a member.
//!
//! What must never be: a COPY of a table that is not locked (a TRUNCATE would leave it silently
//! empty under the old snapshot), a secret in an argument or a message, a child process that
//! outlives the run.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod advisory;
mod catalog;
mod connect;
pub mod cutover;
mod dump;
mod export;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod graph;
mod holder;
mod server;
mod session;
mod sql;
mod staging;
mod task;
mod tools;

pub use advisory::Advisory;
pub use catalog::{Catalog, CatalogColumn, CatalogTable, TableRef, read_catalog};
pub use connect::{ConnectSpec, SslMode};
pub use cutover::{ApplyOptions, Key, Strategy, TableDiff};
pub use dump::{DumpOptions, DumpSnapshot, DumpSource, SharedSnapshot};
pub use failure::failure_of;
pub use graph::{GraphTarget, GraphTargetOptions};
pub use holder::SnapshotHolder;
pub use server::{database_identity, server_info};
pub use session::Session;
pub use sql::{compared, hash_of, quote_ident, quote_literal, row_bytes};
pub use staging::{Staged, Staging};
pub use task::{Annotations, ExportOptions, TableTask, VirtualQuery};
pub use tools::{Tool, all_pg_dumps, find_pg_dump};
