//! References that no foreign key guards: how many there are, and how many point nowhere.
//!
//! Odoo keeps many: pairs of a model's name and an id (`res_model`, `res_id`), `reference` texts
//! (`model,id`), `parent_path`, and ids inside company-dependent JSON. They are counted in the
//! snapshot, over the rows that travel, in two queries for each referring column. A
//! reference is judged against the database, inheriting tables included: it dangles when the row
//! is nowhere, not when the row merely stays behind.
//!
//! The queries run after the export and may meet tables that are not locked. Each waits a few
//! seconds at most; what could not be counted is said, and fails nothing.

use std::{sync::Arc, time::Duration};

use arkstream_format::ReferenceCheck;
use arkstream_pipeline::{Failure, Run};
use arkstream_postgres::{
    Catalog, CatalogTable, TableTask, failure_of, quote_ident, quote_literal,
};
use tokio_postgres::Client;

use crate::registry::{Field, Model, Registry, Resolution};
use crate::scope::Rows;

/// How long one query waits for a table that somebody is altering.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Pairs of Odoo's own tables.
const PAIRS: &[(&str, &str, &str)] = &[
    ("ir_attachment", "res_model", "res_id"),
    ("ir_model_data", "model", "res_id"),
    ("mail_message", "model", "res_id"),
    ("mail_followers", "res_model", "res_id"),
    ("mail_activity", "res_model", "res_id"),
];

/// One kind of reference.
struct Pointer {
    /// `table.column`.
    from: String,
    /// The referring rows.
    rows: Rows,
    /// A table expression behind the rows that gives `p(model, id)`; `model` is a name.
    unfolded: String,
    /// The only model it can point to, where that is fixed.
    target: Option<String>,
}

/// Targets that are looked at in one query.
const TARGETS: usize = 100;

/// The target of references to what is no model of the database.
const NO_MODEL: &str = "(no such model)";

/// Counts them all. Returns the counts and lines for people about what could not be counted.
pub(super) async fn count(
    client: &Client,
    run: &Run,
    registry: &Registry,
    catalog: &Catalog,
    tasks: &[Arc<TableTask>],
) -> Result<(Vec<ReferenceCheck>, Vec<String>), Failure> {
    let mut notes = Vec::new();
    let mut checks = Vec::new();
    for pointer in pointers(registry, tasks, &mut notes) {
        run.cancel.check()?;
        let counting = Counting {
            client,
            registry,
            catalog,
        };
        match counting.one(&pointer).await? {
            Ok(found) => checks.extend(found),
            Err(why) => notes.push(format!(
                "references from {} were not counted: {why}",
                pointer.from
            )),
        }
    }
    checks.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    Ok((checks, notes))
}

fn pointers(
    registry: &Registry,
    tasks: &[Arc<TableTask>],
    notes: &mut Vec<String>,
) -> Vec<Pointer> {
    let mut pointers = Vec::new();
    for task in tasks
        .iter()
        .filter(|task| task.virtual_query.is_none() && task.columns.is_none())
    {
        let table = &task.table;
        let own = table.table.schema == registry.schema;
        let mut pairs: Vec<(&str, &str)> = PAIRS
            .iter()
            .filter(|(name, ..)| own && *name == table.table.name)
            .map(|(_, model, id)| (*model, *id))
            .collect();
        for model in registry.models_of(table.table.oid) {
            for field in model
                .fields
                .values()
                .filter(|field| table.column(&field.name).is_some())
            {
                match field.ttype.as_str() {
                    "many2one_reference" => match model_column(model, field, table) {
                        Some(column) => pairs.push((column, &field.name)),
                        None => notes.push(format!(
                            "references from {}.{} were not counted: no column is known that says to \
                             which model they lead",
                            table.table.qualified(),
                            field.name
                        )),
                    },
                    "reference" => pointers.push(text_reference(task, &field.name)),
                    "many2one" if field.company_dependent => {
                        pointers.extend(by_company(task, field));
                    }
                    _ => {}
                }
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        pointers.extend(pairs.into_iter().map(|(model, id)| pair(task, model, id)));
        if let (Some(_), Some(model)) = (table.column("parent_path"), &task.model) {
            pointers.push(parent_path(task, model));
        }
    }
    pointers
}

/// The column with the model of a `many2one_reference`: Odoo's fields do not keep its name in the
/// database, but they follow a habit.
pub(crate) fn model_column<'t>(
    model: &'t Model,
    field: &Field,
    table: &CatalogTable,
) -> Option<&'t str> {
    let stem = field.name.strip_suffix("_id").unwrap_or(&field.name);
    let names = [
        format!("{stem}_model"),
        format!("{stem}_res_model"),
        format!("{stem}_model_name"),
        "res_model".to_owned(),
        "model".to_owned(),
        "model_name".to_owned(),
    ];
    names.iter().find_map(|name| {
        let (name, found) = model.fields.get_key_value(name)?;
        let text = matches!(found.ttype.as_str(), "char" | "selection");
        (text && table.column(name).is_some()).then_some(name.as_str())
    })
}

fn pair(task: &TableTask, model: &str, id: &str) -> Pointer {
    let (model, column) = (
        format!("t.{}", quote_ident(model)),
        format!("t.{}", quote_ident(id)),
    );
    pointer(
        task,
        id,
        format!("(VALUES ({model}::text, {column}::int8))"),
        None,
    )
}

fn text_reference(task: &TableTask, column: &str) -> Pointer {
    let text = format!("t.{}", quote_ident(column));
    let unfolded = format!(
        "(SELECT m[1], m[2]::int8 FROM regexp_match({text}, '^([a-z0-9_.]+),([0-9]{{1,18}})$') m)"
    );
    pointer(task, column, unfolded, None)
}

fn parent_path(task: &TableTask, model: &str) -> Pointer {
    let unfolded = format!(
        "(SELECT {}::text, s::int8 FROM regexp_split_to_table(t.parent_path, '/') s WHERE s ~ '^[0-9]{{1,18}}$')",
        quote_literal(model)
    );
    pointer(task, "parent_path", unfolded, Some(model.to_owned()))
}

/// Company-dependent many2one fields are JSON objects of ids by company, without a foreign key.
fn by_company(task: &TableTask, field: &Field) -> Option<Pointer> {
    let column = task.table.column(&field.name)?;
    let (target, "jsonb") = (field.relation.as_ref()?, column.pg.type_name.as_str()) else {
        return None;
    };
    let json = format!("t.{}", quote_ident(&field.name));
    let unfolded = format!(
        "(SELECT {}::text, v.value::text::int8 FROM jsonb_each(CASE WHEN jsonb_typeof({json}) = 'object' \
         THEN {json} END) v WHERE v.value::text ~ '^[0-9]{{1,18}}$')",
        quote_literal(target)
    );
    Some(pointer(task, &field.name, unfolded, Some(target.clone())))
}

fn pointer(task: &TableTask, column: &str, unfolded: String, target: Option<String>) -> Pointer {
    Pointer {
        from: format!("{}.{column}", task.table.table.name),
        rows: Rows::of(task),
        unfolded,
        target,
    }
}

struct Counting<'a> {
    client: &'a Client,
    registry: &'a Registry,
    catalog: &'a Catalog,
}

impl Counting<'_> {
    /// The counts of one kind of reference by target; the inner error is why it was not counted.
    async fn one(&self, pointer: &Pointer) -> Result<Result<Vec<ReferenceCheck>, String>, Failure> {
        let fail = |error: tokio_postgres::Error| failure_of("count references", &error);
        // The coordinator's transaction holds the snapshot: a query that fails must not end it.
        let begin = format!(
            "SAVEPOINT arkstream_check; SET LOCAL lock_timeout = {}",
            LOCK_WAIT.as_millis()
        );
        self.client.batch_execute(&begin).await.map_err(fail)?;
        match self.query(pointer).await {
            Ok(found) => {
                // Rolling back also takes the timeout back.
                self.client
                    .batch_execute(
                        "ROLLBACK TO SAVEPOINT arkstream_check; RELEASE SAVEPOINT arkstream_check",
                    )
                    .await
                    .map_err(fail)?;
                Ok(Ok(found))
            }
            Err(error) if error.as_db_error().is_some() => {
                let why = error
                    .as_db_error()
                    .map(|db| db.message().to_owned())
                    .unwrap_or_default();
                self.client
                    .batch_execute(
                        "ROLLBACK TO SAVEPOINT arkstream_check; RELEASE SAVEPOINT arkstream_check",
                    )
                    .await
                    .map_err(fail)?;
                Ok(Err(why))
            }
            Err(error) => Err(fail(error)),
        }
    }

    async fn query(&self, pointer: &Pointer) -> Result<Vec<ReferenceCheck>, tokio_postgres::Error> {
        let mut rows = pointer.rows.clone();
        rows.from = format!("{}, LATERAL {} p(model, id)", rows.from, pointer.unfolded);
        let given = "p.model IS NOT NULL AND p.id IS NOT NULL AND p.id <> 0";
        // What names no model is one target, however many words there are.
        let known: Vec<&str> = self.registry.models.keys().map(String::as_str).collect();
        let mut targets: Vec<(String, i64)> = self
            .client
            .query(
                &format!(
                    "SELECT CASE WHEN p.model::text = ANY ($1::text[]) THEN p.model::text \
                            ELSE {} END, count(*) {} GROUP BY 1 ORDER BY 1",
                    quote_literal(NO_MODEL),
                    rows.and(given)
                ),
                &[&known],
            )
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        if let (true, Some(target)) = (targets.is_empty(), &pointer.target) {
            targets.push((target.clone(), 0));
        }
        let mut checks = Vec::new();
        for targets in targets.chunks(TARGETS) {
            let rows = rows.and(given);
            let dangling = self.dangling(&rows, targets).await?;
            for ((model, total), dangling) in targets.iter().zip(dangling) {
                checks.push(ReferenceCheck {
                    from: pointer.from.clone(),
                    to: model.clone(),
                    total: total.unsigned_abs(),
                    dangling: dangling.unsigned_abs(),
                });
            }
        }
        Ok(checks)
    }

    /// How many of the rows' references to each target, of which `targets` has the number, point nowhere.
    async fn dangling(
        &self,
        rows: &str,
        targets: &[(String, i64)],
    ) -> Result<Vec<i64>, tokio_postgres::Error> {
        // Without a table there is nothing to point to.
        let mut dangling: Vec<i64> = targets.iter().map(|(_, total)| *total).collect();
        let mut counts = Vec::new();
        let mut counted = Vec::new();
        for ((model, total), dangling) in targets.iter().zip(&mut dangling) {
            if let (Some(relation), true) = (self.relation(model), *total > 0) {
                counts.push(format!(
                    "count(*) FILTER (WHERE p.model = {} AND NOT EXISTS \
                     (SELECT FROM {relation} x WHERE x.id = p.id))",
                    quote_literal(model)
                ));
                counted.push(dangling);
            }
        }
        if !counts.is_empty() {
            let query = format!("SELECT {} {rows}", counts.join(", "));
            let row = self.client.query_one(&query, &[]).await?;
            for (index, dangling) in counted.into_iter().enumerate() {
                *dangling = row.get(index);
            }
        }
        Ok(dangling)
    }

    /// The relation of a model, without ONLY: a row of an inheriting table has its parent's id.
    fn relation(&self, model: &str) -> Option<String> {
        let Resolution::Relation(oid) = self.registry.models.get(model)?.resolution else {
            return None;
        };
        let table = self.catalog.by_oid(oid)?;
        table.column("id").map(|_| table.table.sql())
    }
}
