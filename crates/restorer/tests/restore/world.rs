//! Targets that keep their state in a small world outside of the process.

use std::sync::{Arc, Mutex};

use arkstream_format::{
    Component, Digest, FORMAT_VERSION, Generator, Manifest, Member, RestorePhase, RestoreRecord,
    RunId, TargetPlace,
};
use arkstream_pipeline::{
    Budget, BundleReader, Cancel, Checked, Failure, FailureKind, Finding, Proof, Restoring, Silent,
    Standing, Target, TargetPlan,
};
use arkstream_restorer::{Ledger, Recovered, Restore, Staged, recover, undo};
use async_trait::async_trait;
use bytes::Bytes;

pub(crate) const COMPONENTS: [Component; 4] = [
    Component::Models,
    Component::Filestore,
    Component::Graph,
    Component::Chroma,
];

/// Steps at which a target can fail during a run.
pub(crate) const STEPS: [&str; 6] = [
    "stage",
    "verify",
    "prepare",
    "commit",
    "after commit",
    "prove",
];

/// What lies outside of the process.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) live: Vec<Component>,
    pub(crate) staged: Vec<Component>,
    pub(crate) kept: Vec<Component>,
    pub(crate) records: Vec<RestoreRecord>,
    pub(crate) diary: Vec<String>,
    /// Where steps fail.
    pub(crate) failing: Vec<(Component, &'static str)>,
    /// Whether everything fails from then on, as it does in a process that is killed.
    pub(crate) deadly: bool,
    pub(crate) dead: bool,
    /// Whether what fails is a lost connection, which may pass by itself.
    pub(crate) passing: bool,
    /// What somebody has worked with since.
    pub(crate) changed: Vec<Component>,
    /// How often each component was loaded.
    pub(crate) loads: Vec<Component>,
}

#[derive(Clone, Default)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<World>>);

impl Shared {
    fn step(&self, component: Component, step: &'static str) -> Result<(), Failure> {
        let mut world = self.0.lock().unwrap();
        if world.dead {
            return Err(Failure::new(FailureKind::Source, step, "killed"));
        }
        world.diary.push(format!("{step} {component}"));
        if world.failing.contains(&(component, step)) {
            world.dead = world.deadly;
            let failure = Failure::new(FailureKind::Source, step, "it was told to fail");
            return Err(match world.passing {
                true => failure.passing(),
                false => failure,
            });
        }
        Ok(())
    }

    /// A world in which a step of a target fails.
    pub(crate) fn failing(component: Component, step: &'static str) -> Self {
        let world = Self::default();
        world.0.lock().unwrap().failing = vec![(component, step)];
        world
    }

    /// From now on nothing fails. Returns the last record.
    pub(crate) fn mended(&self) -> RestoreRecord {
        let mut inner = self.0.lock().unwrap();
        (inner.dead, inner.deadly, inner.failing) = (false, false, Vec::new());
        inner.records.last().unwrap().clone()
    }

    /// A world with a finished restore, and its record.
    pub(crate) async fn restored() -> (Self, RestoreRecord) {
        let world = Self::default();
        world.restore().run().await.unwrap();
        let record = world.mended();
        (world, record)
    }

    pub(crate) async fn recover(&self, staged: Staged) -> Recovered {
        let mut record = self.mended();
        recover(&mut record, &mut self.targets(), self, staged, false)
            .await
            .unwrap()
    }

    pub(crate) async fn undo(&self, force: bool) -> Result<(), Failure> {
        let mut record = self.0.lock().unwrap().records.last().unwrap().clone();
        undo(&mut record, &mut self.targets(), self, force, None).await
    }

    /// The same command again, after a recovery that kept what was loaded.
    pub(crate) fn restore_again(&self) -> Restore {
        let mut restoring = restoring();
        restoring.continues = true;
        Restore::new(self.targets(), restoring, Arc::new(self.clone()), "b.zip")
    }

    pub(crate) fn targets(&self) -> Vec<Box<dyn Target>> {
        COMPONENTS
            .into_iter()
            .map(|component| {
                Box::new(Fake {
                    component,
                    world: self.clone(),
                    prepared: false,
                    undoing: false,
                }) as Box<dyn Target>
            })
            .collect()
    }

    pub(crate) fn restore(&self) -> Restore {
        Restore::new(self.targets(), restoring(), Arc::new(self.clone()), "b.zip")
    }

    pub(crate) fn phase(&self) -> RestorePhase {
        self.0.lock().unwrap().records.last().unwrap().phase
    }

    pub(crate) fn live(&self) -> usize {
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
    undoing: bool,
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
    async fn claim(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "claim")
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
    async fn stage(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        {
            let mut world = self.world.0.lock().unwrap();
            let there = world.staged.contains(&self.component);
            assert!(restoring.continues || !there, "built upon something else");
            if !there {
                world.staged.push(self.component);
                world.loads.push(self.component);
            }
        }
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
    async fn prepare_revert(&mut self, force: bool) -> Result<Vec<String>, Failure> {
        self.world.step(self.component, "prepare revert")?;
        let world = self.world.0.lock().unwrap();
        if !world.live.contains(&self.component) {
            return Ok(Vec::new());
        }
        let lines: Vec<String> = match world.changed.contains(&self.component) {
            true => vec!["a row".to_owned()],
            false => Vec::new(),
        };
        self.undoing = lines.is_empty() || force;
        Ok(lines)
    }
    async fn release(&mut self) {
        self.undoing = false;
    }
    async fn revert(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "revert")?;
        {
            let mut world = self.world.0.lock().unwrap();
            if remove(&mut world.live, self.component) {
                assert!(
                    remove(&mut world.kept, self.component),
                    "nothing to go back to"
                );
                world.staged.push(self.component);
            }
        }
        self.world.step(self.component, "after revert")
    }
    async fn announce(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "announce")
    }
    async fn discard(&mut self) -> Result<(), Failure> {
        self.world.step(self.component, "discard")?;
        remove(&mut self.world.0.lock().unwrap().staged, self.component);
        Ok(())
    }
    async fn forget(&mut self, live: Standing) -> Result<(), Failure> {
        self.world.step(self.component, "forget")?;
        let mut world = self.world.0.lock().unwrap();
        match live {
            Standing::New => remove(&mut world.kept, self.component),
            Standing::Old => {
                assert!(!world.live.contains(&self.component), "no way back is left");
                false
            }
        };
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

pub(crate) fn restoring() -> Restoring {
    restoring_of(FORMAT_VERSION)
}

pub(crate) fn restoring_of(version: &str) -> Restoring {
    Restoring {
        bundle: Arc::new(Empty(Manifest {
            format_version: version.to_owned(),
            ..Manifest::empty(
                RunId("0".repeat(32)),
                Generator::new("arkstream", "0"),
                chrono::Utc::now(),
            )
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
