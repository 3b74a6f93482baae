//! From staged rows to a transaction that only has to be committed.

use arkstream_pipeline::{Failure, Restoring, TargetPlan, fault};
use arkstream_postgres::{
    ApplyOptions, Session, Strategy, TableDiff, TableRef, cutover, failure_of,
};
use tokio_postgres::Client;

use super::stage::Loaded;
use super::{
    ModelsTarget, begin, diffs, forecast, guarded, identity, neutralize, numbering, resolving,
    unmapped, views,
};

/// What one pass over the differences gives.
pub(super) struct Differences {
    pub(super) diffs: Vec<TableDiff>,
    pub(super) plan: TargetPlan,
    pub(super) strategy: Strategy,
}

impl ModelsTarget {
    /// From the staged rows to the differences, in the caller's transaction.
    pub(super) async fn differences(
        &self,
        client: &Client,
        restoring: &Restoring,
        loaded: &Loaded,
    ) -> Result<Differences, Failure> {
        let facts = self.facts()?;
        let resolving = resolving(facts);
        views::create(client, &self.staging, &loaded.tables, &resolving).await?;
        let mapping = self.mapping(client, facts, loaded, &resolving);
        mapping.fill().await?;
        restoring.cancel.check()?;
        let references = unmapped::count(&mapping).await?;
        unmapped::judge(&mapping, &references, self.options.missing_reference)?;
        restoring.cancel.check()?;
        let mut diffs = diffs::make(&mapping).await?;
        let mut notes = identity::differing(&mapping).await?;
        if self.options.neutralize {
            notes.extend(neutralize::add(&mapping, &facts.catalog, &mut diffs).await?);
        }
        let tables = diffs::count_all(&mapping).await?;
        let foreseen =
            cutover::foresee(client, &facts.catalog, &diffs, &self.apply_options()).await?;
        let switch =
            forecast::lines(client, &foreseen, &self.staging_schema, &self.undo_schema).await?;
        let plan = TargetPlan {
            tables,
            references,
            reach: foreseen.reach,
            switch,
            notes,
            refused: foreseen.refused,
            ..TargetPlan::default()
        };
        let strategy = foreseen.strategy;
        Ok(Differences {
            diffs,
            plan,
            strategy,
        })
    }

    /// Everything of the switch but the commit, in a transaction of `session`.
    pub(super) async fn switch(
        &self,
        session: &Session,
        restoring: &Restoring,
        loaded: &Loaded,
    ) -> Result<TargetPlan, Failure> {
        let client = session.client();
        let facts = self.facts()?;
        let strategy = self.strategy(client, restoring, loaded).await?;
        session.make_commits_durable().await?;
        begin(client, restoring, self.options.lock_timeout).await?;
        let tables: Vec<TableRef> = loaded
            .tables
            .written()
            .map(|table| table.live.table.clone())
            .collect();
        let timeout = self.options.lock_timeout;
        cutover::lock_for(session, &facts.catalog, &tables, strategy, timeout).await?;
        fault::check("rows.locked")?;
        let forced = cutover::row_security::lift(client, &guarded(&loaded.tables)).await?;
        let found = self.differences(client, restoring, loaded).await?;
        let (diffs, mut plan) = (found.diffs, found.plan);
        let options = ApplyOptions {
            strategy,
            ..self.apply_options()
        };
        let applied = cutover::apply(client, &facts.catalog, &diffs, &options).await?;
        plan.reach = applied.reach;
        plan.refused = None;
        fault::check("rows.applied")?;
        numbering::raise(
            client,
            &self.staging,
            &loaded.tables,
            loaded.sequences.as_ref(),
            &self.undo_schema,
            &diffs,
        )
        .await?;
        cutover::row_security::force(client, &forced).await?;
        Ok(plan)
    }

    fn apply_options(&self) -> ApplyOptions {
        ApplyOptions {
            undo_schema: self.undo_schema.clone(),
            cascade: self.options.cascade,
            ..ApplyOptions::default()
        }
    }

    /// What becomes of foreign keys. The locks depend on it, so the differences are worked out once
    /// before they are taken, where there may be so many that it matters, and the rows that the target
    /// lacks do not decide it.
    async fn strategy(
        &self,
        client: &Client,
        restoring: &Restoring,
        loaded: &Loaded,
    ) -> Result<Strategy, Failure> {
        let options = self.apply_options();
        let rows = forecast::at_most(&loaded.tables, self.facts()?.mode);
        if options.strategy_for(rows) == Strategy::LiveKeys {
            return Ok(Strategy::LiveKeys);
        }
        begin(client, restoring, self.options.lock_timeout).await?;
        let enough = options.rebuild_above_rows;
        let rows = forecast::at_least(client, &loaded.tables, enough).await?;
        let mut strategy = options.strategy_for(rows);
        if strategy == Strategy::LiveKeys {
            cutover::row_security::lift(client, &guarded(&loaded.tables)).await?;
            strategy = self.differences(client, restoring, loaded).await?.strategy;
        }
        client
            .batch_execute("ROLLBACK")
            .await
            .map_err(|error| failure_of("end the comparison", &error))?;
        Ok(strategy)
    }
}
