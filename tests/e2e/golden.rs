//! Golden bundles: `tests/golden/v1`, bundles and unfinished bundles with what every later version must
//! read, resume or refuse. See `tests/golden/README.md`.
//!
//! `ARKSTREAM_GOLDEN=write` makes the folder anew; as long as the format is not frozen.

mod bundles;
mod contents;
mod make;
mod unfinished;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;

use arkstream_bundle::SpaceWait;
use arkstream_pipeline::{Cancel, Silent};

use crate::support::scratch;

/// The committed cases; made anew first, when that is asked for.
fn committed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        let folder = golden.canonicalize().expect("tests/golden").join("v1");
        if std::env::var_os("ARKSTREAM_GOLDEN").is_some_and(|value| value == "write") {
            if contents::ENCODER == "zlib-rs" {
                for case in cases_if_any(&folder) {
                    let others = case.name.starts_with("complete-");
                    if !others {
                        fs::remove_dir_all(&case.folder).expect("an old case");
                    }
                }
                make::all_cases(&folder);
            } else {
                make::complete_case(&folder);
            }
        }
        folder
    })
}

/// What the generator makes of today's code.
fn made_now() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch("golden").join("v1");
        make::all_cases(&folder);
        folder
    })
}

/// One case: a folder with `case.json` and the files that it is about.
struct Case {
    name: String,
    folder: PathBuf,
    says: Value,
}

impl Case {
    fn is(&self, kind: &str) -> bool {
        self.says["kind"] == kind
    }

    /// A copy of its files, which may be changed.
    fn copied(&self) -> PathBuf {
        let folder = scratch("case");
        for entry in fs::read_dir(&self.folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            if name != "case.json" {
                fs::copy(&path, folder.join(name)).expect("a copy");
            }
        }
        folder
    }

    fn words(&self, value: &Value) -> Vec<String> {
        let list = value
            .as_array()
            .unwrap_or_else(|| panic!("{}: words", self.name));
        list.iter().map(|word| text(word).to_owned()).collect()
    }
}

fn cases_if_any(folder: &Path) -> Vec<Case> {
    match folder.exists() {
        true => cases(folder),
        false => Vec::new(),
    }
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).expect("the golden folder") {
        let folder = entry.expect("an entry").path();
        let name = folder.file_name().expect("a name").to_string_lossy();
        let says =
            fs::read(folder.join("case.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
        cases.push(Case {
            name: name.into_owned(),
            says: serde_json::from_slice(&says).expect("JSON"),
            folder,
        });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

#[test]
fn there_are_golden_cases_of_every_kind_and_they_are_small() {
    let cases = cases(committed());
    for kind in ["bundle", "unfinished", "copy"] {
        assert!(cases.iter().any(|case| case.is(kind)), "{kind}");
    }
    assert!(cases.iter().any(|case| case.name == "complete-zlib-rs"));
    let mut bytes = 0;
    for case in &cases {
        for entry in fs::read_dir(&case.folder).expect("a folder") {
            bytes += entry.expect("an entry").metadata().expect("a file").len();
        }
    }
    println!("{} cases, {bytes} bytes", cases.len());
    assert!(cases.len() >= 20 && bytes < 1_200_000, "{bytes}");
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// A full disk is a failure at once.
fn no_wait() -> SpaceWait {
    SpaceWait {
        limit: Duration::ZERO,
        cancel: Cancel::default(),
        observer: Arc::new(Silent),
    }
}
