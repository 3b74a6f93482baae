//! Steps of all targets, one after the other, each in the order that it needs.

use arkstream_format::{Component, RestoreRecord};
use arkstream_pipeline::{Failure, FailureKind, Standing, Target, fault};

type Targets<'a> = &'a mut [Box<dyn Target>];

/// Files first, for the rows refer to them; the long transaction of the rows before the short ones.
pub(crate) fn prepare_rank(component: Component) -> u8 {
    match component {
        Component::Filestore => 0,
        Component::Models => 1,
        Component::Graph => 2,
        Component::Chroma => 3,
        Component::OdooDump | Component::Xlsx | Component::Description => 4,
    }
}

/// What is taken back without a server comes first.
pub(crate) fn commit_rank(component: Component) -> u8 {
    match component {
        Component::Filestore => 0,
        Component::Chroma => 1,
        Component::Models => 2,
        Component::Graph => 3,
        Component::OdooDump | Component::Xlsx | Component::Description => 4,
    }
}

/// What can still fail comes first, and the files last: they go when no row refers to them.
fn revert_rank(component: Component) -> u8 {
    match component {
        Component::Models => 0,
        Component::Graph => 1,
        Component::Chroma => 2,
        Component::Filestore => 3,
        Component::OdooDump | Component::Xlsx | Component::Description => 4,
    }
}

pub(crate) fn by_rank(
    targets: Targets<'_>,
    rank: fn(Component) -> u8,
) -> Vec<&mut Box<dyn Target>> {
    let mut sorted: Vec<_> = targets.iter_mut().collect();
    sorted.sort_by_key(|target| rank(target.component()));
    sorted
}

pub(crate) async fn claim_all(targets: Targets<'_>) -> Result<(), Failure> {
    for target in targets {
        target.claim().await?;
    }
    Ok(())
}

/// What is live, by component.
pub(crate) async fn standings(targets: Targets<'_>) -> Result<Vec<(Component, Standing)>, Failure> {
    let mut found = Vec::new();
    for target in targets {
        found.push((target.component(), target.standing().await?));
    }
    Ok(found)
}

/// Whether every target is new.
pub(crate) async fn all_new(targets: Targets<'_>) -> Result<bool, Failure> {
    let found = standings(targets).await?;
    Ok(found.iter().all(|(_, side)| *side == Standing::New))
}

/// Executes the way back of all targets. When one cannot, or something changed since and `force` is
/// not set, none has been.
pub(crate) async fn prepare_all(
    record: &RestoreRecord,
    targets: Targets<'_>,
    force: bool,
) -> Result<(), Failure> {
    let mut changed = Vec::new();
    let mut failed = None;
    for target in by_rank(targets, revert_rank) {
        let component = target.component();
        match target.prepare_revert(force).await {
            Ok(lines) => changed.extend(lines.iter().map(|line| format!("{component}: {line}"))),
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    let id = &record.restore_id;
    let failure = match failed {
        Some(failure) => failure,
        None if changed.is_empty() || force => return Ok(()),
        None => Failure::new(
            FailureKind::Refused,
            format!("undo the restore {id}"),
            format!(
                "what it restored was changed since:\n  {}",
                changed.join("\n  ")
            ),
        )
        .help(format!(
            "`arkstream undo {id} --force` overwrites these changes; they cannot be brought back"
        )),
    };
    release_all(targets).await;
    Err(failure)
}

pub(crate) async fn release_all(targets: Targets<'_>) {
    for target in targets {
        target.release().await;
    }
}

/// Makes the former state of every target live, and looks whether it is.
pub(crate) async fn revert_all(targets: Targets<'_>) -> Result<(), Failure> {
    for target in by_rank(targets, revert_rank) {
        fault::check("target.revert")?;
        target.revert().await?;
    }
    demand_old(targets).await
}

/// Nothing that leads back may go before the former state is seen to be live.
pub(crate) async fn demand_old(targets: Targets<'_>) -> Result<(), Failure> {
    for (component, standing) in standings(targets).await? {
        if standing == Standing::New {
            return Err(Failure::new(
                FailureKind::Internal,
                format!("bring back the former state of the component {component}"),
                "what was restored is still live",
            ));
        }
    }
    Ok(())
}

pub(crate) async fn announce_all(targets: Targets<'_>) -> Result<(), Failure> {
    for target in targets {
        target.announce().await?;
    }
    Ok(())
}

/// Removes what was staged of all targets, also when one of them fails.
pub(crate) async fn discard_all(targets: Targets<'_>) -> Result<(), Failure> {
    let mut first = None;
    for target in targets {
        let discarded = match fault::check("target.discard") {
            Ok(()) => target.discard().await,
            reached => reached,
        };
        if let Err(failure) = discarded {
            first.get_or_insert(failure);
        }
    }
    first.map_or(Ok(()), Err)
}

pub(crate) async fn forget_all(targets: Targets<'_>, live: Standing) -> Result<(), Failure> {
    for target in targets {
        fault::check("target.forget")?;
        target.forget(live).await?;
    }
    Ok(())
}
