//! Whether what the snapshot sees is on the server's disk.
//!
//! Before that is known, row versions prove nothing to a later run. On a server where nothing happens it takes
//! more than half a second, so rows are read meanwhile: parts are written without their versions, which are
//! added to their proofs as soon as they mean something. What an earlier run proved was on the disk then.

use std::time::{Duration, Instant};

use arkstream_pipeline::Failure;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::failure::failure_of;

/// How long the server's disk may take.
const FLUSH: Duration = Duration::from_secs(5);

/// Bytes of a page of the WAL.
const PAGE: i64 = 8192;

/// What is known of it.
#[derive(Clone)]
pub(super) struct Flushed(watch::Receiver<Option<bool>>);

impl Flushed {
    /// The question, to be waited for beside everything else, and what will be known of it.
    pub(super) fn ask(
        client: &Client,
        taken_at: Instant,
    ) -> (impl Future<Output = Result<(), Failure>> + '_, Self) {
        let (known, told) = watch::channel(None);
        let asking = async move {
            let found = is_flushed(client, taken_at).await;
            let is_flushed = matches!(found, Ok(true));
            // Nobody is left who wants to know where this fails.
            let _ = known.send(Some(is_flushed));
            found.map(drop)
        };
        (asking, Self(told))
    }

    /// What is known by now.
    pub(super) fn known(&self) -> Option<bool> {
        *self.0.borrow()
    }

    /// Whether it is, as soon as that is known.
    pub(super) async fn wait(&self) -> bool {
        let mut told = self.0.clone();
        let found = told.wait_for(Option::is_some).await;
        found.is_ok_and(|found| *found == Some(true))
    }
}

/// Whether every commit that the snapshot, taken at `taken_at`, sees is on the server's disk. With `synchronous_commit = off`
/// a crash of a backend may take back commits that were seen and give their transaction ids to others,
/// without a restart of the postmaster: row versions prove nothing then.
///
/// Such commits are flushed within three delays of the WAL writer. The WAL behind them may wait for as
/// long as its page is not full.
///
/// # Errors
/// When the server does not answer.
async fn is_flushed(client: &Client, taken_at: Instant) -> Result<bool, Failure> {
    let fail = |error: tokio_postgres::Error| failure_of("ask how far the WAL is flushed", &error);
    let row = client
        .query_one(
            "SELECT pg_catalog.pg_is_in_recovery(), (SELECT s.setting::pg_catalog.int8 \
             FROM pg_catalog.pg_settings s WHERE s.name = 'wal_writer_delay')",
            &[],
        )
        .await
        .map_err(fail)?;
    if row.get(0) {
        // What is replayed was flushed before.
        return Ok(true);
    }
    let delay: Option<i64> = row.get(1);
    let delays = Duration::from_millis(3 * delay.unwrap_or(200).unsigned_abs());
    let inserted: String = client
        .query_one(
            "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text",
            &[],
        )
        .await
        .map_err(fail)?
        .get(0);
    let query = "SELECT pg_catalog.pg_wal_lsn_diff($1::pg_catalog.text::pg_catalog.pg_lsn, \
        pg_catalog.pg_current_wal_flush_lsn())::pg_catalog.int8";
    let since = Instant::now();
    loop {
        let row = client.query_one(query, &[&inserted]).await.map_err(fail)?;
        let behind: i64 = row.get(0);
        if behind <= 0 || (behind < PAGE && taken_at.elapsed() >= delays) {
            return Ok(true);
        }
        if since.elapsed() >= FLUSH.max(2 * delays) {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
