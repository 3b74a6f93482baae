//! What becomes of a restore after its process has ended: recovery, undo, forgetting.

use chrono::Utc;

use arkstream_format::{RestorePhase, RestoreRecord};
use arkstream_pipeline::{Failure, FailureKind, Target, fault};

use crate::restore::{Ledger, all_new, commit_rank};

/// What becomes of what a restore had loaded that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    /// It is removed.
    Remove,
    /// It stays for a restore that goes on.
    Keep,
}

/// What recovery did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was under way.
    Nothing,
    /// Nothing live is touched, and what it had staged is kept: the restore may go on.
    Kept,
    /// It had not touched anything live; what it had staged is removed.
    Discarded,
    /// Every target had been switched: the restore is complete.
    Finished,
    /// Some targets had been switched: all are as they were before.
    Reverted,
    /// The former state was being dropped: all of it is.
    Forgotten,
}

/// Ends what a restore or an undo that was killed left behind, by looking at the targets, which
/// were made from the record's places.
///
/// # Errors
/// When a target cannot be reached or reverted; the record stays as it is, and the next attempt
/// goes on.
pub async fn recover(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
    staged: Staged,
) -> Result<Recovered, Failure> {
    match record.phase {
        RestorePhase::Staging if staged == Staged::Keep => Ok(Recovered::Kept),
        RestorePhase::Staging => {
            for target in targets.iter_mut() {
                target.discard().await?;
            }
            enter(record, RestorePhase::Discarded, ledger)?;
            Ok(Recovered::Discarded)
        }
        RestorePhase::CuttingOver if all_new(targets).await? => {
            for target in targets.iter_mut() {
                target.discard().await?;
            }
            enter(record, RestorePhase::Live, ledger)?;
            Ok(Recovered::Finished)
        }
        RestorePhase::CuttingOver if staged == Staged::Keep => {
            revert_all(targets).await?;
            for target in targets.iter_mut() {
                target.forget().await?;
            }
            enter(record, RestorePhase::Staging, ledger)?;
            Ok(Recovered::Kept)
        }
        RestorePhase::CuttingOver | RestorePhase::Undoing => {
            revert_all(targets).await?;
            forget_all(targets).await?;
            enter(record, RestorePhase::Reverted, ledger)?;
            Ok(Recovered::Reverted)
        }
        RestorePhase::Forgetting => {
            forget_all(targets).await?;
            enter(record, RestorePhase::Forgotten, ledger)?;
            Ok(Recovered::Forgotten)
        }
        RestorePhase::Live
        | RestorePhase::Reverted
        | RestorePhase::Discarded
        | RestorePhase::Forgotten => Ok(Recovered::Nothing),
    }
}

/// Brings the former state back.
///
/// # Errors
/// [`FailureKind::Refused`] when the restore is not live, or when something changed since that the
/// undo would overwrite and `force` is not set.
pub async fn undo(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
    force: bool,
) -> Result<(), Failure> {
    if record.phase != RestorePhase::Live {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("undo the restore {}", record.restore_id),
            format!("it is {}", describe(record.phase)),
        ));
    }
    let mut changed = Vec::new();
    for target in targets.iter_mut() {
        let component = target.component();
        let lines = target.changed_since().await?;
        changed.extend(lines.into_iter().map(|line| format!("{component}: {line}")));
    }
    if !changed.is_empty() && !force {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("undo the restore {}", record.restore_id),
            format!(
                "what it restored was changed since:\n  {}",
                changed.join("\n  ")
            ),
        )
        .help("--force overwrites these changes; they cannot be brought back"));
    }
    enter(record, RestorePhase::Undoing, ledger)?;
    fault::check("undo.begun")?;
    revert_all(targets).await?;
    forget_all(targets).await?;
    enter(record, RestorePhase::Reverted, ledger)
}

/// Drops what an undo would need.
///
/// # Errors
/// [`FailureKind::Refused`] while a restore or an undo is under way.
pub async fn forget(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
) -> Result<(), Failure> {
    if matches!(
        record.phase,
        RestorePhase::CuttingOver | RestorePhase::Undoing
    ) {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("forget the restore {}", record.restore_id),
            format!("it is {}", describe(record.phase)),
        )
        .help(format!("`arkstream undo {}` ends it", record.restore_id)));
    }
    match record.phase {
        RestorePhase::Live | RestorePhase::Forgetting => {
            enter(record, RestorePhase::Forgetting, ledger)?;
            forget_all(targets).await?;
            enter(record, RestorePhase::Forgotten, ledger)
        }
        _ => forget_all(targets).await,
    }
}

async fn forget_all(targets: &mut [Box<dyn Target>]) -> Result<(), Failure> {
    for target in targets.iter_mut() {
        fault::check("target.discard")?;
        target.discard().await?;
        fault::check("target.forget")?;
        target.forget().await?;
    }
    Ok(())
}

/// A phase for people.
#[must_use]
pub fn describe(phase: RestorePhase) -> &'static str {
    match phase {
        RestorePhase::Staging => {
            "still loading, or was killed while loading; nothing live was touched"
        }
        RestorePhase::CuttingOver => "in the middle of its cut-over",
        RestorePhase::Live => "live; its former state is kept",
        RestorePhase::Undoing => "in the middle of an undo",
        RestorePhase::Reverted => "undone",
        RestorePhase::Discarded => "given up before anything live was touched",
        RestorePhase::Forgetting => "live; its former state is being dropped",
        RestorePhase::Forgotten => "live; its former state was forgotten",
    }
}

/// Last committed first.
async fn revert_all(targets: &mut [Box<dyn Target>]) -> Result<(), Failure> {
    targets.sort_by_key(|target| std::cmp::Reverse(commit_rank(target.component())));
    for target in targets.iter_mut() {
        fault::check("target.revert")?;
        target.revert().await?;
    }
    Ok(())
}

fn enter(
    record: &mut RestoreRecord,
    phase: RestorePhase,
    ledger: &dyn Ledger,
) -> Result<(), Failure> {
    record.phase = phase;
    record.updated_at = Utc::now();
    ledger.save(record)
}
