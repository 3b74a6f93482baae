//! Bundles of the shared stack, made once each.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;

use super::{Stack, python, run, scratch, sh};

/// Which models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `--profile sam_ai`
    SamAi,
    /// `--profile all`
    All,
}

/// A finished bundle and what it holds.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The ZIP file.
    pub(crate) path: PathBuf,
    /// Its members, unpacked by `unzip`.
    pub(crate) dir: PathBuf,
    /// What `backup --json` printed.
    pub(crate) report: Value,
    /// What it said on standard error.
    pub(crate) stderr: String,
}

impl Bundle {
    /// The bundle of the shared stack, made once.
    pub(crate) fn shared(profile: Profile) -> &'static Self {
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
    pub(crate) fn open(path: PathBuf, report: Value, stderr: String) -> Self {
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
    pub(crate) fn json(&self, member: &str) -> Value {
        let text = std::fs::read_to_string(self.dir.join(member)).expect(member);
        serde_json::from_str(&text).expect(member)
    }

    /// The entry of `model` in `model_list.json`.
    #[track_caller]
    pub(crate) fn model(&self, model: &str) -> Value {
        let list = self.json("odoo_data/model_list.json");
        let entries = list.as_array().expect("a list");
        let entry = entries.iter().find(|entry| entry["model"] == model);
        entry
            .unwrap_or_else(|| panic!("{model} is not in model_list.json"))
            .clone()
    }

    /// The manifest's entry of a table, such as `public.ai_message`.
    #[track_caller]
    pub(crate) fn table(&self, table: &str) -> Value {
        let manifest = self.json("manifest.json");
        let tables = manifest["tables"].as_array().expect("a list");
        let entry = tables.iter().find(|entry| entry["table"] == table);
        entry
            .unwrap_or_else(|| panic!("{table} is not in the manifest"))
            .clone()
    }

    /// Every row of the Parquet parts in a folder, such as `odoo_data/models/ai.message`, as
    /// pyarrow reads them; see `rows.py` for how values are written.
    #[track_caller]
    pub(crate) fn rows(&self, folder: &str) -> Vec<Value> {
        values(&rows_py(&[], &self.dir.join(folder)))
    }

    /// The same of all Parquet members below a folder, as text.
    #[track_caller]
    pub(crate) fn every_row(&self, folder: &str) -> String {
        rows_py(&["--below"], &self.dir.join(folder))
    }

    /// What every Parquet member below a folder says about itself.
    #[track_caller]
    pub(crate) fn schemas(&self, folder: &str) -> Vec<Value> {
        values(&rows_py(&["--schemas"], &self.dir.join(folder)))
    }

    /// Every unpacked file, relative to [`Bundle::dir`], sorted.
    pub(crate) fn members(&self) -> Vec<String> {
        files_below(&self.dir)
    }
}

#[track_caller]
fn rows_py(options: &[&str], folder: &Path) -> String {
    assert!(folder.is_dir(), "{} is not in the bundle", folder.display());
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/e2e/support/rows.py"
    );
    run(python().arg(script).args(options).arg(folder))
        .ok()
        .stdout
}

fn values(lines: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("one JSON object a line");
    lines.lines().map(parse).collect()
}

/// Every file below a folder, relative to it, sorted.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
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
