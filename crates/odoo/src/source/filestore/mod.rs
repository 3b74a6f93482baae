//! The files of the filestore that the snapshot's attachments name.
//!
//! Odoo keeps the content of attachments in `<two hex digits>/<SHA-1>` below the database's
//! folder, once for any number of attachments. So the name proves the content, and a name is
//! listed once. Files that no attachment names are left from deleted ones; they are counted, and
//! copied only on request.
//!
//! Nothing is left out silently: a file that is gone, a name that leads out of the filestore, and
//! a content that does not match its name are omissions of the run (the last one is taken along as
//! it is).
//!
//! Names are read by a cursor under the snapshot, and files by one worker a job. Peak memory: a
//! page of names, and what each worker's share of the budget admits, in pieces of 1 MiB.

mod copy;
mod name;
mod orphans;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkstream_format::{Component, Proof};
use arkstream_pipeline::{
    Event, Failure, FailureKind, PlannedItem, Run, Source, SourcePlan, SourceReport,
};
use arkstream_postgres::{Session, failure_of, quote_literal};
use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{Odoo, Planned, State};
use crate::scope::Rows;
use copy::{Copier, EarlierFiles};

/// Names that are read at once.
const PAGE: u32 = 2000;

/// The filestore.
#[derive(Clone, Debug)]
pub struct FilestoreOptions {
    /// The database's folder: `data_dir/filestore/<database>`.
    pub dir: PathBuf,
    /// Whether files that no attachment names are copied too.
    pub include_orphans: bool,
}

/// The files.
pub struct FilestoreSource {
    odoo: Odoo,
    options: FilestoreOptions,
}

impl FilestoreSource {
    pub(super) fn new(odoo: Odoo, options: FilestoreOptions) -> Self {
        Self { odoo, options }
    }

    /// The plan of the rows, made if this source is asked first.
    async fn planned(&self) -> Result<Arc<Planned>, Failure> {
        let mut state = self.odoo.state.lock().await;
        if let Some(planned) = &state.planned {
            return Ok(Arc::clone(planned));
        }
        let planned = self.odoo.plan().await?;
        state.planned = Some(Arc::clone(&planned));
        Ok(planned)
    }

    async fn stream_under(&self, state: &State, run: &Run) -> Result<(), Failure> {
        let planned = state.planned()?;
        let client = state.holder()?.coordinator();
        let earlier = Arc::new(earlier_files(run).await?);
        let mut workers = Workers::start(run, &self.options.dir, &earlier);
        let listed = self.feed(&planned, client, run, &mut workers).await;
        // A worker's failure is the cause, a closed queue only what follows from it.
        let worked = workers.finish().await;
        let total = worked?;
        let orphans = listed?;
        run.sink.sync().await?;
        if total > 0 || orphans > 0 {
            let what = if self.options.include_orphans {
                "copied too"
            } else {
                "not copied"
            };
            run.tell(Event::Note(format!(
                "filestore: {total} files; {orphans} files that no attachment names, {what}"
            )));
        }
        Ok(())
    }

    /// Hands out every name; returns the number of orphans.
    async fn feed(
        &self,
        planned: &Planned,
        client: &Client,
        run: &Run,
        workers: &mut Workers,
    ) -> Result<u64, Failure> {
        let Some(attachments) = &planned.scope.attachments else {
            return Ok(0);
        };
        let fail =
            |error: tokio_postgres::Error| failure_of("list the files of attachments", &error);
        let sql = format!(
            "DECLARE arkstream_files NO SCROLL CURSOR FOR {}",
            listing(attachments)
        );
        client.batch_execute(&sql).await.map_err(fail)?;
        let mut first = true;
        loop {
            run.cancel.check()?;
            let page = client
                .query(&format!("FETCH {PAGE} FROM arkstream_files"), &[])
                .await
                .map_err(fail)?;
            if std::mem::take(&mut first) && !page.is_empty() {
                must_exist(&self.options.dir)?;
            }
            for row in &page {
                workers.send(row.get(0)).await?;
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        client
            .batch_execute("CLOSE arkstream_files")
            .await
            .map_err(fail)?;
        let Some(table) = planned
            .registry
            .odoo_table(&planned.catalog, "ir_attachment")
        else {
            return Ok(0);
        };
        let found = orphans::find(&self.options.dir, client, &table.table.sql(), run).await?;
        let mut count = 0;
        for name in found {
            count += 1;
            if self.options.include_orphans {
                workers.send(name).await?;
            }
        }
        Ok(count)
    }
}

#[async_trait]
impl Source for FilestoreSource {
    fn component(&self) -> Component {
        Component::Filestore
    }

    async fn plan(&mut self) -> Result<SourcePlan, Failure> {
        let planned = self.planned().await?;
        let Some(attachments) = &planned.scope.attachments else {
            return Ok(SourcePlan::default());
        };
        let session = Session::connect(&self.odoo.spec, "arkstream plan").await?;
        let rows = session
            .client()
            .query(&listing(attachments), &[])
            .await
            .map_err(|error| failure_of("list the files of attachments", &error))?;
        if !rows.is_empty() {
            must_exist(&self.options.dir)?;
        }
        let items = rows.iter().map(|row| PlannedItem {
            name: row.get(0),
            bytes: row.get::<_, i64>(1).unsigned_abs(),
        });
        Ok(SourcePlan {
            identity: [
                ("database", planned.database.clone()),
                ("directory", self.options.dir.display().to_string()),
                ("orphans", self.options.include_orphans.to_string()),
            ]
            .into(),
            items: items.collect(),
            notes: Vec::new(),
        })
    }

    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure> {
        let state = Arc::clone(&self.odoo.state);
        let state = state.lock().await;
        self.stream_under(&state, run).await?;
        Ok(SourceReport::default())
    }
}

/// Every name once, with the size that Odoo wrote down.
fn listing(attachments: &Rows) -> String {
    format!(
        "SELECT t.store_fname::text, COALESCE(max(t.file_size), 0)::int8 {} GROUP BY 1 ORDER BY 1",
        attachments.and("t.store_fname IS NOT NULL AND t.store_fname <> ''")
    )
}

fn must_exist(dir: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(dir) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::io(
            FailureKind::Source,
            format!("read the filestore {}", dir.display()),
            error,
        )
        .help(
            "attachments keep their content there: name the right folder with --filestore DIR, run \
             as a user who may read it, or leave the files out with --no-filestore",
        )),
    }
}

/// Files that an interrupted run finished, or an older bundle holds, and that can be proven unchanged.
async fn earlier_files(run: &Run) -> Result<EarlierFiles, Failure> {
    let members = run.sink.earlier(Component::Filestore).await?;
    let files = members.into_iter().filter_map(|member| match member.proof {
        Some(Proof::File(proof)) => Some((member.name, proof)),
        _ => None,
    });
    Ok(files.collect())
}

/// Workers that copy the files whose names come in by a queue.
struct Workers {
    names: Option<mpsc::Sender<String>>,
    tasks: JoinSet<Result<u64, Failure>>,
}

impl Workers {
    fn start(run: &Run, dir: &Path, earlier: &Arc<EarlierFiles>) -> Self {
        let (names, queue) = mpsc::channel(2 * run.jobs);
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = JoinSet::new();
        for budget in run.budget.split(run.jobs) {
            let copier = Copier::new(run.clone(), dir.to_owned(), budget, Arc::clone(earlier));
            tasks.spawn(copier.work(Arc::clone(&queue)));
        }
        Self {
            names: Some(names),
            tasks,
        }
    }

    async fn send(&self, name: String) -> Result<(), Failure> {
        let stopped = || {
            Failure::new(
                FailureKind::Internal,
                "copy the filestore",
                "the workers stopped",
            )
        };
        let names = self.names.as_ref().ok_or_else(stopped)?;
        names.send(name).await.map_err(|_| stopped())
    }

    /// Waits until the queue is empty; returns the number of files that were taken.
    async fn finish(&mut self) -> Result<u64, Failure> {
        self.names = None;
        let mut total = 0;
        while let Some(joined) = self.tasks.join_next().await {
            // Dropping the set stops the other workers.
            total += joined.map_err(|error| {
                Failure::new(FailureKind::Internal, "copy the filestore", error)
            })??;
        }
        Ok(total)
    }
}

/// Which of the names some attachment has, in a query.
fn known_names(table: &str, names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| quote_literal(name)).collect();
    format!(
        "SELECT DISTINCT t.store_fname::text FROM {table} t WHERE t.store_fname = ANY(ARRAY[{}]::text[])",
        names.join(",")
    )
}
