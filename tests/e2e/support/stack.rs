//! A whole stack: a PostgreSQL server with an Odoo database and a graph, a filestore, a ChromaDB
//! directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use arkstream_sample::{
    GraphSample, GraphSampleReport, GraphSettings, OdooOptions, OdooSample, OdooSampleReport,
    Server, ServerOptions,
};
use tokio::runtime::Runtime;

use super::{arkstream, janitor::remove_at_the_end, python, run, scratch, sh, support_file};

/// The graph's name in the graph database.
pub(crate) const GRAPH_NAME: &str = "sam_ai_knowledge";

/// The role that owns the Odoo database, no superuser.
const OWNER: &str = "odoo";

/// Never connected to, so that it can be copied at any time.
const TEMPLATE: &str = "odoo_template";

/// What to build.
#[derive(Clone)]
pub(crate) struct StackOptions {
    /// Size of the large tables.
    pub(crate) scale: f64,
    /// Equal seeds give equal data.
    pub(crate) seed: u64,
    /// Whether there is a graph database.
    pub(crate) graph: bool,
    /// Whether there is a ChromaDB directory.
    pub(crate) chroma: bool,
    /// Whether row-level security binds the owner too.
    pub(crate) force_row_security: bool,
    /// How the server starts.
    pub(crate) server: ServerOptions,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            scale: 0.05,
            seed: 1,
            graph: true,
            chroma: true,
            force_row_security: true,
            server: ServerOptions::default(),
        }
    }
}

/// A running stack.
pub(crate) struct Stack {
    /// The server of both databases.
    pub(crate) server: Server,
    /// The Odoo database; its owner is [`Stack::owner`].
    pub(crate) odoo: String,
    /// The graph database, which holds the graph [`GRAPH_NAME`].
    pub(crate) graph: String,
    /// The filestore of the Odoo database, at `data_dir/filestore/<db>`.
    pub(crate) filestore: PathBuf,
    /// The ChromaDB directory, `chroma_data` in what would be Odoo's working directory.
    pub(crate) chroma: PathBuf,
    /// What `make.py` says is in it.
    pub(crate) chroma_truth: PathBuf,
    /// The folder that everything but the server lies in.
    pub(crate) dir: PathBuf,
    /// What was built.
    pub(crate) odoo_report: OdooSampleReport,
    /// What was built.
    pub(crate) graph_report: GraphSampleReport,
    has_graph: bool,
    has_chroma: bool,
    copies: AtomicU32,
}

/// The runtime for everything asynchronous in the tests.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

impl Stack {
    /// The stack of all tests that change nothing in it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Stack> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(StackOptions::default()))
    }

    /// A stack of the test's own.
    pub(crate) fn new(options: StackOptions) -> Self {
        let dir = scratch("stack");
        let odoo = "odoo_e2e".to_owned();
        let graph = "sam_graph".to_owned();
        let filestore = dir.join("data_dir/filestore").join(&odoo);
        std::fs::create_dir_all(&filestore).expect("a folder");
        let server = Server::start(options.server.clone()).expect("PostgreSQL starts");
        remove_at_the_end(
            server
                .socket_dir()
                .parent()
                .expect("in the server's folder"),
        );
        for name in [TEMPLATE, &graph] {
            server.create_database(name).expect("a database");
        }
        let settings = GraphSettings {
            host: "127.0.0.1".to_owned(),
            port: server.port(),
            user: "postgres".to_owned(),
            password: server.password().to_owned(),
            database: graph.clone(),
            graph_name: GRAPH_NAME.to_owned(),
        };
        let (odoo_report, graph_report) = runtime().block_on(async {
            let client = server.superuser_connect(TEMPLATE).await.expect("connects");
            let sample = OdooOptions {
                scale: options.scale,
                seed: options.seed,
                owner_role: Some(OWNER.to_owned()),
                graph: options.graph.then_some(settings),
                force_row_security: options.force_row_security,
                ..OdooOptions::new(&filestore)
            };
            let odoo = OdooSample::build(&client, sample)
                .await
                .expect("the Odoo sample");
            let graph = if options.graph {
                let client = server.superuser_connect(&graph).await.expect("connects");
                GraphSample::build(&client, GRAPH_NAME, 120, 300)
                    .await
                    .expect("the graph sample")
            } else {
                GraphSampleReport::default()
            };
            (odoo, graph)
        });
        let password = format!("ALTER ROLE {OWNER} PASSWORD '{}'", Self::OWNER_PASSWORD);
        server
            .psql("postgres", &password)
            .expect("the owner gets a password");
        let chroma = dir.join("odoo_cwd/chroma_data");
        let chroma_truth = dir.join("chroma-truth.json");
        std::fs::create_dir_all(dir.join("odoo_cwd")).expect("a folder");
        if options.chroma {
            copy_chroma(&chroma, &chroma_truth);
        }
        let stack = Self {
            server,
            odoo,
            graph,
            filestore,
            chroma,
            chroma_truth,
            dir,
            odoo_report,
            graph_report,
            has_graph: options.graph,
            has_chroma: options.chroma,
            copies: AtomicU32::new(1),
        };
        stack.copy_database(&stack.odoo);
        stack
    }

    /// The password of [`Stack::owner`] over TCP.
    pub(crate) const OWNER_PASSWORD: &'static str = "owner of the tables";

    /// The role that owns database and tables; not a superuser.
    pub(crate) fn owner(&self) -> &'static str {
        OWNER
    }

    /// Odoo's `data_dir`.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data_dir")
    }

    /// A copy of the Odoo database as it was built, whatever happened to [`Stack::odoo`] since.
    pub(crate) fn fresh_database(&self) -> String {
        let name = format!("odoo_copy_{}", self.copies.fetch_add(1, Ordering::Relaxed));
        self.copy_database(&name);
        name
    }

    fn copy_database(&self, name: &str) {
        let sql = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER}");
        self.server
            .psql("postgres", &sql)
            .expect("a copy of the database");
    }

    /// The superuser's URL of `database`, by the Unix socket.
    pub(crate) fn url(&self, database: &str) -> String {
        self.server.conninfo(database)
    }

    /// `arkstream backup` of this stack to `out`, with every source named and progress off.
    pub(crate) fn backup_command(&self, out: &Path) -> Command {
        self.backup_of(&self.odoo, out)
    }

    /// The same, of another copy of the Odoo database.
    pub(crate) fn backup_of(&self, database: &str, out: &Path) -> Command {
        self.backup_from(&self.url(database), &self.chroma, out)
    }

    /// The same, with the Odoo database and the Chroma directory named.
    pub(crate) fn backup_from(&self, odoo: &str, chroma: &Path, out: &Path) -> Command {
        let mut command = arkstream();
        // Not by the option, so that a test can give it.
        command.arg("backup").env("ARKSTREAM_PROGRESS", "none");
        command.args(["--odoo-db", odoo]);
        command.arg("--filestore").arg(&self.filestore);
        match self.has_graph {
            true => command.args(["--graph-db", &self.url(&self.graph)]),
            false => command.arg("--no-graph"),
        };
        match self.has_chroma {
            true => command.arg("--chroma").arg(chroma),
            false => command.arg("--no-chroma"),
        };
        command.arg("--out").arg(out);
        command
    }

    /// Rows of a query on the Odoo database, as `psql -At` prints them.
    #[track_caller]
    pub(crate) fn ask(&self, sql: &str) -> String {
        self.server.psql(&self.odoo, sql).expect("psql")
    }
}

/// Makes one directory by the real ChromaDB, and copies it while nobody writes.
fn copy_chroma(directory: &Path, truth: &Path) {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = scratch("chroma");
        let mut make = python();
        make.arg(support_file("chroma/make.py"));
        make.arg(folder.join("data"))
            .arg("--truth")
            .arg(folder.join("truth.json"));
        run(&mut make).ok();
        folder
    });
    let line = format!(
        "cp -a data '{}' && cp truth.json '{}'",
        directory.display(),
        truth.display()
    );
    sh(made, &line);
}
