//! Row versions of a range, as the server counts and hashes them without reading a value.

use arkstream_format::RowVersions;
use arkstream_pipeline::Failure;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::stream::{FuturesOrdered, StreamExt};
use tokio_postgres::Client;

use super::ranges::Range;
use crate::failure::failure_of;
use crate::session::Session;
use crate::task::TableTask;

/// Queries that wait in a connection, so that its backend is never without one.
const IN_FLIGHT: usize = 2;

/// What a range is like now.
pub(super) struct Found {
    pub(super) versions: RowVersions,
    /// The file of its relation.
    pub(super) relfilenode: Option<u32>,
}

/// A question for the set of row versions of a range.
pub(super) struct VersionsQuery {
    relation: String,
    sql: String,
}

impl VersionsQuery {
    pub(super) fn of(task: &TableTask, range: &Range) -> Self {
        let relation = range.relation.as_ref().unwrap_or(&task.table.table);
        Self {
            relation: relation.qualified(),
            sql: format!(
                "SELECT pg_catalog.count(*), COALESCE(pg_catalog.bit_xor(\
                   pg_catalog.hashtidextended(t.ctid, t.xmin::pg_catalog.text::pg_catalog.int8)\
                 ), 0), pg_catalog.pg_relation_filenode({}::pg_catalog.oid) {}",
                relation.oid,
                range.from(task)
            ),
        }
    }

    /// # Errors
    /// When the server refuses.
    pub(super) async fn ask(self, client: &Client) -> Result<Found, Failure> {
        let row = client
            .query_typed_one(&self.sql, &[])
            .await
            .map_err(|error| failure_of(&format!("prove {}", self.relation), &error))?;
        let count: i64 = row.get(0);
        let hash: i64 = row.get(1);
        Ok(Found {
            versions: RowVersions {
                count: count.unsigned_abs(),
                hash: format!("{:016x}", hash.cast_unsigned()),
            },
            relfilenode: row.get(2),
        })
    }
}

/// Asks on all connections at once. The answers come in the order of the queries, while the first
/// future runs.
pub(super) fn ask_all(
    sessions: &[Session],
    queries: Vec<VersionsQuery>,
) -> (
    impl Future<Output = Result<(), Failure>> + '_,
    UnboundedReceiver<RowVersions>,
) {
    let (answer, answers) = unbounded();
    let asking = async move {
        let mut queries = queries
            .into_iter()
            .zip(sessions.iter().map(Session::client).cycle());
        let mut asked = FuturesOrdered::new();
        loop {
            let room = (IN_FLIGHT * sessions.len()).saturating_sub(asked.len());
            for (query, client) in queries.by_ref().take(room) {
                asked.push_back(query.ask(client));
            }
            let Some(found) = asked.next().await else {
                return Ok(());
            };
            if answer.unbounded_send(found?.versions).is_err() {
                return Ok(());
            }
        }
    };
    (asking, answers)
}
