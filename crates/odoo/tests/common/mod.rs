//! A sample Odoo that the tests of one binary share, and the means to plan and stream it.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

mod steps;

use std::sync::{Arc, Mutex, Weak};

use arkstream_format::{Component, Omission};
use arkstream_odoo::registry::{Registry, read_registry};
use arkstream_odoo::scope::{KnownRows, Scope, plan_scope};
use arkstream_odoo::selection::Selection;
use arkstream_pipeline::Failure;
use arkstream_postgres::{Catalog, ConnectSpec, Session, TableTask, read_catalog};
use arkstream_sample::{
    GraphSettings, OdooOptions, OdooSample, OdooSampleReport, Server, ServerOptions,
};

pub(crate) use arkstream_conformance::MemorySink;
pub(crate) use steps::{Backup, backup, options, runs, whole};

pub(crate) const DATABASE: &str = "odoo";

/// A server with the sample database.
pub(crate) struct Stack {
    pub(crate) server: Server,
    pub(crate) filestore: tempfile::TempDir,
    pub(crate) report: OdooSampleReport,
}

impl Stack {
    /// The stack that all running tests share. It ends with the last of them.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Stack>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .expect("no test panicked while it built the sample");
        if let Some(stack) = shared.upgrade() {
            return stack;
        }
        let stack = Arc::new(Self::build());
        *shared = Arc::downgrade(&stack);
        stack
    }

    /// A stack of one's own, to be changed.
    pub(crate) fn build() -> Self {
        std::thread::spawn(|| {
            tokio::runtime::Runtime::new()
                .expect("a runtime")
                .block_on(async {
                    let server =
                        Server::start(ServerOptions::default()).expect("the server starts");
                    let filestore = tempfile::tempdir().expect("a folder");
                    server.create_database(DATABASE).expect("created");
                    let client = server.superuser_connect(DATABASE).await.expect("connects");
                    let options = OdooOptions {
                        scale: 0.02,
                        graph: Some(GraphSettings {
                            host: "127.0.0.1".to_owned(),
                            port: 5433,
                            user: "graph".to_owned(),
                            password: "p'w".to_owned(),
                            database: "sam_graph".to_owned(),
                            graph_name: "sam".to_owned(),
                        }),
                        ..OdooOptions::new(filestore.path())
                    };
                    let report = OdooSample::build(&client, options)
                        .await
                        .expect("the sample is built");
                    Self {
                        server,
                        filestore,
                        report,
                    }
                })
        })
        .join()
        .expect("the sample is built")
    }

    pub(crate) fn spec(&self) -> ConnectSpec {
        ConnectSpec::parse(&self.server.conninfo(DATABASE)).expect("a connection string")
    }

    /// What `SELECT {sql}` gives.
    pub(crate) fn ask(&self, sql: &str) -> String {
        self.server
            .psql(DATABASE, &format!("SELECT {sql}"))
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub(crate) fn count(&self, sql: &str) -> u64 {
        self.ask(&format!("count(*) {sql}"))
            .parse()
            .expect("a number")
    }

    pub(crate) async fn plan(&self, selection: &Selection) -> Result<Plan, Failure> {
        let session = Session::connect(&self.spec(), "test").await?;
        let catalog = read_catalog(session.client()).await?;
        let registry = read_registry(session.client(), &catalog).await?;
        let scope = plan_scope(&registry, &catalog, selection, &KnownRows::new())?;
        Ok(Plan {
            catalog,
            registry,
            scope,
        })
    }
}

pub(crate) struct Plan {
    pub(crate) catalog: Catalog,
    pub(crate) registry: Registry,
    pub(crate) scope: Scope,
}

impl Plan {
    /// What the plan is when so much is known.
    pub(crate) fn knowing(&self, selection: &Selection, known: &KnownRows) -> Scope {
        plan_scope(&self.registry, &self.catalog, selection, known).expect("it was planned before")
    }

    pub(crate) fn task(&self, table: &str) -> &TableTask {
        self.find(table)
            .unwrap_or_else(|| panic!("{table} does not travel"))
    }

    pub(crate) fn find(&self, table: &str) -> Option<&TableTask> {
        let mut found = self
            .scope
            .tasks
            .iter()
            .filter(|task| task.table.table.name == table);
        let first = found.next();
        assert!(found.next().is_none(), "{table} travels twice");
        first.map(AsRef::as_ref)
    }

    /// `FROM … WHERE …` of a table's task.
    pub(crate) fn rows(&self, table: &str) -> String {
        arkstream_odoo::scope::Rows::of(self.task(table)).and("true")
    }
}

pub(crate) fn select(profile: &str, models: &[&str], exclude: &[&str]) -> Selection {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Selection {
        profile: arkstream_odoo::selection::Profile::parse(profile).expect("a profile"),
        models: list(models),
        exclude: list(exclude),
        include_transient: false,
    }
}

pub(crate) fn omitted(omissions: &[Omission], component: Component) -> Vec<(String, String)> {
    omissions
        .iter()
        .filter(|omission| omission.component == component)
        .map(|omission| (omission.what.clone(), omission.reason.clone()))
        .collect()
}
