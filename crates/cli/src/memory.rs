//! The memory budget of a run, and what the process really used.

use arkstream_pipeline::{Failure, FailureKind};

use crate::units;

/// The budget of one job when nobody says.
const A_JOB: u64 = 64 << 20;
/// Below this, chunks and batches would not fit: in all, and for each job.
const LEAST: u64 = 32 << 20;
const LEAST_A_JOB: u64 = 16 << 20;

/// The budget: as asked for, or 64 MiB a job.
pub(crate) fn budget(asked: Option<u64>, jobs: usize) -> Result<u64, Failure> {
    let least = LEAST.max(LEAST_A_JOB * jobs as u64);
    match asked {
        None => Ok(A_JOB * jobs as u64),
        Some(bytes) if bytes >= least => Ok(bytes),
        Some(bytes) => Err(Failure::new(
            FailureKind::Usage,
            format!("work within {} of memory", units::size(bytes)),
            format!(
                "{jobs} jobs need at least {}: each has chunks of 4 MiB in flight, raw and \
                 compressed, or a row group",
                units::size(least)
            ),
        )
        .help("allow more with --memory, or take fewer --jobs")),
    }
}

/// The most memory that the process held at once, in bytes; children aside. `None` where the
/// system does not tell.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
