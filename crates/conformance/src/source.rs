//! What a [`Source`] promises.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arkstream_format::Component;
use arkstream_pipeline::{
    Budget, BundleSink as _, Cancel, Failure, FailureKind, Run, Silent, Sink, Source, SourcePlan,
    SourceReport,
};
use async_trait::async_trait;

use crate::{Fault, Faulty, MemorySink};

/// A system that nobody changes meanwhile, and the sources of it.
#[async_trait]
pub trait Sources: Sync {
    /// A new source of it.
    async fn make(&self) -> Box<dyn Source>;

    /// Folders, or whole names, of its members.
    fn folders(&self) -> Vec<String>;

    /// How many locks are held on it, by whomever.
    async fn locks(&self) -> usize;

    /// Whether its source locks anything.
    fn has_locks(&self) -> bool {
        true
    }

    /// Everything that a look at the system shows, to be compared: a backup changes nothing.
    async fn state(&self) -> String;
}

/// Steps of a source, in the archiver's order.
const STEPS: usize = 6;

/// All of it. `faults` is how many of a stream's calls to the sink have a fault, one a run.
pub async fn suite(sources: &dyn Sources, faults: usize) {
    let started = std::time::Instant::now();
    let told = |what: &str| println!("{:>8.1?} {what}", started.elapsed());
    let before = sources.state().await;
    a_plan_is_the_same_again_and_locks_nothing(sources).await;
    told("planned");
    let calls = a_backup_is_whole(sources).await;
    told("backed up");
    it_is_released_at_any_time(sources).await;
    told("released");
    it_lets_go_when_it_is_dropped(sources).await;
    told("dropped");
    for fault in 0..faults.min(calls) {
        let at = fault * calls / faults.min(calls);
        a_failed_sink_is_told(sources, at).await;
        told("failed");
        an_interrupted_stream_ends(sources, at).await;
        told("interrupted");
        a_stream_may_be_dropped(sources, at).await;
        told("dropped within the stream");
    }
    assert_eq!(sources.state().await, before, "a backup changes nothing");
}

struct Setting {
    run: Run,
    sink: MemorySink,
    faulty: Faulty,
}

fn setting(fault: Fault, at: usize, cancel: Cancel) -> Setting {
    let sink = MemorySink::default();
    let faulty = Faulty::new(Arc::new(sink.clone()), fault, at);
    let shared: Arc<dyn Sink> = Arc::new(faulty.clone());
    let run = Run::new(shared, Arc::new(Silent), cancel, Budget::new(64 << 20), 2);
    Setting { run, sink, faulty }
}

fn sound() -> Setting {
    setting(Fault::None, 0, Cancel::default())
}

/// The first `steps` steps.
async fn steps(
    source: &mut dyn Source,
    run: &Run,
    steps: usize,
) -> Result<Option<SourceReport>, Failure> {
    for step in 0..steps {
        match step {
            0 => drop(source.plan().await?),
            1 => source.prepare(run).await?,
            2 => source.lock(run).await?,
            3 => drop(source.snapshot(run).await?),
            4 => source.confirm(run).await?,
            _ => return source.stream(run).await.map(Some),
        }
    }
    Ok(None)
}

/// Locks go away with the sessions that held them, which may take a moment.
async fn nothing_is_locked(sources: &dyn Sources, after: &str) {
    for _ in 0..200 {
        if sources.locks().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{} locks are held after {after}", sources.locks().await);
}

async fn a_plan_is_the_same_again_and_locks_nothing(sources: &dyn Sources) {
    let (mut one, mut two) = (sources.make().await, sources.make().await);
    let plan: SourcePlan = one.plan().await.unwrap();
    assert_eq!(one.plan().await.unwrap(), plan, "a plan is the same again");
    assert_eq!(two.plan().await.unwrap(), plan, "a plan is everybody's");
    assert!(!plan.items.is_empty() && !plan.identity.is_empty());
    assert_eq!(sources.locks().await, 0, "a plan locks nothing");
    assert_eq!(one.component(), two.component());
}

/// Returns the number of its calls to the sink.
async fn a_backup_is_whole(sources: &dyn Sources) -> usize {
    let mut source = sources.make().await;
    let setting = sound();
    steps(&mut *source, &setting.run, 3).await.unwrap();
    if sources.has_locks() {
        assert!(sources.locks().await > 0, "lock locks");
    }
    source.snapshot(&setting.run).await.unwrap();
    source.confirm(&setting.run).await.unwrap();
    let report = source.stream(&setting.run).await.unwrap();
    nothing_is_locked(sources, "a stream has ended").await;
    setting.run.sink.sync().await.unwrap();
    check(sources, &*source, &setting, &report);
    assert_eq!(
        setting.run.omissions(),
        [],
        "nothing changes, so nothing is left out"
    );

    let again = sound();
    let mut other = sources.make().await;
    let report = steps(&mut *other, &again.run, STEPS)
        .await
        .unwrap()
        .unwrap();
    check(sources, &*other, &again, &report);
    let sizes = |setting: &Setting| -> BTreeMap<String, Option<u64>> {
        let contents = setting.sink.contents().into_iter();
        contents.map(|(name, (_, rows))| (name, rows)).collect()
    };
    assert_eq!(
        sizes(&again),
        sizes(&setting),
        "two backups have the same members"
    );
    setting.faulty.calls()
}

fn check(sources: &dyn Sources, source: &dyn Source, setting: &Setting, report: &SourceReport) {
    let contents = setting.sink.contents();
    assert!(!contents.is_empty());
    let folders = sources.folders();
    for name in contents.keys() {
        let member = setting.sink.member(name);
        assert_eq!(member.component, source.component(), "{name}");
        assert!(
            folders
                .iter()
                .any(|folder| name.starts_with(folder.as_str())),
            "{name} is in a folder of {}",
            source.component()
        );
    }
    let mut listed = 0;
    for table in &report.tables {
        let mut rows = 0;
        for part in &table.parts {
            let found = contents.get(&part.member);
            let (_, counted) = found.unwrap_or_else(|| panic!("{} is there", part.member));
            assert_eq!(Some(part.rows), *counted, "{}", part.member);
            rows += part.rows;
            listed += 1;
        }
        assert_eq!(
            table.rows, rows,
            "{} has the rows of its parts",
            table.table
        );
    }
    if source.component() == Component::Models {
        assert_eq!(listed, contents.len(), "every member is a part of a table");
    }
}

async fn it_is_released_at_any_time(sources: &dyn Sources) {
    for count in 0..=STEPS {
        let mut source = sources.make().await;
        let setting = sound();
        steps(&mut *source, &setting.run, count).await.unwrap();
        source.release().await;
        source.release().await;
        nothing_is_locked(sources, &format!("a release behind step {count}")).await;
        // The archiver starts again with the plan: for another attempt at the barrier, or for
        // another generation of the same run.
        if count == 4 {
            let report = steps(&mut *source, &setting.run, STEPS)
                .await
                .unwrap()
                .unwrap();
            check(sources, &*source, &setting, &report);
            source.release().await;
        }
        if count == STEPS {
            another_generation(sources, &mut *source, &setting).await;
        }
    }
}

/// What the archiver does after a stream that did not come to its end.
async fn another_generation(sources: &dyn Sources, source: &mut dyn Source, setting: &Setting) {
    setting.sink.set_aside().await.unwrap();
    let run = setting.run.next_generation(None);
    let report = steps(source, &run, STEPS).await.unwrap().unwrap();
    setting.sink.sync().await.unwrap();
    check(sources, source, setting, &report);
    source.release().await;
    nothing_is_locked(sources, "another generation").await;
}

async fn it_lets_go_when_it_is_dropped(sources: &dyn Sources) {
    for count in 1..STEPS {
        let mut source = sources.make().await;
        steps(&mut *source, &sound().run, count).await.unwrap();
        drop(source);
        nothing_is_locked(sources, &format!("a drop behind step {count}")).await;
    }
}

/// What came behind the fault is one thing; that the failure comes out is another.
async fn a_failed_sink_is_told(sources: &dyn Sources, at: usize) {
    let mut source = sources.make().await;
    let setting = setting(Fault::Fail, at, Cancel::default());
    let outcome = steps(&mut *source, &setting.run, STEPS).await;
    let hit = setting.faulty.hit();
    match (outcome, &hit) {
        (Ok(_), None) => {}
        (Ok(_), Some(call)) => panic!("the sink failed at {call}, and nobody was told"),
        (Err(failure), _) => assert_eq!(failure.kind, FailureKind::NoSpace, "{failure} at {hit:?}"),
    }
    source.release().await;
    nothing_is_locked(sources, &format!("the sink failed at {hit:?}")).await;
}

async fn an_interrupted_stream_ends(sources: &dyn Sources, at: usize) {
    let mut source = sources.make().await;
    let cancel = Cancel::default();
    let setting = setting(Fault::Interrupt(cancel.clone()), at, cancel);
    let limit = Duration::from_secs(20);
    let outcome = tokio::time::timeout(limit, steps(&mut *source, &setting.run, STEPS)).await;
    let outcome = outcome.expect("an interrupted stream ends soon");
    let hit = setting.faulty.hit();
    if let Err(failure) = outcome {
        assert_eq!(
            failure.kind,
            FailureKind::Interrupted,
            "{failure} at {hit:?}"
        );
    }
    source.release().await;
    nothing_is_locked(sources, &format!("an interruption at {hit:?}")).await;
}

async fn a_stream_may_be_dropped(sources: &dyn Sources, at: usize) {
    let mut source = sources.make().await;
    let setting = setting(Fault::Hang, at, Cancel::default());
    let run = setting.run.clone();
    {
        let stream = steps(&mut *source, &run, STEPS);
        let mut stream = std::pin::pin!(stream);
        for _ in 0..2_000 {
            let moment = tokio::time::sleep(Duration::from_millis(10));
            if tokio::time::timeout(Duration::from_millis(10), &mut stream)
                .await
                .is_ok()
            {
                break;
            }
            if setting.faulty.hit().is_some() {
                break;
            }
            moment.await;
        }
    }
    source.release().await;
    let hit = setting.faulty.hit();
    nothing_is_locked(sources, &format!("a stream was dropped at {hit:?}")).await;
    another_generation(sources, &mut *source, &setting).await;
}
