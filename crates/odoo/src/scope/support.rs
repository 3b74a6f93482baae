//! Rows of tables that all of Odoo shares, as far as they belong to the chosen models.
//!
//! What belongs to a chosen model: what names it (`res_model`, `model`), and what a foreign key of
//! a table that travels leads to. Of chatter, what hangs on a message, follower or activity
//! travels with it: many2many tables and a list of known tables with a foreign key to it. The
//! queue of outgoing mail (`mail_mail`) is not among them: a restore would send it again.
//!
//! They follow no cycle: messages and their kin come from models and relations, attachments from
//! these and from messages, external ids from all of them.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_postgres::{CatalogTable, quote_literal};

use super::builder::Builder;
use super::filter::{Condition, from_clause, ids_of};
use super::{Rows, is_whole};
use crate::selection::MODULE_PREFIXES;

/// Tables, no many2many tables, whose rows hang on a message.
const CHATTER: &[&str] = &[
    "mail_notification",
    "mail_tracking_value",
    "mail_message_reaction",
    "mail_message_translation",
    "mail_message_link_preview",
    "mail_link_preview",
    "mail_message_schedule",
    "rating_rating",
];

/// Tables that other rows hang on.
const PARENTS: &[(&str, &str)] = &[
    ("mail_message", "model"),
    ("mail_followers", "res_model"),
    ("mail_activity", "res_model"),
];

/// Adds them all. `whole_stack` takes along the document numbering that modules of the stack set
/// up, whether or not a chosen model refers to it.
pub(super) fn add(builder: &mut Builder<'_>, whole_stack: bool) {
    if builder.choice.chosen.is_empty() {
        return;
    }
    for (table, column) in PARENTS {
        if let Some(table) = unplanned(builder, table, &[*column, "id"]) {
            let mut conditions = referred(builder, table);
            conditions.insert(Condition::chosen(column));
            builder.add_filtered(table, &conditions);
        }
    }
    add_hanging(builder);
    add_attachments(builder);
    add_by_field(builder, "ir_default", "field_id");
    add_by_field(builder, "ir_property", "fields_id");
    add_sequences(builder, whole_stack);
}

/// Adds the external ids of everything that travels, identity rows included. Comes last.
pub(super) fn add_external_ids(builder: &mut Builder<'_>) {
    let Some(table) = unplanned(builder, "ir_model_data", &["model", "res_id"]) else {
        return;
    };
    let mut by_model: BTreeMap<&str, Rows> = BTreeMap::new();
    for task in builder
        .tasks()
        .filter(|task| task.table.column("id").is_some())
    {
        if let Some(model) = task
            .model
            .as_deref()
            .filter(|m| !builder.choice.chosen.contains_key(*m))
        {
            by_model.insert(model, builder.rows(task));
        }
    }
    let rows: Vec<_> = by_model
        .iter()
        .map(|(model, rows)| {
            format!(
                "SELECT {}::text, t.id {}",
                quote_literal(model),
                rows.and("true")
            )
        })
        .collect();
    let mut conditions = BTreeSet::from([Condition::chosen("model")]);
    if !rows.is_empty() {
        conditions.insert(Condition::any(
            &["model", "res_id"],
            rows.join(" UNION ALL "),
        ));
    }
    builder.add_filtered(table, &conditions);
}

fn add_hanging(builder: &mut Builder<'_>) {
    let mut found: Vec<(&CatalogTable, BTreeSet<Condition>)> = Vec::new();
    for table in builder
        .catalog
        .tables()
        .filter(|table| matches!(table.kind, 'r' | 'p'))
    {
        if builder.planned(table.table.oid).is_some() || !hangs(builder, table) {
            continue;
        }
        let mut conditions = BTreeSet::new();
        for (parent, _) in PARENTS {
            if let Some(rows) = filtered(builder, parent) {
                let columns = keys_to(table, builder.odoo(parent));
                conditions.extend(
                    columns
                        .into_iter()
                        .map(|c| Condition::among(c, &rows, "id")),
                );
            }
        }
        if !conditions.is_empty() {
            found.push((table, conditions));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.table.cmp(&b.table));
    for (table, conditions) in found {
        builder.add_filtered(table, &conditions);
    }
}

/// Whether a table is one of those whose rows hang on others: known chatter, or a many2many table
/// of models that last.
fn hangs(builder: &Builder<'_>, table: &CatalogTable) -> bool {
    let lasting = |name: &String| {
        builder
            .registry
            .models
            .get(name)
            .is_none_or(|model| !model.transient)
    };
    CHATTER.contains(&table.table.name.as_str())
        || builder
            .registry
            .relations
            .get(&table.table.oid)
            .is_some_and(|uses| {
                uses.iter()
                    .any(|field| lasting(&field.model) && lasting(&field.other))
            })
}

/// Attachments of chosen models, their binary fields (`res_field`) included, of travelling
/// messages, and those that a foreign key leads to.
fn add_attachments(builder: &mut Builder<'_>) {
    let Some(table) = unplanned(builder, "ir_attachment", &["id", "res_model", "res_id"]) else {
        return;
    };
    let mut conditions = referred(builder, table);
    conditions.insert(Condition::chosen("res_model"));
    for task in builder.tasks().filter(|task| task.filter.is_some()) {
        for column in keys_to(&task.table, Some(table)) {
            conditions.insert(Condition::among("id", &builder.rows(task), column));
        }
    }
    if let Some(messages) = filtered(builder, "mail_message") {
        let query = format!("SELECT 'mail.message'::text, t.id {}", messages.and("true"));
        conditions.insert(Condition::any(&["res_model", "res_id"], query));
    }
    builder.add_filtered(table, &conditions);
}

/// Rows about fields of chosen models.
fn add_by_field(builder: &mut Builder<'_>, name: &str, column: &str) {
    let (Some(fields), Some(table)) = (
        builder.odoo("ir_model_fields"),
        unplanned(builder, name, &[column]),
    ) else {
        return;
    };
    let query = format!(
        "SELECT t.id {} WHERE {}",
        from_clause(fields),
        Condition::chosen("model").sql()
    );
    let mut conditions = referred(builder, table);
    conditions.insert(Condition::any(&[column], query));
    builder.add_filtered(table, &conditions);
}

fn add_sequences(builder: &mut Builder<'_>, whole_stack: bool) {
    let Some(table) = unplanned(builder, "ir_sequence", &["id", "code"]) else {
        return;
    };
    let mut conditions = referred(builder, table);
    conditions.insert(Condition::chosen("code"));
    if let (true, Some(data)) = (whole_stack, builder.odoo("ir_model_data")) {
        let modules: Vec<_> = MODULE_PREFIXES
            .iter()
            .map(|prefix| format!("starts_with(t.module, '{prefix}')"))
            .collect();
        let rows = Rows {
            from: from_clause(data),
            filter: Some(format!(
                "t.model = 'ir.sequence' AND ({})",
                modules.join(" OR ")
            )),
        };
        conditions.insert(Condition::any(&["id"], ids_of(&rows, "res_id")));
    }
    builder.add_filtered(table, &conditions);
    let ranges = unplanned(builder, "ir_sequence_date_range", &["sequence_id"]);
    if let (Some(rows), Some(ranges)) = (filtered(builder, "ir_sequence"), ranges) {
        builder.add_filtered(
            ranges,
            &[Condition::among("sequence_id", &rows, "id")].into(),
        );
    }
}

/// One of Odoo's tables that has these columns and is not planned yet.
fn unplanned<'a>(builder: &Builder<'a>, name: &str, columns: &[&str]) -> Option<&'a CatalogTable> {
    builder
        .odoo(name)
        .filter(|table| builder.planned(table.table.oid).is_none())
        .filter(|table| columns.iter().all(|column| table.column(column).is_some()))
}

/// The rows of one of Odoo's tables, where only some of them travel.
fn filtered(builder: &Builder<'_>, name: &str) -> Option<Rows> {
    let task = builder.planned(builder.odoo(name)?.table.oid)?;
    task.filter.is_some().then(|| builder.rows(task))
}

/// Conditions for rows of `table` that foreign keys of models and relations lead to.
fn referred(builder: &Builder<'_>, table: &CatalogTable) -> BTreeSet<Condition> {
    let mut conditions = BTreeSet::new();
    for task in builder.tasks().filter(|task| is_whole(task)) {
        for column in keys_to(&task.table, Some(table)) {
            conditions.insert(Condition::among("id", &builder.rows(task), column));
        }
    }
    conditions
}

/// Columns of `table` with a foreign key to the id of `target`.
fn keys_to<'t>(table: &'t CatalogTable, target: Option<&CatalogTable>) -> Vec<&'t str> {
    let Some(target) = target.map(|target| target.table.qualified()) else {
        return Vec::new();
    };
    table
        .foreign_keys
        .iter()
        .filter(|key| key.references == target && key.referenced_columns == ["id"])
        .filter_map(|key| key.columns.first())
        .map(String::as_str)
        .collect()
}
