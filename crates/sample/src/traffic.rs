//! A writer that keeps changing the sample's Odoo rows, always in transactions that keep rules:
//!
//! - a conversation and all its messages appear, and disappear, together, and its `message_count`
//!   and `total_tokens` are those of its messages;
//! - a count moves from one `ai_knowledge_domain` to another, so that the sum stays.
//!
//! Whoever reads the tables at one moment must find both rules kept; [`Traffic::BROKEN_RULES`]
//! counts the rows that break them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Transaction};

use crate::error::SampleError;

const NAME: &str = "Traffic";

/// What the writer has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficReport {
    /// Transactions that the server confirmed.
    pub committed: u64,
    /// Conversations created by them.
    pub conversations: u64,
    /// Messages created by them.
    pub messages: u64,
    /// Conversations deleted again, with their messages.
    pub deleted: u64,
    /// Counts moved from one domain to another.
    pub transfers: u64,
    /// Transactions that the server refused, as when a table was locked too long.
    pub failed: u64,
    /// Why the last of those was refused.
    pub last_failure: Option<String>,
    /// The sum over `ai_knowledge_domain.conversation_count` that every transaction keeps.
    pub domain_sum: i64,
}

/// A running writer.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    task: JoinHandle<Result<TrafficReport, SampleError>>,
}

impl Traffic {
    /// One row, one column: how many rows break the rules. Zero at every moment.
    pub const BROKEN_RULES: &'static str = "SELECT count(*) FROM ai_conversation c LEFT JOIN \
        (SELECT conversation_id, count(*) AS n, sum(token_count) AS t FROM ai_message GROUP BY 1) m \
        ON m.conversation_id = c.id WHERE c.name LIKE 'Traffic %' \
        AND (m.n IS DISTINCT FROM c.message_count OR m.t IS DISTINCT FROM c.total_tokens)";

    /// Starts writing to the sample database at `url` over a connection of its own.
    pub async fn start(url: &str, seed: u64) -> Result<Self, SampleError> {
        let (mut client, connection) = tokio_postgres::connect(url, NoTls)
            .await
            .map_err(SampleError::sql("connect the sample's writer"))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection of the sample's writer ended");
            }
        });
        let domain_sum = prepare(&client).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&committed));
        let task = tokio::spawn(async move {
            let mut report = TrafficReport {
                domain_sum,
                ..TrafficReport::default()
            };
            let mut step = seed;
            while !stopped.load(Ordering::Relaxed) {
                step = step.wrapping_add(1);
                match write(&mut client, step, &mut report).await {
                    Ok(()) => report.committed += 1,
                    Err(error) if client.is_closed() => {
                        return Err(SampleError::sql("write the sample's traffic")(error));
                    }
                    Err(error) => {
                        report.failed += 1;
                        report.last_failure =
                            Some(SampleError::sql("write the sample's traffic")(error).to_string());
                    }
                }
                counter.store(report.committed, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            Ok(report)
        });
        Ok(Self {
            stop,
            committed,
            task,
        })
    }

    /// Transactions committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Lets the transaction under way end, and reports.
    pub async fn stop(self) -> Result<TrafficReport, SampleError> {
        self.stop.store(true, Ordering::Relaxed);
        self.task
            .await
            .map_err(|e| SampleError::Writer(e.to_string()))?
    }
}

async fn prepare(client: &Client) -> Result<i64, SampleError> {
    let action = "prepare the sample's writer";
    client
        .batch_execute("UPDATE ai_knowledge_domain SET conversation_count = 1000 WHERE conversation_count IS NULL")
        .await
        .map_err(SampleError::sql(action))?;
    client
        .query_one(
            "SELECT sum(conversation_count)::int8 FROM ai_knowledge_domain",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(SampleError::sql(action))
}

/// One transaction. The report counts only what was committed.
async fn write(
    client: &mut Client,
    step: u64,
    report: &mut TrafficReport,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let mut done = report.clone();
    match step % 5 {
        0 => transfer(&transaction, step, &mut done).await?,
        1 if step % 20 == 1 => delete_oldest(&transaction, &mut done).await?,
        _ => converse(&transaction, step, &mut done).await?,
    }
    transaction.commit().await?;
    *report = done;
    Ok(())
}

async fn converse(
    transaction: &Transaction<'_>,
    step: u64,
    done: &mut TrafficReport,
) -> Result<(), tokio_postgres::Error> {
    let count = 1 + (step % 7) as i32;
    // The conversation first, its messages next, its totals last: each torn copy would show.
    let id: i32 = transaction
        .query_one(
            "INSERT INTO ai_conversation (name, user_id, message_count, total_tokens, active, create_uid, create_date) \
             VALUES ($1, 2, 0, 0, true, 2, now() AT TIME ZONE 'utc') RETURNING id",
            &[&format!("{NAME} {step}")],
        )
        .await?
        .try_get(0)?;
    for number in 0..count {
        transaction
            .execute(
                "INSERT INTO ai_message (conversation_id, role, content, token_count, create_uid, create_date) \
                 VALUES ($1, 'user', repeat($2, 40), $3, 2, now() AT TIME ZONE 'utc')",
                &[&id, &format!("message {number} of step {step}; "), &(number * 3 + 1)],
            )
            .await?;
    }
    transaction
        .execute(
            "UPDATE ai_conversation SET message_count = m.n, total_tokens = m.t, write_uid = 2, write_date = now() AT TIME ZONE 'utc' \
             FROM (SELECT count(*) AS n, sum(token_count) AS t FROM ai_message WHERE conversation_id = $1) m WHERE id = $1",
            &[&id],
        )
        .await?;
    done.conversations += 1;
    done.messages += u64::from(count.unsigned_abs());
    Ok(())
}

async fn delete_oldest(
    transaction: &Transaction<'_>,
    done: &mut TrafficReport,
) -> Result<(), tokio_postgres::Error> {
    let gone = transaction
        .execute(
            "DELETE FROM ai_conversation WHERE id = (SELECT min(id) FROM ai_conversation WHERE name LIKE 'Traffic %')",
            &[],
        )
        .await?;
    done.deleted += gone;
    Ok(())
}

async fn transfer(
    transaction: &Transaction<'_>,
    step: u64,
    done: &mut TrafficReport,
) -> Result<(), tokio_postgres::Error> {
    let row = transaction
        .query_one("SELECT min(id), max(id) FROM ai_knowledge_domain", &[])
        .await?;
    let (from, to): (i32, i32) = (row.try_get(0)?, row.try_get(1)?);
    let amount = 1 + (step % 9) as i32;
    let change =
        "UPDATE ai_knowledge_domain SET conversation_count = conversation_count + $1 WHERE id = $2";
    transaction.execute(change, &[&-amount, &from]).await?;
    transaction.execute(change, &[&amount, &to]).await?;
    done.transfers += 1;
    Ok(())
}
