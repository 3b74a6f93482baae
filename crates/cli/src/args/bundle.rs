//! The options of the commands that read one bundle.

use std::path::PathBuf;

use clap::Args;

use super::ProgressMode;

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

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("it must be above 0 and at most 100".to_owned()),
    }
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

#[derive(Clone, Debug, Args)]
pub(crate) struct BundleArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// Where the page goes; `-` is standard output.  [default: BUNDLE.report.html]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
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
