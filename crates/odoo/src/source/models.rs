//! The rows of the Odoo database.

use std::{collections::BTreeMap, sync::Arc};

use arkstream_format::{Component, SnapshotEntry};
use arkstream_pipeline::{
    Event, Failure, FailureKind, PlannedItem, Run, Source, SourcePlan, SourceReport,
};
use arkstream_postgres::{SnapshotHolder, TableRef, TableTask};
use async_trait::async_trait;

use super::{Odoo, identities, references};
use crate::{
    registry::read_registry,
    scope::{KnownRows, plan_scope},
};

/// The rows: models, relations and what travels with them.
pub struct ModelsSource {
    odoo: Odoo,
}

impl ModelsSource {
    pub(super) fn new(odoo: Odoo) -> Self {
        Self { odoo }
    }
}

#[async_trait]
impl Source for ModelsSource {
    fn component(&self) -> Component {
        Component::Models
    }

    async fn plan(&mut self) -> Result<SourcePlan, Failure> {
        let planned = self.odoo.plan().await?;
        self.odoo.state.lock().await.planned = Some(Arc::clone(&planned));
        let items = planned.scope.tasks.iter().map(|task| PlannedItem {
            name: task.member_dir.trim_end_matches('/').to_owned(),
            bytes: match task.columns {
                // Of identity rows a fraction is read; the table's size says nothing.
                Some(_) => 0,
                None => task.table.bytes,
            },
        });
        Ok(SourcePlan {
            identity: [
                ("database", planned.database.clone()),
                ("selection", self.odoo.options.selection.describe()),
            ]
            .into(),
            items: items.collect(),
            notes: planned.scope.notes.clone(),
        })
    }

    async fn lock(&mut self, _run: &Run) -> Result<(), Failure> {
        let mut state = self.odoo.state.lock().await;
        let planned = state.planned()?;
        if state.holder.is_none() {
            let jobs = self.odoo.options.jobs;
            state.holder = Some(SnapshotHolder::connect(&self.odoo.spec, jobs).await?);
        }
        match &mut state.holder {
            Some(holder) => {
                holder
                    .lock(&planned.to_lock(), self.odoo.options.lock_timeout)
                    .await
            }
            None => Ok(()),
        }
    }

    async fn snapshot(&mut self, _run: &Run) -> Result<Option<SnapshotEntry>, Failure> {
        let mut state = self.odoo.state.lock().await;
        let Some(holder) = &mut state.holder else {
            return Err(super::out_of_order("the tables are not locked"));
        };
        let (snapshot, server, _) = holder.take().await?;
        if let Some(shared) = &self.odoo.snapshot {
            shared.set(&snapshot);
        }
        self.odoo
            .outcome()
            .facts
            .postgres_version
            .clone_from(&server.version);
        state.snapshot = Some(server.clone());
        Ok(Some(SnapshotEntry {
            component: Component::Models,
            snapshot,
            server,
        }))
    }

    /// The tables of the plan must be as they were, and the plan must still be the one that would
    /// be made: a model, a many2many table or an inheriting table that appeared since would be
    /// missing without a word.
    async fn confirm(&mut self, _run: &Run) -> Result<(), Failure> {
        let mut state = self.odoo.state.lock().await;
        let planned = state.planned()?;
        let Some(holder) = &mut state.holder else {
            return Err(super::out_of_order("no snapshot has been taken"));
        };
        let tables: Vec<_> = planned.planned_tables().collect();
        let catalog = holder.verify_unchanged(&tables).await?;
        let registry = read_registry(holder.coordinator(), &catalog).await?;
        let selection = &self.odoo.options.selection;
        let scope = plan_scope(&registry, &catalog, selection, &KnownRows::new())?;
        if let Some(table) = changed(&planned.scope.tasks, &scope.tasks) {
            return Err(Failure::new(
                FailureKind::Retry,
                "take a snapshot of the models",
                format!(
                    "what travels of {} changed since the plan",
                    table.qualified()
                ),
            ));
        }
        Ok(())
    }

    async fn stream(&mut self, run: &Run) -> Result<SourceReport, Failure> {
        let mut state = self.odoo.state.lock().await;
        let planned = state.planned()?;
        let options = &self.odoo.options;
        let Some(holder) = &mut state.holder else {
            return Err(super::out_of_order("no snapshot has been taken"));
        };
        let coordinator = holder.coordinator();
        let selection = &options.selection;
        let settled = identities::settle(coordinator, run, &planned, selection).await?;
        let tasks = identities::cheaper(&planned.scope.tasks, &settled);
        let tables = holder.export(run, tasks, &options.export).await?;
        for (what, why) in &planned.scope.omissions {
            run.omit(Component::Models, what, why);
        }
        let (references, notes) = references::count(
            holder.coordinator(),
            run,
            &planned.registry,
            &planned.catalog,
            &settled,
        )
        .await?;
        for note in notes {
            run.tell(Event::Note(note));
        }
        self.odoo.finish(&planned, &tables);
        if self.odoo.snapshot.is_none() {
            holder.release().await;
        }
        Ok(SourceReport {
            tables,
            references,
            ..SourceReport::default()
        })
    }

    async fn release(&mut self) {
        let mut state = self.odoo.state.lock().await;
        // Whoever goes on plans again.
        state.planned = None;
        state.snapshot = None;
        if let Some(shared) = &self.odoo.snapshot {
            shared.clear();
        }
        if let Some(holder) = &mut state.holder {
            holder.release().await;
        }
    }
}

/// A table of which something else travels now: by another role or model, other rows or columns.
fn changed<'t>(before: &'t [Arc<TableTask>], now: &'t [Arc<TableTask>]) -> Option<&'t TableRef> {
    let of = |task: &'t Arc<TableTask>| (&task.table.table, task);
    let mut before: BTreeMap<_, _> = before.iter().map(of).collect();
    let differs = now.iter().map(of).find(|(table, now)| {
        let before = before.remove(table);
        before.is_none_or(|before| {
            before.role != now.role
                || before.model != now.model
                || before.filter != now.filter
                || before.columns != now.columns
                || before.virtual_query != now.virtual_query
        })
    });
    let differs = differs.map(|(table, _)| table);
    differs.or_else(|| before.into_keys().next())
}
