//! The command line.
//!
//! Every option of the sources can also stand in the environment (`ARKSTREAM_…`) and in a
//! configuration file (see [`crate::settings`]); the command line wins over the environment, and
//! the environment over the file.

// Named, so that the fuzz targets can take this file in.
#[path = "args/copy.rs"]
mod copy;
#[path = "args/restore.rs"]
mod restore;

use std::{path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    builder::FalseyValueParser, error::ErrorKind, parser::ValueSource,
};
use clap_complete::Shell;

use crate::units;

pub(crate) use copy::CopyArgs;
pub(crate) use restore::{
    CredentialArgs, ForgetArgs, MissingReferenceArg, ModeArg, OnConflictArg, RestoreArgs,
    RestoresArgs, UndoArgs,
};

/// Streams a whole AI application stack into one verified ZIP file, and back.
///
/// Odoo models, the Odoo filestore, an Apache AGE graph database and a ChromaDB directory, as of
/// one moment, while everything keeps running. A restore happens as a whole or not at all.
#[derive(Debug, Parser)]
#[command(name = "arkstream", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Say more: -v for what happens, -vv for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line and the environment; ends the process on `--help` and on errors, as
    /// clap does.
    pub(crate) fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let sources = match &mut cli.command {
            Command::Backup(args) => Some(&mut args.sources),
            Command::Doctor(args) => Some(&mut args.sources),
            _ => None,
        };
        if let (Some(sources), Some((_, matches))) = (sources, matches.subcommand())
            && let Err(message) = sources.settle(matches)
        {
            Self::command()
                .error(ErrorKind::ArgumentConflict, message)
                .exit();
        }
        cli
    }
}

impl SourceArgs {
    /// A source that is named and declined at once: the command line wins over the environment.
    fn settle(&mut self, matches: &ArgMatches) -> Result<(), String> {
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

const EXIT_CODES: &str = "Exit codes:
  0 complete   1 internal error   2 usage or configuration   3 finished, but something was left out
  4 damage found   5 incompatible versions   6 output or target refused (exists, locked)
  7 source not reachable or tool missing   8 no space   130 interrupted";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up the stack into one bundle.
    #[command(after_help = "Examples:
  arkstream backup --odoo-conf /etc/odoo/odoo.conf --out /backup/
  arkstream backup --odoo-db postgresql://odoo@localhost/prod --chroma /srv/chroma --no-graph
  arkstream backup --odoo-conf /etc/odoo/odoo.conf --out /backup/ --base /backup/
  arkstream backup --odoo-conf odoo.conf --dry-run")]
    Backup(BackupArgs),
    /// Bring a bundle back: staged beside the live data, switched as a whole, reversible.
    #[command(after_help = "Examples:
  arkstream restore backup.zip --odoo-conf /etc/odoo/odoo.conf --chroma /srv/chroma \\
      --graph-admin-db postgresql://postgres@localhost/sam_graph --dry-run
  arkstream restore backup.zip --odoo-db postgresql://odoo@localhost/prod --components models \\
      --mode merge --on-conflict newest")]
    Restore(Box<RestoreArgs>),
    /// Bring back what was live before a restore.
    Undo(UndoArgs),
    /// Drop what an undo of a restore would need.
    Forget(ForgetArgs),
    /// List restores whose former state is kept, or that were interrupted.
    Restores(RestoresArgs),
    /// Prove a bundle: every byte, every row, every reference.
    Verify(VerifyArgs),
    /// Make a new bundle of all that is still proven good in a damaged one.
    ///
    /// Whole members come back as they were, good chunks of the others below `salvaged/`. What is lost
    /// is listed, in the new bundle too. The damaged file is only read.
    #[command(after_help = "Examples:
  arkstream salvage damaged.zip salvaged.zip
  arkstream salvage backup.zip.partial salvaged.zip      (a backup that was never finished)
  arkstream salvage damaged.zip salvaged.zip --unproven /tmp/unproven --json")]
    Salvage(SalvageArgs),
    /// List members, rows, sizes, ratios.
    Ls(BundleArgs),
    /// Show metadata, versions, generations, omissions.
    Show(BundleArgs),
    /// Write one member's bytes to standard output, hashes checked on the way.
    Cat(CatArgs),
    /// Unpack a bundle, hashes checked on the way.
    Extract(ExtractArgs),
    /// Copy a finished bundle, or a folder of them: only what is missing, going on after a kill.
    #[command(after_help = "Examples:
  arkstream copy /backup/monday.zip /mnt/usb/
  arkstream copy /backup/tuesday.zip /mnt/usb/ --have /mnt/usb/monday.zip
  arkstream copy /backup/tuesday.zip /mnt/usb/latest.zip --replace
  arkstream copy /backup/ /mnt/usb/ --have /mnt/usb/ --json")]
    Copy(CopyArgs),
    /// Say what is reachable, which tools were found, and what would be missing.
    Doctor(DoctorArgs),
    /// Build a sample stack, back it up, verify it, destroy it, restore it.
    Demo(DemoArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// List the places at which this test build can be made to fail.
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Faults {
        /// What to do: `list`.
        #[arg(value_parser = ["list"])]
        what: String,
    },
    /// Print a JSON Schema: manifest, metadata, model_list, journal, copy, restore or config.
    Schema {
        /// Its name.
        name: String,
    },
}

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

#[derive(Clone, Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    /// The bundle, or the folder for `sam_ai_complete_backup_YYYYMMDD_HHMMSS.zip`.
    #[arg(long, short, env = "ARKSTREAM_OUT", value_name = "FILE|DIR")]
    pub(crate) out: Option<PathBuf>,
    /// An older bundle, or a folder of which the newest is taken: what is proven unchanged since is
    /// copied out of it. The result is a full bundle, which does not need the older one.
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) base: Option<PathBuf>,
    /// Bytes that may be in flight, such as 256MiB; at least 32MiB.  [default: 64MiB a job]
    #[arg(long, env = "ARKSTREAM_MEMORY", value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) memory: Option<u64>,
    /// How much time may go into making files and dumps smaller. Rows are Parquet with zstd whatever
    /// is said here.  [default: balanced]
    #[arg(long, env = "ARKSTREAM_COMPRESSION", value_enum)]
    pub(crate) compression: Option<CompressionChoice>,
    /// Discard what an interrupted run left at this output, and start over.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) fresh: bool,
    /// Continue what an interrupted run left, and fail if there is nothing.
    #[arg(long)]
    pub(crate) resume: bool,
    /// After a lost connection or a server that restarts, try again for so long.  [default: 5m]
    #[arg(long, env = "ARKSTREAM_RETRY_FOR", value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) retry_for: Option<Duration>,
    /// When the disk is full, wait for so long until there is space again.  [default: 0s]
    #[arg(long, env = "ARKSTREAM_WAIT_FOR_SPACE", value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) wait_for_space: Option<Duration>,
    /// Read everything again that an interrupted run left, not only what it wrote last.
    #[arg(long)]
    pub(crate) recheck: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

/// What every unzip program can read: deflate, with more or less effort.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CompressionChoice {
    /// As little time as possible.
    Fast,
    /// What costs little and gains most.
    Balanced,
    /// As small as possible, for slow networks and small disks.
    Small,
    /// Not at all.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// One bar a component.
    Bar,
    /// Lines.
    Plain,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// Read only this share of the chunks, without looking at contents.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub(crate) sample: Option<f64>,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SalvageArgs {
    /// The damaged bundle, or an unfinished one (`….partial`, with its journal beside it).
    pub(crate) bundle: PathBuf,
    /// The new bundle. It must not exist.
    pub(crate) out: PathBuf,
    /// Extract what decodes but is proven by nothing as plain files to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) unproven: Option<PathBuf>,
    /// Discard what an interrupted salvage left at this output, and start over.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("it must be above 0 and at most 100".to_owned()),
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BundleArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CatArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The member, as `arkstream ls` names it.
    pub(crate) member: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExtractArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The folder; created if it does not exist. Nothing in it is overwritten.
    pub(crate) dir: PathBuf,
    /// Only these members; a name that ends in `/` stands for everything below it.
    pub(crate) members: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    /// Where the bundle would go.
    #[arg(long, short, env = "ARKSTREAM_OUT", value_name = "FILE|DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder for sample and bundle; must be empty or not exist.  [default: ./demo]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How much data: 1 is some thousands of messages.
    #[arg(long, default_value = "1", value_name = "FACTOR")]
    pub(crate) scale: f64,
    /// A Python with the `chromadb` package, which makes the ChromaDB directory.
    #[arg(long, env = "ARKSTREAM_DEMO_PYTHON", value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(line: &[&str]) -> Result<SourceArgs, String> {
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let Command::Backup(mut args) = cli.command else {
            panic!("a backup was asked for");
        };
        let (_, matches) = matches.subcommand().unwrap();
        args.sources.settle(matches).map(|()| args.sources)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_source_is_named_or_left_out_not_both() {
        assert!(settled(&["arkstream", "backup", "--no-graph", "--graph-db", "x"]).is_err());
        let named = settled(&["arkstream", "backup", "--graph-db", "x", "--no-chroma"]).unwrap();
        assert!(named.graph_db.is_some() && !named.no_graph && named.no_chroma);
    }
}
