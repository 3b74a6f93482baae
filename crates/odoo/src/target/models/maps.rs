//! Which live row a row of the bundle is: the maps `m<n>(old, new, how, write)`.
//!
//! `how` says by what evidence: `id`, `external id`, `key`, `name` for a live row that was found;
//! `new` for a row that takes its own id, `renumbered` for one whose id belongs to another row.
//! `write` says whether the row may be written: always when it is inserted, else by the mode.
//!
//! Whole tables in `replace`: every row keeps its id, for the live rows become the bundle's. In
//! `merge`: by external id, then by id where both rows were created at the same moment; a row
//! of the same id that was created at another moment is another record, however equal the numbers.
//!
//! Maps are keyed by both ids. Those that are written by one statement are keyed after it: sorting a
//! million ids takes a fraction of the time that entering them one by one does.

use std::collections::BTreeSet;

use arkstream_pipeline::Failure;
use arkstream_postgres::{Staging, failure_of, quote_literal};
use tokio_postgres::Client;

use super::tables::{Class, Table, Tables};
use super::views::Resolving;
use super::{Mode, OnConflict, identity, shared};

/// For rows of a model that another table may have named before.
const ALREADY_NAMED: &str = "ON CONFLICT DO NOTHING";

/// What fills the maps.
pub(super) struct Mapping<'a> {
    pub(super) client: &'a Client,
    pub(super) staging: &'a Staging,
    pub(super) tables: &'a Tables,
    pub(super) mode: Mode,
    pub(super) on_conflict: OnConflict,
    pub(super) resolving: &'a Resolving<'a>,
    pub(super) subset: bool,
    /// Whether the target becomes a copy that does not act.
    pub(super) neutralized: bool,
}

impl Mapping<'_> {
    /// Fills the maps of all tables.
    pub(super) async fn fill(&self) -> Result<(), Failure> {
        let mut whole = Vec::new();
        for table in self.tables.all.iter().filter(|table| table.has_id()) {
            if table.class != Class::Whole {
                self.key(table).await?;
                continue;
            }
            match self.mode {
                Mode::Replace => {
                    self.keep_ids(table).await?;
                    self.key(table).await?;
                }
                Mode::Merge => {
                    self.key(table).await?;
                    self.merge(table).await?;
                }
            }
            whole.push(table);
        }
        self.publish_first(&whole).await?;
        identity::fill(self).await?;
        shared::fill(self).await
    }

    async fn key(&self, table: &Table) -> Result<(), Failure> {
        let sql = format!(
            "ALTER TABLE {} ADD CONSTRAINT m{number}_old PRIMARY KEY (old), ADD CONSTRAINT m{number}_new UNIQUE (new)",
            self.map(table),
            number = table.number
        );
        self.run(table, &sql).await
    }

    async fn keep_ids(&self, table: &Table) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {map} SELECT w.id, w.id, CASE WHEN t.id IS NULL THEN 'new' ELSE 'id' END, true \
             FROM {w} w LEFT JOIN {live} t ON t.id = w.id",
            map = self.map(table),
            w = self.typed(table),
            live = table.only_live(),
        );
        self.run(table, &sql).await
    }

    async fn merge(&self, table: &Table) -> Result<(), Failure> {
        self.by_external_id(table).await?;
        let same = if table.has("create_date") {
            "w.create_date IS NOT DISTINCT FROM t.create_date".to_owned()
        } else {
            self.resolving.same_database.to_string()
        };
        let sql = format!(
            "INSERT INTO {map} SELECT w.id, t.id, 'id', true FROM {w} w JOIN {live} t ON t.id = w.id \
             WHERE {same} AND NOT ({named} AND {live_named}) ON CONFLICT DO NOTHING",
            map = self.map(table),
            w = self.typed(table),
            live = table.only_live(),
            named = self.has_external_id(table, "w.id"),
            live_named = self.has_live_external_id(table, "t.id"),
        );
        self.run(table, &sql).await?;
        self.policy(table, "true").await?;
        self.insert_rest(table, "true").await
    }

    /// Rows with an external id that the target knows.
    pub(super) async fn by_external_id(&self, table: &Table) -> Result<(), Failure> {
        let Some(data) = self.tables.odoo("ir_model_data") else {
            return Ok(());
        };
        let sql = format!(
            "INSERT INTO {map} SELECT DISTINCT ON (f.new) f.old, f.new, 'external id', true FROM \
             (SELECT w.id AS old, pg_catalog.min(t.id) AS new FROM {data} b \
              JOIN {live_data} l ON l.module = b.module AND l.name = b.name AND l.model = b.model \
              JOIN {w} w ON w.id = b.res_id JOIN {live} t ON t.id = l.res_id \
              WHERE b.model = ANY({models}) GROUP BY w.id HAVING pg_catalog.count(DISTINCT t.id) = 1) f \
             ORDER BY f.new, f.old ON CONFLICT DO NOTHING",
            map = self.map(table),
            data = self.typed(data),
            live_data = data.only_live(),
            w = self.typed(table),
            live = table.only_live(),
            models = text_array(&table.models),
        );
        self.run(table, &sql).await
    }

    fn has_external_id(&self, table: &Table, id: &str) -> String {
        match self.tables.odoo("ir_model_data") {
            Some(data) => format!(
                "EXISTS (SELECT FROM {} b WHERE b.res_id = {id} AND b.model = ANY({}) AND b.module <> '__export__')",
                self.typed(data),
                text_array(&table.models)
            ),
            None => "false".to_owned(),
        }
    }

    fn has_live_external_id(&self, table: &Table, id: &str) -> String {
        match self.tables.odoo("ir_model_data") {
            Some(data) => format!(
                "EXISTS (SELECT FROM {} b WHERE b.res_id = {id} AND b.model = ANY({}) AND b.module <> '__export__')",
                data.only_live(),
                text_array(&table.models)
            ),
            None => "false".to_owned(),
        }
    }

    /// Decides which of the rows that were found may be written. `owned` is a condition over the
    /// row alias `w` and the map alias `m`.
    pub(super) async fn policy(&self, table: &Table, owned: &str) -> Result<(), Failure> {
        let newer = match (table.has("write_date"), table.has("create_date")) {
            (true, true) => {
                "COALESCE(w.write_date, w.create_date) > COALESCE(t.write_date, t.create_date)"
            }
            (true, false) => "w.write_date > t.write_date",
            // Nobody knows which one is newer, so the target's stays.
            (false, _) => "false",
        };
        let wins = match (self.mode, self.on_conflict) {
            (Mode::Replace, _) | (Mode::Merge, OnConflict::Overwrite) => "true",
            (Mode::Merge, OnConflict::Keep) => "false",
            (Mode::Merge, OnConflict::Newest) => newer,
        };
        let sql = format!(
            "UPDATE {map} m SET write = COALESCE(({wins}) AND ({owned}), false) \
             FROM {w} w, {live} t WHERE w.id = m.old AND t.id = m.new",
            map = self.map(table),
            w = self.typed(table),
            live = table.only_live(),
        );
        self.run(table, &sql).await
    }

    /// Gives the rows that were not found an id: their own where it is free, else one beyond all.
    /// `candidate` is a condition over the row alias `w`.
    pub(super) async fn insert_rest(&self, table: &Table, candidate: &str) -> Result<(), Failure> {
        let (map, w, live) = (self.map(table), self.typed(table), table.only_live());
        let free = format!(
            "INSERT INTO {map} SELECT w.id, w.id, 'new', true FROM {w} w WHERE ({candidate}) \
             AND NOT EXISTS (SELECT FROM {live} t WHERE t.id = w.id) ON CONFLICT DO NOTHING"
        );
        let sequence = format!(
            "pg_catalog.pg_get_serial_sequence({}, 'id')",
            quote_literal(&table.live.table.sql())
        );
        let renumbered = format!(
            "INSERT INTO {map} SELECT w.id, base.id + pg_catalog.row_number() OVER (ORDER BY w.id), 'renumbered', true \
             FROM {w} w, (SELECT GREATEST((SELECT pg_catalog.max(t.id) FROM {live} t), (SELECT pg_catalog.max(w.id) FROM {w} w), \
             COALESCE((SELECT s.last_value FROM pg_catalog.pg_sequences s WHERE \
              pg_catalog.to_regclass(pg_catalog.format('%I.%I', s.schemaname, s.sequencename)) = {sequence}::pg_catalog.regclass), 0), 0) AS id) base \
             WHERE ({candidate}) AND NOT EXISTS (SELECT FROM {map} m WHERE m.old = w.id)"
        );
        self.run(table, &free).await?;
        self.run(table, &renumbered).await
    }

    /// As [`Self::publish`], of the tables that come first: `by_model` is keyed behind them.
    async fn publish_first(&self, whole: &[&Table]) -> Result<(), Failure> {
        let (mut named, mut again) = (BTreeSet::new(), Vec::new());
        for table in whole {
            for model in &table.models {
                if named.insert(model) {
                    self.name_rows(table, model, "").await?;
                } else {
                    again.push((table, model));
                }
            }
        }
        let by_model = self.staging.name("by_model");
        let sql = format!("ALTER TABLE {by_model} ADD PRIMARY KEY (model, old)");
        let keyed = self.client.batch_execute(&sql).await;
        keyed.map_err(|error| failure_of("match the restored rows by their models", &error))?;
        for (table, model) in again {
            self.name_rows(table, model, ALREADY_NAMED).await?;
        }
        for table in whole {
            // In `replace` every row keeps its id: none is lost.
            if self.mode == Mode::Merge {
                self.note_lost(table).await?;
            }
            self.analyze(table).await?;
        }
        Ok(())
    }

    /// Makes a map known to references that go by a model's name, and which of the bundle's rows it
    /// does not have: the target may have another row of that id.
    pub(super) async fn publish(&self, table: &Table) -> Result<(), Failure> {
        for model in &table.models {
            self.name_rows(table, model, ALREADY_NAMED).await?;
        }
        self.note_lost(table).await?;
        self.analyze(table).await
    }

    async fn note_lost(&self, table: &Table) -> Result<(), Failure> {
        for name in table.models.iter().chain([&table.entry.table]) {
            let lost = format!(
                "INSERT INTO {} SELECT {}, w.id FROM {} w WHERE NOT EXISTS (SELECT FROM {} m WHERE m.old = w.id) \
                 ON CONFLICT DO NOTHING",
                self.staging.name("lost"),
                quote_literal(name),
                self.typed(table),
                self.map(table)
            );
            self.run(table, &lost).await?;
        }
        Ok(())
    }

    async fn analyze(&self, table: &Table) -> Result<(), Failure> {
        self.run(table, &format!("ANALYZE {}", self.map(table)))
            .await
    }

    async fn name_rows(&self, table: &Table, model: &str, known: &str) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {} SELECT {}, m.old, m.new FROM {} m {known}",
            self.staging.name("by_model"),
            quote_literal(model),
            self.map(table)
        );
        self.run(table, &sql).await
    }

    pub(super) fn map(&self, table: &Table) -> String {
        self.staging.name(&format!("m{}", table.number))
    }

    pub(super) fn typed(&self, table: &Table) -> String {
        self.staging.name(&format!("w{}", table.number))
    }

    pub(super) fn mapped(&self, table: &Table) -> String {
        self.staging.name(&format!("x{}", table.number))
    }

    pub(super) async fn run(&self, table: &Table, sql: &str) -> Result<(), Failure> {
        self.client.batch_execute(sql).await.map_err(|error| {
            failure_of(
                &format!("match the rows of {} with the target's", table.entry.table),
                &error,
            )
        })
    }
}

/// `ARRAY['a','b']::text[]`.
pub(super) fn text_array<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> String {
    let values: Vec<String> = values
        .into_iter()
        .map(|value| quote_literal(value.as_ref()))
        .collect();
    format!("ARRAY[{}]::pg_catalog.text[]", values.join(","))
}
