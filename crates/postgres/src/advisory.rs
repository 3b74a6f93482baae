//! Locks under a name that only we know, to wait for what a server may still be working on.
//!
//! A client that is killed, or loses its connection, while its COMMIT is under way leaves a
//! transaction whose outcome nobody knows: its backend ends it in its own time. So every
//! transaction that switches something holds a lock of its restore until it ends, and whoever
//! judges what is live takes that lock first. The same kind of lock, held by a session, keeps two
//! restores of one target apart, wherever they run.

use std::time::{Duration, Instant};

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;

use crate::failure::{failure_of, is_lock_unavailable};
use crate::session::Session;

/// How long a claim is tried: the backend of a process that was killed may not have noticed yet.
const CLAIM_LIMIT: Duration = Duration::from_secs(2);

const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// A lock by name, within one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advisory {
    key: i64,
}

impl Advisory {
    /// The lock of that name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut head = [0; 8];
        let digest = blake3::hash(format!("arkstream {name}").as_bytes());
        head.copy_from_slice(&digest.as_bytes()[..8]);
        Self {
            key: i64::from_be_bytes(head),
        }
    }

    /// SQL that takes the lock until the transaction ends.
    #[must_use]
    pub fn hold_sql(self) -> String {
        format!("SELECT pg_catalog.pg_advisory_xact_lock({})", self.key)
    }

    /// Takes the lock until the session's open transaction ends.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] naming who holds it, when it is not to be had in time.
    pub async fn hold(self, session: &Session, timeout: Duration) -> Result<(), Failure> {
        let sql = format!(
            "SET LOCAL lock_timeout = {}; {}",
            timeout.as_millis().max(1),
            self.hold_sql()
        );
        match session.client().batch_execute(&sql).await {
            Ok(()) => Ok(()),
            Err(error) if is_lock_unavailable(&error) => {
                session.rollback().await;
                Err(self.in_doubt(session.client(), timeout).await)
            }
            Err(error) => Err(failure_of("wait for an earlier switch to end", &error)),
        }
    }

    /// Waits until no transaction holds the lock: what it was to switch is switched or not.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] naming who holds it, when it is not to be had in time.
    pub async fn settle(self, session: &Session, timeout: Duration) -> Result<(), Failure> {
        let client = session.client();
        let fail =
            |error: tokio_postgres::Error| failure_of("wait for an earlier switch to end", &error);
        client.batch_execute("BEGIN").await.map_err(fail)?;
        self.hold(session, timeout).await?;
        client.batch_execute("COMMIT").await.map_err(fail)
    }

    /// Takes the lock until the session ends, or [`Advisory::give_back`].
    ///
    /// # Errors
    /// What the server says.
    pub async fn keep(self, session: &Session) -> Result<(), Failure> {
        let sql = format!("SELECT pg_catalog.pg_advisory_lock({})", self.key);
        session
            .client()
            .batch_execute(&sql)
            .await
            .map_err(|error| failure_of("wait for an earlier restore to end", &error))
    }

    /// Gives back what [`Advisory::keep`] took.
    ///
    /// # Errors
    /// What the server says.
    pub async fn give_back(self, session: &Session) -> Result<(), Failure> {
        let sql = format!("SELECT pg_catalog.pg_advisory_unlock({})", self.key);
        session
            .client()
            .batch_execute(&sql)
            .await
            .map_err(|error| failure_of("give a lock back", &error))
    }

    /// Takes the lock until the session ends, and does not wait for who has it.
    ///
    /// # Errors
    /// [`FailureKind::Refused`]: `attempted` on a target that another restore works on.
    pub async fn claim(self, session: &Session, attempted: &str) -> Result<(), Failure> {
        let sql = format!("SELECT pg_catalog.pg_try_advisory_lock({})", self.key);
        let start = Instant::now();
        loop {
            let row = session
                .client()
                .query_one(&sql, &[])
                .await
                .map_err(|error| failure_of(attempted, &error))?;
            if row.get(0) {
                return Ok(());
            }
            if start.elapsed() >= CLAIM_LIMIT {
                let why = match self.holder(session.client()).await {
                    Some(holder) => format!("another restore or undo is under way, by {holder}"),
                    None => "another restore or undo is under way".to_owned(),
                };
                return Err(Failure::new(FailureKind::Refused, attempted, why).help(
                    "wait for it to end; if its program was killed, end that server process",
                ));
            }
            tokio::time::sleep(CLAIM_PAUSE).await;
        }
    }

    async fn in_doubt(self, client: &Client, timeout: Duration) -> Failure {
        let holder = self.holder(client).await;
        let why = format!(
            "the server has not ended the transaction of an earlier switch within {} s{}",
            timeout.as_secs_f32(),
            holder
                .map(|holder| format!(", that of {holder}"))
                .unwrap_or_default()
        );
        Failure::new(
            FailureKind::Refused,
            "find out what became of an earlier switch",
            why,
        )
        .help("wait until that server process has ended, or end it, then run again")
    }

    /// Who holds the lock, for people.
    async fn holder(self, client: &Client) -> Option<String> {
        // A lock by one number stands in pg_locks as its two halves.
        let sql = format!(
            "SELECT pg_catalog.format('the server process %s (user %s, %s, since %s)', a.pid, a.usename, \
             COALESCE(NULLIF(a.application_name, ''), 'no application name'), \
             pg_catalog.to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC')) \
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
             AND l.classid = {} AND l.objid = {} \
             AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
            (self.key as u64) >> 32,
            self.key as u64 & 0xffff_ffff,
        );
        let row = client.query_opt(&sql, &[]).await.ok().flatten();
        row.and_then(|row| row.get(0))
    }
}
