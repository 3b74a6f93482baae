//! What restores and undos left that did not come to their end.
//!
//! Each that touches a place of this command is ended by looking at its targets; the others are not
//! this command's business, and it may not have their credentials. One that loaded this very bundle for these very targets is
//! continued; staging of another bundle or for another target is never built upon.

use std::path::Path;

use arkstream_bundle::records;
use arkstream_format::{Component, RestoreRecord, TargetPlace};
use arkstream_pipeline::{Failure, Restoring};
use arkstream_restorer::{Recovered, Staged, describe as phase, is_settled, recover};

use super::{
    FolderLedger,
    places::touches,
    targets::{self, Given},
};
use crate::{args::RestoreArgs, say::say};

/// Ends what was left behind. Returns the restore that is to be continued.
pub(super) async fn settle(
    args: &RestoreArgs,
    components: &[Component],
    restoring: &Restoring,
    ledger: &FolderLedger,
    state: &Path,
) -> Result<Option<RestoreRecord>, Failure> {
    let given = Given::of(args)?;
    let here = places(args, components, restoring, state)?;
    let mut continued = None;
    for record in records(state)? {
        let mut record = record?;
        if is_settled(record.phase) {
            continue;
        }
        if !touches(&record, &here) {
            say(format!(
                "warning: the restore {0} of another place is {1}: `arkstream undo {0}` ends it",
                record.restore_id,
                phase(record.phase)
            ));
            continue;
        }
        let id = record.restore_id.clone();
        let mut found = targets::reopen(&record, &args.credentials, &given)?;
        let same_bundle = record.bundle_manifest == restoring.bundle.manifest_digest();
        let wanted = match same_bundle && !args.fresh && continued.is_none() {
            true => Staged::Keep,
            false => Staged::Remove,
        };
        let ended = |failure| could_not_end(&id, failure);
        let mut done = recover(&mut record, &mut found, ledger, wanted, false)
            .await
            .map_err(ended)?;
        if done == Recovered::Kept {
            let mut again = restoring.clone();
            again.id.clone_from(&id);
            again.began_at = record.started_at;
            // A command that names too little must not cost what was loaded.
            let places = places(args, components, &again, state)?;
            if record.targets.iter().all(|t| places.contains(&t.place))
                && record.targets.len() == components.len()
            {
                say(format!(
                    "continuing the restore {id} begun {}: what it had loaded is kept",
                    record.started_at.format("%Y-%m-%d %H:%M UTC")
                ));
                continued = Some(record);
                continue;
            }
            done = recover(&mut record, &mut found, ledger, Staged::Remove, false)
                .await
                .map_err(ended)?;
        }
        say(describe(&id, done));
    }
    Ok(continued)
}

/// Where the targets of this command are, under the names of a restore.
fn places(
    args: &RestoreArgs,
    components: &[Component],
    restoring: &Restoring,
    state: &Path,
) -> Result<Vec<TargetPlace>, Failure> {
    let targets = targets::open(args, components, restoring, state)?;
    Ok(targets.iter().map(|target| target.place()).collect())
}

fn could_not_end(id: &str, failure: Failure) -> Failure {
    let why = format!(
        "the restore {id} was interrupted and could not be ended: {}",
        failure.why()
    );
    let longer = Failure::new(failure.kind, failure.attempted(), why);
    longer.help(failure.advice().map_or_else(
        || format!("mend that, then run again; `arkstream undo {id}` does the same"),
        str::to_owned,
    ))
}

/// What recovery did, for people.
pub(super) fn describe(id: &str, done: Recovered) -> String {
    let what = match done {
        Recovered::Nothing => "had ended",
        Recovered::Kept => "had been interrupted: what it had loaded is kept",
        Recovered::Discarded => {
            "had been interrupted while loading: what it had loaded is removed, nothing live was touched"
        }
        Recovered::Finished => "had been interrupted after its cut-over: it is complete",
        Recovered::StillLive => "had an undo that was interrupted before it began: it is live",
        Recovered::Forgotten => {
            "had been interrupted while its former state was dropped: it is gone"
        }
        Recovered::Reverted => {
            "had been interrupted in its cut-over: everything is as it was before"
        }
    };
    format!("the restore {id} {what}")
}
