//! `arkstream.toml`: the options of `backup` and `doctor`, for those who run them every night.
//!
//! The keys are the long options with underscores; the command line and the environment win over
//! them. An unknown key is an error: a misspelt option that is ignored would be a silent omission.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use arkstream_pipeline::{Failure, FailureKind, words::nearest};

use crate::{
    args::{CompressionChoice, GraphSnapshot, SourceArgs},
    units,
};

/// Where the configuration is looked for when nobody says.
const DEFAULT_FILE: &str = "arkstream.toml";

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `--odoo-db`
    odoo_db: Option<String>,
    /// `--filestore`
    filestore: Option<PathBuf>,
    /// `--graph-db`
    graph_db: Option<String>,
    /// `--chroma`
    chroma: Option<PathBuf>,
    /// `--chroma-base`
    chroma_base: Option<PathBuf>,
    /// `--odoo-conf`
    odoo_conf: Option<PathBuf>,
    /// `--password-file`
    password_file: Option<PathBuf>,
    /// `--graph-password-file`
    graph_password_file: Option<PathBuf>,
    /// `--pg-path`
    pg_path: Option<PathBuf>,
    /// `--profile`
    profile: Option<String>,
    /// `--models`
    models: Vec<String>,
    /// `--exclude`
    exclude: Vec<String>,
    /// `--include-transient`
    include_transient: bool,
    /// `--include-orphans`
    include_orphans: bool,
    /// `--odoo-dump`
    odoo_dump: bool,
    /// `--no-graph`
    no_graph: bool,
    /// `--no-chroma`
    no_chroma: bool,
    /// `--no-filestore`
    no_filestore: bool,
    /// `--graph-snapshot`
    graph_snapshot: Option<GraphSnapshot>,
    /// `--chroma-max-hold`, such as `60s`
    chroma_max_hold: Option<String>,
    /// `--lock-timeout`, such as `60s`
    lock_timeout: Option<String>,
    /// `--jobs`
    jobs: Option<u16>,
    /// `--out`
    pub(crate) out: Option<PathBuf>,
    /// `--memory`, such as `256MiB`
    pub(crate) memory: Option<String>,
    /// `--compression`
    pub(crate) compression: Option<CompressionChoice>,
    /// `--retry-for`, such as `5m`
    retry_for: Option<String>,
    /// `--wait-for-space`, such as `1h`
    wait_for_space: Option<String>,
    /// `--xlsx`
    pub(crate) xlsx: bool,
    /// `--temp`
    pub(crate) temp: Option<PathBuf>,
    /// `--no-report`
    pub(crate) no_report: bool,
}

impl Settings {
    /// Reads the file that was named, or the default one if it exists.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let attempted = || format!("read the configuration {}", path.display());
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                let help = suggestion(&text).unwrap_or_else(|| HELP.to_owned());
                Failure::new(FailureKind::Usage, attempted(), explain(&text, &error)).help(help)
            }),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(Failure::io(FailureKind::Usage, attempted(), error)),
        }
    }

    /// Fills in what command line and environment left open.
    pub(crate) fn fill(&self, args: &mut SourceArgs) -> Result<(), Failure> {
        let mine = self.clone();
        // A source that was named, and one that was declined, outrank the file's opposite.
        let declined = |named: bool, declined: &mut bool, file: bool| {
            *declined = *declined || (file && !named);
        };
        declined(args.graph_db.is_some(), &mut args.no_graph, mine.no_graph);
        declined(args.chroma.is_some(), &mut args.no_chroma, mine.no_chroma);
        declined(
            args.filestore.is_some(),
            &mut args.no_filestore,
            mine.no_filestore,
        );
        or(&mut args.odoo_db, mine.odoo_db);
        or(&mut args.filestore, mine.filestore);
        or(&mut args.graph_db, mine.graph_db);
        or(&mut args.chroma, mine.chroma);
        or(&mut args.chroma_base, mine.chroma_base);
        or(&mut args.odoo_conf, mine.odoo_conf);
        or(&mut args.password_file, mine.password_file);
        or(&mut args.graph_password_file, mine.graph_password_file);
        or(&mut args.pg_path, mine.pg_path);
        or(&mut args.profile, mine.profile);
        or(&mut args.graph_snapshot, mine.graph_snapshot);
        or(&mut args.jobs, mine.jobs);
        or(
            &mut args.chroma_max_hold,
            time(mine.chroma_max_hold, "chroma_max_hold")?,
        );
        or(
            &mut args.lock_timeout,
            time(mine.lock_timeout, "lock_timeout")?,
        );
        for (args, mine) in [
            (&mut args.models, mine.models),
            (&mut args.exclude, mine.exclude),
        ] {
            if args.is_empty() {
                *args = mine;
            }
        }
        if args.jobs.is_some_and(|jobs| !(1..=64).contains(&jobs)) {
            return Err(invalid("jobs", "it must be from 1 to 64"));
        }
        args.include_transient |= mine.include_transient;
        args.include_orphans |= mine.include_orphans;
        args.odoo_dump |= mine.odoo_dump;
        Ok(())
    }

    /// `--memory`, if it stands in the file.
    pub(crate) fn memory(&self) -> Result<Option<u64>, Failure> {
        self.memory
            .as_deref()
            .map(units::parse_size)
            .transpose()
            .map_err(|why| invalid("memory", &why))
    }

    /// `--retry-for`, if it stands in the file.
    pub(crate) fn retry_for(&self) -> Result<Option<Duration>, Failure> {
        time(self.retry_for.clone(), "retry_for")
    }

    /// `--wait-for-space`, if it stands in the file.
    pub(crate) fn wait_for_space(&self) -> Result<Option<Duration>, Failure> {
        time(self.wait_for_space.clone(), "wait_for_space")
    }
}

const HELP: &str = "`arkstream schema config` prints what the file may hold";

/// What is wrong, without a value: it may be a password, also one with quotes in it. The parser's own
/// text quotes the line, and its message what stands in quotes.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let message = match error.message().split_once('"') {
        None => error.message().to_owned(),
        Some((before, quoted)) => {
            let after = quoted.rsplit('"').next().unwrap_or_default();
            format!("{before}…{after}")
        }
    };
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let content = text.lines().nth(line - 1).unwrap_or_default();
    let key = content.split('=').next().unwrap_or_default().trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if content.contains('=') && !key.is_empty() && key.chars().all(is_key) {
        format!("line {line}, `{key}`: {message}")
    } else {
        format!("line {line}: {message}")
    }
}

/// What the first key that is none may have meant.
fn suggestion(text: &str) -> Option<String> {
    let schema = schemars::schema_for!(Settings);
    let known = schema.get("properties")?.as_object()?;
    let given = text.parse::<toml::Table>().ok()?;
    let unknown = given.keys().find(|key| !known.contains_key(*key))?;
    let meant = nearest(unknown, known.keys().map(String::as_str));
    let meant: Vec<String> = meant.iter().map(|key| format!("`{key}`")).collect();
    match meant.is_empty() {
        true => None,
        false => Some(format!("did you mean {}? {HELP}", meant.join(", "))),
    }
}

fn or<T>(given: &mut Option<T>, mine: Option<T>) {
    if given.is_none() {
        *given = mine;
    }
}

fn time(text: Option<String>, key: &str) -> Result<Option<Duration>, Failure> {
    text.as_deref()
        .map(units::parse_duration)
        .transpose()
        .map_err(|why| invalid(key, &why))
}

fn invalid(key: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::Usage,
        format!("read `{key}` in the configuration"),
        why,
    )
    .help(HELP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_met_with_what_was_meant() {
        let help = suggestion("jobs = 2\nodo_db = \"postgresql://odoo:secret@localhost/prod\"\n");
        let help = help.unwrap();
        assert!(help.starts_with("did you mean `odoo_db`"), "{help}");
        assert!(!help.contains("secret"), "{help}");
        assert_eq!(suggestion("zzz = 1"), None);
    }
}
