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
#[path = "args/diff.rs"]
mod diff;
#[path = "args/export.rs"]
mod export;
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
pub(crate) use bundle::{BundleArgs, CatArgs, ExtractArgs, ReportArgs, SalvageArgs, VerifyArgs};
pub(crate) use copy::CopyArgs;
pub(crate) use diff::DiffArgs;
pub(crate) use export::{ExportArgs, ExportFormat, XlsxArgs};
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
#[command(name = "arkstream", version, max_term_width = 100, after_help = AFTER_HELP)]
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

const AFTER_HELP: &str = "Examples:
  arkstream doctor --odoo-conf /etc/odoo/odoo.conf
  arkstream backup --odoo-conf /etc/odoo/odoo.conf --out /backup/
  arkstream verify backup.zip
  arkstream restore backup.zip --odoo-conf /etc/odoo/odoo.conf --dry-run

Exit codes:
  0 complete                      1 internal error
  2 usage or configuration        3 finished, but something was left out
  4 damage found                  5 incompatible versions
  6 output or target refused      7 source not reachable or tool missing
    (exists, locked)              8 no space
  9 compared bundles differ       130 interrupted";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up the stack into one bundle.
    #[command(after_help = "Examples:
  arkstream backup --odoo-conf /etc/odoo/odoo.conf --out /backup/
  arkstream backup --odoo-db postgresql://odoo@localhost/prod \\
      --chroma /srv/chroma --no-graph
  arkstream backup --odoo-conf odoo.conf --out /backup/ --base /backup/
  arkstream backup --odoo-conf odoo.conf --dry-run")]
    Backup(BackupArgs),
    /// Bring a bundle back: staged beside the live data, switched as a whole, reversible.
    #[command(after_help = "Examples:
  arkstream restore backup.zip --odoo-conf odoo.conf --chroma /srv/chroma \\
      --graph-admin-db postgresql://postgres@localhost/sam_graph --dry-run
  arkstream restore backup.zip --odoo-db postgresql://odoo@localhost/prod \\
      --components models --mode merge --on-conflict newest",
      mut_arg("components", |components| components.value_parser(COMPONENTS)))]
    Restore(Box<RestoreArgs>),
    /// Bring back what was live before a restore.
    #[command(after_help = "Examples, with a name that `arkstream restores` shows:
  arkstream undo 3f2a9c0d1e4b5a68
  arkstream undo 3f2a9c0d1e4b5a68 --json")]
    Undo(WithJson<UndoArgs>),
    /// Drop what an undo of a restore would need.
    #[command(after_help = "Examples, with a name that `arkstream restores` shows:
  arkstream forget 3f2a9c0d1e4b5a68
  arkstream forget 3f2a9c0d1e4b5a68 --json")]
    Forget(WithJson<ForgetArgs>),
    /// List restores whose former state is kept, or that were interrupted.
    #[command(after_help = "Examples:
  arkstream restores
  arkstream restores --all --json")]
    Restores(RestoresArgs),
    /// Prove a bundle: every byte, every row, every reference.
    #[command(after_help = "Examples:
  arkstream verify backup.zip
  arkstream verify backup.zip --json --progress none
  arkstream verify backup.zip --sample 5%")]
    Verify(VerifyArgs),
    /// Make a new bundle of all that is still proven good in a damaged one.
    ///
    /// Whole members come back as they were, good chunks of the others below `salvaged/`. What is lost
    /// is listed, in the new bundle too. The damaged file is only read.
    #[command(after_help = "Examples:
  arkstream salvage damaged.zip salvaged.zip
  arkstream salvage damaged.zip salvaged.zip --unproven /tmp/unproven --json

A backup that was never finished:
  arkstream salvage backup.zip.partial salvaged.zip")]
    Salvage(SalvageArgs),
    /// List members, rows, sizes, ratios.
    #[command(after_help = "Examples:
  arkstream ls backup.zip
  arkstream ls backup.zip --json")]
    Ls(BundleArgs),
    /// Show metadata, versions, generations, omissions.
    #[command(after_help = "Examples:
  arkstream show backup.zip
  arkstream show backup.zip --json")]
    Show(BundleArgs),
    /// Say what differs between two bundles: rows, files, columns, versions.
    ///
    /// Ends with 0 if nothing differs, with 9 if anything does.
    #[command(after_help = "Examples:
  arkstream diff monday.zip tuesday.zip
  arkstream diff monday.zip tuesday.zip --model ai.message --limit 20
  arkstream diff monday.zip tuesday.zip --json")]
    Diff(DiffArgs),
    /// Write a page that says what is in a bundle and how it came to be: one HTML file.
    ///
    /// It needs no network and no script. A backup leaves one beside its bundle.
    #[command(after_help = "Examples:
  arkstream report /backup/monday.zip
  arkstream report /backup/monday.zip -o /srv/www/last-night.html")]
    Report(ReportArgs),
    /// Write one member's bytes to standard output, hashes checked on the way.
    #[command(after_help = "Examples:
  arkstream cat backup.zip metadata.json
  arkstream cat backup.zip databases/postgres_graph_dump.sql | less")]
    Cat(CatArgs),
    /// Unpack a bundle, hashes checked on the way.
    #[command(after_help = "Examples:
  arkstream extract backup.zip unpacked/
  arkstream extract backup.zip unpacked/ odoo_data/filestore/ --json")]
    Extract(WithJson<ExtractArgs>),
    /// Copy a finished bundle, or a folder of them: only what is missing, going on after a kill.
    #[command(after_help = "Examples:
  arkstream copy /backup/monday.zip /mnt/usb/
  arkstream copy /backup/tuesday.zip /mnt/usb/ --have /mnt/usb/monday.zip
  arkstream copy /backup/tuesday.zip /mnt/usb/latest.zip --replace
  arkstream copy /backup/ /mnt/usb/ --have /mnt/usb/ --json")]
    Copy(CopyArgs),
    /// Write the rows of a bundle as files for other programs.
    #[command(
        after_help = "Examples:
  arkstream export csv backup.zip rows/
  arkstream export parquet backup.zip rows/ --models 'ai.*,res.users'
  arkstream export jsonl backup.zip rows/ --json
  arkstream export xlsx backup.zip rows.xlsx --models 'ai.*'",
        mut_subcommands(with_examples)
    )]
    Export {
        /// The kind of file.
        #[command(subcommand)]
        format: ExportFormat,
    },
    /// Say what is reachable, which tools were found, and what would be missing.
    #[command(after_help = "Examples:
  arkstream doctor --odoo-conf /etc/odoo/odoo.conf --out /backup/
  arkstream doctor --odoo-db postgresql://odoo@localhost/prod --no-graph --json")]
    Doctor(DoctorArgs),
    /// Build a sample stack, back it up, verify it, destroy it, restore it.
    #[cfg(unix)]
    #[command(after_help = "Examples:
  arkstream demo
  arkstream demo --dir /tmp/demo --scale 10")]
    Demo(DemoArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:
  arkstream completions bash > /etc/bash_completion.d/arkstream
  arkstream completions fish > ~/.config/fish/completions/arkstream.fish")]
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
    /// Print a JSON Schema.
    #[command(after_help = "Examples:
  arkstream schema manifest
  arkstream schema config > arkstream.schema.json")]
    Schema {
        /// What it describes.
        #[arg(value_parser = SCHEMAS)]
        name: String,
    },
}

/// What `--components` takes.
pub(crate) const COMPONENTS: [&str; 4] = ["models", "filestore", "graph", "chroma"];

/// The JSON Schemas that there are.
pub(crate) const SCHEMAS: [&str; 7] = [
    "copy",
    "journal",
    "manifest",
    "metadata",
    "model_list",
    "restore",
    "config",
];

/// A format of `export` with examples of its own.
fn with_examples(format: clap::Command) -> clap::Command {
    let out = match format.get_name() {
        "xlsx" => "rows.xlsx",
        _ => "rows/",
    };
    let name = format.get_name();
    let examples = format!(
        "Examples:
  arkstream export {name} backup.zip {out}
  arkstream export {name} backup.zip {out} --models 'ai.*,res.users' --json"
    );
    format.after_help(examples)
}

/// The arguments of a command that says in a line what it did, or in JSON.
#[derive(Clone, Debug, Args)]
pub(crate) struct WithJson<A: Args> {
    #[command(flatten)]
    pub(crate) args: A,
    /// End with one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
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

#[cfg(unix)]
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

    /// What is longer would be wrapped in a terminal of 80 columns, and no longer be a command.
    #[test]
    fn every_command_has_examples_that_can_be_pasted() {
        fn look(command: &clap::Command) {
            let name = command.get_name();
            let text = command
                .get_after_help()
                .unwrap_or_else(|| panic!("{name} has no examples"))
                .to_string();
            assert!(text.contains("Example"), "{name}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            for under in command
                .get_subcommands()
                .filter(|under| !under.is_hide_set())
            {
                look(under);
            }
        }
        look(&Cli::command());
    }

    /// Each example is a command line that is understood.
    #[test]
    fn examples_are_understood() {
        fn look(command: &clap::Command) {
            let text = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            for line in text.replace("\\\n", "").lines() {
                let Some(line) = line.strip_prefix("  arkstream ") else {
                    continue;
                };
                let words = line
                    .split_whitespace()
                    .take_while(|word| !["|", ">"].contains(word));
                let words = words.map(|word| word.trim_matches('\''));
                let understood =
                    Cli::command().try_get_matches_from(["arkstream"].into_iter().chain(words));
                assert!(understood.is_ok(), "{line}: {}", understood.unwrap_err());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn a_misspelt_component_or_schema_is_met_with_what_was_meant() {
        for (line, meant) in [
            (
                &[
                    "arkstream",
                    "restore",
                    "a.zip",
                    "--components",
                    "graph,modles",
                ][..],
                "models",
            ),
            (&["arkstream", "schema", "manfest"], "manifest"),
        ] {
            let told = Cli::command()
                .try_get_matches_from(line)
                .unwrap_err()
                .to_string();
            assert!(
                told.contains(&format!("a similar value exists: '{meant}'")),
                "{told}"
            );
        }
    }

    #[test]
    fn a_source_is_named_or_left_out_not_both() {
        assert!(settled(&["arkstream", "backup", "--no-graph", "--graph-db", "x"]).is_err());
        let named = settled(&["arkstream", "backup", "--graph-db", "x", "--no-chroma"]).unwrap();
        assert!(named.graph_db.is_some() && !named.no_graph && named.no_chroma);
    }
}
