//! A whole database as the stream of `pg_dump`, in one member.
//!
//! **Consistency.** The source locks every table (ACCESS SHARE) before the snapshot and keeps the
//! locks until the dump is done; a table that appears between plan and lock starts the barrier
//! again. `pg_dump` then reads under that snapshot ([`DumpSnapshot::Shared`], or
//! [`DumpSnapshot::Given`] by another source of the same database). A server with a single
//! backend, or behind a pooler, cannot share one: with [`DumpSnapshot::Own`] the source asks for
//! the catalog's facts, closes its connection, and lets `pg_dump` take its own snapshot.
//!
//! **Complete or not at all.** The member is finished only when `pg_dump` ended with success, its
//! stream ended with its own end mark, and everything was taken by the sink. Anything else
//! abandons the member and fails with what `pg_dump` said.
//!
//! **Secrets** reach the child through its environment, never through arguments.
//!
//! Memory: pieces of 1 MiB, counted by the sink; 64 KiB of `pg_dump`'s messages.

mod child;
mod facts;
mod owners;
mod settings;

#[cfg(feature = "fuzzing")]
pub use settings::setting_statement;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arkstream_format::{Component, Compression, GraphSummary, ServerInfo, SnapshotEntry};
use arkstream_pipeline::{
    Event, Failure, FailureKind, MemberFacts, MemberSpec, PlannedItem, Run, Source, SourcePlan,
    SourceReport,
};
use async_trait::async_trait;

use crate::catalog::{Catalog, TableRef, read_catalog};
use crate::connect::ConnectSpec;
use crate::holder::SnapshotHolder;
use crate::server::{database_identity, server_info};
use crate::session::Session;
use crate::tools::{Tool, find_pg_dump};
use child::PgDump;

/// A snapshot's identifier that one source takes and another one reads under. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct SharedSnapshot(Arc<Mutex<Option<String>>>);

impl SharedSnapshot {
    /// The snapshot was taken.
    pub fn set(&self, snapshot: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.to_owned());
    }

    /// The snapshot is gone.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The snapshot, while there is one.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Where the dump's snapshot comes from.
#[derive(Clone, Debug)]
pub enum DumpSnapshot {
    /// The source exports one itself.
    Shared,
    /// Another source of the same database exports one and puts it here.
    Given(SharedSnapshot),
    /// `pg_dump` takes its own: for servers that cannot share one.
    Own,
}

/// How to dump.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// A folder to look for `pg_dump` in, beside the usual ones.
    pub pg_path: Option<PathBuf>,
    /// Where the snapshot comes from.
    pub snapshot: DumpSnapshot,
    /// How long to wait for table locks.
    pub lock_timeout: Duration,
}

/// A database as a `pg_dump` member.
pub struct DumpSource {
    component: Component,
    member_name: String,
    spec: ConnectSpec,
    options: DumpOptions,
    holder: Option<SnapshotHolder>,
    planned: Option<Planned>,
    taken: Option<Taken>,
}

/// What the plan found.
struct Planned {
    tool: Tool,
    server: ServerInfo,
    /// The server that answered.
    spec: ConnectSpec,
    locks: Vec<TableRef>,
    bytes: u64,
    facts: GraphSummary,
}

/// The state that will be streamed.
struct Taken {
    snapshot: Option<String>,
    facts: GraphSummary,
}

impl DumpSource {
    /// A dump of the database at `spec` into the member `member_name`, for
    /// [`Component::Graph`] or [`Component::OdooDump`].
    pub fn new(
        component: Component,
        member_name: impl Into<String>,
        spec: ConnectSpec,
        options: DumpOptions,
    ) -> Self {
        Self {
            component,
            member_name: member_name.into(),
            spec,
            options,
            holder: None,
            planned: None,
            taken: None,
        }
    }

    fn shares_connection(&self) -> bool {
        !matches!(self.options.snapshot, DumpSnapshot::Own)
    }

    async fn look(&mut self) -> Result<Planned, Failure> {
        if self.shares_connection() {
            let holder = match self.holder.take() {
                Some(mut holder) => {
                    holder.release().await;
                    holder.reconnect().await?;
                    holder
                }
                None => SnapshotHolder::connect(&self.spec, 1).await?,
            };
            let spec = holder.spec().clone();
            let outcome = self.look_through(holder.coordinator(), spec).await;
            self.holder = Some(holder);
            outcome
        } else {
            let session = Session::connect(&self.spec, "arkstream").await?;
            let outcome = self
                .look_through(session.client(), session.spec().clone())
                .await;
            // The next connection may be the only one the server can have.
            session.close().await;
            outcome
        }
    }

    async fn look_through(
        &self,
        client: &tokio_postgres::Client,
        spec: ConnectSpec,
    ) -> Result<Planned, Failure> {
        let server = server_info(client).await?;
        let tool = find_pg_dump(server.version_num, self.options.pg_path.as_deref())?;
        let catalog = read_catalog(client).await?;
        Ok(Planned {
            tool,
            server,
            spec,
            locks: lockable(&catalog),
            // A partitioned table's bytes are those of its leaves, which are there themselves.
            bytes: catalog
                .tables()
                .filter(|table| table.kind != 'p')
                .map(|table| table.bytes)
                .sum(),
            facts: facts::read(client).await?,
        })
    }

    fn planned(&self, attempted: &str) -> Result<&Planned, Failure> {
        self.planned
            .as_ref()
            .ok_or_else(|| Failure::new(FailureKind::Internal, attempted, "it was not planned"))
    }

    async fn dump(&self, run: &Run) -> Result<GraphSummary, Failure> {
        let attempted = format!("dump {}", self.spec.describe());
        let planned = self.planned(&attempted)?;
        let taken = self.taken.as_ref().ok_or_else(|| {
            Failure::new(FailureKind::Internal, &*attempted, "no snapshot was taken")
        })?;
        let snapshot = match &self.options.snapshot {
            DumpSnapshot::Given(shared) => Some(shared.get().ok_or_else(|| {
                let why = "the snapshot it belongs to is gone";
                Failure::new(FailureKind::Internal, &*attempted, why)
            })?),
            DumpSnapshot::Shared | DumpSnapshot::Own => taken.snapshot.clone(),
        };
        let budget = run
            .budget
            .split(1)
            .into_iter()
            .next()
            .unwrap_or_else(|| run.budget.clone());
        let spec = MemberSpec {
            name: self.member_name.clone(),
            component: self.component,
            compression: Compression::Deflate,
            // Not the snapshot's time: a resumed run compares the dump with the one it left.
            modified_at: run.begun_at,
            mode: 0o600,
            budget,
        };
        let mut child = PgDump::start(
            &planned.tool,
            &planned.spec,
            snapshot.as_deref(),
            self.options.lock_timeout,
            &attempted,
        )?;
        let mut writer = run.sink.begin(spec).await?;
        let pumped = child.pump(run, self.component, writer.as_mut()).await;
        let outcome = match pumped {
            Ok(()) => child.conclude(run).await,
            Err(failure) => {
                child.kill().await;
                Err(failure)
            }
        };
        if let Err(failure) = outcome {
            // The failure that led here is the one to tell.
            if let Err(second) = writer.abandon(failure.why()).await {
                tracing::warn!("{second}");
            }
            return Err(failure);
        }
        let receipt = writer.finish(MemberFacts::default()).await?;
        run.sink.sync().await?;
        let member = receipt.wait().await?.member;
        run.tell(Event::Member {
            component: self.component,
            name: member.name,
            rows: 0,
            raw_bytes: member.raw_len,
            stored_bytes: member.stored_len,
        });
        Ok(GraphSummary {
            pg_dump_version: planned.tool.version_text.clone(),
            ..taken.facts.clone()
        })
    }
}

#[async_trait]
impl Source for DumpSource {
    fn component(&self) -> Component {
        self.component
    }

    async fn plan(&mut self) -> Result<SourcePlan, Failure> {
        self.release().await;
        let planned = self.look().await?;
        let plan = SourcePlan {
            identity: [("database", database_identity(&planned.server))].into(),
            items: vec![PlannedItem {
                name: self.member_name.clone(),
                bytes: planned.bytes,
            }],
            notes: notes(self.component, &planned),
        };
        self.planned = Some(planned);
        Ok(plan)
    }

    async fn lock(&mut self, _run: &Run) -> Result<(), Failure> {
        let tables = self.planned("lock the tables of a dump")?.locks.clone();
        match &mut self.holder {
            Some(holder) => holder.lock(&tables, self.options.lock_timeout).await,
            None => Ok(()),
        }
    }

    async fn snapshot(&mut self, _run: &Run) -> Result<Option<SnapshotEntry>, Failure> {
        let attempted = format!("take a snapshot of {}", self.spec.describe());
        let planned = self.planned(&attempted)?;
        let (planned_server, planned_facts) = (planned.server.clone(), planned.facts.clone());
        let locked = planned.locks.clone();
        let Some(holder) = &mut self.holder else {
            self.taken = Some(Taken {
                snapshot: None,
                facts: planned_facts,
            });
            return Ok(Some(entry(self.component, "", planned_server)));
        };
        let taken = match self.options.snapshot {
            DumpSnapshot::Shared => Some(holder.take().await?),
            DumpSnapshot::Given(_) | DumpSnapshot::Own => None,
        };
        let present = read_catalog(holder.coordinator()).await?;
        if let Some(new) = lockable(&present)
            .iter()
            .find(|table| !locked.contains(table))
        {
            let why = format!("{} appeared after the tables were locked", new.qualified());
            return Err(Failure::new(FailureKind::Retry, attempted, why));
        }
        let facts = facts::read(holder.coordinator()).await?;
        let snapshot = taken.as_ref().map(|(snapshot, ..)| snapshot.clone());
        self.taken = Some(Taken { snapshot, facts });
        Ok(taken.map(|(snapshot, server, _)| entry(self.component, &snapshot, server)))
    }

    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure> {
        let component = self.component;
        let outcome = self.dump(run).await;
        self.release().await;
        let summary = outcome?;
        Ok(SourceReport {
            graph: (component == Component::Graph).then_some(summary),
            ..SourceReport::default()
        })
    }

    async fn release(&mut self) {
        self.taken = None;
        if let Some(holder) = &mut self.holder {
            holder.release().await;
        }
    }
}

fn entry(component: Component, snapshot: &str, server: ServerInfo) -> SnapshotEntry {
    SnapshotEntry {
        component,
        snapshot: snapshot.to_owned(),
        server,
    }
}

/// The tables that `pg_dump` reads rows of; a partitioned table is locked with its partitions.
fn lockable(catalog: &Catalog) -> Vec<TableRef> {
    let tables = catalog
        .tables()
        .filter(|table| matches!(table.kind, 'r' | 'p'));
    tables.map(|table| table.table.clone()).collect()
}

fn notes(component: Component, planned: &Planned) -> Vec<String> {
    let database = &planned.server.database;
    let mut notes = vec![format!(
        "{database}: PostgreSQL {}, dumped with {}",
        planned.server.version, planned.tool.version_text
    )];
    if component == Component::Graph {
        notes.push(match &planned.facts.age_version {
            Some(version) => format!(
                "{database}: Apache AGE {version}, graphs: {}",
                if planned.facts.graphs.is_empty() {
                    "none".to_owned()
                } else {
                    planned.facts.graphs.join(", ")
                }
            ),
            None => {
                format!("{database}: the extension age is not installed; it is dumped as it is")
            }
        });
    }
    notes
}
