//! The options of `backup`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::FalseyValueParser};

use super::{ProgressMode, SourceArgs};
use crate::units;

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
    /// Add a spreadsheet of the rows, made of the bundle's own parts.
    #[arg(long)]
    pub(crate) xlsx: bool,
    /// Where the spreadsheet's temporary files go.  [default: the folder of the bundle]
    #[arg(long, value_name = "DIR", requires = "xlsx")]
    pub(crate) temp: Option<PathBuf>,
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
    /// Write no page beside the bundle (`BUNDLE.report.html`) that says what is in it.
    #[arg(long, env = "ARKSTREAM_NO_REPORT", value_parser = FalseyValueParser::new())]
    pub(crate) no_report: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say at the end what every stage did with its time.
    #[arg(long)]
    pub(crate) stats: bool,
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
