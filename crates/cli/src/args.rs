//! The command line.
//!
//! Every option of the sources can also stand in the environment (`ARKSTREAM_…`) and in a
//! configuration file (see [`crate::settings`]); the command line wins over the environment, and
//! the environment over the file.

// Named, so that the fuzz targets can take this file in.
#[path = "args/backup.rs"]
mod backup;
#[path = "args/bundle.rs"]
mod bundle;
#[path = "args/copy.rs"]
mod copy;
#[path = "args/restore.rs"]
mod restore;
#[path = "args/sources.rs"]
mod sources;

use std::path::PathBuf;

use clap::{
    Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, error::ErrorKind,
};
use clap_complete::Shell;

pub(crate) use backup::{BackupArgs, CompressionChoice};
pub(crate) use bundle::{BundleArgs, CatArgs, ExtractArgs, SalvageArgs, VerifyArgs};
pub(crate) use copy::CopyArgs;
pub(crate) use restore::{
    CredentialArgs, ForgetArgs, MissingReferenceArg, ModeArg, OnConflictArg, RestoreArgs,
    RestoresArgs, UndoArgs,
};
pub(crate) use sources::{GraphSnapshot, SourceArgs};

/// Streams a whole AI application stack into one verified ZIP file, and back.
///
/// Odoo models, the Odoo filestore, an Apache AGE graph database and a ChromaDB directory, as of
/// one moment, while everything keeps running. A restore happens as a whole or not at all.
#[derive(Debug, Parser)]
#[command(name = "arkstream", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Say more: -v for what happens, -vv for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line and the environment; ends the process on `--help` and on errors, as
    /// clap does.
    pub(crate) fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let sources = match &mut cli.command {
            Command::Backup(args) => Some(&mut args.sources),
            Command::Doctor(args) => Some(&mut args.sources),
            _ => None,
        };
        if let (Some(sources), Some((_, matches))) = (sources, matches.subcommand())
            && let Err(message) = sources.settle(matches)
        {
            Self::command()
                .error(ErrorKind::ArgumentConflict, message)
                .exit();
        }
        cli
    }
}

const EXIT_CODES: &str = "Exit codes:
  0 complete   1 internal error   2 usage or configuration   3 finished, but something was left out
  4 damage found   5 incompatible versions   6 output or target refused (exists, locked)
  7 source not reachable or tool missing   8 no space   130 interrupted";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up the stack into one bundle.
    #[command(after_help = "Examples:
  arkstream backup --odoo-conf /etc/odoo/odoo.conf --out /backup/
  arkstream backup --odoo-db postgresql://odoo@localhost/prod --chroma /srv/chroma --no-graph
  arkstream backup --odoo-conf /etc/odoo/odoo.conf --out /backup/ --base /backup/
  arkstream backup --odoo-conf odoo.conf --dry-run")]
    Backup(BackupArgs),
    /// Bring a bundle back: staged beside the live data, switched as a whole, reversible.
    #[command(after_help = "Examples:
  arkstream restore backup.zip --odoo-conf /etc/odoo/odoo.conf --chroma /srv/chroma \\
      --graph-admin-db postgresql://postgres@localhost/sam_graph --dry-run
  arkstream restore backup.zip --odoo-db postgresql://odoo@localhost/prod --components models \\
      --mode merge --on-conflict newest")]
    Restore(Box<RestoreArgs>),
    /// Bring back what was live before a restore.
    Undo(UndoArgs),
    /// Drop what an undo of a restore would need.
    Forget(ForgetArgs),
    /// List restores whose former state is kept, or that were interrupted.
    Restores(RestoresArgs),
    /// Prove a bundle: every byte, every row, every reference.
    Verify(VerifyArgs),
    /// Make a new bundle of all that is still proven good in a damaged one.
    ///
    /// Whole members come back as they were, good chunks of the others below `salvaged/`. What is lost
    /// is listed, in the new bundle too. The damaged file is only read.
    #[command(after_help = "Examples:
  arkstream salvage damaged.zip salvaged.zip
  arkstream salvage backup.zip.partial salvaged.zip      (a backup that was never finished)
  arkstream salvage damaged.zip salvaged.zip --unproven /tmp/unproven --json")]
    Salvage(SalvageArgs),
    /// List members, rows, sizes, ratios.
    Ls(BundleArgs),
    /// Show metadata, versions, generations, omissions.
    Show(BundleArgs),
    /// Write one member's bytes to standard output, hashes checked on the way.
    Cat(CatArgs),
    /// Unpack a bundle, hashes checked on the way.
    Extract(ExtractArgs),
    /// Copy a finished bundle, or a folder of them: only what is missing, going on after a kill.
    #[command(after_help = "Examples:
  arkstream copy /backup/monday.zip /mnt/usb/
  arkstream copy /backup/tuesday.zip /mnt/usb/ --have /mnt/usb/monday.zip
  arkstream copy /backup/tuesday.zip /mnt/usb/latest.zip --replace
  arkstream copy /backup/ /mnt/usb/ --have /mnt/usb/ --json")]
    Copy(CopyArgs),
    /// Say what is reachable, which tools were found, and what would be missing.
    Doctor(DoctorArgs),
    /// Build a sample stack, back it up, verify it, destroy it, restore it.
    Demo(DemoArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages into a folder, in place of those that are there.
    #[command(after_help = "Example:
  arkstream man /usr/local/share/man/man1")]
    Man {
        /// The folder; created if it does not exist.
        dir: PathBuf,
    },
    /// List the places at which this test build can be made to fail.
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Faults {
        /// What to do: `list`.
        #[arg(value_parser = ["list"])]
        what: String,
    },
    /// Print a JSON Schema: manifest, metadata, model_list, journal, copy, restore or config.
    Schema {
        /// Its name.
        name: String,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// One bar a component.
    Bar,
    /// Lines.
    Plain,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    /// Where the bundle would go.
    #[arg(long, short, env = "ARKSTREAM_OUT", value_name = "FILE|DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder for sample and bundle; must be empty or not exist.  [default: ./demo]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How much data: 1 is some thousands of messages.
    #[arg(long, default_value = "1", value_name = "FACTOR")]
    pub(crate) scale: f64,
    /// A Python with the `chromadb` package, which makes the ChromaDB directory.
    #[arg(long, env = "ARKSTREAM_DEMO_PYTHON", value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// How progress is shown, on standard error.
    #[arg(long, env = "ARKSTREAM_PROGRESS", value_enum, default_value = "auto")]
    pub(crate) progress: ProgressMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(line: &[&str]) -> Result<SourceArgs, String> {
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let Command::Backup(mut args) = cli.command else {
            panic!("a backup was asked for");
        };
        let (_, matches) = matches.subcommand().unwrap();
        args.sources.settle(matches).map(|()| args.sources)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_source_is_named_or_left_out_not_both() {
        assert!(settled(&["arkstream", "backup", "--no-graph", "--graph-db", "x"]).is_err());
        let named = settled(&["arkstream", "backup", "--graph-db", "x", "--no-chroma"]).unwrap();
        assert!(named.graph_db.is_some() && !named.no_graph && named.no_chroma);
    }
}
