//! Rows of tables that all of Odoo shares: attachments, messages, followers, external ids.
//!
//! A row of the bundle is a live row when both have the same id and belong to the same record, or
//! when what makes such rows unique is equal. A live row is *owned* when it belongs to a restored
//! model; only owned rows are ever changed or deleted. A row of the bundle that belongs to another
//! model travels because a restored row refers to it: it is found, or inserted, never changed.

use arkstream_pipeline::Failure;
use arkstream_postgres::quote_ident;

use super::maps::{Mapping, text_array};
use super::tables::{Class, Table, Tables, col, row_text};

/// Whose a row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The model that a column names.
    Model(&'static str),
    /// The model of the field that a column leads to.
    Field(&'static str),
    /// The owner of the row that a column leads to, in one of the tables above.
    Parent {
        /// The column.
        column: String,
        /// The parent's table, by Odoo's name.
        table: String,
    },
    /// Nobody's in particular: inserted or updated, never deleted.
    Nobody,
}

const BY_MODEL: &[(&str, &str)] = &[
    ("mail_message", "model"),
    ("mail_followers", "res_model"),
    ("mail_activity", "res_model"),
    ("ir_attachment", "res_model"),
    ("ir_model_data", "model"),
];

const BY_FIELD: &[(&str, &str)] = &[("ir_default", "field_id"), ("ir_property", "fields_id")];

/// Tables of which rows hang on others, in the order in which they are looked for.
const PARENTS: &[&str] = &["mail_message", "mail_followers", "mail_activity"];

/// The order of matching: whose ids others need comes first, external ids last.
const ORDER: &[&str] = &[
    "ir_sequence",
    "ir_sequence_date_range",
    "mail_message",
    "mail_followers",
    "mail_activity",
    "ir_attachment",
];

/// What makes a row unique, tried in turn; the first column must be given.
const KEYS: &[(&str, &[&str])] = &[
    ("ir_model_data", &["module", "name"]),
    ("mail_followers", &["res_id", "res_model", "partner_id"]),
    ("mail_notification", &["mail_message_id", "res_partner_id"]),
    (
        "ir_default",
        &["field_id", "user_id", "company_id", "condition"],
    ),
    ("ir_property", &["fields_id", "company_id", "res_id"]),
    (
        "ir_sequence_date_range",
        &["sequence_id", "date_from", "date_to"],
    ),
    ("ir_sequence", &["code", "company_id"]),
    ("mail_message", &["message_id", "model", "res_id"]),
    ("ir_attachment", &["res_field", "res_model", "res_id"]),
    (
        "ir_attachment",
        &["name", "res_model", "res_id", "checksum", "create_date"],
    ),
    (
        "mail_message_reaction",
        &["message_id", "content", "partner_id", "guest_id"],
    ),
    ("mail_tracking_value", &["mail_message_id", "field_id"]),
    (
        "mail_activity",
        &["res_id", "res_model", "summary", "date_deadline", "user_id"],
    ),
];

/// What must be equal, beside the owner, for rows of one id to be one row. Of all other tables it is
/// the moment of creation; rows without one, as Odoo keeps of followers, must be equal as a whole.
const SAME: &[(&str, &[&str])] = &[
    ("ir_attachment", &["create_date", "name", "res_field"]),
    ("ir_model_data", &["module", "name"]),
    ("ir_sequence", &["code", "name"]),
    (
        "ir_sequence_date_range",
        &["sequence_id", "date_from", "date_to"],
    ),
    ("mail_followers", &["partner_id"]),
    ("mail_notification", &["res_partner_id"]),
    (
        "mail_message_reaction",
        &["partner_id", "guest_id", "content"],
    ),
];

/// Columns that say for whom a row holds: emptied, it would hold for everybody. A row that loses one
/// of them is left out. So is a default whose record is lost, for it has no other value.
const FOR_WHOM: &[(&str, &[&str])] = &[
    ("ir_default", &["user_id", "company_id", "json_value"]),
    ("ir_property", &["company_id", "res_id"]),
];

/// Whose rows a shared table has.
pub(super) fn owner_of(table: &Table) -> Owner {
    let by = |list: &'static [(&str, &str)]| {
        let (_, column) = list.iter().find(|(name, _)| *name == table.name())?;
        table.has(column).then_some(*column)
    };
    if let Some(column) = by(BY_MODEL) {
        return Owner::Model(column);
    }
    if let Some(column) = by(BY_FIELD) {
        return Owner::Field(column);
    }
    for parent in PARENTS {
        let qualified = format!("{}.{parent}", table.live.table.schema);
        let key = table.live.foreign_keys.iter().find(|key| {
            key.references == qualified && key.columns.iter().all(|column| table.has(column))
        });
        if let Some(column) = key.and_then(|key| key.columns.first()) {
            return Owner::Parent {
                column: column.clone(),
                table: (*parent).to_owned(),
            };
        }
    }
    Owner::Nobody
}

/// Whether rows of the table are left out when this column loses what it refers to.
pub(super) fn is_for_whom(table: &Table, column: &str) -> bool {
    FOR_WHOM
        .iter()
        .any(|(name, columns)| *name == table.name() && columns.contains(&column))
}

/// The condition that a row of the bundle, of the view `x<n>` under `x`, is left out.
pub(super) fn left_out(table: &Table) -> Option<String> {
    let lost: Vec<String> = table
        .values()
        .enumerate()
        .filter(|(_, column)| is_for_whom(table, &column.name) && column.reference.can_be_lost())
        .map(|(k, column)| {
            format!(
                "x.ark_was_{k} IS NOT NULL AND {} IS NULL",
                col("x", &column.name)
            )
        })
        .collect();
    (!lost.is_empty()).then(|| format!("({})", lost.join(" OR ")))
}

/// The condition that a row under `alias`, in the target's ids, belongs to a restored model.
/// Ownership through a parent reads the tables `o<n>`, which [`fill`] makes.
pub(super) fn owned(mapping: &Mapping<'_>, table: &Table, alias: &str) -> String {
    let models = text_array(&mapping.tables.models);
    match owner_of(table) {
        Owner::Model(column) => {
            let by_model = format!("{} = ANY({models})", col(alias, column));
            match (table.name(), messages(mapping.tables)) {
                ("ir_attachment", Some(message)) if table.has("res_id") => format!(
                    "({by_model} OR ({} = 'mail.message' AND {} IN (SELECT o.id FROM {} o)))",
                    col(alias, column),
                    col(alias, "res_id"),
                    mapping.staging.name(&format!("o{}", message.number)),
                ),
                ("ir_model_data", _) => {
                    let extra = mapping
                        .tables
                        .of(Class::Shared)
                        .filter(|table| owner_of(table) == Owner::Nobody)
                        .flat_map(|table| table.models.iter());
                    let all: Vec<&String> = mapping.tables.models.iter().chain(extra).collect();
                    format!("{} = ANY({})", col(alias, column), text_array(all))
                }
                _ => by_model,
            }
        }
        Owner::Field(column) => format!(
            "{} IN (SELECT f.id FROM {}.ir_model_fields f WHERE f.model = ANY({models}))",
            col(alias, column),
            quote_ident(&table.live.table.schema),
        ),
        Owner::Parent { column, table } => match mapping.tables.odoo(&table) {
            Some(parent) if parent.class == Class::Shared && parent.has_id() => format!(
                "{} IN (SELECT o.id FROM {} o)",
                col(alias, &column),
                mapping.staging.name(&format!("o{}", parent.number))
            ),
            // All messages travel, so all that hangs on them does.
            Some(parent) if parent.class == Class::Whole => "true".to_owned(),
            _ => "false".to_owned(),
        },
        Owner::Nobody => "true".to_owned(),
    }
}

/// The condition that a live row `t` is deleted in `replace` unless the bundle has it; `None` when
/// no row of the table is. What belongs to nobody stays, and so do its external ids.
pub(super) fn deleted(mapping: &Mapping<'_>, table: &Table) -> Option<String> {
    match owner_of(table) {
        Owner::Nobody => None,
        Owner::Model(column) if table.name() == "ir_model_data" => Some(format!(
            "{} = ANY({})",
            col("t", column),
            text_array(&mapping.tables.models)
        )),
        _ => Some(owned(mapping, table, "t")),
    }
}

fn messages(tables: &Tables) -> Option<&Table> {
    tables
        .odoo("mail_message")
        .filter(|table| table.class == Class::Shared && table.has_id())
}

/// Fills the maps of all shared tables.
pub(super) async fn fill(mapping: &Mapping<'_>) -> Result<(), Failure> {
    let mut tables: Vec<&Table> = mapping
        .tables
        .of(Class::Shared)
        .filter(|table| table.has_id())
        .collect();
    tables.sort_by_key(|table| {
        let early = ORDER.iter().position(|name| *name == table.name());
        let last = table.name() == "ir_model_data";
        (
            last,
            early.unwrap_or(ORDER.len()),
            table.entry.table.clone(),
        )
    });
    for table in tables {
        match_rows(mapping, table).await?;
    }
    Ok(())
}

async fn match_rows(mapping: &Mapping<'_>, table: &Table) -> Result<(), Failure> {
    let mine = owned(mapping, table, "x");
    let of_row = format!(
        "EXISTS (SELECT FROM {} x WHERE x.ark_old = w.id AND {mine})",
        mapping.mapped(table)
    );
    let lost = left_out(table);
    if owner_of(table) == Owner::Nobody {
        mapping.by_external_id(table).await?;
    }
    by_same_id(mapping, table).await?;
    by_key(mapping, table, lost.as_deref()).await?;
    // A live row of somebody else is never changed, whatever the bundle's row says.
    let theirs = format!("({of_row}) AND ({})", owned(mapping, table, "t"));
    mapping.policy(table, &theirs).await?;
    let only_owned = mapping.subset || table.name() == "ir_model_data";
    let mut candidate = if only_owned {
        of_row
    } else {
        "true".to_owned()
    };
    if let Some(lost) = lost {
        let x = mapping.mapped(table);
        let keep = format!(
            "UPDATE {map} m SET write = false, how = 'left out' FROM {x} x WHERE x.ark_old = m.old AND m.write AND {lost}",
            map = mapping.map(table)
        );
        mapping.run(table, &keep).await?;
        candidate = format!(
            "({candidate}) AND NOT EXISTS (SELECT FROM {x} x WHERE x.ark_old = w.id AND {lost})"
        );
    }
    mapping.insert_rest(table, &candidate).await?;
    if PARENTS.contains(&table.name()) {
        let sql = format!(
            "CREATE TABLE {o} AS SELECT t.id::pg_catalog.int8 AS id FROM {live} t WHERE {} \
             UNION SELECT m.new FROM {x} x JOIN {map} m ON m.old = x.ark_old WHERE {mine}; ANALYZE {o}",
            owned(mapping, table, "t"),
            o = mapping.staging.name(&format!("o{}", table.number)),
            live = table.only_live(),
            x = mapping.mapped(table),
            map = mapping.map(table),
        );
        mapping.run(table, &sql).await?;
    }
    mapping.publish(table).await
}

async fn by_same_id(mapping: &Mapping<'_>, table: &Table) -> Result<(), Failure> {
    let mut owner: Vec<String> = match owner_of(table) {
        Owner::Model(column) => vec![column.to_owned(), "res_id".to_owned()],
        Owner::Field(column) => vec![column.to_owned()],
        Owner::Parent { column, .. } => vec![column],
        Owner::Nobody => Vec::new(),
    };
    owner.retain(|column| table.has(column));
    let equal = |more: &[&str]| {
        let columns = || {
            let more = more.iter().copied().filter(|column| table.has(column));
            more.chain(owner.iter().map(String::as_str))
        };
        format!(
            "{} = {}",
            row_text("x", columns()),
            row_text("t", columns())
        )
    };
    let same = match SAME.iter().find(|(name, _)| *name == table.name()) {
        Some((_, columns)) => equal(columns),
        None => {
            let all: Vec<&str> = table.values().map(|column| column.name.as_str()).collect();
            let mut same = equal(&all);
            if table.has("create_date") {
                same = format!(
                    "(x.create_date IS NOT NULL AND {}) OR {same}",
                    equal(&["create_date"])
                );
            }
            same
        }
    };
    let sql = format!(
        "INSERT INTO {map} SELECT x.ark_old, t.id, 'id', true FROM {x} x JOIN {live} t ON t.id = x.ark_old \
         WHERE {same} ON CONFLICT DO NOTHING",
        map = mapping.map(table),
        x = mapping.mapped(table),
        live = table.only_live(),
    );
    mapping.run(table, &sql).await
}

async fn by_key(mapping: &Mapping<'_>, table: &Table, lost: Option<&str>) -> Result<(), Failure> {
    for (_, columns) in KEYS.iter().filter(|(name, _)| *name == table.name()) {
        let columns: Vec<&str> = columns
            .iter()
            .copied()
            .filter(|column| table.has(column))
            .collect();
        by_columns(mapping, table, &columns, lost).await?;
    }
    Ok(())
}

/// Rows whose values of the columns occur exactly once on either side. What was lost is no value: a
/// row without its user is not everybody's.
async fn by_columns(
    mapping: &Mapping<'_>,
    table: &Table,
    columns: &[&str],
    lost: Option<&str>,
) -> Result<(), Failure> {
    let Some(first) = columns.first() else {
        return Ok(());
    };
    let side = |from: &str, alias: &str, id: &str, which: &str| {
        format!(
            "(SELECT pg_catalog.min({alias}.{id}) AS id, {key} AS key FROM {from} {alias} \
             WHERE {given} IS NOT NULL AND {which} GROUP BY 2 HAVING pg_catalog.count(*) = 1)",
            key = row_text(alias, columns.iter().copied()),
            given = col(alias, first),
        )
    };
    let sql = format!(
        "INSERT INTO {map} SELECT b.id, l.id, 'key', true FROM {} b JOIN {} l ON l.key = b.key \
         ON CONFLICT DO NOTHING",
        side(
            &mapping.mapped(table),
            "x",
            "ark_old",
            &lost.map_or("true".to_owned(), |lost| format!("NOT {lost}"))
        ),
        side(&table.only_live(), "t", "id", "true"),
        map = mapping.map(table),
    );
    mapping.run(table, &sql).await
}
