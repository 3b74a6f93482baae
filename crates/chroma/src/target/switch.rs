//! What makes a staged directory live, and takes it back.
//!
//! Two ways, chosen by where the directory lies: [`Siblings`] renames whole directories,
//! [`Entries`] swaps what lies inside a mount point. Both are judged by looking alone, so that any
//! process can go on where another was killed.

use arkstream_pipeline::{Failure, FailureKind, Standing};

use super::{durable::Moves, place::Paths, record::Record};
pub(super) use super::{entries::Entries, siblings::Siblings};

/// A way of switching. Every call may be repeated, and may follow a kill at any step of another.
pub(super) trait Switch: Send {
    /// What is live. A switch that stopped half-way is taken back first: afterwards the directory
    /// is entirely old or entirely new.
    fn standing(&self) -> Result<Standing, Failure>;

    /// Makes the staged directory live; the former one gets the kept name. `record` stands on
    /// disk.
    fn commit(&self, record: Record) -> Result<(), Failure>;

    /// Makes the former directory live; the staged one goes back to where it was staged.
    fn revert(&self) -> Result<(), Failure>;

    /// Removes what was staged, unless it is live.
    fn discard(&self) -> Result<(), Failure>;

    /// Removes the former state, unless it is live.
    fn forget(&self) -> Result<(), Failure>;

    /// What the switch does, for people.
    fn describe(&self) -> Vec<String>;
}

/// The way for this place.
pub(super) fn of(paths: &Paths, moves: Moves) -> Box<dyn Switch> {
    let paths = paths.clone();
    match paths.inside.clone() {
        Some(inside) => Box::new(Entries {
            paths,
            inside,
            moves,
        }),
        None => Box::new(Siblings { paths, moves }),
    }
}

/// The former state cannot be brought back, because it is not there.
pub(super) fn gone(paths: &Paths) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("bring back the former state of {}", paths.live.display()),
        format!(
            "it is no longer at {}: it was forgotten, moved or removed",
            paths.kept.display()
        ),
    )
    .help("what is live stays as it is; if the former directory was moved, move it back there")
}

/// There is nothing that could be made live.
pub(super) fn not_staged(paths: &Paths) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("make the restored {} live", paths.live.display()),
        format!("nothing whole is staged at {}", paths.staging.display()),
    )
    .help("run the restore again")
}
