//! A dump as a source and a graph's database as a target, held against what both promise.

use std::time::Duration;

use arkstream_conformance::source::{self, Sources};
use arkstream_conformance::target::{self, Targets};
use arkstream_format::{Component, TargetPlace};
use arkstream_pipeline::{Restoring, Source, Target};
use arkstream_postgres::{ConnectSpec, DumpOptions, DumpSnapshot, DumpSource};
use async_trait::async_trait;

use super::graph::Graph;
use super::support::{database, server};

const NAME: &str = "databases/postgres_graph_dump.sql";

struct Dumps {
    name: String,
    spec: ConnectSpec,
}

#[async_trait]
impl Sources for Dumps {
    async fn make(&self) -> Box<dyn Source> {
        let options = DumpOptions {
            pg_path: None,
            snapshot: DumpSnapshot::Shared,
            lock_timeout: Duration::from_secs(20),
        };
        let source = DumpSource::new(Component::Graph, NAME, self.spec.clone(), options);
        Box::new(source)
    }

    fn folders(&self) -> Vec<String> {
        vec![NAME.to_owned()]
    }

    async fn locks(&self) -> usize {
        let held = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                    WHERE c.relname IN ('t', 'p', 'p1') AND l.granted";
        server().psql(&self.name, held).unwrap().parse().unwrap()
    }

    async fn state(&self) -> String {
        let state = "SELECT string_agg(c.oid::text || c.relname || c.relfilenode, ' ' ORDER BY c.oid), \
                     (SELECT count(*) FROM t), (SELECT count(*) FROM p) \
                     FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace";
        server().psql(&self.name, state).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_a_source() {
    let (name, spec) = database(
        "CREATE TABLE t (id int, v text); \
         INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 9000) g; \
         CREATE TABLE p (id int) PARTITION BY RANGE (id); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); INSERT INTO p VALUES (3)",
    );
    source::suite(&Dumps { name, spec }, 2).await;
}

#[async_trait]
impl Targets for Graph {
    fn restoring(&self, id: &str) -> Restoring {
        self.restoring_as(id)
    }

    async fn make(&self, restoring: &Restoring) -> Box<dyn Target> {
        Box::new(self.target_of(&restoring.id))
    }

    async fn reopen(&self, place: &TargetPlace, id: &str) -> Box<dyn Target> {
        Box::new(self.reopened(place, id))
    }

    async fn keeps_others_out(&self) -> bool {
        self.target_of("0000000000000new").claim().await.is_err()
    }

    async fn live(&self) -> String {
        self.names()
    }

    async fn beside(&self) -> String {
        self.databases().join("\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_of_a_graph_is_a_target() {
    target::suite(&Graph::with_former(), rounds()).await;
}

/// How many moments are tried: a sample, or all in `make soak`.
fn rounds() -> usize {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => usize::MAX,
        None => 2,
    }
}
