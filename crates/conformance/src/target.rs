//! What a [`Target`] promises.

use arkstream_format::TargetPlace;
use arkstream_pipeline::{FailureKind, Restoring, Standing, Target};
use async_trait::async_trait;

use crate::cancelled_after;

/// A system with data that nobody changes meanwhile, and restores of one bundle into it.
#[async_trait]
pub trait Targets: Sync {
    /// A restore of the bundle, by that name. Two of one name see the same staging.
    fn restoring(&self, id: &str) -> Restoring;

    /// The target of a restore, as the process makes it that begins or continues it.
    async fn make(&self, restoring: &Restoring) -> Box<dyn Target>;

    /// The target as another process makes it, from its place alone.
    async fn reopen(&self, place: &TargetPlace, id: &str) -> Box<dyn Target>;

    /// Whether the claim of another process is refused.
    async fn keeps_others_out(&self) -> bool;

    /// What those see who use the system, to be compared. They may go on seeing a former state until
    /// a process that was cut off has gone.
    async fn live(&self) -> String;

    /// What stands beside the live data: staged, kept for an undo, noted, without what never goes.
    async fn beside(&self) -> String;
}

/// Polls after which a step is dropped: at once, among its first awaits, and late.
const POLLS: [usize; 6] = [1, 2, 4, 9, 25, 120];

/// All of it. `rounds` is how many of the moments at which a step can be dropped are tried.
pub async fn suite(targets: &dyn Targets, rounds: usize) {
    let started = std::time::Instant::now();
    let told = |what: &str| println!("{:>8.1?} {what}", started.elapsed());
    let suite = Suite {
        targets,
        old: targets.live().await,
        beside: targets.beside().await,
    };
    suite.a_look_changes_nothing().await;
    told("looked at");
    suite.one_at_a_time().await;
    told("claimed");
    let new = suite.there_and_back().await;
    told("restored and brought back");
    suite.an_interrupted_stage_touches_nothing().await;
    told("interrupted");
    let step = POLLS.len().div_ceil(rounds.max(1)).max(1);
    for polls in POLLS.into_iter().step_by(step) {
        suite.a_stage_may_be_dropped(polls, &new).await;
        suite.a_cut_over_may_be_dropped(polls, &new).await;
        suite.a_way_back_may_be_dropped(polls, &new).await;
        told("dropped");
    }
    suite.what_is_forgotten_is_gone(&new).await;
    told("forgotten");
}

struct Suite<'a> {
    targets: &'a dyn Targets,
    old: String,
    beside: String,
}

impl Suite<'_> {
    async fn is_untouched(&self, after: &str) {
        self.is_live(&self.old, after).await;
        assert_eq!(
            self.targets.beside().await,
            self.beside,
            "{after}: nothing is left behind"
        );
    }

    async fn is_live(&self, state: &str, after: &str) {
        assert_eq!(self.targets.live().await, state, "{after}: what is live");
    }

    async fn checked(&self, restoring: &Restoring) -> Box<dyn Target> {
        let mut target = self.targets.make(restoring).await;
        target.claim().await.unwrap();
        let checked = target.check(restoring).await;
        assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        target
    }

    async fn staged(&self, restoring: &Restoring) -> Box<dyn Target> {
        let mut target = self.checked(restoring).await;
        target.stage(restoring).await.unwrap();
        target.verify(restoring).await.unwrap();
        target
    }

    async fn restored(&self, id: &str) -> Box<dyn Target> {
        let restoring = self.targets.restoring(id);
        let mut target = self.staged(&restoring).await;
        target.prepare(&restoring).await.unwrap();
        target.commit(&restoring).await.unwrap();
        target
    }

    /// Another process brings the former state back, from the place alone and each step twice.
    async fn bring_back(&self, place: &TargetPlace, id: &str, after: &str) {
        self.is_free(after).await;
        let mut target = self.targets.reopen(place, id).await;
        assert_eq!(&target.place(), place, "{after}: the place is fixed");
        target.claim().await.unwrap();
        for _ in 0..2 {
            let changed = target.prepare_revert(false).await.unwrap();
            assert!(changed.is_empty(), "{after}: nobody changed {changed:?}");
            target.revert().await.unwrap();
            assert_eq!(target.standing().await.unwrap(), Standing::Old, "{after}");
            target.announce().await.unwrap();
            target.discard().await.unwrap();
            target.forget(Standing::Old).await.unwrap();
        }
        drop(target);
        self.is_untouched(after).await;
    }

    async fn a_look_changes_nothing(&self) {
        let restoring = self.targets.restoring("00000000000look0");
        let mut target = self.targets.make(&restoring).await;
        let checked = target.check(&restoring).await;
        assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        let plan = target.rehearse(&restoring).await.unwrap();
        assert!(plan.refused.is_none(), "{plan:?}");
        assert_eq!(target.standing().await.unwrap(), Standing::Old);
        let again = target.rehearse(&restoring).await.unwrap();
        assert_eq!(format!("{plan:?}"), format!("{again:?}"), "a plan is one");
        drop(target);
        self.is_untouched("a look").await;
    }

    async fn one_at_a_time(&self) {
        let restoring = self.targets.restoring("0000000000claim0");
        let mut target = self.targets.make(&restoring).await;
        target.claim().await.unwrap();
        target.claim().await.unwrap();
        assert!(self.targets.keeps_others_out().await, "it is claimed");
        drop(target);
        self.is_free("a claim that was dropped").await;
        self.is_untouched("a claim").await;
    }

    /// A claim ends with the process or the connection that held it, which may take a moment.
    async fn is_free(&self, after: &str) {
        for _ in 0..200 {
            if !self.targets.keeps_others_out().await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{after}: others may claim it");
    }

    /// Returns what is live after a restore.
    async fn there_and_back(&self) -> String {
        let id = "00000000000there";
        let restoring = self.targets.restoring(id);
        let mut target = self.staged(&restoring).await;
        let place = target.place();
        self.is_live(&self.old, "staging").await;
        assert_eq!(target.standing().await.unwrap(), Standing::Old);
        target.prepare(&restoring).await.unwrap();
        target.release().await;
        assert_eq!(target.standing().await.unwrap(), Standing::Old);
        self.is_live(&self.old, "a cut-over that was given up")
            .await;
        target.stage(&restoring).await.unwrap();
        target.verify(&restoring).await.unwrap();
        target.prepare(&restoring).await.unwrap();
        target.commit(&restoring).await.unwrap();
        assert_eq!(target.standing().await.unwrap(), Standing::New);
        let new = self.targets.live().await;
        assert_ne!(new, self.old, "a restore changes what is live");
        let proofs = target.prove(&restoring).await.unwrap();
        assert!(!proofs.is_empty(), "something is compared");
        for proof in proofs {
            assert!(proof.holds(), "{proof:?}");
        }
        target.announce().await.unwrap();
        target.announce().await.unwrap();
        target.prepare_revert(false).await.unwrap();
        target.release().await;
        assert_eq!(target.standing().await.unwrap(), Standing::New);
        self.is_live(&new, "a way back that was given up").await;
        target.discard().await.unwrap();
        assert_eq!(target.standing().await.unwrap(), Standing::New);
        self.is_live(&new, "what was staged is removed").await;
        assert_eq!(target.place(), place, "the place is fixed");
        drop(target);
        self.bring_back(&place, id, "a restore").await;
        new
    }

    async fn an_interrupted_stage_touches_nothing(&self) {
        let id = "0000000interrupt";
        let restoring = self.targets.restoring(id);
        let mut target = self.checked(&restoring).await;
        restoring.cancel.raise();
        let failure = target.stage(&restoring).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Interrupted, "{failure}");
        let place = target.place();
        drop(target);
        self.bring_back(&place, id, "an interrupted stage").await;
    }

    /// What was staged is built upon.
    async fn a_stage_may_be_dropped(&self, polls: usize, new: &str) {
        let id = format!("{polls:016}");
        let restoring = self.targets.restoring(&id);
        let mut target = self.checked(&restoring).await;
        let _ = cancelled_after(polls, target.stage(&restoring)).await;
        let place = target.place();
        drop(target);
        self.is_live(&self.old, "a stage that was cut off").await;
        let mut again = self.targets.restoring(&id);
        again.continues = true;
        self.is_free("a stage that was cut off").await;
        let mut target = self.staged(&again).await;
        target.prepare(&again).await.unwrap();
        target.commit(&again).await.unwrap();
        self.is_live(new, "a stage that was continued").await;
        drop(target);
        self.bring_back(&place, &id, "a continued restore").await;
    }

    /// Wholly old or wholly new, and brought back either way.
    async fn a_cut_over_may_be_dropped(&self, polls: usize, new: &str) {
        for commit in [false, true] {
            let id = format!("{polls:015}{}", u8::from(commit));
            let restoring = self.targets.restoring(&id);
            let mut target = self.staged(&restoring).await;
            let place = target.place();
            if commit {
                target.prepare(&restoring).await.unwrap();
                let _ = cancelled_after(polls, target.commit(&restoring)).await;
            } else {
                let _ = cancelled_after(polls, target.prepare(&restoring)).await;
            }
            drop(target);
            let mut other = self.targets.reopen(&place, &id).await;
            let live = match other.standing().await.unwrap() {
                Standing::Old => &self.old,
                Standing::New => new,
            };
            self.is_live(live, "a cut-over that was cut off").await;
            drop(other);
            self.bring_back(&place, &id, "a cut-over that was cut off")
                .await;
        }
    }

    async fn a_way_back_may_be_dropped(&self, polls: usize, new: &str) {
        let id = format!("{polls:015}b");
        let mut target = self.restored(&id).await;
        let place = target.place();
        target.prepare_revert(false).await.unwrap();
        let _ = cancelled_after(polls, target.revert()).await;
        drop(target);
        let mut other = self.targets.reopen(&place, &id).await;
        let live = match other.standing().await.unwrap() {
            Standing::Old => &self.old,
            Standing::New => new,
        };
        self.is_live(live, "a way back that was cut off").await;
        drop(other);
        self.bring_back(&place, &id, "a way back that was cut off")
            .await;
    }

    async fn what_is_forgotten_is_gone(&self, new: &str) {
        let id = "0000000000forget";
        let target = self.restored(id).await;
        let place = target.place();
        drop(target);
        let mut target = self.targets.reopen(&place, id).await;
        for _ in 0..2 {
            target.discard().await.unwrap();
            target.forget(Standing::New).await.unwrap();
        }
        drop(target);
        self.is_live(new, "the former state is forgotten").await;
        assert_eq!(
            self.targets.beside().await,
            self.beside,
            "nothing of the former state is left"
        );
    }
}
