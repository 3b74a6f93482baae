//! `arkstream`: arguments, wiring, progress, exit codes.
//!
//! This crate is where everything meets, and the only one that may import all others. It holds no
//! knowledge of its own about formats or systems: a command reads its arguments, puts sources,
//! sink and observers together, runs them, and turns the outcome into words and an exit code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod checks;
mod commands;
mod exit;
mod interrupt;
mod logging;
mod memory;
mod output;
mod progress;
mod say;
mod screen;
mod settings;
mod sources;
mod spreadsheet;
mod stats;
mod table;
mod units;

use std::process::ExitCode;

use args::{Cli, Command};
use arkstream_pipeline::os;

fn main() -> ExitCode {
    os::give_back_freed_memory();
    let cli = Cli::read();
    let log = logging::start(cli.verbose);
    let outcome = match cli.command {
        Command::Backup(args) => block_on(commands::backup::run(args, log)),
        Command::Doctor(args) => block_on(commands::doctor::run(args)),
        #[cfg(unix)]
        Command::Demo(args) => block_on(commands::demo::run(args, log)),
        Command::Restore(args) => block_on(commands::restore::run(*args)),
        Command::Undo(args) => block_on(commands::restore::run_undo(args)),
        Command::Forget(args) => block_on(commands::restore::run_forget(args)),
        Command::Restores(args) => commands::restore::run_list(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Salvage(args) => block_on(commands::salvage::run(args)),
        Command::Ls(args) => commands::inspect::ls(&args),
        Command::Show(args) => commands::inspect::show(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Cat(args) => commands::inspect::cat(&args),
        Command::Extract(args) => commands::inspect::extract(&args),
        Command::Copy(args) => block_on(commands::copy::run(args)),
        Command::Export { format } => block_on(commands::export::run(format)),
        Command::Completions { shell } => commands::manuals::completions(shell),
        Command::Man { dir } => commands::manuals::man(&dir),
        Command::Schema { name } => commands::inspect::schema(&name),
        #[cfg(debug_assertions)]
        Command::Faults { .. } => commands::inspect::faults(),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => {
            exit::report(&failure);
            exit::Code::of(&failure).into()
        }
    }
}

fn block_on<T>(
    future: impl Future<Output = Result<T, arkstream_pipeline::Failure>>,
) -> Result<T, arkstream_pipeline::Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            arkstream_pipeline::Failure::io(
                arkstream_pipeline::FailureKind::Internal,
                "start the runtime",
                error,
            )
        })?
        .block_on(future)
}
