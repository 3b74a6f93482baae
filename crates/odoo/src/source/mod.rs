//! The Odoo database and its filestore as sources of a backup.
//!
//! [`Odoo`] is what both share: the plan, and the sessions with the locks and the snapshot. The
//! [`ModelsSource`] locks, takes the snapshot and exports the rows; the [`FilestoreSource`] reads
//! the files that the attachments of that same snapshot name, before the rows are exported,
//! because Odoo's garbage collector removes files while it may not touch rows that are locked.
//!
//! A dump of the whole database can be taken of the same snapshot: [`Odoo::share_snapshot`] keeps
//! locks and snapshot until [`arkstream_pipeline::Source::release`].
//!
//! Peak memory: the catalog and the registry (some 50 MB for 5,000 tables), what the exporter
//! takes of the budget, and a page of file names.

mod filestore;
mod identities;
mod model_list;
mod models;
mod references;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arkstream_format::{ModelEntry, ServerInfo, TableEntry};
use arkstream_pipeline::{Failure, FailureKind};
use arkstream_postgres::{
    Catalog, CatalogTable, ConnectSpec, ExportOptions, Session, SharedSnapshot, SnapshotHolder,
    TableRef, database_identity, read_catalog, server_info,
};

pub use filestore::{FilestoreOptions, FilestoreSource};
pub use models::ModelsSource;
pub(crate) use references::model_column;

use crate::registry::{Registry, read_registry};
use crate::scope::{KnownRows, Scope, plan_scope};
use crate::selection::Selection;

/// Tables that filters and checks read although they may not be exported.
const READ_BESIDES: &[&str] = &["ir_model_fields", "ir_model_data"];

/// How the Odoo database is backed up.
#[derive(Clone, Debug)]
pub struct OdooOptions {
    /// Which models.
    pub selection: Selection,
    /// Connections that read at once.
    pub jobs: usize,
    /// How long to wait for table locks.
    pub lock_timeout: Duration,
    /// How tables are exported.
    pub export: ExportOptions,
}

impl Default for OdooOptions {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            jobs: 2,
            lock_timeout: Duration::from_secs(60),
            export: ExportOptions::default(),
        }
    }
}

/// An Odoo database that is being backed up. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Odoo {
    spec: ConnectSpec,
    options: Arc<OdooOptions>,
    state: Arc<tokio::sync::Mutex<State>>,
    outcome: Arc<Mutex<Outcome>>,
    snapshot: Option<SharedSnapshot>,
}

/// Versions and names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OdooFacts {
    /// First two components of the installed version of `base`, such as `18.0`.
    pub odoo_version: String,
    /// Installed modules and their versions.
    pub module_versions: BTreeMap<String, String>,
    /// `database.uuid`.
    pub database_uuid: Option<String>,
    /// The database's name.
    pub database: String,
    /// Version of the server; empty before the snapshot.
    pub postgres_version: String,
}

/// What is told when all is done.
#[derive(Default)]
struct Outcome {
    facts: OdooFacts,
    models: Vec<ModelEntry>,
}

/// Plan and sessions.
#[derive(Default)]
struct State {
    planned: Option<Arc<Planned>>,
    holder: Option<SnapshotHolder>,
    snapshot: Option<ServerInfo>,
}

/// The plan with what it was made from.
struct Planned {
    catalog: Catalog,
    registry: Registry,
    scope: Scope,
    database: String,
}

impl Odoo {
    /// The database behind `spec`. Nothing is connected yet.
    #[must_use]
    pub fn new(spec: ConnectSpec, options: OdooOptions) -> Self {
        Self {
            spec,
            options: Arc::new(options),
            state: Arc::default(),
            outcome: Arc::default(),
            snapshot: None,
        }
    }

    /// Lets somebody else read under the same snapshot: it is put into `snapshot` as soon as it is
    /// taken, and locks and snapshot are kept until the release. For the sources that are made
    /// afterwards.
    #[must_use]
    pub fn share_snapshot(mut self, snapshot: SharedSnapshot) -> Self {
        self.snapshot = Some(snapshot);
        self
    }

    /// The rows as a source.
    #[must_use]
    pub fn models(&self) -> ModelsSource {
        ModelsSource::new(self.clone())
    }

    /// The files as a source.
    #[must_use]
    pub fn filestore(&self, options: FilestoreOptions) -> FilestoreSource {
        FilestoreSource::new(self.clone(), options)
    }

    /// Every model with its status: those of the inventory, and all others that were looked at.
    /// Empty before the rows have been streamed.
    #[must_use]
    pub fn model_list(&self) -> Vec<ModelEntry> {
        self.outcome().models.clone()
    }

    /// Versions and names; as far as they are known.
    #[must_use]
    pub fn facts(&self) -> OdooFacts {
        self.outcome().facts.clone()
    }

    /// The list as the plan alone knows it, without rows: for a dry run.
    pub async fn planned_model_list(&self) -> Vec<ModelEntry> {
        match &self.state.lock().await.planned {
            Some(planned) => model_list::model_list(&planned.registry, &planned.scope, None),
            None => Vec::new(),
        }
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads catalog and registry in one read-only transaction and makes the plan.
    async fn plan(&self) -> Result<Arc<Planned>, Failure> {
        let session = Session::connect(&self.spec, "arkstream plan").await?;
        let client = session.client();
        let fail = |error: tokio_postgres::Error| {
            arkstream_postgres::failure_of("read the catalog of the Odoo database", &error)
        };
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await
            .map_err(fail)?;
        let database = database_identity(&server_info(client).await?);
        let catalog = read_catalog(client).await?;
        let registry = read_registry(client, &catalog).await?;
        client.batch_execute("COMMIT").await.map_err(fail)?;
        let selection = &self.options.selection;
        let scope = plan_scope(&registry, &catalog, selection, &KnownRows::new())?;
        {
            let facts = &mut self.outcome().facts;
            facts.odoo_version.clone_from(&registry.odoo_version);
            facts.module_versions.clone_from(&registry.module_versions);
            facts.database_uuid.clone_from(&registry.database_uuid);
            facts.database = session.spec().database().to_owned();
        }
        Ok(Arc::new(Planned {
            catalog,
            registry,
            scope,
            database,
        }))
    }

    fn finish(&self, planned: &Planned, tables: &[TableEntry]) {
        self.outcome().models =
            model_list::model_list(&planned.registry, &planned.scope, Some(tables));
    }
}

impl State {
    fn planned(&self) -> Result<Arc<Planned>, Failure> {
        self.planned
            .clone()
            .ok_or_else(|| out_of_order("no plan has been made"))
    }

    fn holder(&self) -> Result<&SnapshotHolder, Failure> {
        self.holder
            .as_ref()
            .ok_or_else(|| out_of_order("no snapshot has been taken"))
    }
}

impl Planned {
    /// The tables to lock.
    fn to_lock(&self) -> Vec<TableRef> {
        let mut tables: Vec<TableRef> = self.planned_tables().map(|t| t.table.clone()).collect();
        let besides = READ_BESIDES
            .iter()
            .filter_map(|name| self.registry.odoo_table(&self.catalog, name));
        tables.extend(besides.map(|table| table.table.clone()));
        tables.sort();
        tables.dedup();
        tables
    }

    fn planned_tables(&self) -> impl Iterator<Item = &CatalogTable> {
        self.scope
            .tasks
            .iter()
            .map(|task| task.table.as_ref())
            .filter(|table| table.table.oid != 0)
    }
}

fn out_of_order(why: &str) -> Failure {
    Failure::new(FailureKind::Internal, "back up the Odoo database", why)
}
