//! Where the Chroma directory is.
//!
//! Odoo's setting is often the relative `./chroma_data`, and what it is relative to is the working
//! directory of the Odoo **process**. So a relative directory is tried against the folder the user
//! gave, the folder of `odoo.conf`, and the working directories of running processes that look
//! like Odoo. Exactly one directory that holds a `chroma.sqlite3` must come out, else the user is
//! told what was tried: the wrong Chroma in a backup is worse than none.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use arkstream_pipeline::{Failure, FailureKind, os};

const DATABASE: &str = "chroma.sqlite3";

/// Names of the programs that are Odoo.
const PROGRAMS: &[&str] = &[
    "odoo-bin",
    "odoo",
    "odoo.py",
    "odoo-server",
    "openerp-server",
];

/// How many arguments are looked at: `python3 -X dev /opt/odoo/odoo-bin` has the script fourth.
const ARGUMENTS: usize = 4;

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct ChromaSearch {
    /// The directory as it is configured.
    pub configured: String,
    /// The folder that relative directories start from, where the user gave one.
    pub base: Option<PathBuf>,
    /// The folder of `odoo.conf`, where there is one.
    pub conf_dir: Option<PathBuf>,
    /// Working directories of running Odoo processes; see [`odoo_working_directories`].
    pub working_dirs: Vec<PathBuf>,
}

/// The one directory that holds a `chroma.sqlite3`.
///
/// # Errors
/// [`FailureKind::Usage`] when there is none or more than one; the message names the candidates.
pub fn find_chroma_dir(search: &ChromaSearch) -> Result<PathBuf, Failure> {
    let candidates = candidates(search);
    // By their real path, so that one directory under two names is one.
    let found: BTreeMap<PathBuf, &PathBuf> = candidates
        .iter()
        .filter(|candidate| candidate.join(DATABASE).is_file())
        .filter_map(|candidate| Some((os::canonical(candidate).ok()?, candidate)))
        .collect();
    let mut real = found.keys();
    let why = match (real.next(), real.next()) {
        (Some(only), None) => return Ok(only.clone()),
        (None, _) if candidates.is_empty() => {
            "it is relative to the working directory of the Odoo process, and no running one was \
             found"
                .to_owned()
        }
        (None, _) => format!(
            "none of these holds a {DATABASE}: {}",
            names(candidates.iter())
        ),
        (Some(_), Some(_)) => {
            format!("more than one holds a {DATABASE}: {}", names(found.keys()))
        }
    };
    let attempted = format!("find the Chroma directory `{}`", search.configured);
    Err(Failure::new(FailureKind::Usage, attempted, why)
        .help("name it with --chroma DIR, or leave it out with --no-chroma"))
}

/// Working directories of the processes under `proc` (`/proc`) that look like Odoo. Processes of
/// other users whose working directory may not be read are passed over; elsewhere than on Linux
/// there are none.
#[must_use]
pub fn odoo_working_directories(proc: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(proc) else {
        return Vec::new();
    };
    let mut dirs: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok())
        })
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| is_odoo(&line)))
        .filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok())
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// Whether one of the first arguments is a program of Odoo. `vim odoo.conf` is none, nor is
/// PostgreSQL's `postgres: odoo prod …`, which is one single argument.
fn is_odoo(cmdline: &[u8]) -> bool {
    let mut arguments = cmdline
        .split(|byte| *byte == 0)
        .filter_map(|argument| std::str::from_utf8(argument).ok())
        .filter_map(|argument| Path::new(argument).file_name()?.to_str())
        .take(ARGUMENTS);
    let Some(program) = arguments.next() else {
        return false;
    };
    PROGRAMS.contains(&program)
        || program.starts_with("python") && arguments.any(|argument| PROGRAMS.contains(&argument))
}

fn candidates(search: &ChromaSearch) -> Vec<PathBuf> {
    let configured = Path::new(&search.configured);
    if configured.is_absolute() {
        return vec![configured.to_owned()];
    }
    let mut dirs: Vec<PathBuf> = Vec::new();
    for base in search
        .base
        .iter()
        .chain(&search.conf_dir)
        .chain(&search.working_dirs)
    {
        let dir = base.join(configured);
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

fn names<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> String {
    paths
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn chroma(dir: &Path) -> PathBuf {
        let dir = dir.join("chroma_data");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(DATABASE), "").unwrap();
        fs::canonicalize(dir).unwrap()
    }

    fn relative(dirs: &[&Path]) -> ChromaSearch {
        ChromaSearch {
            configured: "./chroma_data".into(),
            working_dirs: dirs.iter().map(|dir| (*dir).to_owned()).collect(),
            ..ChromaSearch::default()
        }
    }

    #[test]
    fn a_relative_directory_is_found_from_any_base_and_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let expected = chroma(dir.path());
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        let search = ChromaSearch {
            base: Some(dir.path().join("nothing here")),
            conf_dir: Some(dir.path().to_owned()),
            ..relative(&[&link])
        };
        assert_eq!(find_chroma_dir(&search).unwrap(), expected);
    }

    #[test]
    fn an_absolute_directory_is_taken_as_it_is() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let expected = chroma(dir.path());
        chroma(other.path());
        let search = ChromaSearch {
            configured: expected.display().to_string(),
            ..relative(&[other.path()])
        };
        assert_eq!(find_chroma_dir(&search).unwrap(), expected);
    }

    #[test]
    fn none_and_several_are_errors_that_name_the_candidates() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let search = relative(&[one.path(), two.path()]);
        let none = find_chroma_dir(&search).unwrap_err();
        assert_eq!(none.kind, FailureKind::Usage);
        for dir in [&one, &two] {
            assert!(
                none.to_string().contains(&dir.path().display().to_string()),
                "{none}"
            );
        }
        let names = [chroma(one.path()), chroma(two.path())];
        let several = find_chroma_dir(&search).unwrap_err();
        assert!(several.to_string().contains("more than one"), "{several}");
        for name in names {
            assert!(
                several.to_string().contains(&name.display().to_string()),
                "{several}"
            );
        }
        assert!(several.advice().unwrap().contains("--chroma"));
        let nowhere = find_chroma_dir(&relative(&[])).unwrap_err();
        assert!(
            nowhere.to_string().contains("working directory"),
            "{nowhere}"
        );
    }

    #[test]
    fn a_folder_without_the_database_is_no_chroma_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("chroma_data")).unwrap();
        assert!(find_chroma_dir(&relative(&[dir.path()])).is_err());
    }

    #[test]
    fn odoo_is_told_from_what_only_mentions_it() {
        for yes in [
            "python3\0/opt/odoo/odoo-bin\0-c\0/etc/odoo.conf\0",
            "/usr/bin/python3.12\0-X\0dev\0/usr/bin/odoo\0",
            "/usr/bin/odoo\0--config\0x\0",
            "python3\0-m\0odoo\0",
        ] {
            assert!(is_odoo(yes.as_bytes()), "{yes:?}");
        }
        for no in [
            "",
            "vim\0odoo\0",
            "postgres: odoo prod 127.0.0.1(4711) idle",
            "tail\0-f\0/var/log/odoo\0",
            "python3\0x.py\0odoo.conf\0",
        ] {
            assert!(!is_odoo(no.as_bytes()), "{no:?}");
        }
    }

    #[test]
    fn working_directories_are_those_of_odoo_processes() {
        let proc = tempfile::tempdir().unwrap();
        let work = tempfile::tempdir().unwrap();
        for (pid, cmdline) in [
            ("10", "python3\0odoo-bin\0"),
            ("11", "python3\0odoo-bin\0"),
            ("12", "bash\0"),
            ("self", "odoo\0"),
        ] {
            let dir = proc.path().join(pid);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("cmdline"), cmdline).unwrap();
            symlink(work.path(), dir.join("cwd")).unwrap();
        }
        assert_eq!(odoo_working_directories(proc.path()), [work.path()]);
        assert!(odoo_working_directories(Path::new("/does/not/exist")).is_empty());
    }
}
