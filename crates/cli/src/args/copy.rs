//! Arguments of `copy`.

use std::path::PathBuf;

use clap::Args;

use super::ProgressMode;

#[derive(Clone, Debug, Args)]
pub(crate) struct CopyArgs {
    /// The bundle, or a folder whose bundles (`*.zip`) are all copied.
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// The copy, or the folder for it; a folder keeps the names.
    #[arg(value_name = "DST")]
    pub(crate) to: PathBuf,
    /// An older bundle, a folder of bundles, or a torn copy, whose chunks need not be read from SRC. May
    /// be given several times.
    #[arg(long, value_name = "OLD.zip|DIR")]
    pub(crate) have: Vec<PathBuf>,
    /// Let the copy take the place of another bundle, or of a damaged copy, once it is whole; what that
    /// one has is not transferred.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Read every copy back from its disk before it gets its name, not only one that was continued.
    #[arg(long)]
    pub(crate) verify: bool,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}
