//! Finding `pg_dump`: in the folder that was named, in `PATH`, where packages put it.
//!
//! `pg_dump` refuses servers newer than itself, and reads all older ones that are still alive; so
//! the newest that is found is taken. Debian's `/usr/bin/pg_dump` is a wrapper that picks one by
//! rules of its own; what it would pick is found in its real place.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arkstream_pipeline::{Failure, FailureKind};

/// Where packages put PostgreSQL's programs; `*` stands for a version.
const PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/lib64/pgsql/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/opt/PostgreSQL/*/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
    "C:/Program Files (x86)/PostgreSQL/*/bin",
];

/// How long `pg_dump --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// One `pg_dump` that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program.
    pub path: PathBuf,
    /// What `--version` prints.
    pub version_text: String,
    /// As `server_version_num`: `150020` for 15.20.
    pub version_num: u32,
}

/// The newest `pg_dump` that can dump a server of that version (`server_version_num`). `pg_path`
/// names a folder to look into as well, or the program itself.
///
/// # Errors
/// When there is none: the message lists what was found, the advice names the package.
pub fn find_pg_dump(server_version_num: u32, pg_path: Option<&Path>) -> Result<Tool, Failure> {
    choose(server_version_num, search(&folders(pg_path)))
}

/// Every `pg_dump` that runs, in the order in which the folders are looked into.
#[must_use]
pub fn all_pg_dumps(pg_path: Option<&Path>) -> Vec<Tool> {
    search(&folders(pg_path))
        .into_iter()
        .filter_map(Result::ok)
        .collect()
}

/// A program that is there and does not say its version, and why.
type Unusable = (PathBuf, String);

fn choose(server: u32, found: Vec<Result<Tool, Unusable>>) -> Result<Tool, Failure> {
    let mut best: Option<&Tool> = None;
    for tool in found.iter().flatten() {
        let newer = best.is_none_or(|best| tool.version_num > best.version_num);
        if major(tool.version_num) >= major(server) && newer {
            best = Some(tool);
        }
    }
    if let Some(tool) = best {
        return Ok(tool.clone());
    }
    let list: Vec<String> = found
        .iter()
        .map(|found| match found {
            Ok(tool) => format!("{} ({})", tool.path.display(), tool.version_text),
            Err((path, why)) => format!("{} (unusable: {why})", path.display()),
        })
        .collect();
    let wanted = major_name(server);
    let why = if list.is_empty() {
        "none is installed in pg_path, PATH or the usual folders".to_owned()
    } else {
        format!(
            "each one found is too old or does not run: {}",
            list.join(", ")
        )
    };
    let attempted = format!("find a pg_dump for a server of version {wanted}");
    Err(
        Failure::new(FailureKind::Source, attempted, why).help(format!(
            "install PostgreSQL's client programs of version {wanted} or later (Debian and Ubuntu: \
         postgresql-client-{wanted}; RHEL and Fedora: postgresql{wanted}; macOS: brew install \
         postgresql@{wanted}), or name their folder with pg_path",
        )),
    )
}

fn folders(pg_path: Option<&Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = pg_path.map(Path::to_owned).into_iter().collect();
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path).filter(|folder| folder.is_absolute()));
    }
    for place in PLACES {
        folders.extend(expand(place));
    }
    folders
}

/// The folders that a place with at most one `*` stands for, the highest version first.
fn expand(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else {
        return vec![PathBuf::from(place)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
        .iter()
        .rev()
        .map(|name| PathBuf::from(format!("{parent}/{name}{after}")))
        .collect()
}

fn search(folders: &[PathBuf]) -> Vec<Result<Tool, Unusable>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for folder in folders {
        let path = match folder.is_file() {
            true => folder.clone(),
            false => folder.join(format!("pg_dump{}", std::env::consts::EXE_SUFFIX)),
        };
        let Ok(real) = path.canonicalize() else {
            continue;
        };
        let wrapper = real.file_name().is_some_and(|name| name == "pg_wrapper");
        if wrapper || !seen.insert(real) {
            continue;
        }
        found.push(ask_version(&path).map_err(|why| (path, why)));
    }
    found
}

fn ask_version(path: &Path) -> Result<Tool, String> {
    let text = run_limited(path, "--version")?;
    let version_text = text.lines().next().unwrap_or_default().trim().to_owned();
    match parse_version(&version_text) {
        Some(version_num) => Ok(Tool {
            path: path.to_owned(),
            version_text,
            version_num,
        }),
        None => Err("its --version names no PostgreSQL version".to_owned()),
    }
}

/// What a program prints when asked with one argument. Its output is a few lines; it fits the
/// pipe.
pub(crate) fn run_limited(path: &Path, argument: &str) -> Result<String, String> {
    let mut child = Command::new(path)
        .arg(argument)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let end = Instant::now() + VERSION_LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            outcome => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match outcome {
                    Err(error) => error.to_string(),
                    Ok(_) => format!("it does not answer {argument}"),
                });
            }
        }
    }
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `pg_dump (PostgreSQL) 15.20 (Debian …)` → `150020`; `9.6.24` → `90624`; `18beta1` → `180000`.
fn parse_version(text: &str) -> Option<u32> {
    let word = text
        .split_whitespace()
        .skip_while(|word| *word != "(PostgreSQL)")
        .nth(1)
        .or_else(|| {
            text.split_whitespace()
                .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))
        })?;
    let mut numbers = word.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let major = numbers.next()??;
    let second = numbers.next().flatten().unwrap_or(0);
    if major >= 10 {
        major.checked_mul(10_000)?.checked_add(second)
    } else {
        let third = numbers.next().flatten().unwrap_or(0);
        Some(major * 10_000 + second.min(99) * 100 + third.min(99))
    }
}

/// What must be equal for two releases to belong to one major: `15`, or `9.6`.
fn major(version_num: u32) -> u32 {
    if version_num >= 100_000 {
        version_num / 10_000 * 100
    } else {
        version_num / 100
    }
}

fn major_name(version_num: u32) -> String {
    if version_num >= 100_000 {
        (version_num / 10_000).to_string()
    } else {
        format!("{}.{}", version_num / 10_000, version_num / 100 % 100)
    }
}

#[cfg(test)]
mod tests;
