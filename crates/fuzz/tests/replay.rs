//! The fuzz targets without libFuzzer: every committed input, and seeded mutations of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use arkstream_fuzz::{
    TARGETS, Target,
    mutate::{Random, mutate},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz")
}

/// Inputs of a target: its corpus, and what once broke it.
fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(root().join(folder).join(target.name)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Runs an input. A broken promise leaves it in a file, to be committed as a regression.
fn keeps(target: &Target, what: &str, input: &[u8]) -> bool {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok() {
        return true;
    }
    let path = env::temp_dir().join(format!("{}-broken", target.name));
    fs::write(&path, input).unwrap();
    println!("{}: {what} breaks it; see {}", target.name, path.display());
    false
}

#[test]
fn every_committed_input_keeps_the_promises() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for (path, input) in inputs {
            if !keeps(target, &path.display().to_string(), &input) {
                broken.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The same mutations in every run, as many as fit: at most half a second a target, or longer when
/// `ARKSTREAM_SOAK` is set.
#[test]
fn mutations_of_the_corpus_keep_the_promises() {
    let (rounds, limit) = match env::var_os("ARKSTREAM_SOAK") {
        Some(_) => (200_000, Duration::from_secs(20)),
        None => (2_000, Duration::from_millis(500)),
    };
    let mut broken = Vec::new();
    for target in TARGETS {
        let inputs = inputs(target);
        let mut random = Random::new(1);
        let start = Instant::now();
        let mut round = 0;
        while round < rounds && start.elapsed() < limit {
            let (path, input) = &inputs[random.below(inputs.len())];
            let (_, other) = &inputs[random.below(inputs.len())];
            let mutated = mutate(input, other, target.max_len, &mut random);
            round += 1;
            if !keeps(
                target,
                &format!("mutation {round} of {}", path.display()),
                &mutated,
            ) {
                broken.push(target.name);
                break;
            }
        }
        println!(
            "{}: {round} mutations in {:?}",
            target.name,
            start.elapsed()
        );
    }
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn every_target_can_run_under_libfuzzer() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let targets: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let binaries: BTreeSet<&str> = manifest
        .split("[[bin]]\nname = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(targets, binaries);
    for name in targets {
        let body = fs::read_to_string(root().join(format!("targets/{name}.rs"))).unwrap();
        assert!(body.contains(&format!("::{name}(data)")), "{name}");
    }
}

#[test]
fn the_corpora_stay_small() {
    let bytes: usize = TARGETS
        .iter()
        .flat_map(inputs)
        .map(|(_, input)| input.len())
        .sum();
    assert!(bytes < 300 << 10, "{bytes} bytes");
}
