//! `ModelsTarget`: the rows of an Odoo database.
//!
//! ```text
//! check     versions, modules, tables, columns, privileges           nothing is touched
//! stage     schema arkstream_<id>: s<n> loaded by COPY BINARY          each part commits with its checkpoint
//! prepare   one transaction: locks → maps m<n> → differences d<n> → undo tables → rows → sequences
//! commit    COMMIT; then Odoo's signalling sequences are advanced
//! prove     live rows against the staged ones, in the target's ids
//! ```
//!
//! A dry run does the same inside a transaction that is rolled back, without locks, without the
//! rows and without sequences: so its counts are those of the real run.
//!
//! * Tables that the bundle has whole become the bundle's (`replace`) or are added to (`merge`).
//! * Tables shared with the rest of Odoo are touched only where a row belongs to a restored model,
//!   in either mode (`shared.rs`).
//! * References to rows outside the bundle are found again by what identifies them
//!   (`identity.rs`); what is not found is refused or emptied, and counted (`unmapped.rs`).
//!
//! Everything is computed by the server, set by set; no row comes to this process after it was
//! staged. Peak memory here: the catalog, and what [`Staging`] documents.

mod check;
mod diffs;
mod forecast;
mod identity;
mod maps;
mod neutralize;
mod numbering;
mod options;
mod prove;
mod references;
mod shared;
mod stage;
mod switch;
mod tables;
mod unmapped;
mod views;
mod way_back;

use std::time::Duration;

use arkstream_format::{Component, TargetPlace};
use arkstream_pipeline::{
    Checked, Event, Failure, FailureKind, Proof, Restoring, Standing, Target, TargetPlan, fault,
};
use arkstream_postgres::{
    Advisory, ConnectSpec, Session, Staging, cutover, failure_of, quote_ident,
};
use async_trait::async_trait;
use tokio_postgres::Client;

use crate::registry::Resolution;
pub use options::{MissingReference, Mode, ModelsTargetOptions, OnConflict};

use check::Facts;
use maps::Mapping;
use stage::Loaded;
use tables::Tables;
use views::Resolving;

/// The rows of an Odoo database.
pub struct ModelsTarget {
    spec: ConnectSpec,
    options: ModelsTargetOptions,
    staging: Staging,
    staging_schema: String,
    undo_schema: String,
    facts: Option<Facts>,
    loaded: Option<Loaded>,
    /// The session whose transaction holds the prepared switch.
    prepared: Option<Session>,
    /// The session whose transaction holds the undo, executed and not committed.
    undoing: Option<Session>,
    /// The session that keeps other restores of this database out.
    claimed: Option<Session>,
}

impl ModelsTarget {
    /// The Odoo database behind `spec`, for the restore of that id.
    #[must_use]
    pub fn new(spec: ConnectSpec, restore_id: &str, options: ModelsTargetOptions) -> Self {
        Self::in_schemas(
            spec,
            format!("arkstream_{restore_id}"),
            format!("arkstream_undo_{restore_id}"),
            options,
        )
    }

    /// A target that another process left behind. `spec` brings the credentials.
    ///
    /// # Errors
    /// When the place is not one of rows.
    pub fn reopen(
        place: &TargetPlace,
        spec: ConnectSpec,
        options: ModelsTargetOptions,
    ) -> Result<Self, Failure> {
        match place {
            TargetPlace::Models {
                staging_schema,
                undo_schema,
                ..
            } => Ok(Self::in_schemas(
                spec,
                staging_schema.clone(),
                undo_schema.clone(),
                options,
            )),
            _ => Err(Failure::new(
                FailureKind::Internal,
                "find the rows of a restore",
                "the record speaks of something else",
            )),
        }
    }

    fn in_schemas(
        spec: ConnectSpec,
        staging_schema: String,
        undo_schema: String,
        options: ModelsTargetOptions,
    ) -> Self {
        Self {
            spec,
            options,
            staging: Staging::new(&staging_schema),
            staging_schema,
            undo_schema,
            facts: None,
            loaded: None,
            prepared: None,
            undoing: None,
            claimed: None,
        }
    }

    async fn connect(&self, what: &str) -> Result<Session, Failure> {
        Session::connect(&self.spec, &format!("arkstream restore {what}")).await
    }

    fn facts(&self) -> Result<&Facts, Failure> {
        self.facts
            .as_ref()
            .ok_or_else(|| out_of_order("the target has not been checked"))
    }

    fn mapping<'a>(
        &'a self,
        client: &'a Client,
        facts: &'a Facts,
        loaded: &'a Loaded,
        resolving: &'a Resolving<'a>,
    ) -> Mapping<'a> {
        Mapping {
            client,
            staging: &self.staging,
            tables: &loaded.tables,
            mode: facts.mode,
            on_conflict: self.options.on_conflict,
            resolving,
            subset: facts.chosen.is_subset(),
            neutralized: self.options.neutralize,
        }
    }
}

fn resolving(facts: &Facts) -> Resolving<'_> {
    let (theirs, ours) = (&facts.metadata.database_uuid, &facts.registry.database_uuid);
    Resolving {
        catalog: &facts.catalog,
        same_database: theirs.is_some() && theirs == ours,
        keep_dangling: facts.mode == Mode::Replace,
        models_here: facts
            .registry
            .models
            .values()
            .filter(|model| matches!(model.resolution, Resolution::Relation(_)))
            .map(|model| model.name.clone())
            .collect(),
    }
}

/// Tables with row-level security.
fn guarded(tables: &Tables) -> Vec<u32> {
    tables
        .all
        .iter()
        .filter(|table| table.live.row_security)
        .map(|table| table.live.table.oid)
        .collect()
}

/// Begins a transaction in which no statement waits for a lock for longer than that, and in which the
/// server reads and hashes rows with as many processes as the restore has jobs: it takes hashes for
/// cheaper than they are, so it is told that processes are cheap. A hash table that they share would lie in
/// `/dev/shm`, which is small in containers, so each makes its own.
async fn begin(
    client: &Client,
    restoring: &Restoring,
    lock_timeout: Duration,
) -> Result<(), Failure> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL max_parallel_workers_per_gather = {}; \
         SET LOCAL parallel_setup_cost = 100; \
         SET LOCAL parallel_tuple_cost = 0.001; SET LOCAL enable_parallel_hash = off",
        helpers(restoring)
    );
    client
        .batch_execute(&begin)
        .await
        .map_err(|error| failure_of("begin the transaction of the rows", &error))?;
    cutover::wait_at_most(client, lock_timeout).await
}

/// How many processes the server may take beside the session's own. None where values are so large
/// that several of them at a time might be too much for its memory.
fn helpers(restoring: &Restoring) -> usize {
    let tables = &restoring.bundle.manifest().tables;
    let large = tables
        .iter()
        .flat_map(|table| &table.parts)
        .any(|part| !part.large.is_empty());
    if large {
        0
    } else {
        restoring.jobs.saturating_sub(1)
    }
}

fn out_of_order(why: &str) -> Failure {
    Failure::new(FailureKind::Internal, "restore the rows", why)
}

#[async_trait]
impl Target for ModelsTarget {
    fn component(&self) -> Component {
        Component::Models
    }

    fn place(&self) -> TargetPlace {
        TargetPlace::Models {
            connection: self.spec.without_password(),
            staging_schema: self.staging_schema.clone(),
            undo_schema: self.undo_schema.clone(),
        }
    }

    async fn claim(&mut self) -> Result<(), Failure> {
        if self.claimed.as_ref().is_none_or(Session::is_closed) {
            let session = self.connect("claim").await?;
            let attempted = format!("claim the database {}", self.spec.database());
            Advisory::of("rows").claim(&session, &attempted).await?;
            self.claimed = Some(session);
        }
        Ok(())
    }

    async fn check(&mut self, restoring: &Restoring) -> Checked {
        let mut checked = Checked::default();
        let found = match self.connect("check").await {
            Ok(session) => {
                check::check(
                    restoring.bundle.as_ref(),
                    &session,
                    &self.options,
                    &mut checked,
                )
                .await
            }
            Err(failure) => Err(failure),
        };
        match found {
            Ok(facts) => self.facts = Some(facts),
            Err(failure) => checked.problem(failure),
        }
        checked
    }

    async fn rehearse(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let session = self.connect("rehearsal").await?;
        let client = session.client();
        begin(client, restoring, self.options.lock_timeout).await?;
        let worked = async {
            let loaded = stage::create(client, restoring, &self.staging, self.facts()?).await?;
            loaded.load_within(client, restoring, &self.staging).await?;
            cutover::row_security::lift(client, &guarded(&loaded.tables)).await?;
            self.differences(client, restoring, &loaded).await
        };
        let outcome = tokio::select! {
            outcome = worked => outcome,
            () = restoring.cancel.raised() => Err(Failure::interrupted()),
        };
        session.rollback().await;
        outcome.map(|differences| differences.plan)
    }

    async fn stage(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let mut sessions = Vec::new();
        for number in 0..restoring.jobs.max(1) {
            sessions.push(self.connect(&format!("staging {}", number + 1)).await?);
        }
        let Some(first) = sessions.first() else {
            return Ok(());
        };
        let facts = self.facts()?;
        let work = async {
            let loaded = stage::create(first.client(), restoring, &self.staging, facts).await?;
            loaded.load(&sessions, restoring, &self.staging).await?;
            Ok::<_, Failure>(loaded)
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = restoring.cancel.raised() => Err(Failure::interrupted()),
        };
        if outcome.is_err() {
            for session in &sessions {
                session.rollback().await;
            }
        }
        self.loaded = Some(outcome?);
        Ok(())
    }

    async fn verify(&mut self, _restoring: &Restoring) -> Result<(), Failure> {
        let session = self.connect("verification").await?;
        match &self.loaded {
            Some(loaded) => loaded.verify(session.client()).await,
            None => Err(out_of_order("nothing is staged")),
        }
    }

    async fn prepare(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let session = self.connect("cut-over").await?;
        let Some(loaded) = &self.loaded else {
            return Err(out_of_order("nothing is staged"));
        };
        let outcome = tokio::select! {
            outcome = self.switch(&session, restoring, loaded) => outcome,
            () = restoring.cancel.raised() => Err(Failure::interrupted()),
        };
        match outcome {
            Ok(plan) => {
                self.prepared = Some(session);
                Ok(plan)
            }
            Err(failure) => {
                session.rollback().await;
                Err(failure)
            }
        }
    }

    async fn commit(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let Some(session) = self.prepared.take() else {
            return Err(out_of_order("the switch of the rows is not prepared"));
        };
        let client = session.client();
        client
            .batch_execute("COMMIT")
            .await
            .map_err(|error| failure_of("commit the restored rows", &error))?;
        fault::check("rows.committed")?;
        if let Err(failure) = numbering::signal(client).await {
            // The rows are live; what is missing is that running workers hear of it.
            restoring.tell(Event::Warning(format!(
                "{failure}; restart Odoo so that its workers drop their caches"
            )));
        }
        Ok(())
    }

    async fn prove(&mut self, restoring: &Restoring) -> Result<Vec<Proof>, Failure> {
        let session = self.connect("proof").await?;
        let client = session.client();
        let Some(loaded) = &self.loaded else {
            return Err(out_of_order("nothing is staged"));
        };
        let facts = self.facts()?;
        let resolving = resolving(facts);
        begin(client, restoring, self.options.lock_timeout).await?;
        cutover::row_security::lift(client, &guarded(&loaded.tables)).await?;
        let proofs = prove::prove(&self.mapping(client, facts, loaded, &resolving)).await;
        session.rollback().await;
        proofs
    }

    async fn standing(&mut self) -> Result<Standing, Failure> {
        let session = self.connect("inspection").await?;
        self.look(&session).await
    }

    async fn prepare_revert(&mut self, force: bool) -> Result<Vec<String>, Failure> {
        self.prepare_way_back(force).await
    }

    async fn release(&mut self) {
        for session in [self.prepared.take(), self.undoing.take()]
            .into_iter()
            .flatten()
        {
            session.rollback().await;
        }
    }

    async fn revert(&mut self) -> Result<(), Failure> {
        self.go_back().await
    }

    async fn announce(&mut self) -> Result<(), Failure> {
        let session = self.connect("notice").await?;
        numbering::signal(session.client()).await
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        self.release().await;
        let session = self.connect("clean-up").await?;
        self.look(&session).await?;
        self.staging.drop(session.client()).await
    }

    async fn forget(&mut self, _live: Standing) -> Result<(), Failure> {
        let session = self.connect("clean-up").await?;
        session
            .client()
            .batch_execute(&format!(
                "DROP SCHEMA IF EXISTS {} CASCADE",
                quote_ident(&self.undo_schema)
            ))
            .await
            .map_err(|error| failure_of("drop the former versions of the rows", &error))
    }
}
