//! The named points at which a test build fails or dies.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use super::{arkstream, run, scratch};

/// Every point of a command, as the program lists them.
pub(crate) fn points(command: &str) -> Vec<String> {
    let listed = run(arkstream().args(["faults", "list"])).ok().stdout;
    let points: Vec<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{command} ")))
        .map(str::to_owned)
        .collect();
    assert!(points.len() > 5, "{listed}");
    points
}

/// A file to which a command writes the points that it reaches.
pub(crate) fn traced(command: &mut Command) -> PathBuf {
    let trace = scratch("trace").join("points");
    command.env("ARKSTREAM_FAULT_TRACE", &trace);
    trace
}

/// How often each point was reached.
pub(crate) fn reached(trace: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for point in std::fs::read_to_string(trace).unwrap_or_default().lines() {
        *counts.entry(point.to_owned()).or_default() += 1;
    }
    counts
}

/// Tells a command to do something at the hit'th time that it reaches a point.
pub(crate) fn at(command: &mut Command, point: &str, hit: u64, action: &str) {
    command.env("ARKSTREAM_FAULT", format!("{point}:{hit}:{action}"));
}
