//! What comes with the program for its installation: completions and manual pages.

use std::{fs, path::Path};

use arkstream_pipeline::{Failure, FailureKind};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args::Cli, exit::Code, output};

/// `arkstream completions`
pub(crate) fn completions(shell: Shell) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "arkstream", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Code::Complete)
}

/// `arkstream man`
pub(crate) fn man(dir: &Path) -> Result<Code, Failure> {
    let failed = |error| {
        let attempted = format!("write manual pages into {}", dir.display());
        Failure::io(FailureKind::Refused, attempted, error)
    };
    fs::create_dir_all(dir).map_err(failed)?;
    // A page of its own says what `arkstream help COMMAND` says.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, dir).map_err(failed)?;
    Ok(Code::Complete)
}
