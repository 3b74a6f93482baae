//! What becomes of a restore after its process has ended: recovery, undo, forgetting.
//!
//! An undo executes the way back of all targets before the first of them commits; what fails until
//! then leaves all of them as they are. Those commit first that can still fail: the rows (deferred
//! constraints), the graph, then the directories. Changes since the restore are looked for where
//! writers are kept out, and are overwritten only by force, also when a killed undo or a killed
//! cut-over is ended later: between the two anybody may have worked with the new data.

use arkstream_format::{Component, RestorePhase, RestoreRecord};
use arkstream_pipeline::{Failure, FailureKind, Standing, Target, fault};

use crate::restore::Ledger;
use crate::targets::{
    all_new, announce_all, claim_all, discard_all, forget_all, prepare_all, release_all,
    revert_all, standings,
};

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
    /// An undo had not brought anything back yet: the restore is live as before.
    StillLive,
    /// Some targets had been switched: all are as they were before.
    Reverted,
    /// The former state was being dropped: all of it is.
    Forgotten,
}

/// Ends what a restore or an undo that was killed left behind, by looking at the targets, which
/// were made from the record's places. What was changed since in a target that is still new is
/// overwritten only with `force`.
///
/// # Errors
/// [`FailureKind::Refused`] with a list of what was changed since; when a target cannot be reached
/// or reverted. The record stays as it is, and the next attempt goes on.
pub async fn recover(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
    staged: Staged,
    force: bool,
) -> Result<Recovered, Failure> {
    if is_settled(record.phase) {
        return Ok(Recovered::Nothing);
    }
    claim_all(targets).await?;
    match record.phase {
        RestorePhase::Staging if staged == Staged::Keep => Ok(Recovered::Kept),
        RestorePhase::Staging => {
            discard_all(targets).await?;
            enter(record, RestorePhase::Discarded, ledger)?;
            Ok(Recovered::Discarded)
        }
        RestorePhase::CuttingOver if all_new(targets).await? => {
            announce_all(targets).await?;
            discard_all(targets).await?;
            enter(record, RestorePhase::Live, ledger)?;
            Ok(Recovered::Finished)
        }
        RestorePhase::Proving => {
            announce_all(targets).await?;
            discard_all(targets).await?;
            enter(record, RestorePhase::Live, ledger)?;
            Ok(Recovered::Finished)
        }
        RestorePhase::Undoing if all_new(targets).await? => {
            enter(record, RestorePhase::Live, ledger)?;
            Ok(Recovered::StillLive)
        }
        RestorePhase::CuttingOver if staged == Staged::Keep => {
            way_back(record, targets, force).await?;
            forget_all(targets, Standing::Old).await?;
            enter(record, RestorePhase::Staging, ledger)?;
            Ok(Recovered::Kept)
        }
        RestorePhase::CuttingOver | RestorePhase::Undoing => {
            way_back(record, targets, force).await?;
            clean_up(targets, Standing::Old).await?;
            enter(record, RestorePhase::Reverted, ledger)?;
            Ok(Recovered::Reverted)
        }
        RestorePhase::Forgetting => {
            clean_up(targets, Standing::New).await?;
            enter(record, RestorePhase::Forgotten, ledger)?;
            Ok(Recovered::Forgotten)
        }
        RestorePhase::Live
        | RestorePhase::Reverted
        | RestorePhase::Discarded
        | RestorePhase::Forgotten => Ok(Recovered::Nothing),
    }
}

/// Brings the former state back. `newer` names a later restore that took the place of this one in
/// one of its stores.
///
/// # Errors
/// [`FailureKind::Refused`] when the restore is not live, or when something changed since that the
/// undo would overwrite and `force` is not set. When a target fails, the failure says whether
/// anything is back.
pub async fn undo(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
    force: bool,
    newer: Option<&str>,
) -> Result<(), Failure> {
    if record.phase != RestorePhase::Live {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("undo the restore {}", record.restore_id),
            format!("it is {}", describe(record.phase)),
        ));
    }
    claim_all(targets).await?;
    demand_live(record, targets, "undo", newer).await?;
    prepare_all(record, targets, force).await?;
    if let Err(failure) = enter(record, RestorePhase::Undoing, ledger) {
        release_all(targets).await;
        return Err(failure);
    }
    let reverted = match fault::check("undo.begun") {
        Ok(()) => revert_all(targets).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = reverted {
        release_all(targets).await;
        return Err(half_way(record, targets, ledger, failure).await);
    }
    clean_up(targets, Standing::Old).await?;
    enter(record, RestorePhase::Reverted, ledger)
}

/// Drops what an undo would need. `newer` names a later restore that took the place of this one in
/// one of its stores.
///
/// # Errors
/// [`FailureKind::Refused`] while a restore or an undo is under way, and when the restore is no
/// longer what is live; `force` drops its former state all the same.
pub async fn forget(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
    force: bool,
    newer: Option<&str>,
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
    claim_all(targets).await?;
    match record.phase {
        RestorePhase::Proving | RestorePhase::Live | RestorePhase::Forgetting => {
            if record.phase != RestorePhase::Forgetting && !force {
                demand_live(record, targets, "forget", newer).await?;
            }
            enter(record, RestorePhase::Forgetting, ledger)?;
            clean_up(targets, Standing::New).await?;
            enter(record, RestorePhase::Forgotten, ledger)
        }
        RestorePhase::Staging => {
            discard_all(targets).await?;
            enter(record, RestorePhase::Discarded, ledger)
        }
        _ => discard_all(targets).await,
    }
}

/// Whether a record needs no recovery.
#[must_use]
pub fn is_settled(phase: RestorePhase) -> bool {
    matches!(
        phase,
        RestorePhase::Live
            | RestorePhase::Reverted
            | RestorePhase::Discarded
            | RestorePhase::Forgotten
    )
}

/// A phase for people.
#[must_use]
pub fn describe(phase: RestorePhase) -> &'static str {
    match phase {
        RestorePhase::Staging => {
            "still loading, or was killed while loading; nothing live was touched"
        }
        RestorePhase::CuttingOver => "in the middle of its cut-over",
        RestorePhase::Proving => "live, or was killed while it was proven",
        RestorePhase::Live => "live; its former state is kept",
        RestorePhase::Undoing => "in the middle of an undo",
        RestorePhase::Reverted => "undone",
        RestorePhase::Discarded => "given up before anything live was touched",
        RestorePhase::Forgetting => "live; its former state is being dropped",
        RestorePhase::Forgotten => "live; its former state was forgotten",
    }
}

/// Brings every target back, unless that would overwrite changes.
async fn way_back(
    record: &RestoreRecord,
    targets: &mut [Box<dyn Target>],
    force: bool,
) -> Result<(), Failure> {
    prepare_all(record, targets, force).await?;
    let reverted = revert_all(targets).await;
    if reverted.is_err() {
        release_all(targets).await;
    }
    reverted
}

async fn clean_up(targets: &mut [Box<dyn Target>], live: Standing) -> Result<(), Failure> {
    discard_all(targets).await?;
    forget_all(targets, live).await
}

/// A restore that another one, or somebody's hand, has replaced cannot be undone: what it would
/// bring back is not what was there before. Files are shared, so they say nothing about this.
async fn demand_live(
    record: &RestoreRecord,
    targets: &mut [Box<dyn Target>],
    what: &str,
    newer: Option<&str>,
) -> Result<(), Failure> {
    let found = standings(targets).await?;
    let gone: Vec<&str> = found
        .iter()
        .filter(|(component, standing)| {
            *standing == Standing::Old && *component != Component::Filestore
        })
        .map(|(component, _)| component.name())
        .collect();
    let why = match (gone.is_empty(), newer) {
        (true, None) => return Ok(()),
        (true, Some(newer)) => format!("it is no longer what is live: {newer} is"),
        (false, _) => format!("it is no longer what is live: {}", gone.join(", ")),
    };
    let id = &record.restore_id;
    let failure = Failure::new(
        FailureKind::Refused,
        format!("{what} the restore {id}"),
        why,
    );
    Err(match newer {
        Some(newer) => failure.help(format!(
            "the restore {newer} of the same place came later: undo that one first"
        )),
        None => failure.help(format!(
            "something else was put in its place; `arkstream forget {id} --force` drops what is \
             kept of it"
        )),
    })
}

/// An undo failed: nothing is back, and the restore is live as before, or the failure says what is.
async fn half_way(
    record: &mut RestoreRecord,
    targets: &mut [Box<dyn Target>],
    ledger: &dyn Ledger,
    failure: Failure,
) -> Failure {
    let goes_on = format!("`arkstream undo {}` goes on", record.restore_id);
    let found = match standings(targets).await {
        Ok(found) => found,
        Err(error) => {
            return failure.and(format!(
                "and what is back cannot be told now ({error}); {goes_on}"
            ));
        }
    };
    let of = |side: Standing| {
        let names: Vec<&str> = found
            .iter()
            .filter(|(_, standing)| *standing == side)
            .map(|(component, _)| component.name())
            .collect();
        names.join(", ")
    };
    if found.iter().all(|(_, side)| *side == Standing::New) {
        return match enter(record, RestorePhase::Live, ledger) {
            Ok(()) => failure.and("nothing was brought back: the restore is live as before"),
            Err(error) => failure.and(format!("nothing was brought back; {error}")),
        };
    }
    match of(Standing::New).as_str() {
        "" => failure.and(format!("everything is back; {goes_on}")),
        new => failure.and(format!(
            "back is {}, still as restored is {new}; {goes_on}",
            of(Standing::Old)
        )),
    }
}

/// Makes a phase durable. The record in memory has it only then.
fn enter(
    record: &mut RestoreRecord,
    phase: RestorePhase,
    ledger: &dyn Ledger,
) -> Result<(), Failure> {
    let mut next = record.clone();
    next.phase = phase;
    next.updated_at = chrono::Utc::now();
    ledger.save(&next)?;
    *record = next;
    Ok(())
}
