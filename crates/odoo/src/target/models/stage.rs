//! Loading: every table of the bundle into its staging table, by several connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arkstream_format::Manifest;
use arkstream_pipeline::{Failure, FailureKind, Restoring};
use arkstream_postgres::{Session, Staged, Staging, failure_of};
use futures::future::try_join_all;
use tokio_postgres::Client;

use super::check::Facts;
use super::references;
use super::tables::{Column, Table, Tables, class_of, entries, live, sequences};

/// What is staged.
pub(super) struct Loaded {
    pub(super) tables: Tables,
    pub(super) sequences: Option<Staged>,
}

/// Creates the staging tables.
pub(super) async fn create(
    client: &Client,
    restoring: &Restoring,
    staging: &Staging,
    facts: &Facts,
) -> Result<Loaded, Failure> {
    staging.create(client).await?;
    let manifest = restoring.bundle.manifest();
    let table_of_model = tables_of_models(manifest, facts);
    let mut all = Vec::new();
    for (number, entry) in entries(manifest).enumerate() {
        // A table that the target does not have was refused, unless there is nothing to restore.
        let Some(live) = live(&facts.catalog, entry) else {
            continue;
        };
        if entry.parts.is_empty() {
            continue;
        }
        let staged = staging
            .table(client, restoring, &format!("s{number}"), entry)
            .await?;
        let mut references = references::of_table(
            entry,
            live,
            &facts.catalog,
            &facts.registry,
            &table_of_model,
        );
        let columns = entry
            .columns
            .iter()
            .filter(|column| !column.generated)
            .filter_map(|column| {
                let live = live.column(&column.name).filter(|live| !live.generated)?;
                Some(Column {
                    name: column.name.clone(),
                    live_type: live.pg.type_name.clone(),
                    has_binary_form: live.has_binary_form,
                    reference: references.remove(&column.name).unwrap_or_default(),
                })
            })
            .collect();
        let mut models: Vec<String> = entry.model.iter().cloned().collect();
        for model in facts.registry.models_of(live.table.oid) {
            if !models.contains(&model.name) {
                models.push(model.name.clone());
            }
        }
        all.push(Table {
            number,
            class: class_of(entry, &facts.chosen),
            entry: entry.clone(),
            live: live.clone(),
            models,
            columns,
            staged,
        });
    }
    let sequences = match sequences(manifest).filter(|entry| !entry.parts.is_empty()) {
        Some(entry) => Some(staging.table(client, restoring, "sequences", entry).await?),
        None => None,
    };
    let loaded = Loaded {
        tables: Tables::new(all),
        sequences,
    };
    if restoring.continues {
        let staged: Vec<&Staged> = loaded.staged().collect();
        staging.keep_only(client, &staged).await?;
    }
    Ok(loaded)
}

/// The table of each model, by the bundle and by the target.
fn tables_of_models(manifest: &Manifest, facts: &Facts) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for table in facts.catalog.tables() {
        for model in facts.registry.models_of(table.table.oid) {
            found.insert(model.name.clone(), table.table.qualified());
        }
    }
    for entry in entries(manifest) {
        if let Some(model) = &entry.model {
            found.insert(model.clone(), entry.table.clone());
        }
    }
    found
}

impl Loaded {
    fn staged(&self) -> impl Iterator<Item = &Staged> {
        self.tables
            .all
            .iter()
            .map(|table| &table.staged)
            .chain(&self.sequences)
    }

    /// Loads everything over one connection, in the caller's transaction.
    pub(super) async fn load_within(
        &self,
        client: &Client,
        restoring: &Restoring,
        staging: &Staging,
    ) -> Result<(), Failure> {
        for staged in self.staged() {
            for part in 0..staged.parts().len() {
                restoring.cancel.check()?;
                staging.load(client, restoring, staged, part, false).await?;
            }
        }
        self.analyze(client).await
    }

    /// Loads everything over several connections, each part in a transaction of its own. Parts
    /// whose checkpoint is there are not loaded again.
    pub(super) async fn load(
        &self,
        sessions: &[Session],
        restoring: &Restoring,
        staging: &Staging,
    ) -> Result<(), Failure> {
        let mut work: Vec<(&Staged, usize)> = self
            .staged()
            .flat_map(|staged| (0..staged.parts().len()).map(move |part| (staged, part)))
            .collect();
        // The largest first, so that no connection is left alone with one at the end.
        work.sort_by_key(|(staged, part)| {
            std::cmp::Reverse(staged.parts().get(*part).map_or(0, |(_, rows)| *rows))
        });
        let work = Arc::new(Mutex::new(VecDeque::from(work)));
        let shares = restoring.budget.split(sessions.len());
        let workers = sessions.iter().zip(shares).map(|(session, share)| {
            let (work, mut restoring) = (Arc::clone(&work), restoring.clone());
            restoring.budget = share;
            async move {
                loop {
                    let next = work
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((staged, part)) = next else {
                        return Ok::<(), Failure>(());
                    };
                    restoring.cancel.check()?;
                    staging
                        .load(session.client(), &restoring, staged, part, true)
                        .await?;
                }
            }
        });
        try_join_all(workers).await?;
        match sessions.first() {
            Some(session) => self.analyze(session.client()).await,
            None => Ok(()),
        }
    }

    async fn analyze(&self, client: &Client) -> Result<(), Failure> {
        for staged in self.staged() {
            client
                .batch_execute(&format!("ANALYZE {}", staged.sql))
                .await
                .map_err(|error| failure_of(&format!("analyze {}", staged.sql), &error))?;
        }
        Ok(())
    }

    /// Every row of the manifest must be staged.
    pub(super) async fn verify(&self, client: &Client) -> Result<(), Failure> {
        for staged in self.staged() {
            let expected: u64 = staged.parts().iter().map(|(_, rows)| rows).sum();
            let row = client
                .query_one(
                    &format!("SELECT pg_catalog.count(*) FROM {}", staged.sql),
                    &[],
                )
                .await
                .map_err(|error| failure_of(&format!("count {}", staged.sql), &error))?;
            let found = row.get::<_, i64>(0).unsigned_abs();
            if found != expected {
                return Err(Failure::new(
                    FailureKind::Internal,
                    format!("stage {}", staged.sql),
                    format!("{found} rows are staged, the manifest has {expected}"),
                )
                .help("run again with --fresh"));
            }
        }
        Ok(())
    }
}
