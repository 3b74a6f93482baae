//! One part: from the bundle through verified chunks to a COPY.

use arkstream_columnar::CopyEncoder;
use arkstream_format::{Component, Member, TableEntry};
use arkstream_pipeline::{Event, Failure, FailureKind, Restoring, fault};
use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::feed::{self, Feed};
use super::{Staged, Staging};
use crate::failure::failure_of;
use crate::sql::{quote_ident, quote_literal};

/// Long values are compressed by LZ4 where the server has it: that takes a fraction of the time of its
/// own method. The live rows take them over as they are.
const BEGIN: &str = "BEGIN; \
    SELECT pg_catalog.set_config(name, 'lz4', true) FROM pg_catalog.pg_settings \
    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)";

impl Staging {
    /// Loads a part of a table, unless its checkpoint says that it is there. Returns its rows.
    ///
    /// With `transaction` it begins and commits one of its own, in which the checkpoint stands
    /// too; without, it runs in the caller's.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] for a part that is not what the manifest says; what the server
    /// says otherwise.
    pub async fn load(
        &self,
        client: &Client,
        restoring: &Restoring,
        staged: &Staged,
        part: usize,
        transaction: bool,
    ) -> Result<u64, Failure> {
        let Some((member, rows)) = staged.parts.get(part) else {
            return Ok(0);
        };
        let fail = |error: tokio_postgres::Error| {
            failure_of(&format!("load {member} into {}", staged.sql), &error)
        };
        let known = format!(
            "SELECT rows FROM {} WHERE member = {}",
            self.name("parts"),
            quote_literal(member)
        );
        let entry = find(restoring, member)?;
        if let Some(row) = client.query_opt(&known, &[]).await.map_err(fail)? {
            restoring.keep(entry);
            return Ok(row.get::<_, i64>(0).unsigned_abs());
        }
        fault::check("part.begin")?;
        let feed = feed::open(restoring, entry).await?;
        let permit = restoring.budget.take(feed.needs()).await;
        if transaction {
            client.batch_execute(BEGIN).await.map_err(fail)?;
        }
        let copied = self.copy(client, restoring, staged, entry, feed).await;
        let mut taken = false;
        let done = match copied {
            Ok(copied) if copied == *rows => {
                fault::check("part.copied")?;
                let checkpoint = format!(
                    "INSERT INTO {} VALUES ({}, {copied})",
                    self.name("parts"),
                    quote_literal(member)
                );
                let end = if transaction { "; COMMIT" } else { "" };
                let noted = client.batch_execute(&format!("{checkpoint}{end}")).await;
                noted.map_err(|error| {
                    taken = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
                    fail(error)
                })
            }
            Ok(copied) => Err(Failure::new(
                FailureKind::Damaged,
                format!("load {member} into {}", staged.name),
                format!("it has {copied} rows, the manifest says {rows}"),
            )),
            Err(failure) => Err(failure),
        };
        if done.is_err() && transaction {
            // The failure that matters is the one above; a dead connection rolls back by itself.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        drop(permit);
        // The server has committed the same part meanwhile, for a process that was killed.
        if transaction
            && taken
            && let Some(row) = client.query_opt(&known, &[]).await.map_err(fail)?
        {
            restoring.keep(entry);
            return Ok(row.get::<_, i64>(0).unsigned_abs());
        }
        done?;
        fault::check("part.committed")?;
        Ok(*rows)
    }

    async fn copy(
        &self,
        client: &Client,
        restoring: &Restoring,
        staged: &Staged,
        member: &Member,
        feed: Feed,
    ) -> Result<u64, Failure> {
        let attempted = format!("load {} into {}", member.name, staged.sql);
        let fail = |error: tokio_postgres::Error| failure_of(&attempted, &error);
        let columns: Vec<String> = staged
            .encoder
            .stage_columns()
            .iter()
            .map(|column| quote_ident(&column.name))
            .collect();
        let copy = format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            staged.sql,
            columns.join(", ")
        );
        let sink = client.copy_in::<_, Bytes>(&copy).await.map_err(fail)?;
        let mut sink = Box::pin(sink);
        let mut frames = feed.start(restoring, &staged.encoder);
        while let Some(frame) = frames.recv().await {
            restoring.cancel.check()?;
            sink.send(frame?).await.map_err(fail)?;
        }
        let rows = sink.as_mut().finish().await.map_err(fail)?;
        restoring.tell(Event::Member {
            component: Component::Models,
            name: member.name.clone(),
            rows,
            raw_bytes: member.raw_len,
            stored_bytes: member.stored_len,
        });
        Ok(rows)
    }
}

/// The encoder for a table, from its first part.
pub(super) async fn encoder(
    restoring: &Restoring,
    entry: &TableEntry,
) -> Result<CopyEncoder, Failure> {
    let Some(part) = entry.parts.first() else {
        return Err(Failure::new(
            FailureKind::Damaged,
            format!("read the columns of {}", entry.table),
            "the table has no part in the bundle",
        ));
    };
    let member = find(restoring, &part.member)?;
    feed::open(restoring, member).await?.encoder()
}

fn find<'a>(restoring: &'a Restoring, name: &str) -> Result<&'a Member, Failure> {
    restoring.bundle.member(name).ok_or_else(|| {
        Failure::new(
            FailureKind::Damaged,
            format!("read {name} from the bundle"),
            "the manifest names it and the bundle does not have it",
        )
    })
}
