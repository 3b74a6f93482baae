//! The renames, and who is in their way.

use std::time::Duration;

use arkstream_pipeline::{Failure, FailureKind, fault};
use tokio_postgres::error::SqlState;

use super::GraphTarget;
use crate::failure::failure_of;
use crate::session::Session;
use crate::sql::{quote_ident, quote_literal};

/// How often renames are tried while sessions are ended: a pool may reconnect at once.
const ATTEMPTS: u32 = 10;

impl GraphTarget {
    /// Who is connected to the live database, for people. Our own sessions that have just ended may
    /// still be there for a moment.
    pub(super) async fn connected(&self, session: &Session) -> Result<Vec<String>, Failure> {
        let sql = format!(
            "SELECT pg_catalog.format('process %s (user %s, %s)', a.pid, a.usename, \
             COALESCE(NULLIF(a.application_name, ''), 'no application name')) \
             FROM pg_catalog.pg_stat_activity a WHERE a.datname = {} AND a.pid <> pg_catalog.pg_backend_pid() \
             AND a.application_name NOT LIKE 'arkstream restore%' ORDER BY a.pid",
            quote_literal(&self.database)
        );
        let mut found = Vec::new();
        for pause in [0, 100, 200] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let rows = session.client().query(&sql, &[]).await.map_err(|error| {
                failure_of("ask who is connected to the graph database", &error)
            })?;
            found = rows.iter().map(|row| row.get(0)).collect();
            if found.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    pub(super) fn busy(&self, connected: &[String]) -> Failure {
        Failure::new(
            FailureKind::Refused,
            format!("rename the database {}", self.database),
            format!("it is in use by {}", connected.join(", ")),
        )
        .help("stop these applications, or give --terminate-connections to end their sessions")
    }

    /// Renames databases in one transaction, which stays open.
    pub(super) async fn rename(
        &self,
        session: &Session,
        renames: &[(String, String)],
    ) -> Result<(), Failure> {
        let client = session.client();
        let attempted = format!("rename the database {}", self.database);
        let fail = |error: tokio_postgres::Error| failure_of(&attempted, &error);
        session.make_commits_durable().await?;
        let mut sql = format!(
            "SET LOCAL lock_timeout = {}",
            self.options.lock_timeout.as_millis().max(1)
        );
        for (from, to) in renames {
            sql.push_str(&format!(
                "; ALTER DATABASE {} RENAME TO {}",
                quote_ident(from),
                quote_ident(to)
            ));
        }
        for attempt in 1.. {
            // Our own sessions that have just ended may still be there for a moment.
            let names: Vec<String> = renames
                .iter()
                .map(|(from, _)| quote_literal(from))
                .collect();
            let ours = if self.options.terminate_connections {
                "true"
            } else {
                "a.application_name LIKE 'arkstream restore%'"
            };
            let end = format!(
                "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a \
                 WHERE a.datname IN ({}) AND a.pid <> pg_catalog.pg_backend_pid() AND {ours}",
                names.join(", ")
            );
            client.batch_execute(&end).await.map_err(fail)?;
            client.batch_execute("BEGIN").await.map_err(fail)?;
            self.lock().hold(session, self.options.lock_timeout).await?;
            match client.batch_execute(&sql).await {
                Ok(()) => {
                    fault::check("graph.renamed")?;
                    return Ok(());
                }
                Err(error) => {
                    let busy = error.code() == Some(&SqlState::OBJECT_IN_USE);
                    client.batch_execute("ROLLBACK").await.map_err(fail)?;
                    if !busy {
                        return Err(fail(error));
                    }
                    if attempt >= ATTEMPTS || !self.options.terminate_connections {
                        let connected = self.connected(session).await?;
                        return Err(if connected.is_empty() {
                            fail(error)
                        } else {
                            self.busy(&connected)
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        Ok(())
    }
}
