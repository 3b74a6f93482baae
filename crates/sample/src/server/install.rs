//! Finding an installed PostgreSQL, and a private copy of it.
//!
//! A server finds its extensions in a `share` folder **relative to its own program file**. A copy
//! of the few programs, beside symlinks for everything else and laid out as the original is, thus
//! reads a share folder of ours, in which an extension can be placed without touching the system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::error::SampleError;
use crate::files;

const AGE_CONTROL: &str = include_str!("../../age/age.control");
const AGE_SQL: &str = include_str!("../../age/age--1.5.0.sql");

/// Programs that look for the share folder beside themselves, and so must be real files.
const COPIED: [&str; 3] = ["postgres", "pg_ctl", "pg_config"];

/// Every installed major with its program folder, ascending.
pub(super) fn installed() -> Vec<(u32, PathBuf)> {
    let mut found = BTreeMap::new();
    for dir in candidates() {
        if ["postgres", "initdb"]
            .iter()
            .any(|p| !dir.join(p).is_file())
        {
            continue;
        }
        if let Some(major) = major_of(&dir.join("postgres")) {
            found.entry(major).or_insert(dir);
        }
    }
    found.into_iter().collect()
}

/// The program folder of `major`, or of the newest one.
pub(super) fn find(major: Option<u32>) -> Result<(u32, PathBuf), SampleError> {
    installed()
        .into_iter()
        .rev()
        .find(|(m, _)| major.is_none_or(|wanted| wanted == *m))
        .ok_or_else(|| SampleError::NotInstalled {
            major,
            looked_in: "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin and PATH".to_owned(),
        })
}

/// Copies the installation of `bin` under `root`, with the sample's `age` extension added, and
/// returns the copy's program folder.
pub(super) fn private_copy(bin: &Path, root: &Path) -> Result<PathBuf, SampleError> {
    let original_bin = config(bin, "--bindir")?;
    let original_share = config(bin, "--sharedir")?;
    let original_lib = config(bin, "--pkglibdir")?;
    let new_bin = moved(&original_bin, root);
    let new_share = moved(&original_share, root);
    let new_lib = moved(&original_lib, root);

    make_dir(&new_bin)?;
    for (name, path) in entries(&original_bin)? {
        let target = new_bin.join(&name);
        if COPIED.iter().any(|c| name == *c) {
            fs::copy(&path, &target).map_err(SampleError::io("copy to", &target))?;
        } else {
            link(&path, &target)?;
        }
    }
    make_dir(&new_share)?;
    for (name, path) in entries(&original_share)? {
        if name != "extension" {
            link(&path, &new_share.join(name))?;
        }
    }
    let extension = new_share.join("extension");
    make_dir(&extension)?;
    for (name, path) in entries(&original_share.join("extension"))? {
        if !name.starts_with("age.") && !name.starts_with("age--") {
            link(&path, &extension.join(name))?;
        }
    }
    for (name, text) in [("age.control", AGE_CONTROL), ("age--1.5.0.sql", AGE_SQL)] {
        let path = extension.join(name);
        files::write(&path, text)?;
    }
    make_dir(&new_lib)?;
    for (name, path) in entries(&original_lib)? {
        if name != "age.so" {
            link(&path, &new_lib.join(name))?;
        }
    }
    // The extension has no code, but `LOAD 'age'` is part of its use. The server tells libraries
    // apart by their inode, so this name loads one that is there anyway.
    link(&original_lib.join("plpgsql.so"), &new_lib.join("age.so"))?;
    Ok(new_bin)
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for (base, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        let Ok(read) = fs::read_dir(base) else {
            continue;
        };
        for entry in read.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                dirs.push(entry.path().join("bin"));
            }
        }
    }
    dirs.sort();
    if let Some(path) = std::env::var_os("PATH") {
        dirs.extend(std::env::split_paths(&path).filter_map(|p| {
            // A program in PATH may be a symlink into the real folder.
            fs::canonicalize(p.join("postgres"))
                .ok()?
                .parent()
                .map(Path::to_path_buf)
        }));
    }
    dirs
}

/// Reads the major from `postgres (PostgreSQL) 15.20 (Debian …)`; betas read `18beta1`.
fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("(PostgreSQL)").nth(1)?.trim_start();
    version
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .ok()
}

fn config(bin: &Path, what: &str) -> Result<PathBuf, SampleError> {
    let program = bin.join("pg_config");
    let output = Command::new(&program)
        .arg(what)
        .output()
        .map_err(SampleError::io("run", &program))?;
    if !output.status.success() {
        return Err(super::command_failed("pg_config", &output));
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    ))
}

/// `/usr/lib/x` under `root`: `root/usr/lib/x`.
fn moved(path: &Path, root: &Path) -> PathBuf {
    let mut new = root.to_path_buf();
    new.extend(
        path.components()
            .filter(|c| matches!(c, Component::Normal(_))),
    );
    new
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, SampleError> {
    let mut list = Vec::new();
    for entry in fs::read_dir(dir).map_err(SampleError::io("list", dir))? {
        let entry = entry.map_err(SampleError::io("list", dir))?;
        list.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    Ok(list)
}

fn make_dir(path: &Path) -> Result<(), SampleError> {
    fs::create_dir_all(path).map_err(SampleError::io("create", path))
}

fn link(original: &Path, new: &Path) -> Result<(), SampleError> {
    symlink(original, new).map_err(SampleError::io("link", new))
}
