//! What a worker asks of its server, and how far ahead.
//!
//! Of a part the server is asked for the rows, and at once for what proves them: one answer follows the other
//! on the connection. Where tables are small, the next part's questions are asked before the answers are
//! worked off. So a server with thousands of them is not idle while a file is made, nor is the worker while
//! the server looks up a table.

use std::{convert::Infallible, future, pin::Pin, task::Poll};

use arkstream_format::RowVersions;
use arkstream_pipeline::Failure;
use futures::future::{FutureExt, LocalBoxFuture};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, CopyOutStream, types::Type};

use super::plan::Table;
use super::ranges::{Part, Range, Work};
use super::versions::VersionsQuery;
use super::worker::Worker;
use crate::failure::failure_of;

/// Bytes of a table whose questions do not wait until the part before is done. A larger one is better left to
/// whichever worker is free first.
const SMALL: u64 = 256 << 10;

/// The answers to what was asked of a part, to be read in this order.
pub(super) struct Reading<'a> {
    /// Its rows.
    pub(super) rows: Pin<Box<CopyOutStream>>,
    /// What they are like after that. The stream ends before the server says that the command succeeded; had
    /// it failed, the transaction would have refused this question.
    pub(super) found: LocalBoxFuture<'a, Result<Found, Failure>>,
}

/// What a range is like.
pub(super) struct Found {
    /// The file of its relation.
    pub(super) relfilenode: Option<u32>,
    /// Where they mean something.
    pub(super) versions: Option<RowVersions>,
}

/// A part whose questions were asked.
pub(super) struct Asked<'a> {
    pub(super) table: &'a Table,
    /// Which table and which of its parts.
    pub(super) place: (usize, usize),
    pub(super) part: &'a Part,
    pub(super) reading: Result<Reading<'a>, Failure>,
    /// Dropped when the part is done.
    _until_done: oneshot::Sender<Infallible>,
}

impl Worker {
    /// Takes parts from the queue and asks for them, until there is none. A failure is handed over as well: the
    /// part before it, which is still being read, may be its cause, and has to be heard first.
    pub(super) async fn ask_ahead<'a>(&'a self, asked: mpsc::Sender<Asked<'a>>) {
        while let Some(place) = self.queue.take() {
            let Some(table) = self.tables.get(place.0) else {
                continue;
            };
            let Some(part) = table.parts.get(place.1) else {
                continue;
            };
            let reading = self.ask(table, &part.range).await;
            let may_go_on = reading.is_ok();
            let (_until_done, done) = oneshot::channel();
            let part = Asked {
                table,
                place,
                part,
                reading,
                _until_done,
            };
            // What is compared may have to be asked for again, with nothing unread behind it.
            let is_alone = matches!(part.part.work, Work::Compare(..));
            let is_alone = is_alone || table.task.table.bytes > SMALL;
            if asked.send(part).await.is_err() || !may_go_on {
                return;
            }
            if is_alone {
                let _ = done.await;
            }
        }
    }

    /// Asks for a part.
    pub(super) async fn ask<'a>(
        &'a self,
        table: &'a Table,
        range: &'a Range,
    ) -> Result<Reading<'a>, Failure> {
        let client = self.session.client();
        let relation = table.relation(range);
        let rows = client.copy_out(&table.copy_sql(range)).await;
        let rows =
            rows.map_err(|error| failure_of(&format!("export {}", relation.qualified()), &error))?;
        let mut found = look(client, table, range).boxed_local();
        // The question is sent when it is first waited for.
        let found = match futures::poll!(&mut found) {
            Poll::Pending => found,
            Poll::Ready(found) => future::ready(found).boxed_local(),
        };
        Ok(Reading {
            rows: Box::pin(rows),
            found,
        })
    }
}

async fn look(client: &Client, table: &Table, range: &Range) -> Result<Found, Failure> {
    if range.versioned {
        let found = VersionsQuery::of(&table.task, range).ask(client).await?;
        return Ok(Found {
            relfilenode: found.relfilenode,
            versions: Some(found.versions),
        });
    }
    let oid = range.relation.as_ref().map_or(0, |relation| relation.oid);
    let query = "SELECT pg_catalog.pg_relation_filenode($1::pg_catalog.oid)";
    let row = client.query_typed_one(query, &[(&oid, Type::OID)]).await;
    let row = row.map_err(|error| {
        let relation = table.relation(range);
        failure_of(&format!("export {}", relation.qualified()), &error)
    })?;
    Ok(Found {
        relfilenode: row.get(0),
        versions: None,
    })
}
