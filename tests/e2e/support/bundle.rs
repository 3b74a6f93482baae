//! Bundles of the shared stack, made once each.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;

use super::{Stack, run, scratch, sh};

/// Which models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `--profile sam_ai`
    SamAi,
    /// `--profile all`
    All,
}

/// A finished bundle and what it holds.
#[derive(Debug)]
pub struct Bundle {
    /// The ZIP file.
    pub path: PathBuf,
    /// Its members, unpacked by `unzip`.
    pub dir: PathBuf,
    /// What `backup --json` printed.
    pub report: Value,
    /// What it said on standard error.
    pub stderr: String,
}

impl Bundle {
    /// The bundle of the shared stack, made once.
    pub fn shared(profile: Profile) -> &'static Self {
        static SAM_AI: OnceLock<Bundle> = OnceLock::new();
        static ALL: OnceLock<Bundle> = OnceLock::new();
        let (cell, name) = match profile {
            Profile::SamAi => (&SAM_AI, "sam_ai"),
            Profile::All => (&ALL, "all"),
        };
        cell.get_or_init(|| {
            let path = scratch("bundle").join(format!("{name}.zip"));
            let mut command = Stack::shared().backup_command(&path);
            let run = run(command.args(["--json", "--profile", name])).ok();
            Self::open(path, run.json(), run.stderr)
        })
    }

    /// A bundle that was just written.
    pub fn open(path: PathBuf, report: Value, stderr: String) -> Self {
        let dir = scratch("unzipped");
        sh(&dir, &format!("unzip -q '{}'", path.display()));
        Self {
            path,
            dir,
            report,
            stderr,
        }
    }

    /// A member's JSON.
    #[track_caller]
    pub fn json(&self, member: &str) -> Value {
        let text = std::fs::read_to_string(self.dir.join(member)).expect(member);
        serde_json::from_str(&text).expect(member)
    }

    /// The entry of `model` in `model_list.json`.
    #[track_caller]
    pub fn model(&self, model: &str) -> Value {
        let list = self.json("odoo_data/model_list.json");
        let entries = list.as_array().expect("a list");
        let entry = entries.iter().find(|entry| entry["model"] == model);
        entry
            .unwrap_or_else(|| panic!("{model} is not in model_list.json"))
            .clone()
    }

    /// Every unpacked file, relative to [`Bundle::dir`], sorted.
    pub fn members(&self) -> Vec<String> {
        files_below(&self.dir)
    }
}

/// Every file below a folder, relative to it, sorted.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_string_lossy();
                found.push(name.into_owned());
            }
        }
    }
    found.sort();
    found
}
