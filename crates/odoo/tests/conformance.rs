//! Rows and files of a sample Odoo as sources, held against what sources promise.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use arkstream_conformance::source::{self, Sources};
use arkstream_format::{Component, SnapshotEntry};
use arkstream_odoo::{FilestoreSource, ModelsSource, Odoo, OdooOptions};
use arkstream_pipeline::{Failure, Run, Source, SourcePlan, SourceReport};
use async_trait::async_trait;
use common::{Stack, options, select};

struct Rows(Stack);

impl Rows {
    fn odoo(&self) -> Odoo {
        self.odoo_with(&["ai.message", "ai.conversation"])
    }

    fn odoo_with(&self, models: &[&str]) -> Odoo {
        let options = OdooOptions {
            selection: select("sam_ai", models, &[]),
            ..OdooOptions::default()
        };
        Odoo::new(self.0.spec(), options)
    }

    fn locks(&self) -> usize {
        self.0
            .count(
                "FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'",
            )
            .try_into()
            .unwrap()
    }

    fn state(&self) -> String {
        let mut files: Vec<String> = walk(self.0.filestore.path());
        files.sort();
        let tables = self.0.ask(
            "string_agg(c.oid::text || c.relname || c.relfilenode || pg_relation_size(c.oid), ' ' \
             ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace",
        );
        format!("{tables} {files:?}")
    }
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(format!(
                "{path:?} {:?}",
                path.metadata().unwrap().modified()
            )),
        }
    }
    found
}

#[async_trait]
impl Sources for Rows {
    async fn make(&self) -> Box<dyn Source> {
        Box::new(self.odoo().models())
    }

    fn folders(&self) -> Vec<String> {
        ["models", "relations", "support"]
            .map(|folder| format!("odoo_data/{folder}/"))
            .into()
    }

    async fn locks(&self) -> usize {
        self.locks()
    }

    async fn state(&self) -> String {
        self.state()
    }
}

/// The files, with the rows that say which of them travel: as in a backup, the rows are locked and
/// looked at first.
struct FilesOfRows {
    rows: ModelsSource,
    files: FilestoreSource,
}

#[async_trait]
impl Source for FilesOfRows {
    fn component(&self) -> Component {
        self.files.component()
    }

    async fn plan(&mut self) -> Result<SourcePlan, Failure> {
        self.rows.plan().await?;
        self.files.plan().await
    }

    async fn lock(&mut self, run: &Run) -> Result<(), Failure> {
        self.rows.lock(run).await?;
        self.files.lock(run).await
    }

    async fn snapshot(&mut self, run: &Run) -> Result<Option<SnapshotEntry>, Failure> {
        self.rows.snapshot(run).await?;
        self.files.snapshot(run).await
    }

    async fn confirm(&mut self, run: &Run) -> Result<(), Failure> {
        self.rows.confirm(run).await?;
        self.files.confirm(run).await
    }

    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure> {
        let report = self.files.stream(run).await?;
        self.release().await;
        Ok(report)
    }

    async fn release(&mut self) {
        self.files.release().await;
        self.rows.release().await;
    }
}

struct Files(Rows);

#[async_trait]
impl Sources for Files {
    async fn make(&self) -> Box<dyn Source> {
        let odoo = self.0.odoo_with(&[]);
        Box::new(FilesOfRows {
            rows: odoo.models(),
            files: odoo.filestore(options(self.0.0.filestore.path())),
        })
    }

    fn folders(&self) -> Vec<String> {
        vec!["odoo_data/filestore/".to_owned()]
    }

    async fn locks(&self) -> usize {
        self.0.locks()
    }

    async fn state(&self) -> String {
        self.0.state()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_a_source() {
    source::suite(&Files(Rows(Stack::build())), faults()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_a_source() {
    source::suite(&Rows(Stack::build()), faults()).await;
}

/// How many calls have a fault: a sample, or many in `make soak`.
fn faults() -> usize {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => 40,
        None => 2,
    }
}
