//! `GraphTarget`: the database of an Apache AGE graph.
//!
//! ```text
//! stage    database <name>_arkstream_<id>: dump and AGE fix-up in one transaction of psql,
//!          then owners, grants and settings as they were
//! verify   every row of the dump is there; the graph is intact, seen from a new session
//! prepare  one transaction of a maintenance database: live → kept, staged → live; not committed
//! commit   COMMIT
//! ```
//!
//! The renames lock both databases until the transaction ends, so nobody can connect in between,
//! and a crash takes them back by itself. What the restored tables had is noted in a schema
//! `arkstream_undo_<id>` of the restored database, so that an undo can tell whether they changed.
//!
//! A superuser is needed: `CREATE EXTENSION age` and `LOAD 'age'` ask for one.

mod checks;
mod psql;
mod scan;
mod staged;
mod switch;
mod way_back;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use arkstream_format::{Component, GraphSummary, Member, TargetPlace, member_names};
use arkstream_pipeline::{
    Checked, Failure, FailureKind, Proof, Restoring, Standing, TablePlan, Target, TargetPlan, fault,
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::advisory::Advisory;
use crate::connect::ConnectSpec;
use crate::failure::failure_of;
use crate::session::Session;
use crate::sql::{quote_ident, quote_literal};
use scan::{DumpScan, Rows};
#[cfg(feature = "fuzzing")]
pub use scan::{Scanned, scan_dump};

/// The longest name PostgreSQL keeps.
const MAX_NAME: usize = 63;

/// How a graph is restored.
#[derive(Clone, Debug)]
pub struct GraphTargetOptions {
    /// Whether sessions that are connected to the live database are ended.
    pub terminate_connections: bool,
    /// Where `psql` is looked for first.
    pub pg_path: Option<PathBuf>,
    /// For the name of the kept database.
    pub now: DateTime<Utc>,
    /// How the application connects; the Cypher probe runs as its role.
    pub application: Option<ConnectSpec>,
    /// How long the renames wait for locks.
    pub lock_timeout: Duration,
}

/// The database of a graph.
pub struct GraphTarget {
    admin: ConnectSpec,
    database: String,
    staging: String,
    kept: String,
    undo_schema: String,
    options: GraphTargetOptions,
    /// What the dump has, once it was read.
    rows: Option<BTreeMap<String, Rows>>,
    /// The session whose transaction holds the prepared renames.
    prepared: Option<Session>,
    /// The session whose transaction holds the renames that lead back.
    undoing: Option<Session>,
    /// The session that keeps other restores of this graph out.
    claimed: Option<Session>,
}

impl GraphTarget {
    /// The live `database` on the server of `admin`, a superuser, for the restore of that id.
    #[must_use]
    pub fn new(
        admin: ConnectSpec,
        database: &str,
        restore_id: &str,
        options: GraphTargetOptions,
    ) -> Self {
        let stamp = options.now.format("_backup_%Y%m%d_%H%M%S").to_string();
        Self {
            staging: name(database, &format!("_arkstream_{restore_id}")),
            kept: name(database, &stamp),
            undo_schema: format!("arkstream_undo_{restore_id}"),
            database: database.to_owned(),
            admin,
            options,
            rows: None,
            prepared: None,
            undoing: None,
            claimed: None,
        }
    }

    /// A target that another process left behind. `admin` brings the credentials.
    ///
    /// # Errors
    /// When the place is not one of a graph.
    pub fn reopen(
        place: &TargetPlace,
        restore_id: &str,
        admin: ConnectSpec,
        options: GraphTargetOptions,
    ) -> Result<Self, Failure> {
        match place {
            TargetPlace::Graph {
                database,
                staging,
                kept,
                ..
            } => Ok(Self {
                admin,
                database: database.clone(),
                staging: staging.clone(),
                kept: kept.clone(),
                undo_schema: format!("arkstream_undo_{restore_id}"),
                options,
                rows: None,
                prepared: None,
                undoing: None,
                claimed: None,
            }),
            _ => Err(Failure::new(
                FailureKind::Internal,
                "find the graph of a restore",
                "the record speaks of something else",
            )),
        }
    }

    /// A session to a database of the administrator's server.
    async fn connect(&self, database: &str) -> Result<Session, Failure> {
        Session::connect(
            &self.admin.with_database(database),
            "arkstream restore graph",
        )
        .await
    }

    /// A session to a database that is neither restored nor renamed.
    async fn maintenance(&self) -> Result<Session, Failure> {
        let mut last = None;
        for database in ["postgres", "template1"] {
            if database == self.database {
                continue;
            }
            match self.connect(database).await {
                Ok(session) => return Ok(session),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::new(
                FailureKind::Source,
                "connect to a maintenance database",
                "there is none",
            )
        }))
    }

    async fn exists(&self, session: &Session, database: &str) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {})",
            quote_literal(database)
        );
        let row = session
            .client()
            .query_one(&sql, &[])
            .await
            .map_err(|error| failure_of("look for the graph database", &error))?;
        Ok(row.get(0))
    }

    /// What the dump has, read once.
    async fn dump_rows(
        &mut self,
        restoring: &Restoring,
    ) -> Result<BTreeMap<String, Rows>, Failure> {
        if let Some(rows) = &self.rows {
            return Ok(rows.clone());
        }
        let member = dump(restoring)?;
        let (mut scan, mut ignored) = (DumpScan::default(), Vec::new());
        for chunk in 0..member.chunks.len() {
            restoring.cancel.check()?;
            scan.push(&read_chunk(restoring, member, chunk).await?, &mut ignored);
            ignored.clear();
        }
        self.rows = Some(scan.tables.clone());
        Ok(scan.tables)
    }

    async fn plan_of(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let rows = self.dump_rows(restoring).await?;
        let session = self.maintenance().await?;
        let live = self.exists(&session, &self.database).await?;
        let mut plan = TargetPlan {
            tables: rows
                .iter()
                .map(|(table, rows)| TablePlan {
                    table: table.split(" (").next().unwrap_or(table).to_owned(),
                    inserted: rows.count,
                    ..TablePlan::default()
                })
                .collect(),
            ..TargetPlan::default()
        };
        plan.switch.push(if live {
            format!(
                "the database {} is renamed to {}, the restored one takes its name",
                self.database, self.kept
            )
        } else {
            format!("the database {} is created", self.database)
        });
        Ok(plan)
    }

    /// Drops a database of ours, whoever is connected to it.
    async fn drop_database(&self, session: &Session, database: &str) -> Result<(), Failure> {
        let client = session.client();
        let attempted = format!("drop the database {database}");
        let fail = |error: tokio_postgres::Error| failure_of(&attempted, &error);
        let end = format!(
            "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a \
             WHERE a.datname = {} AND a.pid <> pg_catalog.pg_backend_pid()",
            quote_literal(database)
        );
        client.batch_execute(&end).await.map_err(fail)?;
        let drop = format!("DROP DATABASE IF EXISTS {}", quote_ident(database));
        client.batch_execute(&drop).await.map_err(fail)
    }
}

async fn commit(session: &Session) -> Result<(), Failure> {
    session
        .client()
        .batch_execute("COMMIT")
        .await
        .map_err(|error| failure_of("commit the names of the graph databases", &error))
}

/// `base` with a suffix, cut to what PostgreSQL keeps of a name.
fn name(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(MAX_NAME.saturating_sub(suffix.len()));
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

fn dump(restoring: &Restoring) -> Result<&Member, Failure> {
    let members = &restoring.bundle.manifest().members;
    members
        .iter()
        .find(|member| member.name == member_names::GRAPH_DUMP)
        .ok_or_else(|| {
            Failure::new(
                FailureKind::Damaged,
                "restore the graph",
                format!("{} is not in the bundle", member_names::GRAPH_DUMP),
            )
        })
}

fn summary(restoring: &Restoring) -> GraphSummary {
    let manifest = restoring.bundle.manifest();
    manifest.graph.clone().unwrap_or_default()
}

async fn read_chunk(
    restoring: &Restoring,
    member: &Member,
    chunk: usize,
) -> Result<Bytes, Failure> {
    let _permit = restoring
        .budget
        .take(arkstream_format::CHUNK_SIZE as u64)
        .await;
    let (bundle, owned) = (restoring.bundle.clone(), member.clone());
    tokio::task::spawn_blocking(move || bundle.read_chunk(&owned, chunk))
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, "read the bundle", error))?
        .map_err(|finding| {
            Failure::new(
                FailureKind::Damaged,
                format!("read {} from the bundle", member.name),
                finding,
            )
        })
}

#[async_trait]
impl Target for GraphTarget {
    fn component(&self) -> Component {
        Component::Graph
    }

    fn place(&self) -> TargetPlace {
        TargetPlace::Graph {
            connection: self.admin.without_password(),
            database: self.database.clone(),
            staging: self.staging.clone(),
            kept: self.kept.clone(),
        }
    }

    async fn claim(&mut self) -> Result<(), Failure> {
        if self.claimed.as_ref().is_none_or(Session::is_closed) {
            let session = self.maintenance().await?;
            let lock = Advisory::of(&format!("graph {}", self.database));
            let attempted = format!("claim the graph database {}", self.database);
            lock.claim(&session, &attempted).await?;
            self.claimed = Some(session);
        }
        Ok(())
    }

    async fn check(&mut self, restoring: &Restoring) -> Checked {
        let mut checked = Checked::default();
        if let Err(failure) = self.check_all(restoring, &mut checked).await {
            checked.problem(failure);
        }
        checked
    }

    async fn rehearse(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        self.plan_of(restoring).await
    }

    async fn stage(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        tokio::select! {
            outcome = self.load(restoring) => outcome,
            () = restoring.cancel.raised() => Err(Failure::interrupted()),
        }
    }

    async fn verify(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let rows = self.dump_rows(restoring).await?;
        let session = self.connect(&self.staging).await?;
        for (table, expected) in &rows {
            restoring.cancel.check()?;
            let found = self.found(&session, table, *expected).await?;
            if found != *expected {
                return Err(Failure::new(
                    FailureKind::Internal,
                    format!("stage the graph's table {table}"),
                    format!(
                        "the dump has {}, staged are {}",
                        expected.text(),
                        found.text()
                    ),
                ));
            }
        }
        for note in checks::intact(session.client())
            .await?
            .judge("check the restored graph")?
        {
            restoring.tell(arkstream_pipeline::Event::Warning(note));
        }
        let probe = match &self.options.application {
            Some(spec) => {
                let spec = spec.with_database(&self.staging);
                Session::connect(&spec, "arkstream restore probe").await?
            }
            None => self.connect(&self.staging).await?,
        };
        checks::probe(probe.client()).await?;
        self.note_rows(&session, &rows).await
    }

    async fn prepare(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let plan = self.plan_of(restoring).await?;
        self.prepare_switch().await?;
        Ok(plan)
    }

    async fn commit(&mut self, _restoring: &Restoring) -> Result<(), Failure> {
        let Some(session) = self.prepared.take() else {
            return Err(Failure::new(
                FailureKind::Internal,
                "switch the graph",
                "the switch is not prepared",
            ));
        };
        commit(&session).await?;
        fault::check("graph.committed")
    }

    async fn prove(&mut self, restoring: &Restoring) -> Result<Vec<Proof>, Failure> {
        let rows = self.dump_rows(restoring).await?;
        let session = self.connect(&self.database).await?;
        let mut proofs = Vec::new();
        for (table, expected) in &rows {
            let found = self.found(&session, table, *expected).await?;
            proofs.push(Proof::new(table, expected.text(), found.text()));
        }
        let broken = checks::intact(session.client()).await?.broken;
        proofs.push(Proof::new(
            "graph catalogs, labels, ids and sequences",
            "intact",
            {
                if broken.is_empty() {
                    "intact".to_owned()
                } else {
                    broken.join("; ")
                }
            },
        ));
        Ok(proofs)
    }

    async fn standing(&mut self) -> Result<Standing, Failure> {
        let session = self.settled().await?;
        self.look(&session).await
    }

    async fn prepare_revert(&mut self, force: bool) -> Result<Vec<String>, Failure> {
        self.prepare_way_back(force).await
    }

    async fn release(&mut self) {
        for session in [self.prepared.take(), self.undoing.take()]
            .into_iter()
            .flatten()
        {
            session.rollback().await;
        }
    }

    async fn revert(&mut self) -> Result<(), Failure> {
        if self.undoing.is_none() {
            self.release().await;
            self.prepare_way_back(true).await?;
        }
        match self.undoing.take() {
            Some(session) => commit(&session).await,
            None => Ok(()),
        }
    }

    async fn announce(&mut self) -> Result<(), Failure> {
        // Whoever was connected was disconnected by the renames.
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        self.release().await;
        let session = self.settled().await?;
        self.drop_database(&session, &self.staging).await
    }

    async fn forget(&mut self, live: Standing) -> Result<(), Failure> {
        match live {
            Standing::New => self.drop_former().await,
            // What was noted went with the staged database.
            Standing::Old => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_suffix_whatever_their_length() {
        let long = "ü".repeat(40);
        let cut = name(&long, "_arkstream_0123456789abcdef");
        assert!(cut.len() <= MAX_NAME && cut.ends_with("_arkstream_0123456789abcdef"));
        assert_eq!(name("graph", "_x"), "graph_x");
    }
}
