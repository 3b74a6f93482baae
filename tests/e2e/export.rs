//! `arkstream export`: a bundle's rows for other programs.

mod files;
mod spreadsheet;

use std::path::Path;

use crate::support::{Run, arkstream, run};

/// `arkstream export KIND BUNDLE OUT`, with a report in JSON.
fn export(kind: &str, bundle: &Path, out: &Path, options: &[&str]) -> Run {
    let mut command = arkstream();
    command.args(["export", kind, "--json", "--progress", "none"]);
    run(command.arg(bundle).arg(out).args(options))
}
