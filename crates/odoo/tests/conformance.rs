//! Rows of a sample Odoo as a source, held against what sources promise.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use arkstream_conformance::source::{self, Sources};
use arkstream_odoo::{Odoo, OdooOptions};
use arkstream_pipeline::Source;
use async_trait::async_trait;
use common::{Stack, select};

struct Rows(Stack);

impl Rows {
    fn odoo(&self) -> Odoo {
        let selection = select("sam_ai", &["ai.message", "ai.conversation"], &[]);
        let options = OdooOptions {
            selection,
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

    /// Its workers run on threads of their own, which nobody can end from outside: they keep their
    /// sessions until their call to the sink returns.
    fn stream_may_be_dropped(&self) -> bool {
        false
    }

    async fn state(&self) -> String {
        self.state()
    }
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
