//! The graph's database: switched and brought back as a whole, whoever was killed in between.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arkstream_format::{Component, TargetPlace, member_names};
use arkstream_pipeline::{Cancel, FailureKind, Restoring, Standing, Target};
use arkstream_postgres::{ConnectSpec, GraphTarget, GraphTargetOptions};
use bytes::Bytes;

use super::bundle::{bundle_of, restoring};
use super::support::server;

const DUMP: &str = "SET statement_timeout = 0;\nCREATE TABLE public.node (id integer, name text);\n\
    COPY public.node (id, name) FROM stdin;\n1\tnew\n2\tnew\n\\.\n";

/// How long a target waits for a lock.
const PATIENCE: Duration = Duration::from_secs(20);

fn admin() -> ConnectSpec {
    ConnectSpec::parse(&server().conninfo("postgres")).unwrap()
}

/// A graph database of one's own, and a restore into it.
pub(crate) struct Graph {
    name: String,
    id: String,
    restoring: Restoring,
}

impl Graph {
    fn new(pieces: Vec<Option<Bytes>>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{number:016}");
        let dump = bundle_of(member_names::GRAPH_DUMP, Component::Graph, pieces);
        let restoring = restoring(&id, dump);
        Self {
            name: format!("graph \"{number}\""),
            id,
            restoring,
        }
    }

    fn with_dump() -> Self {
        Self::new(vec![Some(Bytes::from_static(DUMP.as_bytes()))])
    }

    /// One with a former database.
    pub(crate) fn with_former() -> Self {
        let graph = Self::with_dump();
        server().create_database(&graph.name).unwrap();
        let sql = "CREATE TABLE node (id int, name text); INSERT INTO node VALUES (1, 'old')";
        server().psql(&graph.name, sql).unwrap();
        graph
    }

    fn options(&self, pg_path: &Path, wait: Duration) -> GraphTargetOptions {
        GraphTargetOptions {
            terminate_connections: false,
            pg_path: Some(pg_path.to_owned()),
            now: self.restoring.began_at,
            application: None,
            lock_timeout: wait,
        }
    }

    fn target_at(&self, pg_path: &Path, wait: Duration) -> GraphTarget {
        GraphTarget::new(admin(), &self.name, &self.id, self.options(pg_path, wait))
    }

    fn target(&self) -> GraphTarget {
        self.target_of(&self.id)
    }

    /// The same restore by another name.
    pub(crate) fn restoring_as(&self, id: &str) -> Restoring {
        Restoring {
            id: id.to_owned(),
            cancel: Cancel::default(),
            ..self.restoring.clone()
        }
    }

    pub(crate) fn target_of(&self, id: &str) -> GraphTarget {
        let options = self.options(server().bin_dir(), PATIENCE);
        GraphTarget::new(admin(), &self.name, id, options)
    }

    pub(crate) fn reopened(&self, place: &TargetPlace, id: &str) -> GraphTarget {
        let options = self.options(server().bin_dir(), PATIENCE);
        GraphTarget::reopen(place, id, admin(), options).unwrap()
    }

    async fn prepared(&self) -> GraphTarget {
        let mut target = self.target();
        target.stage(&self.restoring).await.unwrap();
        target.verify(&self.restoring).await.unwrap();
        target.prepare(&self.restoring).await.unwrap();
        target
    }

    async fn restored(&self) -> GraphTarget {
        let mut target = self.prepared().await;
        target.commit(&self.restoring).await.unwrap();
        target
    }

    pub(crate) fn names(&self) -> String {
        server()
            .psql(
                &self.name,
                "SELECT string_agg(DISTINCT name, ',') FROM node",
            )
            .unwrap()
    }

    pub(crate) fn databases(&self) -> Vec<String> {
        let sql = format!(
            "SELECT datname FROM pg_database WHERE starts_with(datname, '{}') ORDER BY 1",
            self.name
        );
        let text = server().psql("postgres", &sql).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn kept(&self) -> String {
        let databases = self.databases();
        let kept = databases.iter().find(|name| name.contains("_backup_"));
        kept.unwrap().clone()
    }

    fn drop(&self, database: &str) {
        let sql = format!("DROP DATABASE \"{}\"", database.replace('"', "\"\""));
        server().psql("postgres", &sql).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_switched_and_brought_back() {
    let graph = Graph::with_former();
    let mut target = graph.restored().await;
    assert_eq!(
        (target.standing().await.unwrap(), graph.names()),
        (Standing::New, "new".into())
    );
    assert!(target.prepare_revert(false).await.unwrap().is_empty());
    // Executed, not committed.
    target.release().await;
    assert_eq!(target.standing().await.unwrap(), Standing::New);
    target.prepare_revert(false).await.unwrap();
    target.revert().await.unwrap();
    assert_eq!(
        (target.standing().await.unwrap(), graph.names()),
        (Standing::Old, "old".into())
    );
    target.discard().await.unwrap();
    target.forget(Standing::Old).await.unwrap();
    assert_eq!(graph.databases(), std::slice::from_ref(&graph.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_is_still_committing_is_waited_for() {
    let graph = Graph::with_former();
    // The names are changed, and nobody knows whether its COMMIT arrives.
    let mut orphan = graph.prepared().await;
    let mut impatient = graph.target_at(server().bin_dir(), Duration::from_millis(300));
    let refused = impatient.standing().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.why().contains("the server process"), "{refused}");
    assert!(impatient.discard().await.is_err() && impatient.revert().await.is_err());
    let mut other = graph.target();
    let look = tokio::spawn(async move {
        let standing = other.standing().await.unwrap();
        other.discard().await.unwrap();
        standing
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!look.is_finished());
    orphan.commit(&graph.restoring).await.unwrap();
    assert_eq!(look.await.unwrap(), Standing::New);
    assert_eq!((graph.names(), graph.databases().len()), ("new".into(), 2));
    let mut other = graph.target();
    other.revert().await.unwrap();
    assert_eq!(graph.names(), "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_graph_is_not_given_up_for_a_former_one_that_is_gone() {
    let graph = Graph::with_former();
    let mut target = graph.restored().await;
    graph.drop(&graph.kept());
    for force in [false, true] {
        let refused = target.prepare_revert(force).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
        assert!(refused.why().contains("dropped or renamed"), "{refused}");
    }
    target.revert().await.unwrap_err();
    target.discard().await.unwrap();
    assert_eq!(graph.names(), "new");
    // Where there was none before, none is what comes back.
    let graph = Graph::with_dump();
    let mut target = graph.restored().await;
    target.revert().await.unwrap();
    target.discard().await.unwrap();
    assert!(graph.databases().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_who_is_connected_are_told_before_an_undo() {
    let graph = Graph::with_former();
    let mut target = graph.restored().await;
    server()
        .psql(&graph.name, "INSERT INTO node VALUES (3, 'mine')")
        .unwrap();
    let spec = ConnectSpec::parse(&server().conninfo(&graph.name)).unwrap();
    let somebody = arkstream_postgres::Session::connect(&spec, "somebody")
        .await
        .unwrap();
    let lines = target.prepare_revert(false).await.unwrap().join("\n");
    assert!(
        lines.contains("node") && lines.contains("somebody"),
        "{lines}"
    );
    assert_eq!(graph.names(), "mine,new");
    somebody.close().await;
    let lines = target.prepare_revert(true).await.unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    target.revert().await.unwrap();
    assert_eq!(graph.names(), "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_database_is_dropped_also_when_something_else_is_live() {
    let graph = Graph::with_former();
    let mut target = graph.restored().await;
    graph.drop(&graph.name);
    target.forget(Standing::New).await.unwrap();
    assert!(graph.databases().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_restore_of_the_same_graph_is_refused_and_not_of_another_one() {
    let (graph, another) = (Graph::with_dump(), Graph::with_dump());
    let mut first = graph.target();
    first.claim().await.unwrap();
    first.claim().await.unwrap();
    another.target().claim().await.unwrap();
    let mut second = graph.target();
    let refused = second.claim().await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.why().contains("another restore"), "{refused}");
    assert!(
        refused.why().contains("arkstream restore graph"),
        "{refused}"
    );
    drop(first);
    second.claim().await.unwrap();
}

/// Programs that outlive who started them by a wrapper that is killed instead, as `psql` outlives
/// us when we are killed.
#[allow(clippy::disallowed_methods)]
fn wrapped() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for program in ["psql", "pg_dump"] {
        let path = dir.path().join(program);
        let real = server().bin_dir().join(program);
        let text = format!("#!/bin/sh\n'{}' \"$@\"\nexit $?\n", real.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_dump_is_never_committed() {
    let (first, _) = DUMP.split_at(DUMP.find("COPY").unwrap());
    let graph = Graph::new(vec![Some(Bytes::from_static(first.as_bytes())), None]);
    let programs = wrapped();
    let mut target = graph.target_at(programs.path(), Duration::from_secs(20));
    target.stage(&graph.restoring).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let staging = graph.databases().pop().unwrap();
    let sql = "SELECT to_regclass('public.node') IS NULL";
    assert_eq!(server().psql(&staging, sql).unwrap(), "t");
    // A dump that stops among the rows does not reach what proves that it is whole.
    let (torn, _) = DUMP.split_at(DUMP.find("2\tnew").unwrap());
    let graph = Graph::new(vec![Some(Bytes::from_static(torn.as_bytes()))]);
    let failure = graph.target().stage(&graph.restoring).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_newer_pg_dump_goes_into_an_older_server() {
    let Ok(pg_dump) = std::env::var("ARKSTREAM_TEST_PG_DUMP18") else {
        eprintln!("not run: `scripts/setup.sh test` installs pg_dump 18");
        return;
    };
    let former = Graph::with_former();
    let dump = std::process::Command::new(PathBuf::from(pg_dump))
        .args(["--no-owner", "-d", &server().conninfo(&former.name)])
        .output()
        .unwrap();
    assert!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let text = String::from_utf8(dump.stdout).unwrap();
    assert!(text.contains("SET transaction_timeout = 0;"));
    let graph = Graph::new(vec![Some(Bytes::from(text))]);
    let mut target = graph.restored().await;
    assert_eq!(graph.names(), "old");
    let proofs = target.prove(&graph.restoring).await.unwrap();
    assert!(proofs.iter().all(arkstream_pipeline::Proof::holds));
}
