//! Arguments of `restore`, `undo`, `forget`, `restores`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::FalseyValueParser};

use super::ProgressMode;
use crate::units;

/// Where restored data goes, and how to get in. Shared by `restore`, `undo` and `forget`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CredentialArgs {
    /// A file whose first line is the password of the Odoo database.
    #[arg(long, env = "ARKSTREAM_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// A file whose first line is the password of the graph's administrator.
    #[arg(long, env = "ARKSTREAM_GRAPH_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) graph_password_file: Option<PathBuf>,
    /// Where PostgreSQL's programs are looked for first.
    #[arg(long, env = "ARKSTREAM_PG_PATH", value_name = "DIR")]
    pub(crate) pg_path: Option<PathBuf>,
    /// How long to wait for table locks.  [default: 60s]
    #[arg(long, env = "ARKSTREAM_LOCK_TIMEOUT", value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) lock_timeout: Option<Duration>,
    /// End the sessions that are connected to the graph database.
    #[arg(long, env = "ARKSTREAM_TERMINATE_CONNECTIONS", value_parser = FalseyValueParser::new())]
    pub(crate) terminate_connections: bool,
    /// Switch the ChromaDB directory even though a process holds it open.
    #[arg(long, env = "ARKSTREAM_ALLOW_BUSY_CHROMA", value_parser = FalseyValueParser::new())]
    pub(crate) allow_busy_chroma: bool,
    /// Where the records of restores are kept.  [default: $XDG_STATE_HOME/arkstream or
    /// ~/.local/state/arkstream]
    #[arg(long, env = "ARKSTREAM_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RestoreArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The Odoo database to restore rows into, as its owner: a libpq URL or `key=value …` string.
    #[arg(
        long,
        env = "ARKSTREAM_ODOO_DB",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) odoo_db: Option<String>,
    /// Odoo's configuration file: database and filestore, where they are not named.
    #[arg(long, env = "ARKSTREAM_ODOO_CONF", value_name = "FILE")]
    pub(crate) odoo_conf: Option<PathBuf>,
    /// The filestore of this database. Missing files are added, nothing else changes.
    #[arg(long, env = "ARKSTREAM_FILESTORE", value_name = "DIR")]
    pub(crate) filestore: Option<PathBuf>,
    /// The graph database, as the application connects to it; created if it does not exist.
    #[arg(
        long,
        env = "ARKSTREAM_GRAPH_DB",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) graph_db: Option<String>,
    /// The same server as a superuser, who is needed to create the AGE extension. Without it,
    /// --graph-db must name one.
    #[arg(
        long,
        env = "ARKSTREAM_GRAPH_ADMIN_DB",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) graph_admin_db: Option<String>,
    /// The ChromaDB directory; the former one is kept beside it.
    #[arg(long, env = "ARKSTREAM_CHROMA", value_name = "DIR")]
    pub(crate) chroma: Option<PathBuf>,
    /// Only these components of the bundle: models, filestore, graph, chroma.
    #[arg(
        long,
        env = "ARKSTREAM_COMPONENTS",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub(crate) components: Vec<String>,
    /// Only these models of the bundle, with what belongs to them.
    #[arg(
        long,
        env = "ARKSTREAM_MODELS",
        value_name = "GLOB,…",
        value_delimiter = ','
    )]
    pub(crate) models: Vec<String>,
    /// What becomes of the models' rows in the target.  [default: replace, if there are none]
    #[arg(long, env = "ARKSTREAM_MODE", value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// In a merge, which row is taken where both sides have it.
    #[arg(
        long,
        env = "ARKSTREAM_ON_CONFLICT",
        value_enum,
        default_value = "keep"
    )]
    pub(crate) on_conflict: OnConflictArg,
    /// What becomes of references to users, companies and other rows that the target does not have.
    #[arg(
        long,
        env = "ARKSTREAM_MISSING_REFERENCE",
        value_enum,
        default_value = "fail"
    )]
    pub(crate) missing_reference: MissingReferenceArg,
    /// Let deletions reach rows outside the restored models.
    #[arg(long, env = "ARKSTREAM_CASCADE", value_parser = FalseyValueParser::new())]
    pub(crate) cascade: bool,
    /// Restore although Odoo's major version or the tables' columns differ.
    #[arg(long, env = "ARKSTREAM_ALLOW_VERSION_MISMATCH", value_parser = FalseyValueParser::new())]
    pub(crate) allow_version_mismatch: bool,
    /// Make the target a copy that does not act: scheduled actions, mail servers, API keys and
    /// webhooks are switched off.
    #[arg(long, env = "ARKSTREAM_NEUTRALIZE", value_parser = FalseyValueParser::new())]
    pub(crate) neutralize: bool,
    /// Load everything again that an interrupted restore of this bundle had loaded.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) credentials: CredentialArgs,
    /// Where the report goes. By default it stands beside the bundle, `BUNDLE.restore-ID.md`.
    #[arg(long, env = "ARKSTREAM_REPORT", value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Connections that load at once, and processes of the server that then compare.  [default: the number of cores, at most 4]
    #[arg(long, short, env = "ARKSTREAM_JOBS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: Option<u16>,
    /// Bytes that may be in flight, such as 256MiB; at least 32MiB.  [default: 64MiB a job]
    #[arg(long, env = "ARKSTREAM_MEMORY", value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) memory: Option<u64>,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// The models' rows become exactly the bundle's.
    Replace,
    /// The bundle's rows are added to the target's.
    Merge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflictArg {
    /// The target's.
    #[default]
    Keep,
    /// The bundle's.
    Overwrite,
    /// The one that was written last.
    Newest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissingReferenceArg {
    /// The restore is refused, with a list.
    #[default]
    Fail,
    /// They are emptied and counted; the exit code is 3.
    Null,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UndoArgs {
    /// The restore, as `arkstream restores` names it.
    pub(crate) id: String,
    /// Overwrite what was changed since.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) credentials: CredentialArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The restore, as `arkstream restores` names it.
    pub(crate) id: String,
    /// Forget it although it is no longer what is live, or although what it had staged cannot be
    /// reached.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) credentials: CredentialArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RestoresArgs {
    /// Where the records of restores are kept.  [default: $XDG_STATE_HOME/arkstream or
    /// ~/.local/state/arkstream]
    #[arg(long, env = "ARKSTREAM_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Also those that were undone, forgotten or given up.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
