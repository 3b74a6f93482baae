//! The way back: never half of it unasked, and never over somebody's work.

use arkstream_format::{Component, RestorePhase};
use arkstream_pipeline::{Failure, FailureKind};
use arkstream_restorer::{Recovered, Staged, forget, recover, undo};

use super::world::{COMPONENTS, Shared};

/// Steps at which a target can fail during an undo.
const STEPS: [&str; 5] = [
    "prepare revert",
    "revert",
    "after revert",
    "discard",
    "forget",
];

#[tokio::test]
async fn an_undo_overwrites_changes_only_by_force() {
    for component in COMPONENTS {
        let (world, _) = Shared::restored().await;
        world.0.lock().unwrap().changed = vec![component];
        let refused = world.undo(false).await.unwrap_err();
        assert_eq!((refused.kind, world.live()), (FailureKind::Refused, 4));
        assert!(refused.why().contains(&format!("{component}: a row")));
        // Nobody undoes it later without being asked.
        assert_eq!(world.phase(), RestorePhase::Live);
        assert_eq!(world.recover(Staged::Remove).await, Recovered::Nothing);
        world.undo(true).await.unwrap();
        assert_eq!((world.live(), world.phase()), (0, RestorePhase::Reverted));
        let again = world.undo(true).await.unwrap_err();
        assert_eq!(again.kind, FailureKind::Refused);
    }
}

#[tokio::test]
async fn every_way_back_is_prepared_before_the_first_is_taken() {
    let (world, _) = Shared::restored().await;
    world.0.lock().unwrap().diary.clear();
    world.undo(false).await.unwrap();
    let diary = world.0.lock().unwrap().diary.clone();
    let at = |line: &str| diary.iter().position(|l| l == line).unwrap();
    for component in COMPONENTS {
        assert!(at(&format!("prepare revert {component}")) < at("Undoing"));
        assert!(at("Undoing") < at(&format!("revert {component}")));
    }
    // What can still fail comes first, and files go when no row refers to them.
    assert!(at("revert models") < at("revert graph") && at("revert graph") < at("revert chroma"));
    assert!(at("revert chroma") < at("revert filestore"));
    assert!(at("revert filestore") < at("forget models"));
}

#[tokio::test]
async fn an_undo_that_fails_is_live_as_before_or_says_what_is_back() {
    for component in COMPONENTS {
        for step in STEPS {
            let (world, _) = Shared::restored().await;
            world.0.lock().unwrap().failing = vec![(component, step)];
            let failure = world.undo(false).await.unwrap_err();
            let first = component == Component::Models;
            match step {
                "prepare revert" => {
                    assert_eq!((world.live(), world.phase()), (4, RestorePhase::Live));
                }
                "revert" if first => {
                    assert_eq!((world.live(), world.phase()), (4, RestorePhase::Live));
                    assert!(failure.why().contains("live as before"), "{failure}");
                }
                _ => assert_eq!(world.phase(), RestorePhase::Undoing, "{component} {step}"),
            }
            if step == "revert" && !first {
                assert!(failure.why().contains("back is"), "{failure}");
                assert!(failure.why().contains(component.name()), "{failure}");
            }
            world.mended();
            ended(&world).await;
        }
    }
}

#[tokio::test]
async fn an_undo_that_was_killed_goes_on_or_has_not_begun() {
    for component in COMPONENTS {
        for step in STEPS {
            let (world, _) = Shared::restored().await;
            {
                let mut inner = world.0.lock().unwrap();
                (inner.failing, inner.deadly) = (vec![(component, step)], true);
            }
            world.undo(false).await.unwrap_err();
            let expected = match (step, component) {
                ("prepare revert", _) => Recovered::Nothing,
                ("revert", Component::Models) => Recovered::StillLive,
                _ => Recovered::Reverted,
            };
            assert_eq!(ended(&world).await, expected, "{component} {step}");
        }
    }
}

/// The next command: what was begun goes on, what had not begun is live and is undone by a word.
async fn ended(world: &Shared) -> Recovered {
    let done = world.recover(Staged::Remove).await;
    match done {
        Recovered::Reverted => {}
        Recovered::StillLive | Recovered::Nothing => {
            assert_eq!((world.live(), world.phase()), (4, RestorePhase::Live));
            world.undo(false).await.unwrap();
        }
        done => panic!("{done:?}"),
    }
    assert_eq!((world.live(), world.phase()), (0, RestorePhase::Reverted));
    let inner = world.0.lock().unwrap();
    assert!(inner.staged.is_empty() && inner.kept.is_empty());
    done
}

/// A restore that was killed in its cut-over, or an undo that was: Chroma is new, the rows are old.
async fn half_way(undoing: bool) -> Shared {
    let world = if undoing {
        Shared::restored().await.0
    } else {
        Shared::default()
    };
    let failing = match undoing {
        true => (Component::Chroma, "revert"),
        false => (Component::Models, "commit"),
    };
    {
        let mut inner = world.0.lock().unwrap();
        (inner.failing, inner.deadly) = (vec![failing], true);
    }
    match undoing {
        true => world.undo(false).await.unwrap_err(),
        false => world.restore().run().await.unwrap_err(),
    };
    world.mended();
    assert!(world.0.lock().unwrap().live.contains(&Component::Chroma));
    world
}

#[tokio::test]
async fn recovery_does_not_overwrite_what_was_written_since_the_kill() {
    for undoing in [true, false] {
        for staged in [Staged::Remove, Staged::Keep] {
            let world = half_way(undoing).await;
            world.0.lock().unwrap().changed = vec![Component::Chroma];
            let mut record = world.mended();
            let phase = record.phase;
            let live = world.live();
            let go = async |record: &mut _, force| {
                recover(record, &mut world.targets(), &world, staged, force).await
            };
            let refused: Failure = go(&mut record, false).await.unwrap_err();
            assert_eq!(refused.kind, FailureKind::Refused);
            assert!(refused.why().contains("chroma: a row"), "{refused}");
            assert!(
                refused
                    .advice()
                    .unwrap()
                    .contains("undo 0123456789abcdef --force")
            );
            assert_eq!((world.live(), record.phase), (live, phase));
            go(&mut record, true).await.unwrap();
            assert_eq!(world.live(), 0);
        }
    }
}

#[tokio::test]
async fn a_restore_that_is_no_longer_live_is_neither_undone_nor_forgotten() {
    for component in COMPONENTS {
        let (world, mut record) = Shared::restored().await;
        // Another restore, or somebody's hand.
        world.0.lock().unwrap().live.retain(|c| *c != component);
        let (mut targets, newer) = (world.targets(), Some("fedcba9876543210"));
        if component == Component::Filestore {
            let undone = undo(&mut record, &mut targets, &world, true, None).await;
            // Shared files say nothing about what is live.
            undone.unwrap();
            continue;
        }
        let undone = undo(&mut record, &mut targets, &world, true, newer).await;
        let refused = undone.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
        assert!(refused.why().contains(component.name()), "{refused}");
        assert!(refused.advice().unwrap().contains("fedcba9876543210"));
        let refused = forget(&mut record, &mut targets, &world, false, None).await;
        assert!(refused.unwrap_err().advice().unwrap().contains("--force"));
        assert_eq!(world.phase(), RestorePhase::Live);
        assert_eq!(world.0.lock().unwrap().kept.len(), 4);
        forget(&mut record, &mut targets, &world, true, None)
            .await
            .unwrap();
        assert_eq!(world.phase(), RestorePhase::Forgotten);
        assert!(world.0.lock().unwrap().kept.is_empty());
    }
}

/// A directory does not say whether another restore was put over it: the records do.
#[tokio::test]
async fn what_a_later_restore_has_replaced_is_not_undone() {
    let (world, mut record) = Shared::restored().await;
    let newer = Some("fedcba9876543210");
    let undone = undo(&mut record, &mut world.targets(), &world, true, newer).await;
    assert!(undone.unwrap_err().why().contains("fedcba9876543210"));
    assert_eq!((world.live(), world.phase()), (4, RestorePhase::Live));
}

#[tokio::test]
async fn what_is_being_forgotten_cannot_be_undone() {
    let (world, mut record) = Shared::restored().await;
    {
        let mut inner = world.0.lock().unwrap();
        (inner.failing, inner.deadly) = (vec![(Component::Models, "forget")], true);
    }
    forget(&mut record, &mut world.targets(), &world, false, None)
        .await
        .unwrap_err();
    world.mended();
    world.undo(true).await.unwrap_err();
    let done = world.recover(Staged::Remove).await;
    assert_eq!((done, world.live()), (Recovered::Forgotten, 4));
    assert!(world.0.lock().unwrap().kept.is_empty());
}

#[tokio::test]
async fn forgetting_what_never_became_live_ends_it() {
    let world = Shared::failing(Component::Graph, "verify");
    world.0.lock().unwrap().deadly = true;
    world.restore().run().await.unwrap_err();
    let mut record = world.mended();
    forget(&mut record, &mut world.targets(), &world, false, None)
        .await
        .unwrap();
    assert_eq!(world.phase(), RestorePhase::Discarded);
    assert!(world.0.lock().unwrap().staged.is_empty());
}
