//! A backup that was killed goes on where it was, and its bundle is that of one moment.

mod asked;
mod changes;
mod faults;
mod kills;
mod network;
mod retries;

use std::path::Path;

use serde_json::Value;

use crate::support::{Bundle, Run, arkstream, run};

/// A finished, verified bundle of a run with `--json`.
#[track_caller]
fn verified(out: &Path, ended: &Run) -> Bundle {
    run(arkstream().args(["verify", "--progress", "none"]).arg(out)).ok();
    Bundle::open(out.to_owned(), ended.json(), ended.stderr.clone())
}

/// A number in what a resumed run reports.
#[track_caller]
fn resumed(report: &Value, key: &str) -> u64 {
    let value = &report["resumed"][key];
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {report:#}"))
}
