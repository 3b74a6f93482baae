//! Where the data is: what `backup` and `doctor` share.

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, Args, ValueEnum, builder::FalseyValueParser, parser::ValueSource};

use crate::units;

/// Where the data is. Shared by `backup` and `doctor`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// The Odoo database: a libpq URL or `key=value …` string.
    #[arg(
        long,
        env = "ARKSTREAM_ODOO_DB",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) odoo_db: Option<String>,
    /// Odoo's filestore of this database. Default: `data_dir/filestore/<db>`.
    #[arg(long, env = "ARKSTREAM_FILESTORE", value_name = "DIR")]
    pub(crate) filestore: Option<PathBuf>,
    /// The graph database. Default: as `ai_memory_config` says.
    #[arg(
        long,
        env = "ARKSTREAM_GRAPH_DB",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) graph_db: Option<String>,
    /// The ChromaDB directory. Default: as `ai_memory_config` says.
    #[arg(long, env = "ARKSTREAM_CHROMA", value_name = "DIR")]
    pub(crate) chroma: Option<PathBuf>,
    /// The folder that a relative ChromaDB directory is relative to (Odoo's working directory).
    #[arg(long, env = "ARKSTREAM_CHROMA_BASE", value_name = "DIR")]
    pub(crate) chroma_base: Option<PathBuf>,
    /// Odoo's configuration file: database, data_dir, pg_path.
    #[arg(long, env = "ARKSTREAM_ODOO_CONF", value_name = "FILE")]
    pub(crate) odoo_conf: Option<PathBuf>,
    /// A file whose first line is the password of the Odoo database.
    #[arg(long, env = "ARKSTREAM_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// A file whose first line is the password of the graph database.
    #[arg(long, env = "ARKSTREAM_GRAPH_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) graph_password_file: Option<PathBuf>,
    /// Where PostgreSQL's programs are looked for first.
    #[arg(long, env = "ARKSTREAM_PG_PATH", value_name = "DIR")]
    pub(crate) pg_path: Option<PathBuf>,
    /// Which models: `sam_ai`, `all`, or a file with one name or pattern a line.
    #[arg(long, env = "ARKSTREAM_PROFILE", value_name = "sam_ai|all|FILE")]
    pub(crate) profile: Option<String>,
    /// Only these models of the profile.
    #[arg(
        long,
        env = "ARKSTREAM_MODELS",
        value_name = "GLOB,…",
        value_delimiter = ','
    )]
    pub(crate) models: Vec<String>,
    /// Not these models.
    #[arg(
        long,
        env = "ARKSTREAM_EXCLUDE",
        value_name = "GLOB,…",
        value_delimiter = ','
    )]
    pub(crate) exclude: Vec<String>,
    /// Take the rows of transient models (wizards) too.
    #[arg(long, env = "ARKSTREAM_INCLUDE_TRANSIENT", value_parser = FalseyValueParser::new())]
    pub(crate) include_transient: bool,
    /// Take files of the filestore that no attachment refers to, too.
    #[arg(long, env = "ARKSTREAM_INCLUDE_ORPHANS", value_parser = FalseyValueParser::new())]
    pub(crate) include_orphans: bool,
    /// Add a dump of the whole Odoo database.
    #[arg(long, env = "ARKSTREAM_ODOO_DUMP", value_parser = FalseyValueParser::new())]
    pub(crate) odoo_dump: bool,
    /// Leave the graph database out.
    #[arg(long, env = "ARKSTREAM_NO_GRAPH", value_parser = FalseyValueParser::new())]
    pub(crate) no_graph: bool,
    /// Leave ChromaDB out.
    #[arg(long, env = "ARKSTREAM_NO_CHROMA", value_parser = FalseyValueParser::new())]
    pub(crate) no_chroma: bool,
    /// Leave the filestore out.
    #[arg(long, env = "ARKSTREAM_NO_FILESTORE", value_parser = FalseyValueParser::new())]
    pub(crate) no_filestore: bool,
    /// Whether the graph dump shares the barrier's snapshot, or `pg_dump` takes its own (for
    /// servers with a single backend and behind transaction poolers).
    #[arg(long, env = "ARKSTREAM_GRAPH_SNAPSHOT", value_enum)]
    pub(crate) graph_snapshot: Option<GraphSnapshot>,
    /// How long writers of ChromaDB may be held.  [default: 60s]
    #[arg(long, env = "ARKSTREAM_CHROMA_MAX_HOLD", value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) chroma_max_hold: Option<Duration>,
    /// How long to wait for table locks and for ChromaDB's lock.  [default: 60s]
    #[arg(long, env = "ARKSTREAM_LOCK_TIMEOUT", value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) lock_timeout: Option<Duration>,
    /// Connections and workers that read at once.  [default: the number of cores, at most 4]
    #[arg(long, short, env = "ARKSTREAM_JOBS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
    /// A configuration file.  [default: ./arkstream.toml, if it exists]
    #[arg(long, env = "ARKSTREAM_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GraphSnapshot {
    /// The barrier's snapshot.
    Shared,
    /// A snapshot of `pg_dump`'s own, a moment later.
    Own,
}

impl SourceArgs {
    /// A source that is named and declined at once: the command line wins over the environment.
    pub(super) fn settle(&mut self, matches: &ArgMatches) -> Result<(), String> {
        let rank = |id: &str| match matches.value_source(id) {
            Some(ValueSource::CommandLine) => 2,
            Some(ValueSource::EnvVariable) => 1,
            _ => 0,
        };
        let settle = |name: &str, named: bool, declined: &mut bool| {
            if !named || !*declined {
                return Ok(named);
            }
            let (with, without) = (rank(name), rank(&format!("no_{}", stem(name))));
            if with == without {
                let option = name.replace('_', "-");
                return Err(format!(
                    "--{option} names what --no-{} leaves out; give one of them",
                    stem(name)
                ));
            }
            *declined = without > with;
            Ok(with > without)
        };
        if !settle("graph_db", self.graph_db.is_some(), &mut self.no_graph)? {
            self.graph_db = None;
        }
        if !settle("chroma", self.chroma.is_some(), &mut self.no_chroma)? {
            self.chroma = None;
        }
        if !settle(
            "filestore",
            self.filestore.is_some(),
            &mut self.no_filestore,
        )? {
            self.filestore = None;
        }
        Ok(())
    }
}

/// `graph_db` is left out by `--no-graph`.
fn stem(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}
