//! The order of a restore, and what stands afterwards when any step of any target fails or the
//! process is killed at it.
#![allow(clippy::unwrap_used)]

mod undone;
mod world;

use std::sync::Arc;

use arkstream_format::{Component, RestorePhase};
use arkstream_pipeline::FailureKind;
use arkstream_restorer::{Recovered, Restore, Staged};

use world::{COMPONENTS, STEPS, Shared, restoring_of};

#[tokio::test]
async fn the_record_is_written_before_what_it_announces() {
    let world = Shared::default();
    world.restore().run().await.unwrap();
    let diary = world.0.lock().unwrap().diary.clone();
    let at = |line: &str| {
        diary
            .iter()
            .position(|l| l == line)
            .unwrap_or_else(|| panic!("{line}: {diary:?}"))
    };
    assert_eq!(at("Staging"), 0);
    assert!(at("verify graph") < at("CuttingOver") && at("CuttingOver") < at("prepare filestore"));
    // All is prepared before anything is committed; what can be taken back without a server first.
    assert!(at("prepare chroma") < at("commit filestore"));
    let commits: Vec<&String> = diary.iter().filter(|l| l.starts_with("commit")).collect();
    assert_eq!(
        commits,
        [
            "commit filestore",
            "commit chroma",
            "commit models",
            "commit graph"
        ]
    );
    assert!(at("commit graph") < at("Proving") && at("Proving") < at("prove models"));
    assert!(
        at("discard models") < at("Live"),
        "what was staged is gone before it is called live"
    );
    let world = world.0.lock().unwrap();
    assert!(world.staged.is_empty() && world.kept.len() == 4 && world.live.len() == 4);
}

#[tokio::test]
async fn a_failure_at_any_step_of_any_target_leaves_all_old_or_all_new() {
    for component in COMPONENTS {
        for step in STEPS {
            let world = Shared::failing(component, step);
            let failure = world.restore().run().await.unwrap_err();
            let (live, phase) = (world.live(), world.phase());
            let expected = match step {
                "prove" => (4, RestorePhase::Live),
                "stage" | "verify" => (0, RestorePhase::Discarded),
                _ => (0, RestorePhase::Reverted),
            };
            assert_eq!((live, phase), expected, "{component} {step}");
            let world = world.0.lock().unwrap();
            assert!(world.staged.is_empty(), "{component} {step}");
            assert_eq!(world.kept.len(), live, "{component} {step}");
            // Who reads that must not believe that nothing was restored.
            let says = failure
                .why()
                .contains("is live, only its proof did not finish");
            assert_eq!(says, step == "prove", "{failure}");
        }
    }
}

#[tokio::test]
async fn what_may_pass_by_itself_keeps_what_was_loaded() {
    for component in COMPONENTS {
        for step in ["stage", "verify", "prepare", "commit", "after commit"] {
            let world = Shared::failing(component, step);
            world.0.lock().unwrap().passing = true;
            let failure = world.restore().run().await.unwrap_err();
            assert_eq!(
                (world.live(), world.phase()),
                (0, RestorePhase::Staging),
                "{component} {step}"
            );
            assert!(failure.advice().unwrap().contains("--fresh"), "{failure}");
            assert_eq!(world.recover(Staged::Keep).await, Recovered::Kept);
            world.restore_again().run().await.unwrap();
            let world = world.0.lock().unwrap();
            assert_eq!(world.loads.len(), 4, "{component} {step}");
            assert_eq!((world.live.len(), world.staged.len()), (4, 0));
        }
    }
}

#[tokio::test]
async fn what_could_not_be_removed_is_found_by_the_next_command() {
    for (step, phase) in [
        ("verify", RestorePhase::Staging),
        ("commit", RestorePhase::CuttingOver),
    ] {
        for stuck in ["discard", "forget"] {
            if (step, stuck) == ("verify", "forget") {
                continue;
            }
            let world = Shared::failing(Component::Models, step);
            let failing = (Component::Graph, stuck);
            world.0.lock().unwrap().failing.push(failing);
            let failure = world.restore().run().await.unwrap_err();
            assert_eq!((world.phase(), world.live()), (phase, 0), "{step} {stuck}");
            assert!(
                failure
                    .why()
                    .contains("not everything that was loaded could be removed"),
                "{failure}"
            );
            world.recover(Staged::Remove).await;
            let world = world.0.lock().unwrap();
            assert!(world.staged.is_empty() && world.kept.is_empty());
        }
    }
}

#[tokio::test]
async fn killed_at_any_step_of_any_target_the_next_command_makes_all_agree() {
    for component in COMPONENTS {
        for step in STEPS {
            let world = Shared::failing(component, step);
            world.0.lock().unwrap().deadly = true;
            world.restore().run().await.unwrap_err();
            let done = world.recover(Staged::Remove).await;
            let live = world.live();
            let all_new =
                step == "prove" || (step == "after commit" && component == Component::Graph);
            assert_eq!(
                live,
                if all_new { 4 } else { 0 },
                "{component} {step}: {done:?}"
            );
            let inner = world.0.lock().unwrap();
            assert!(
                inner.kept.len() == live && (step == "prove" || inner.staged.is_empty()),
                "{component} {step}"
            );
            if done == Recovered::Finished {
                // Who was killed after the commit may have told nobody.
                assert!(inner.diary.contains(&"announce models".to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn killed_at_any_step_and_run_again_nothing_is_loaded_twice() {
    for component in COMPONENTS {
        for step in STEPS {
            let world = Shared::failing(component, step);
            world.0.lock().unwrap().deadly = true;
            world.restore().run().await.unwrap_err();
            match world.recover(Staged::Keep).await {
                Recovered::Kept => {
                    assert_eq!(world.live(), 0, "{component} {step}");
                    world.restore_again().run().await.unwrap();
                }
                done => assert!(
                    matches!(done, Recovered::Finished | Recovered::Nothing),
                    "{component} {step}: {done:?}"
                ),
            }
            assert_eq!((world.live(), world.phase()), (4, RestorePhase::Live));
            let mut loads = world.0.lock().unwrap().loads.clone();
            loads.sort();
            loads.dedup();
            assert_eq!(loads.len(), 4, "{component} {step}");
            assert_eq!(world.0.lock().unwrap().loads.len(), 4, "{component} {step}");
            world.undo(false).await.unwrap();
            let world = world.0.lock().unwrap();
            assert!(world.live.is_empty() && world.staged.is_empty() && world.kept.is_empty());
        }
    }
}

#[tokio::test]
async fn a_revert_that_fails_says_so_and_goes_on_the_next_time() {
    let world = Shared::failing(Component::Graph, "commit");
    let failing = (Component::Chroma, "revert");
    world.0.lock().unwrap().failing.push(failing);
    let failure = world.restore().run().await.unwrap_err();
    assert!(
        failure
            .why()
            .contains("not everything could be taken back: chroma"),
        "{failure}"
    );
    assert_eq!(
        (world.phase(), world.live()),
        (RestorePhase::CuttingOver, 1)
    );
    let done = world.recover(Staged::Remove).await;
    assert_eq!((done, world.live()), (Recovered::Reverted, 0));
}

#[tokio::test]
async fn a_bundle_of_a_newer_format_is_refused_before_any_target_is_asked() {
    let world = Shared::default();
    let restoring = restoring_of("99.0.0");
    let mut restore = Restore::new(world.targets(), restoring, Arc::new(world.clone()), "b.zip");
    let checked = restore.check().await;
    assert_eq!(checked.problems[0].kind, FailureKind::Incompatible);
    assert!(world.0.lock().unwrap().diary.is_empty());
}

#[tokio::test]
async fn problems_of_all_targets_are_told_at_once() {
    let world = Shared::default();
    {
        let mut inner = world.0.lock().unwrap();
        inner.failing = vec![(Component::Models, "check")];
        inner.deadly = true;
    }
    // From the first on, all fail.
    let checked = world.restore().check().await;
    assert!(checked.problems.len() >= 2, "{:?}", checked.problems);
}
