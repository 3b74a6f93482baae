//! Arguments of `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ProgressMode;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ExportFormat {
    /// Comma-separated values, as PostgreSQL's COPY reads them back.
    Csv(ExportArgs),
    /// One JSON object a line.
    Jsonl(ExportArgs),
    /// One Parquet file a table.
    Parquet(ExportArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The folder for one file a table. It must be empty or not exist, and appears as a whole.
    pub(crate) dir: PathBuf,
    /// Only models and tables whose names match one of these, such as `ai.*`.  [default: all]
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}
