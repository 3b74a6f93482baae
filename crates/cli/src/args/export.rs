//! Arguments of `export`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ProgressMode;
use crate::units;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ExportFormat {
    /// Comma-separated values, as PostgreSQL's COPY reads them back.
    Csv(ExportArgs),
    /// One JSON object a line.
    Jsonl(ExportArgs),
    /// One Parquet file a table.
    Parquet(ExportArgs),
    /// An Excel workbook, a sheet a model.
    Xlsx(XlsxArgs),
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

#[derive(Clone, Debug, Args)]
pub(crate) struct XlsxArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// The workbook. Texts that do not fit into a cell go to a folder beside it, `OUT.files`. Neither may
    /// exist.
    #[arg(value_name = "OUT.xlsx")]
    pub(crate) out: PathBuf,
    /// Only models and tables whose names match one of these, such as `ai.*`.  [default: all models]
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Bytes to work with, such as 256MiB; at least 32MiB.  [default: 64MiB]
    #[arg(long, env = "ARKSTREAM_MEMORY", value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) memory: Option<u64>,
    /// Where temporary files go.  [default: the folder of the workbook]
    #[arg(long, value_name = "DIR")]
    pub(crate) temp: Option<PathBuf>,
    /// Rows of a sheet, the header included.
    #[arg(long, value_name = "N", hide = true, default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pub(crate) sheet_rows: u32,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}
