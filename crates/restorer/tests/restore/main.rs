//! The order of a restore, and what stands afterwards when any step of any target fails or the
//! process is killed at it. Held against targets that keep their state in a small world.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use arkstream_format::{
    Component, Digest, FORMAT_VERSION, Generator, Manifest, Member, RestorePhase, RestoreRecord,
    RunId, TargetPlace,
};
use arkstream_pipeline::{
    Budget, BundleReader, Cancel, Checked, Failure, FailureKind, Finding, Proof, Restoring, Silent,
    Standing, Target, TargetPlan,
};
use arkstream_restorer::{Ledger, Recovered, Restore, Staged, forget, recover, undo};
use async_trait::async_trait;
use bytes::Bytes;

const COMPONENTS: [Component; 4] = [
    Component::Models,
    Component::Filestore,
    Component::Graph,
    Component::Chroma,
];

/// Steps at which a target can fail during a run.
const STEPS: [&str; 6] = [
    "stage",
    "verify",
    "prepare",
    "commit",
    "after commit",
    "prove",
];

/// What lies outside of the process.
#[derive(Default)]
struct World {
    live: Vec<Component>,
    staged: Vec<Component>,
    kept: Vec<Component>,
    records: Vec<RestoreRecord>,
    diary: Vec<String>,
    /// Where steps fail.
    failing: Vec<(Component, &'static str)>,
    /// Whether everything fails from then on, as it does in a process that is killed.
    deadly: bool,
    dead: bool,
    changed: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn step(&self, component: Component, step: &'static str) -> Result<(), Failure> {
        let mut world = self.0.lock().unwrap();
        if world.dead {
            return Err(Failure::new(FailureKind::Source, step, "killed"));
        }
        world.diary.push(format!("{step} {component}"));
        if world.failing.contains(&(component, step)) {
            world.dead = world.deadly;
            return Err(Failure::new(
                FailureKind::Source,
                step,
                "it was told to fail",
            ));
        }
        Ok(())
    }

    fn targets(&self) -> Vec<Box<dyn Target>> {
        COMPONENTS
            .into_iter()
            .map(|component| {
                Box::new(Fake {
                    component,
                    world: self.clone(),
                    prepared: false,
                }) as Box<dyn Target>
            })
            .collect()
    }

    fn restore(&self) -> Restore {
        Restore::new(self.targets(), restoring(), Arc::new(self.clone()), "b.zip")
    }

    fn phase(&self) -> RestorePhase {
        self.0.lock().unwrap().records.last().unwrap().phase
    }

    fn live(&self) -> usize {
        self.0.lock().unwrap().live.len()
    }
}

impl Ledger for Shared {
    fn save(&self, record: &RestoreRecord) -> Result<(), Failure> {
        let mut world = self.0.lock().unwrap();
        if world.dead {
            return Err(Failure::new(FailureKind::Source, "save", "killed"));
        }
        world.diary.push(format!("{:?}", record.phase));
        world.records.push(record.clone());
        Ok(())
    }
}

struct Fake {
    component: Component,
    world: Shared,
    prepared: bool,
}

fn remove(list: &mut Vec<Component>, component: Component) -> bool {
    let before = list.len();
    list.retain(|c| *c != component);
    list.len() != before
}

#[async_trait]
impl Target for Fake {
    fn component(&self) -> Component {
        self.component
    }
    fn place(&self) -> TargetPlace {
        TargetPlace::Chroma {
            directory: String::new(),
            staging: String::new(),
            kept: String::new(),
            existed: true,
        }
    }
    async fn check(&mut self, _: &Restoring) -> Checked {
        let mut checked = Checked::default();
        if let Err(failure) = self.world.step(self.component, "check") {
            checked.problem(failure);
        }
        checked
    }
    async fn rehearse(&mut self, _: &Restoring) -> Result<TargetPlan, Failure> {
        Ok(TargetPlan::default())
    }
    async fn stage(&mut self, _: &Restoring) -> Result<(), Failure> {
        self.world.0.lock().unwrap().staged.push(self.component);
        self.world.step(self.component, "stage")
    }
    async fn verify(&mut self, _: &Restoring) -> Result<(), Failure> {
        self.world.step(self.component, "verify")
    }
    async fn prepare(&mut self, _: &Restoring) -> Result<TargetPlan, Failure> {
        self.world.step(self.component, "prepare")?;
        self.prepared = true;
        Ok(TargetPlan::default())
    }
    async fn commit(&mut self, _: &Restoring) -> Result<(), Failure> {
        self.world.step(self.component, "commit")?;
        assert!(self.prepared);
        {
            let mut world = self.world.0.lock().unwrap();
            world.live.push(self.component);
            world.kept.push(self.component);
            remove(&mut world.staged, self.component);
        }
        // The switch is done, and the answer is lost.
        self.world.step(self.component, "after commit")
    }
    async fn prove(&mut self, _: &Restoring) -> Result<Vec<Proof>, Failure> {
        self.world.step(self.component, "prove")?;
        Ok(vec![Proof::new("it", 1, 1)])
    }
    async fn standing(&mut self) -> Result<Standing, Failure> {
        let live = self.world.0.lock().unwrap().live.contains(&self.component);
        Ok(if live { Standing::New } else { Standing::Old })
    }
    async fn changed_since(&mut self) -> Result<Vec<String>, Failure> {
        let changed = self.world.0.lock().unwrap().changed;
        Ok(if changed {
            vec!["a row".to_owned()]
        } else {
            Vec::new()
        })
    }
    async fn revert(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "revert")?;
        let mut world = self.world.0.lock().unwrap();
        if remove(&mut world.live, self.component) {
            assert!(
                remove(&mut world.kept, self.component),
                "nothing to go back to"
            );
            world.staged.push(self.component);
        }
        Ok(())
    }
    async fn discard(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "discard")?;
        remove(&mut self.world.0.lock().unwrap().staged, self.component);
        Ok(())
    }
    async fn forget(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "forget")?;
        remove(&mut self.world.0.lock().unwrap().kept, self.component);
        Ok(())
    }
}

struct Empty(Manifest);

impl BundleReader for Empty {
    fn manifest(&self) -> &Manifest {
        &self.0
    }
    fn manifest_digest(&self) -> Digest {
        Digest::of(&[])
    }
    fn file_len(&self) -> u64 {
        0
    }
    fn check_framing(&self) -> Vec<Finding> {
        Vec::new()
    }
    fn read_chunk(&self, _: &Member, _: usize) -> Result<Bytes, Finding> {
        Ok(Bytes::new())
    }
}

fn restoring() -> Restoring {
    restoring_of(FORMAT_VERSION)
}

fn restoring_of(version: &str) -> Restoring {
    Restoring {
        bundle: Arc::new(Empty(Manifest {
            format_version: version.to_owned(),
            run_id: RunId("0".repeat(32)),
            generator: Generator {
                name: "arkstream".to_owned(),
                version: "0".to_owned(),
            },
            started_at: chrono::Utc::now(),
            generations: Vec::new(),
            components: Default::default(),
            members: Vec::new(),
            dead_ranges: Vec::new(),
            tables: Vec::new(),
            omissions: Vec::new(),
            references: Vec::new(),
            chroma: None,
            graph: None,
            sealing: None,
        })),
        id: "0123456789abcdef".to_owned(),
        observer: Arc::new(Silent),
        cancel: Cancel::default(),
        budget: Budget::new(1 << 20),
        jobs: 1,
        began_at: chrono::Utc::now(),
        continues: false,
        kept: Default::default(),
    }
}

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
    assert!(at("commit graph") < at("Live") && at("Live") < at("prove models"));
    let world = world.0.lock().unwrap();
    assert!(world.staged.is_empty() && world.kept.len() == 4 && world.live.len() == 4);
}

#[tokio::test]
async fn a_failure_at_any_step_of_any_target_leaves_all_old_or_all_new() {
    for component in COMPONENTS {
        for step in STEPS {
            let world = Shared::default();
            world.0.lock().unwrap().failing = vec![(component, step)];
            world.restore().run().await.unwrap_err();
            let (live, phase) = (world.live(), world.phase());
            let expected = match step {
                "prove" => (4, RestorePhase::Live),
                "stage" | "verify" => (0, RestorePhase::Discarded),
                _ => (0, RestorePhase::Reverted),
            };
            assert_eq!((live, phase), expected, "{component} {step}");
            let world = world.0.lock().unwrap();
            assert!(
                step == "prove" || (world.staged.is_empty() && world.kept.is_empty()),
                "{component} {step}"
            );
        }
    }
}

#[tokio::test]
async fn killed_at_any_step_of_any_target_the_next_command_makes_all_agree() {
    for component in COMPONENTS {
        for step in STEPS {
            let world = Shared::default();
            {
                let mut inner = world.0.lock().unwrap();
                inner.failing = vec![(component, step)];
                inner.deadly = true;
            }
            world.restore().run().await.unwrap_err();
            let mut record = {
                let mut inner = world.0.lock().unwrap();
                (inner.dead, inner.failing) = (false, Vec::new());
                inner.records.last().unwrap().clone()
            };
            let done = recover(&mut record, &mut world.targets(), &world, Staged::Remove)
                .await
                .unwrap();
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
        }
    }
}

#[tokio::test]
async fn a_revert_that_fails_says_so_and_goes_on_the_next_time() {
    let world = Shared::default();
    world.0.lock().unwrap().failing =
        vec![(Component::Graph, "commit"), (Component::Chroma, "revert")];
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
    let mut record = {
        let mut inner = world.0.lock().unwrap();
        inner.failing = Vec::new();
        inner.records.last().unwrap().clone()
    };
    let done = recover(&mut record, &mut world.targets(), &world, Staged::Remove)
        .await
        .unwrap();
    assert_eq!((done, world.live()), (Recovered::Reverted, 0));
}

#[tokio::test]
async fn an_undo_overwrites_changes_only_by_force_and_survives_a_kill() {
    let world = Shared::default();
    world.restore().run().await.unwrap();
    let mut record = world.0.lock().unwrap().records.last().unwrap().clone();
    world.0.lock().unwrap().changed = true;
    let refused = undo(&mut record, &mut world.targets(), &world, false)
        .await
        .unwrap_err();
    assert_eq!((refused.kind, world.live()), (FailureKind::Refused, 4));
    {
        let mut inner = world.0.lock().unwrap();
        inner.failing = vec![(Component::Models, "revert")];
        inner.deadly = true;
    }
    undo(&mut record, &mut world.targets(), &world, true)
        .await
        .unwrap_err();
    let mut record = {
        let mut inner = world.0.lock().unwrap();
        (inner.dead, inner.failing) = (false, Vec::new());
        inner.records.last().unwrap().clone()
    };
    assert_eq!(record.phase, RestorePhase::Undoing);
    let done = recover(&mut record, &mut world.targets(), &world, Staged::Remove)
        .await
        .unwrap();
    assert_eq!(
        (done, world.live(), world.phase()),
        (Recovered::Reverted, 0, RestorePhase::Reverted)
    );
    let again = undo(&mut record, &mut world.targets(), &world, true)
        .await
        .unwrap_err();
    assert_eq!(again.kind, FailureKind::Refused);
}

#[tokio::test]
async fn what_is_being_forgotten_cannot_be_undone() {
    let world = Shared::default();
    world.restore().run().await.unwrap();
    let mut record = world.0.lock().unwrap().records.last().unwrap().clone();
    {
        let mut inner = world.0.lock().unwrap();
        inner.failing = vec![(Component::Models, "forget")];
        inner.deadly = true;
    }
    forget(&mut record, &mut world.targets(), &world)
        .await
        .unwrap_err();
    let mut record = {
        let mut inner = world.0.lock().unwrap();
        (inner.dead, inner.failing) = (false, Vec::new());
        inner.records.last().unwrap().clone()
    };
    undo(&mut record, &mut world.targets(), &world, true)
        .await
        .unwrap_err();
    let done = recover(&mut record, &mut world.targets(), &world, Staged::Remove)
        .await
        .unwrap();
    assert_eq!((done, world.live()), (Recovered::Forgotten, 4));
    assert!(world.0.lock().unwrap().kept.is_empty());
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
