//! `arkstream demo`: a sample stack, backed up, verified, destroyed and restored before your eyes.

mod destroy;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use arkstream_bundle::BundleFile;
use arkstream_format::TableRole;
use arkstream_pipeline::{BundleReader, Failure, FailureKind};
use arkstream_sample::{
    GraphSample, GraphSettings, OdooOptions, OdooSample, SampleError, Server, ServerOptions,
};

use destroy::{Inventory, Stack};

use crate::{
    args::{BackupArgs, CredentialArgs, DemoArgs, RestoreArgs, SourceArgs, VerifyArgs},
    commands::{backup, restore, verify},
    exit::Code,
    logging::LogBuffer,
    output,
    say::say,
};

/// The script that the tests make their ChromaDB directories with, and what it imports.
const CHROMA_SCRIPT: &str = include_str!("../../../../tests/support/chroma/make.py");
const CHROMA_COMMON: &str = include_str!("../../../../tests/support/chroma/common.py");

const ODOO: &str = "sample_odoo";
const GRAPH: &str = "sam_ai_memory";
const GRAPH_NAME: &str = "sam_ai_knowledge";

pub(crate) async fn run(args: DemoArgs, log: LogBuffer) -> Result<Code, Failure> {
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("demo"));
    let dir = prepare_folder(&dir)?;
    say("1. starting a throwaway PostgreSQL");
    let server = Server::start(ServerOptions::default()).map_err(sample_failure)?;

    say("2. filling it with a sample Odoo and a graph; files and vectors beside it");
    let (filestore, chroma) = (dir.join("filestore"), dir.join("chroma_data"));
    build_stack(&server, &args, &filestore, &chroma).await?;

    say("3. arkstream backup");
    let bundle = dir.join("bundle.zip");
    let backed_up = backup::run_with(
        BackupArgs {
            sources: SourceArgs {
                odoo_db: Some(server.conninfo(ODOO)),
                filestore: Some(filestore.clone()),
                ..SourceArgs::default()
            },
            out: Some(bundle.clone()),
            memory: None,
            xlsx: false,
            temp: None,
            fresh: false,
            base: None,
            resume: false,
            recheck: false,
            retry_for: Some(Duration::ZERO),
            compression: None,
            wait_for_space: None,
            no_report: false,
            dry_run: false,
            stats: false,
            json: false,
            progress: args.progress,
        },
        log,
    )
    .await?;

    say("4. arkstream verify");
    let verified = verify::run(&VerifyArgs {
        bundle: bundle.clone(),
        sample: None,
        json: false,
        progress: args.progress,
    })?;

    say("5. comparing row counts with the database");
    let tables = compare_counts(&server, &bundle)?;
    output::print(&format!(
        "the rows of all {tables} model tables are in the bundle\n"
    ))?;

    say("6. destroying it: rows deleted, graph dropped, files and vectors removed");
    let stack = Stack {
        server: &server,
        odoo: ODOO,
        graph: GRAPH,
        filestore: filestore.clone(),
        chroma: chroma.clone(),
    };
    let before = stack.inventory(&bundle)?;
    stack.destroy(&bundle)?;

    say("7. arkstream restore");
    let restored = restore::run(RestoreArgs {
        bundle: bundle.clone(),
        odoo_db: Some(server.conninfo(ODOO)),
        filestore: Some(filestore),
        graph_admin_db: Some(server.conninfo(GRAPH)),
        chroma: Some(chroma),
        yes: true,
        credentials: CredentialArgs {
            state_dir: Some(dir.join("state")),
            ..CredentialArgs::default()
        },
        progress: args.progress,
        ..RestoreArgs::default()
    })
    .await?;

    say("8. comparing every table, every graph label and every file with what was there before");
    let compared = compare(&before, &stack.inventory(&bundle)?)?;
    output::print(&format!(
        "all {compared} are as they were\n\nthe bundle: {0}\n\
         try:  unzip -l {0}\n      arkstream show {0}\n",
        bundle.display()
    ))?;
    let codes = [backed_up, verified, restored];
    Ok(codes
        .into_iter()
        .find(|code| *code != Code::Complete)
        .unwrap_or(Code::Complete))
}

/// Fails unless both are equal. Returns how much was compared.
fn compare(before: &Inventory, after: &Inventory) -> Result<usize, Failure> {
    let differing: Vec<&str> = before
        .iter()
        .filter(|(name, hash)| after.get(*name) != Some(*hash))
        .map(|(name, _)| name.as_str())
        .collect();
    if differing.is_empty() {
        return Ok(before.len());
    }
    Err(Failure::new(
        FailureKind::Internal,
        "bring the sample stack back",
        format!("these differ: {}", differing.join(", ")),
    ))
}

/// An empty folder of that name, as an absolute path.
fn prepare_folder(dir: &Path) -> Result<PathBuf, Failure> {
    let attempted = || format!("use {} for the demo", dir.display());
    let refused = |error| Failure::io(FailureKind::Refused, attempted(), error);
    fs::create_dir_all(dir).map_err(refused)?;
    if fs::read_dir(dir).map_err(refused)?.next().is_some() {
        return Err(
            Failure::new(FailureKind::Refused, attempted(), "it is not empty")
                .help("remove what an earlier demo left, or name another folder with --dir"),
        );
    }
    dir.canonicalize().map_err(refused)
}

async fn build_stack(
    server: &Server,
    args: &DemoArgs,
    filestore: &Path,
    chroma: &Path,
) -> Result<(), Failure> {
    for database in [ODOO, GRAPH] {
        server.create_database(database).map_err(sample_failure)?;
    }
    let client = server
        .superuser_connect(GRAPH)
        .await
        .map_err(sample_failure)?;
    GraphSample::build(&client, GRAPH_NAME, 2000, 5000)
        .await
        .map_err(sample_failure)?;
    drop(client);
    let client = server
        .superuser_connect(ODOO)
        .await
        .map_err(sample_failure)?;
    let mut options = OdooOptions::new(filestore);
    options.scale = args.scale;
    options.chroma_persist_directory = chroma.display().to_string();
    options.graph = Some(GraphSettings {
        host: "127.0.0.1".into(),
        port: server.port(),
        user: "postgres".into(),
        password: server.password().to_owned(),
        database: GRAPH.into(),
        graph_name: GRAPH_NAME.into(),
    });
    OdooSample::build(&client, options)
        .await
        .map_err(sample_failure)?;
    make_chroma(args, chroma)
}

/// Lets the real `chromadb` package make the directory.
fn make_chroma(args: &DemoArgs, chroma: &Path) -> Result<(), Failure> {
    let python = args.python.clone().unwrap_or_else(|| "python3".into());
    let attempted = || {
        format!(
            "make a ChromaDB directory with {} (package chromadb)",
            python.display()
        )
    };
    let failed = |error| {
        Failure::io(FailureKind::Source, attempted(), error)
            .help("`make demo` installs what is needed; or name a Python with --python")
    };
    let scripts = tempfile::tempdir().map_err(failed)?;
    for (name, text) in [("make.py", CHROMA_SCRIPT), ("common.py", CHROMA_COMMON)] {
        arkstream_bundle::durable::write_atomically(&scripts.path().join(name), text.as_bytes())
            .map_err(failed)?;
    }
    let output = Command::new(&python)
        .arg(scripts.path().join("make.py"))
        .arg(chroma)
        .arg("--truth")
        .arg(scripts.path().join("truth.json"))
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(Failure::new(
        FailureKind::Source,
        attempted(),
        last.unwrap_or("it failed without a word"),
    )
    .help("`make demo` installs what is needed; or name a Python with --python"))
}

/// Asks the database for the rows of every model table. Returns how many tables there were.
fn compare_counts(server: &Server, bundle: &Path) -> Result<usize, Failure> {
    let bundle = BundleFile::open(bundle)?;
    let mut compared = 0;
    for table in &bundle.manifest().tables {
        let whole = table.filter.is_none() && table.columns_left_out.is_empty();
        if table.role == TableRole::Support || !whole {
            continue;
        }
        let relations: Vec<&str> = {
            let mut names: Vec<_> = table.parts.iter().map(|p| p.relation.as_str()).collect();
            names.dedup();
            names
        };
        let mut rows = 0;
        for relation in relations {
            let (schema, name) = relation.split_once('.').unwrap_or(("public", relation));
            let sql = format!("SELECT count(*) FROM ONLY \"{schema}\".\"{name}\"");
            let answer = server.psql(ODOO, &sql).map_err(sample_failure)?;
            rows += answer.trim().parse::<u64>().unwrap_or(0);
        }
        if rows != table.rows {
            return Err(Failure::new(
                FailureKind::Internal,
                format!("find all rows of {} in the bundle", table.table),
                format!("the database has {rows}, the bundle {}", table.rows),
            ));
        }
        compared += 1;
    }
    Ok(compared)
}

fn sample_failure(error: SampleError) -> Failure {
    Failure::new(FailureKind::Source, "build the sample stack", error)
}
