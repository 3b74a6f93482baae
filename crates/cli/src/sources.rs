//! From arguments to sources: what is named is taken, what is not is discovered.
//!
//! The Odoo database is named or stands in odoo.conf. From there follow the filestore
//! (`data_dir/filestore/<db>`), and from the application's own row of `ai_memory_config` the graph
//! database and the ChromaDB directory. What the application does not use is not missed; what it
//! uses and cannot be found is an error that says how to name it or leave it out.

use std::{path::PathBuf, time::Duration};

use arkstream_archiver::{Describe, StackFacts};
use arkstream_chroma::{ChromaOptions, ChromaSource};
use arkstream_format::{Component, DatabaseInfo, ModelEntry, member_names};
use arkstream_odoo::{
    FilestoreOptions, Odoo, OdooOptions,
    conf::{OdooConf, find_filestore},
    discover::{
        ChromaSearch, MemoryConfig, find_chroma_dir, odoo_working_directories, read_memory_config,
    },
    selection::{Profile, Selection},
};
use arkstream_pipeline::{Failure, FailureKind, Source};
use arkstream_postgres::{
    ConnectSpec, DumpOptions, DumpSnapshot, DumpSource, Session, SharedSnapshot,
};

use crate::{
    args::{GraphSnapshot, SourceArgs},
    logging::LogBuffer,
};

/// How long table locks and Chroma's lock are waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long Chroma's writers may be held. Odoo kills a request after 120 s.
const CHROMA_MAX_HOLD: Duration = Duration::from_secs(60);
/// Most jobs that are started when nobody says.
const MOST_JOBS: usize = 4;

/// A stack that is ready to be backed up.
pub(crate) struct Stack {
    pub(crate) sources: Vec<Box<dyn Source>>,
    pub(crate) describe: Box<dyn Describe>,
    /// What was discovered, and what was not, for people.
    pub(crate) notes: Vec<String>,
}

/// Where everything is.
pub(crate) struct Places {
    pub(crate) odoo: ConnectSpec,
    pub(crate) filestore: Option<PathBuf>,
    pub(crate) graph: Option<ConnectSpec>,
    pub(crate) chroma: Option<PathBuf>,
    pub(crate) pg_path: Option<PathBuf>,
    pub(crate) memory_config: Option<MemoryConfig>,
    pub(crate) notes: Vec<String>,
}

/// Connections and workers that read at once.
pub(crate) fn jobs(args: &SourceArgs) -> usize {
    args.jobs.map_or_else(
        || std::thread::available_parallelism().map_or(2, |cores| cores.get().min(MOST_JOBS)),
        usize::from,
    )
}

/// The Odoo database: as named, or as odoo.conf says.
pub(crate) fn odoo_database(
    args: &SourceArgs,
    conf: Option<&OdooConf>,
) -> Result<ConnectSpec, Failure> {
    let spec = match (&args.odoo_db, conf) {
        (Some(url), _) => ConnectSpec::parse(url)?,
        (None, Some(conf)) => conf.connect_spec(None)?,
        (None, None) => {
            return Err(Failure::new(
                FailureKind::Usage,
                "find the Odoo database",
                "neither --odoo-db nor --odoo-conf names one",
            )
            .help("for example --odoo-db postgresql://odoo@localhost/production"));
        }
    };
    match &args.password_file {
        Some(file) => spec.with_password_file(file),
        None => Ok(spec),
    }
}

/// odoo.conf, if one is named.
pub(crate) fn read_conf(args: &SourceArgs) -> Result<Option<OdooConf>, Failure> {
    args.odoo_conf.as_deref().map(OdooConf::read).transpose()
}

/// Finds everything that takes part.
pub(crate) async fn discover(args: &SourceArgs) -> Result<Places, Failure> {
    let conf = read_conf(args)?;
    let odoo = odoo_database(args, conf.as_ref())?;
    let session = Session::connect(&odoo, "arkstream discovery").await?;
    let config = read_memory_config(session.client()).await?;
    drop(session);
    let mut notes: Vec<String> = config.iter().flat_map(|c| c.notes.clone()).collect();

    let filestore = match (&args.filestore, args.no_filestore) {
        (_, true) => None,
        (Some(dir), _) => Some(dir.clone()),
        (None, _) => Some(find_filestore(conf.as_ref(), odoo.database())?),
    };
    let graph = match (&args.graph_db, args.no_graph) {
        (_, true) => None,
        (Some(url), _) => Some(ConnectSpec::parse(url)?),
        (None, _) => match &config {
            Some(config) => config.graph_spec()?,
            None => None,
        },
    };
    let graph = match (graph, &args.graph_password_file) {
        (Some(spec), Some(file)) => Some(spec.with_password_file(file)?),
        (spec, _) => spec,
    };
    if graph.is_none() && !args.no_graph {
        notes.push("the application uses no graph database; none is backed up".to_owned());
    }
    let chroma = match (&args.chroma, args.no_chroma, &config) {
        (_, true, _) => None,
        (Some(dir), ..) => Some(dir.clone()),
        (None, _, Some(config)) if config.vector_enabled => {
            chroma_directory(args, conf.as_ref(), config)?
        }
        _ => None,
    };
    if chroma.is_none() && !args.no_chroma {
        notes.push("the application uses no ChromaDB; none is backed up".to_owned());
    }
    Ok(Places {
        odoo,
        filestore,
        graph,
        chroma,
        pg_path: args.pg_path.clone().or(conf.and_then(|conf| conf.pg_path)),
        memory_config: config,
        notes,
    })
}

fn chroma_directory(
    args: &SourceArgs,
    conf: Option<&OdooConf>,
    config: &MemoryConfig,
) -> Result<Option<PathBuf>, Failure> {
    let Some(configured) = &config.chroma_persist_directory else {
        return Ok(None);
    };
    find_chroma_dir(&ChromaSearch {
        configured: configured.clone(),
        base: args.chroma_base.clone(),
        conf_dir: conf.and_then(|conf| conf.path.parent().map(PathBuf::from)),
        working_dirs: odoo_working_directories(std::path::Path::new("/proc")),
    })
    .map(Some)
}

/// Puts the sources together.
pub(crate) async fn open(args: &SourceArgs, log: LogBuffer) -> Result<Stack, Failure> {
    let places = discover(args).await?;
    let lock_timeout = args.lock_timeout.unwrap_or(LOCK_TIMEOUT);
    let profile = Profile::parse(args.profile.as_deref().unwrap_or("sam_ai"))?;
    let selection = Selection {
        profile,
        models: args.models.clone(),
        exclude: args.exclude.clone(),
        include_transient: args.include_transient,
    };
    let shared = SharedSnapshot::default();
    let mut odoo = Odoo::new(
        places.odoo.clone(),
        OdooOptions {
            selection,
            jobs: jobs(args),
            lock_timeout,
            ..OdooOptions::default()
        },
    );
    if args.odoo_dump {
        odoo = odoo.share_snapshot(shared.clone());
    }
    let dump = |snapshot| DumpOptions {
        pg_path: places.pg_path.clone(),
        snapshot,
        lock_timeout,
    };
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(odoo.models())];
    if let Some(dir) = &places.filestore {
        sources.push(Box::new(odoo.filestore(FilestoreOptions {
            dir: dir.clone(),
            include_orphans: args.include_orphans,
        })));
    }
    if args.odoo_dump {
        sources.push(Box::new(DumpSource::new(
            Component::OdooDump,
            member_names::ODOO_DUMP,
            places.odoo.clone(),
            dump(DumpSnapshot::Given(shared)),
        )));
    }
    if let Some(graph) = &places.graph {
        let snapshot = match args.graph_snapshot {
            Some(GraphSnapshot::Own) => DumpSnapshot::Own,
            Some(GraphSnapshot::Shared) | None => DumpSnapshot::Shared,
        };
        sources.push(Box::new(DumpSource::new(
            Component::Graph,
            member_names::GRAPH_DUMP,
            graph.clone(),
            dump(snapshot),
        )));
    }
    if let Some(dir) = &places.chroma {
        let options = ChromaOptions {
            max_hold: args.chroma_max_hold.unwrap_or(CHROMA_MAX_HOLD),
            lock_wait: lock_timeout,
            ..ChromaOptions::default()
        };
        sources.push(Box::new(ChromaSource::new(dir.clone(), options)));
    }
    let config = places.memory_config.unwrap_or_default();
    Ok(Stack {
        sources,
        notes: places.notes,
        describe: Box::new(Describer {
            odoo,
            log,
            database_info: DatabaseInfo {
                graph_database: places.graph.as_ref().map(|spec| spec.database().to_owned()),
                graph_name: config.graph_name,
                chroma_persist_directory: config
                    .chroma_persist_directory
                    .or_else(|| places.chroma.map(|dir| dir.display().to_string())),
                ..DatabaseInfo::default()
            },
        }),
    })
}

/// What the bundle says about the stack.
struct Describer {
    odoo: Odoo,
    log: LogBuffer,
    database_info: DatabaseInfo,
}

impl Describe for Describer {
    fn model_list(&self) -> Vec<ModelEntry> {
        self.odoo.model_list()
    }

    fn facts(&self) -> StackFacts {
        let facts = self.odoo.facts();
        StackFacts {
            odoo_version: facts.odoo_version,
            module_versions: facts.module_versions,
            database_uuid: facts.database_uuid,
            database_info: DatabaseInfo {
                postgres_version: facts.postgres_version,
                odoo_database: facts.database,
                ..self.database_info.clone()
            },
        }
    }

    fn log(&self) -> String {
        self.log.text()
    }
}
