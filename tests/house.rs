//! Rules of the house that no compiler knows.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of the table between `<!-- name -->` and `<!-- /name -->`, head and rule left out.
fn table(path: &str, name: &str) -> Vec<Vec<String>> {
    let text = read(path);
    let (_, rest) = text.split_once(&format!("<!-- {name} -->")).unwrap();
    let (table, _) = rest.split_once(&format!("<!-- /{name} -->")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

#[test]
fn crates_import_what_the_architecture_allows() {
    let allowed: BTreeMap<String, BTreeSet<String>> = table("docs/ARCHITECTURE.md", "imports")
        .into_iter()
        .map(|row| {
            let names = row[1].split(", ").filter(|name| !name.is_empty());
            (
                row[0].trim_matches('`').to_owned(),
                names
                    .map(|name| name.trim_matches('`').to_owned())
                    .collect(),
            )
        })
        .collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = |name: &str| name.strip_prefix("arkstream-").map(str::to_owned);
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = ours(package["name"].as_str().unwrap()).unwrap();
        let allowed = allowed
            .get(&name)
            .unwrap_or_else(|| panic!("crate {name} is not in docs/ARCHITECTURE.md"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let Some(imported) = ours(dependency["name"].as_str().unwrap()) else {
                continue;
            };
            let for_tests = dependency["kind"] == "dev"
                && ["sample", "conformance"].contains(&imported.as_str());
            assert!(
                for_tests || allowed.contains(&imported),
                "{name} imports {imported}, which docs/ARCHITECTURE.md does not allow"
            );
        }
        seen.insert(name);
    }
    assert_eq!(
        seen,
        allowed.into_keys().collect(),
        "crates and table differ"
    );
}

#[test]
fn only_the_format_crate_serialises_what_reaches_disk() {
    for (path, text) in sources() {
        let path = path.to_string_lossy().into_owned();
        if text.contains("derive") && !path.contains("crates/format/") {
            for line in text.lines().filter(|line| line.contains("#[derive(")) {
                assert!(
                    !line.contains("Serialize"),
                    "{path} derives Serialize: types that reach disk belong into `format`"
                );
            }
        }
    }
}

#[test]
fn a_file_is_about_one_thing() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 520, "{} has {lines} lines", path.display());
    }
}

#[test]
fn there_are_no_stubs() {
    for (path, text) in sources() {
        for word in ["todo!(", "unimplemented!(", "#[ignore"] {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
}

/// What only Unix has stands behind a `cfg`, so that the other systems keep compiling: `make cross` compiles
/// for them, this needs no toolchain. Tests may be for Unix alone.
#[test]
fn what_only_unix_has_is_asked_for_on_unix_alone() {
    const UNIX: [&str; 6] = [
        "os::unix",
        "signal::unix",
        "rustix",
        "libc::",
        "UnixStream",
        "UnixListener",
    ];
    let sources = sources();
    // Modules that are there on Unix alone, and all that lies below them.
    let mut gated: Vec<PathBuf> = Vec::new();
    for (path, text) in &sources {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let folder = match ["mod", "lib", "main"].contains(&stem) {
            true => path.parent().unwrap().to_owned(),
            false => path.with_extension(""),
        };
        if text.lines().any(|line| line == "#![cfg(unix)]") {
            gated.push(folder.clone());
        }
        for (line, is_gated) in lines_with_gates(text) {
            let item = line.trim().trim_end_matches(';');
            let name = match item.rsplit_once("mod ") {
                Some(("" | "pub " | "pub(crate) " | "pub(super) ", name)) => name,
                _ => continue,
            };
            if is_gated && line.ends_with(';') {
                gated.push(folder.join(name));
            }
        }
    }
    assert!(gated.len() >= 4, "the rule no longer sees what is gated");
    for (path, text) in &sources {
        let whole = path.with_extension("");
        if gated.iter().any(|gated| whole.starts_with(gated)) {
            continue;
        }
        for (number, (line, is_gated)) in lines_with_gates(text).enumerate() {
            let code = line.split("//").next().unwrap();
            let found = UNIX.iter().find(|word| code.contains(*word));
            assert!(
                is_gated || found.is_none(),
                "{}:{}: {} without a cfg; what differs between systems belongs into `pipeline::os`",
                path.display(),
                number + 1,
                found.unwrap(),
            );
        }
    }
}

/// Each line, and whether it belongs to an item under `#[cfg(…)]` of a Unix, or of tests. Items end where
/// rustfmt ends them, no deeper than their attribute: at a closing brace, or without one at a semicolon.
fn lines_with_gates(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut gate = None;
    text.lines().map(move |line| {
        let code = line.trim_start();
        let depth = line.len() - code.len();
        let Some(outside) = gate else {
            let is_gate = code.starts_with("#[cfg(")
                && !code.contains("not(")
                && ["unix", "linux", "macos", "test"]
                    .iter()
                    .any(|word| code.contains(word));
            gate = is_gate.then_some((depth, false));
            return (line, is_gate);
        };
        let (outside, is_block) = outside;
        let ends = match is_block {
            true => code.starts_with('}'),
            false => !code.starts_with("#[") && code.ends_with(['}', ';', ',']),
        };
        if depth <= outside {
            gate = (!ends).then_some((outside, is_block || code.ends_with('{')));
        }
        (line, true)
    })
}

#[test]
fn crates_for_unix_are_imported_on_unix_alone() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let imported = dependency["name"].as_str().unwrap();
            assert!(
                !["rustix", "arkstream-sample"].contains(&imported)
                    || dependency["target"].is_string()
                    || dependency["kind"] == "dev",
                "{} imports {imported} on systems that have it not",
                package["name"]
            );
        }
    }
}

/// Rust files under `crates/*/src`.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 50);
    found
}

/// Regenerate with `for s in …; do arkstream schema $s > schemas/$s.schema.json; done`.
#[test]
fn schemas_are_those_of_the_types() {
    for name in [
        "manifest",
        "metadata",
        "model_list",
        "journal",
        "copy",
        "restore",
        "config",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_arkstream"))
            .args(["schema", name])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            read(&format!("schemas/{name}.schema.json")),
            "schemas/{name}.schema.json is out of date: \
             arkstream schema {name} > schemas/{name}.schema.json"
        );
    }
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let output = Command::new(env!("CARGO_BIN_EXE_arkstream"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let words: Vec<&str> = codes.split_whitespace().collect();
    for row in table("docs/ERRORS.md", "codes") {
        assert!(
            words.contains(&row[0].as_str()),
            "code {} is not in --help",
            row[0]
        );
    }
}

#[test]
fn paths_and_hosts_of_one_machine_are_not_in_the_tree() {
    let output = Command::new("git")
        .args([
            "grep",
            "-nIE",
            "/(work|farm)/|https?://[a-z.]*(pypi|npmjs|crates)[a-z.]*/",
        ])
        .args(["--", ".", ":!tests/house.rs", ":!LICENSE", ":!Cargo.lock"])
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}
