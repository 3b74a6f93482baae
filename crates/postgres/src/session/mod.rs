//! One connection with every setting pinned that could change what is read.
//!
//! The settings are made and read back in two round trips. A transaction pooler hands every
//! transaction to another server connection, so that settings, snapshots and locks would belong to
//! somebody else: [`Session::check_pinned`] finds it out by a mark that is unique to the session,
//! best called again when further sessions were opened.

mod driver;
mod open;

use std::time::Duration;

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connect::ConnectSpec;
use crate::failure::failure_of;
pub(crate) use driver::Connection;
use driver::Driver;

/// How long a request to cancel may take before the connection is simply dropped.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// How long a rollback may take before the running statement is cancelled.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(2);

/// The custom setting that holds a session's mark.
const MARK: &str = "arkstream.session";

/// Every setting that is pinned. Those a server does not know are left out.
const PINNED: &[(&str, &str)] = &[
    // Names are always qualified, so that nobody's function or operator is taken for another.
    ("search_path", ""),
    // The texts of values.
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    // Hidden rows become an error.
    ("row_security", "off"),
    // A backup takes as long as it takes.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    // What travels is told by sub-selects over hundreds of thousands of rows; hashed they take
    // seconds, unhashed hours.
    ("work_mem", "128MB"),
    // Rows come in the order of their blocks.
    ("synchronize_seqscans", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("enable_tidscan", "on"),
    ("jit", "off"),
];

/// One connection, its settings pinned. It ends with this value.
pub struct Session {
    client: Client,
    driver: Driver,
    spec: ConnectSpec,
    tls: MakeRustlsConnect,
    mark: String,
    pid: i32,
}

impl Session {
    /// Connects and pins the settings.
    ///
    /// # Errors
    /// [`FailureKind::Source`] with advice: unreachable host, wrong password, unknown database, no
    /// line in `pg_hba.conf`, TLS required or refused, a transaction pooler in between.
    pub async fn connect(spec: &ConnectSpec, application_name: &str) -> Result<Self, Failure> {
        let opened = open::open(spec, application_name).await?;
        let mut session = Self {
            client: opened.client,
            driver: opened.driver,
            spec: opened.spec,
            tls: opened.tls,
            mark: open::unique_mark(),
            pid: 0,
        };
        session.pin().await?;
        session.check_pinned().await?;
        Ok(session)
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How to reach the very server this session is connected to: of several hosts, the one that
    /// answered.
    #[must_use]
    pub fn spec(&self) -> &ConnectSpec {
        &self.spec
    }

    /// The server process that serves this session.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.pid
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Takes the connection out of the runtime's hands: nothing moves until it is driven alongside some
    /// work, or given back. For long streams in a thread of their own.
    pub(crate) async fn take_connection(&mut self) -> Connection {
        self.driver.take().await
    }

    /// Leaves the connection to the runtime again.
    pub(crate) fn give_back(&mut self, connection: Connection) {
        self.driver.give_back(connection);
    }

    /// Makes sure that the settings are still this session's own.
    ///
    /// # Errors
    /// When they are not, which is the work of a transaction pooler.
    pub async fn check_pinned(&self) -> Result<(), Failure> {
        let attempted = format!("use the connection to {}", self.spec.describe());
        let row = self
            .client
            .query_one(
                "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting($1, true), \
                 pg_catalog.current_setting('extra_float_digits'), \
                 pg_catalog.current_setting('TimeZone'), \
                 pg_catalog.current_setting('row_security')",
                &[&MARK],
            )
            .await
            .map_err(|error| failure_of(&attempted, &error))?;
        let text = |index: usize| row.get::<_, Option<&str>>(index).unwrap_or_default();
        if row.get::<_, i32>(0) == self.pid
            && text(1) == self.mark
            && (text(2), text(3), text(4)) == ("3", "UTC", "off")
        {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::Source,
            attempted,
            "settings made in this session are gone or changed: a pooler such as PgBouncer in \
             transaction mode hands each transaction to another server connection",
        )
        .help(
            "connect to PostgreSQL itself, or to a pool in session mode: snapshots and locks do \
             not survive a transaction pooler; for the graph database alone, --graph-snapshot own \
             lets pg_dump take its own snapshot",
        ))
    }

    /// Settles what a session needs that changes live data.
    ///
    /// A server with `synchronous_commit` off answers before a commit is durable: after a crash of
    /// it, rows would be gone that the record of the restore calls live. And it should notice soon
    /// that the client of a long statement is gone; not every platform can.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn make_commits_durable(&self) -> Result<(), Failure> {
        let attempted = format!("prepare the session on {}", self.spec.describe());
        self.client
            .batch_execute(
                "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
                 WHERE pg_catalog.current_setting('synchronous_commit') = 'off'",
            )
            .await
            .map_err(|error| failure_of(&attempted, &error))?;
        let looked = self
            .client
            .batch_execute(
                "SELECT pg_catalog.set_config(name, '10s', false) FROM pg_catalog.pg_settings \
                 WHERE name = 'client_connection_check_interval'",
            )
            .await;
        match looked {
            Err(error) if error.as_db_error().is_none() => Err(failure_of(&attempted, &error)),
            _ => Ok(()),
        }
    }

    /// Ends the transaction, if there is one, whatever the session is doing. A session that does
    /// not obey in time is cut off: its connection is then closed.
    pub async fn rollback(&self) {
        for limit in [ROLLBACK_LIMIT, CANCEL_LIMIT] {
            if self.client.is_closed() {
                return;
            }
            let rollback = self.client.batch_execute("ROLLBACK");
            match tokio::time::timeout(limit, rollback).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::debug!("a rollback failed: {error}"),
                // A statement is still running, such as a lock that was not waited for.
                Err(_) => self.cancel().await,
            }
        }
        self.cut();
    }

    /// Asks the server to stop what it is doing for this session and closes the connection.
    pub async fn abort(&self) {
        if !self.client.is_closed() {
            self.cancel().await;
            self.cut();
        }
    }

    /// Closes the connection and waits until the server has been told.
    pub async fn close(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        if tokio::time::timeout(CANCEL_LIMIT, driver.ended())
            .await
            .is_err()
        {
            driver.abort();
        }
    }

    async fn cancel(&self) {
        let token = self.client.cancel_token();
        let asked = open::cancel(&self.spec, &token, &self.tls);
        if !matches!(tokio::time::timeout(CANCEL_LIMIT, asked).await, Ok(Ok(()))) {
            tracing::debug!("a request to cancel did not get through");
        }
    }

    fn cut(&self) {
        self.driver.abort();
    }

    async fn pin(&mut self) -> Result<(), Failure> {
        let attempted = format!("prepare the session on {}", self.spec.describe());
        let (names, values): (Vec<&str>, Vec<&str>) = PINNED.iter().copied().unzip();
        let row = async {
            self.client
                .query(
                    "SELECT pg_catalog.set_config(s.name, v.value, false) \
                     FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), \
                                     pg_catalog.unnest($2::pg_catalog.text[])) AS v(name, value) \
                     JOIN pg_catalog.pg_settings s \
                       ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name)",
                    &[&names, &values],
                )
                .await?;
            self.client
                .query_one(
                    "SELECT pg_catalog.pg_backend_pid(), pg_catalog.set_config($1, $2, false)",
                    &[&MARK, &self.mark],
                )
                .await
        }
        .await
        .map_err(|error| failure_of(&attempted, &error))?;
        self.pid = row.get(0);
        Ok(())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, pid {})", self.spec.describe(), self.pid)
    }
}
