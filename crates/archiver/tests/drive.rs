//! The order of a backup, held against sources and a sink that write down what is asked of them.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use arkstream_archiver::{BARRIER_ATTEMPTS, Backup, Describe, StackFacts};
use arkstream_format::{
    Component, Generation, Manifest, Member, ModelEntry, Proof, RunId, SnapshotEntry,
};
use arkstream_pipeline::{
    Budget, BundleSink, Cancel, Failure, FailureKind, Kept, MemberFacts, MemberSpec, MemberWriter,
    PendingReceipt, Published, Run, Silent, Sink, Source, SourcePlan, SourceReport,
};
use async_trait::async_trait;
use bytes::Bytes;

type Diary = Arc<Mutex<Vec<String>>>;

fn note(diary: &Diary, line: String) {
    diary.lock().unwrap().push(line);
}

/// A source that writes down what is asked of it, and fails where it is told to.
struct Recorded {
    component: Component,
    diary: Diary,
    /// Step and kind of the failures still to come.
    failures: Vec<(&'static str, FailureKind)>,
    cancel_in_stream: Option<Cancel>,
}

impl Recorded {
    fn step(&mut self, step: &'static str) -> Result<(), Failure> {
        note(&self.diary, format!("{step} {}", self.component));
        match self.failures.iter().position(|(at, _)| *at == step) {
            Some(index) => {
                let (_, kind) = self.failures.remove(index);
                Err(Failure::new(kind, step, "it was told to fail"))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Source for Recorded {
    fn component(&self) -> Component {
        self.component
    }

    async fn plan(&mut self) -> Result<SourcePlan, Failure> {
        self.step("plan").map(|()| SourcePlan::default())
    }

    async fn prepare(&mut self, _: &Run) -> Result<(), Failure> {
        self.step("prepare")
    }

    async fn lock(&mut self, _: &Run) -> Result<(), Failure> {
        self.step("lock")
    }

    async fn snapshot(&mut self, _: &Run) -> Result<Option<SnapshotEntry>, Failure> {
        self.step("snapshot").map(|()| None)
    }

    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure> {
        self.step("stream")?;
        if let Some(cancel) = &self.cancel_in_stream {
            cancel.raise();
            std::future::pending::<()>().await;
        }
        if self.component == Component::Filestore {
            run.omit(Component::Filestore, "ab/ab12", "it is gone");
        }
        Ok(SourceReport::default())
    }

    async fn release(&mut self) {
        note(&self.diary, format!("release {}", self.component));
    }
}

struct Memory {
    diary: Diary,
    names: Mutex<Vec<(String, Bytes)>>,
}

#[async_trait]
impl Sink for Memory {
    async fn put(
        &self,
        spec: MemberSpec,
        bytes: Bytes,
        _: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        note(&self.diary, format!("put {}", spec.name));
        self.names.lock().unwrap().push((spec.name, bytes));
        Ok(PendingReceipt::new().1)
    }

    async fn begin(&self, _: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        Err(Failure::new(
            FailureKind::Internal,
            "begin",
            "not used here",
        ))
    }

    async fn retract(&self, _: &str, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn prove(&self, _: &str, _: Proof) -> Result<(), Failure> {
        Ok(())
    }

    async fn sync(&self) -> Result<(), Failure> {
        note(&self.diary, "sync".into());
        Ok(())
    }
}

#[async_trait]
impl BundleSink for Memory {
    async fn begin_generation(&self, _: Generation) -> Result<(), Failure> {
        note(&self.diary, "generation".into());
        Ok(())
    }

    async fn set_aside(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn members(&self) -> Result<Vec<Member>, Failure> {
        Ok(Vec::new())
    }

    async fn publish(&self, manifest: Manifest) -> Result<Published, Failure> {
        note(&self.diary, "publish".into());
        Ok(Published {
            path: "bundle.zip".into(),
            bytes: 0,
            kept: Kept::default(),
            sha256: String::new(),
            manifest,
        })
    }
}

struct Nothing;

impl Describe for Nothing {
    fn model_list(&self) -> Vec<ModelEntry> {
        Vec::new()
    }

    fn facts(&self) -> StackFacts {
        StackFacts::default()
    }

    fn log(&self) -> String {
        "the log".into()
    }
}

const STACK: [Component; 4] = [
    Component::Graph,
    Component::Models,
    Component::Chroma,
    Component::Filestore,
];

/// Runs a backup of the stack and returns its outcome and the diary.
async fn backup(
    failures: Vec<(Component, &'static str, FailureKind)>,
    interrupt: Option<Component>,
) -> (Result<arkstream_archiver::Outcome, Failure>, Vec<String>) {
    let diary = Diary::default();
    let cancel = Cancel::default();
    let sources = STACK.map(|component| {
        Box::new(Recorded {
            component,
            diary: Arc::clone(&diary),
            failures: failures
                .iter()
                .filter(|(of, ..)| *of == component)
                .map(|(_, step, kind)| (*step, *kind))
                .collect(),
            cancel_in_stream: (interrupt == Some(component)).then(|| cancel.clone()),
        }) as Box<dyn Source>
    });
    let sink = Arc::new(Memory {
        diary: Arc::clone(&diary),
        names: Mutex::default(),
    });
    let run = Run::new(
        sink.clone(),
        Arc::new(Silent),
        cancel,
        Budget::new(1 << 20),
        1,
    );
    let mut backup = Backup::new(sources.into(), RunId("r".into()), "0");
    let plan = backup.plan().await.unwrap();
    let outcome = backup.run(&run, sink, &plan, &Nothing).await;
    let diary = diary.lock().unwrap().clone();
    (outcome, diary)
}

fn position(diary: &[String], line: &str) -> usize {
    diary
        .iter()
        .position(|at| at == line)
        .unwrap_or_else(|| panic!("{line} is not in {diary:#?}"))
}

#[tokio::test]
async fn chroma_is_locked_last_and_streamed_first() {
    let (outcome, diary) = backup(Vec::new(), None).await;
    let outcome = outcome.unwrap();
    let order = [
        "lock models",
        "lock graph",
        "lock chroma",
        "snapshot chroma",
        "generation",
        "stream chroma",
        "stream filestore",
        "stream models",
        "stream graph",
        "put odoo_data/model_list.json",
        "put restore_instructions.md",
        "put logs/export_log.txt",
        "put metadata.json",
        "publish",
    ];
    let places: Vec<usize> = order.iter().map(|line| position(&diary, line)).collect();
    assert!(places.is_sorted(), "{diary:#?}");
    assert_eq!(outcome.omissions.len(), 1, "what is left out is told");
    assert_eq!(outcome.published.manifest.omissions, outcome.omissions);
}

#[tokio::test]
async fn a_changed_world_gives_up_all_locks_and_plans_again() {
    let retry = vec![(Component::Graph, "snapshot", FailureKind::Retry)];
    let (outcome, diary) = backup(retry, None).await;
    outcome.unwrap();
    let first_release = position(&diary, "release chroma");
    let again = diary
        .iter()
        .rposition(|line| line == "plan models")
        .unwrap();
    let lock = diary
        .iter()
        .rposition(|line| line == "lock models")
        .unwrap();
    assert!(first_release < again && again < lock, "{diary:#?}");
    let streams = diary.iter().filter(|line| line.starts_with("stream"));
    assert_eq!(streams.count(), STACK.len());
}

#[tokio::test(start_paused = true)]
async fn a_world_that_never_rests_ends_in_an_error_not_in_a_bundle() {
    let retries = vec![(Component::Models, "lock", FailureKind::Retry); 20];
    let (outcome, diary) = backup(retries, None).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.advice().is_some());
    let tries = diary.iter().filter(|line| *line == "lock models").count();
    assert_eq!(tries, BARRIER_ATTEMPTS as usize);
    assert!(!diary.iter().any(|line| line == "publish"));
}

#[tokio::test]
async fn a_failing_source_releases_all_and_publishes_nothing() {
    for step in ["prepare", "lock", "snapshot", "stream"] {
        let failures = vec![(Component::Graph, step, FailureKind::NoSpace)];
        let (outcome, diary) = backup(failures, None).await;
        assert_eq!(outcome.unwrap_err().kind, FailureKind::NoSpace, "{step}");
        for component in STACK {
            position(&diary, &format!("release {component}"));
        }
        assert!(!diary.iter().any(|line| line == "publish"), "{step}");
    }
}

#[tokio::test]
async fn an_interrupt_releases_all_and_publishes_nothing() {
    let (outcome, diary) = backup(Vec::new(), Some(Component::Filestore)).await;
    assert_eq!(outcome.unwrap_err().kind, FailureKind::Interrupted);
    position(&diary, "release models");
    assert!(!diary.iter().any(|line| line == "publish"));
}
