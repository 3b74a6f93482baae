//! Arguments of `diff`.

use std::path::PathBuf;

use clap::Args;

use crate::units;

#[derive(Clone, Debug, Args)]
pub(crate) struct DiffArgs {
    /// The first bundle, usually the older one.
    pub(crate) first: PathBuf,
    /// The second bundle.
    pub(crate) second: PathBuf,
    /// Only these models or tables, with rows that differ side by side.
    #[arg(long, value_name = "MODEL,…", value_delimiter = ',')]
    pub(crate) model: Vec<String>,
    /// Show so many changed, added and removed rows of each table.  [default: 20 with --model, else 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) limit: Option<u32>,
    /// Bytes that may be in flight, such as 256MiB; at least 32MiB. Less memory means that large tables
    /// are read more often.  [default: 128MiB]
    #[arg(long, env = "ARKSTREAM_MEMORY", value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) memory: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
