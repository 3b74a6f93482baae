//! Places at which a test build can be told to fail or to die, to see what is left behind.
//!
//! `ARKSTREAM_FAULT=<point>:<hit>:<action>` acts at the hit'th time (from 1) that the point is reached;
//! `*` is any point, so that a random schedule is a random number. `kill` sends SIGKILL to the process,
//! `stop` SIGSTOP, `enospc` and `eio` make the step fail. `ARKSTREAM_FAULT_TRACE`
//! names a file to which each point that is reached is appended, a line each. Builds without debug
//! assertions have none of this.

use std::io;

use crate::{Failure, FailureKind};

/// Every point of a backup, in the order of a run.
pub const BACKUP: &[&str] = &[
    "journal.truncate",
    "journal.rename",
    "bundle.truncate",
    "barrier.passed",
    "bundle.write",
    "bundle.sync",
    "journal.write",
    "journal.sync",
    "bundle.final-sync",
    "checksum.write",
    "record.write",
    "record.rename",
    "bundle.rename",
    "folder.sync",
    "journal.remove",
];

/// Every point of a copy, in the order of a run.
pub const COPY: &[&str] = &[
    "bundle.truncate",
    "bundle.write",
    "bundle.sync",
    "record.write",
    "record.rename",
    "bundle.final-sync",
    "checksum.remove",
    "checksum.write",
    "bundle.rename",
    "folder.sync",
    "journal.remove",
];

/// Every point of a restore, in the order of a run; those of an undo behind them.
pub const RESTORE: &[&str] = &[
    "record.write",
    "record.rename",
    "file.write",
    "file.sync",
    "chroma.write",
    "chroma.sync",
    "part.begin",
    "part.copied",
    "part.committed",
    "graph.created",
    "graph.fed",
    "graph.loaded",
    "chroma.record",
    "staged",
    "file.list",
    "file.named",
    "rows.locked",
    "rows.applied",
    "graph.renamed",
    "prepared",
    "chroma.rename",
    "rows.committed",
    "graph.committed",
    "live",
    "proven",
    "undo.begun",
    "target.revert",
    "target.discard",
    "target.forget",
];

/// Every point of an export, in the order of a run.
pub const EXPORT: &[&str] = &[
    "export.file",
    "export.batch",
    "export.finished",
    "export.rename",
    "folder.sync",
];

/// Every point, by command.
pub const ALL: &[(&str, &[&str])] = &[
    ("backup", BACKUP),
    ("copy", COPY),
    ("restore", RESTORE),
    ("export", EXPORT),
];

/// Reaches a point.
///
/// # Errors
/// What `ARKSTREAM_FAULT` says.
#[cfg(all(debug_assertions, unix))]
pub fn point(name: &'static str) -> io::Result<()> {
    debug_assert!(
        ALL.iter().any(|(_, points)| points.contains(&name)),
        "{name} is not listed"
    );
    active::reach(name)
}

/// Reaches a point where failures are told.
///
/// # Errors
/// What `ARKSTREAM_FAULT` says.
pub fn check(name: &'static str) -> Result<(), Failure> {
    point(name).map_err(|error| Failure::io(FailureKind::Internal, format!("reach {name}"), error))
}

/// Reaches a point: nothing happens in this build.
///
/// # Errors
/// None.
#[cfg(not(all(debug_assertions, unix)))]
#[inline]
pub fn point(_: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(all(debug_assertions, unix))]
mod active {
    use std::{
        env, fs,
        io::{self, Write as _},
        path::PathBuf,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use rustix::process::{Signal, getpid, kill_process};

    struct Plan {
        fault: Option<(String, u64, String)>,
        trace: Option<PathBuf>,
        hits: AtomicU64,
    }

    fn plan() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| {
            let fault = env::var("ARKSTREAM_FAULT").ok().and_then(|text| {
                let mut parts = text.split(':');
                let (name, hit, action) = (parts.next()?, parts.next()?, parts.next()?);
                Some((name.to_owned(), hit.parse().ok()?, action.to_owned()))
            });
            Plan {
                fault,
                trace: env::var_os("ARKSTREAM_FAULT_TRACE").map(PathBuf::from),
                hits: AtomicU64::new(0),
            }
        })
    }

    pub(super) fn reach(name: &'static str) -> io::Result<()> {
        let plan = plan();
        if let Some(path) = &plan.trace {
            let mut file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)?;
            file.write_all(format!("{name}\n").as_bytes())?;
        }
        let Some((wanted, hit, action)) = plan
            .fault
            .as_ref()
            .filter(|(at, ..)| at == name || at == "*")
        else {
            return Ok(());
        };
        if plan.hits.fetch_add(1, Ordering::SeqCst) + 1 != *hit {
            return Ok(());
        }
        match action.as_str() {
            "enospc" => Err(io::ErrorKind::StorageFull.into()),
            "stop" => signal(Signal::STOP),
            "eio" => Err(io::Error::other(format!("input/output error at {wanted}"))),
            _ => signal(Signal::KILL),
        }
    }

    fn signal(signal: Signal) -> io::Result<()> {
        Ok(kill_process(getpid(), signal)?)
    }
}
