//! `--neutralize`: a copy that must not act. As Odoo's own neutralisation does, scheduled actions,
//! mail servers, API keys and webhooks are switched off, in the same transaction and with the same
//! undo as the restored rows. A mail server that delivers nothing is added, for without any Odoo
//! takes the one of its command line or configuration file; and the database is marked.
//!
//! The ids of all rows that are touched go to the table `neutral`: they differ from the bundle's by
//! intent, and a proof passes over them.

use arkstream_pipeline::Failure;
use arkstream_postgres::{
    Catalog, CatalogTable, Key, TableDiff, failure_of, quote_ident, quote_literal,
};

use super::maps::Mapping;
use super::tables::{Table, from_live, row_text};

/// The name under which Odoo adds the mail server that delivers nothing.
const DUMMY: &str = "neutralization - disable emails";

/// What is done to rows of a table.
enum Act {
    /// Of the rows of a condition (alias `t`), a column gets a value.
    Set(&'static str, &'static str, &'static str),
    /// They are deleted.
    Delete,
    /// There is a row with these values; the first one tells it.
    Present(&'static [(&'static str, &'static str)]),
}

/// Table, act, what it is for people.
const RULES: &[(&str, Act, &str)] = &[
    (
        "ir_cron",
        Act::Set(
            "active",
            "false",
            "t.active AND NOT EXISTS (SELECT FROM SCHEMA.ir_model_data d WHERE d.model = 'ir.cron' \
             AND d.name = 'autovacuum_job' AND d.res_id = t.id)",
        ),
        "scheduled actions",
    ),
    (
        "ir_mail_server",
        Act::Set(
            "active",
            "false",
            "t.active AND t.name IS DISTINCT FROM 'neutralization - disable emails'",
        ),
        "outgoing mail servers",
    ),
    (
        "ir_mail_server",
        Act::Present(&[
            ("name", DUMMY),
            ("smtp_host", "invalid"),
            ("smtp_port", "1025"),
            ("smtp_encryption", "none"),
            ("smtp_authentication", "login"),
            ("active", "true"),
        ]),
        "mail server that delivers nothing",
    ),
    (
        "fetchmail_server",
        Act::Set("active", "false", "t.active"),
        "incoming mail servers",
    ),
    ("res_users_apikeys", Act::Delete, "API keys of users"),
    (
        "ir_act_server",
        Act::Set(
            "webhook_url",
            "neutralization - disable webhook",
            "t.webhook_url IS NOT NULL",
        ),
        "webhooks of server actions",
    ),
    (
        "base_automation",
        Act::Set("active", "false", "t.active AND t.trigger = 'on_webhook'"),
        "automations by webhook",
    ),
    (
        "ir_config_parameter",
        Act::Present(&[("key", "database.is_neutralized"), ("value", "true")]),
        "mark of a neutralised database",
    ),
];

/// A table that is touched, with its diff table.
struct Touched<'a> {
    live: &'a CatalogTable,
    /// The live table as SQL.
    from: String,
    diff: String,
    columns: Vec<String>,
}

/// Adds what neutralisation changes to the differences. Returns lines for people.
pub(super) async fn add(
    mapping: &Mapping<'_>,
    catalog: &Catalog,
    diffs: &mut Vec<TableDiff>,
) -> Result<Vec<String>, Failure> {
    let create = format!(
        "CREATE TABLE {} (tab pg_catalog.oid, id pg_catalog.int8, PRIMARY KEY (tab, id))",
        mapping.staging.name("neutral")
    );
    run(mapping, &create).await?;
    let mut lines = Vec::new();
    for (name, act, what) in RULES {
        let Some(live) = catalog.in_public(name) else {
            continue;
        };
        let told = match act {
            Act::Set(column, ..) => column,
            Act::Delete => "id",
            Act::Present(values) => values.first().map_or("id", |(column, _)| column),
        };
        if live.column(told).is_none() {
            continue;
        }
        let touched = touch(mapping, live, diffs).await?;
        let changed = match act {
            Act::Set(column, value, which) => {
                let which = which.replace("SCHEMA", &quote_ident(&live.table.schema));
                set(mapping, &touched, &[(column, value)], &which).await?
            }
            Act::Delete => delete(mapping, &touched).await?,
            Act::Present(values) => present(mapping, &touched, values).await?,
        };
        if changed > 0 {
            lines.push(format!("neutralised: {changed} {what}"));
        }
    }
    Ok(lines)
}

/// Whether a rule may touch rows of the table with that name.
pub(super) fn touches(table: &str) -> bool {
    RULES.iter().any(|(name, ..)| *name == table)
}

/// The diff table of a live table: that of the restored rows, or one of its own with the columns
/// that any rule needs.
async fn touch<'a>(
    mapping: &Mapping<'_>,
    live: &'a CatalogTable,
    diffs: &mut Vec<TableDiff>,
) -> Result<Touched<'a>, Failure> {
    let known = mapping
        .tables
        .written()
        .find(|table| table.live.table.oid == live.table.oid);
    let from = known.map_or_else(|| from_live(live), Table::only_live);
    let of_table = |diff: &&TableDiff| diff.table.table.oid == live.table.oid;
    if let Some(diff) = diffs.iter().find(of_table) {
        return Ok(Touched {
            live,
            from,
            diff: diff.diff.clone(),
            columns: diff.columns.clone(),
        });
    }
    let mut columns = vec!["id".to_owned()];
    for (_, act, _) in RULES.iter().filter(|(name, ..)| *name == live.table.name) {
        let used: Vec<&str> = match act {
            Act::Set(column, ..) => vec![column],
            Act::Delete => Vec::new(),
            Act::Present(values) => values.iter().map(|(column, _)| *column).collect(),
        };
        for column in used {
            if live.column(column).is_some() && !columns.iter().any(|known| known == column) {
                columns.push(column.to_owned());
            }
        }
    }
    let diff = mapping.staging.name(&format!("n{}", live.table.oid));
    let list: Vec<String> = columns
        .iter()
        .map(|column| format!("t.{}", quote_ident(column)))
        .collect();
    let create = format!(
        "CREATE TABLE {diff} AS SELECT 'u'::\"char\" AS ark_op, 1 AS ark_n, {} FROM {from} t WHERE false",
        list.join(", ")
    );
    run(mapping, &create).await?;
    diffs.push(TableDiff {
        table: live.clone(),
        diff: diff.clone(),
        wanted: diff.clone(),
        row_bytes: 0,
        key: Key::Columns(vec!["id".to_owned()]),
        columns: columns.clone(),
    });
    Ok(Touched {
        live,
        from,
        diff,
        columns,
    })
}

/// Notes the rows of a condition (alias `t`) as they will be, and returns how many there are.
async fn note(mapping: &Mapping<'_>, touched: &Touched<'_>, which: &str) -> Result<u64, Failure> {
    let Touched {
        live, from, diff, ..
    } = touched;
    let sql = format!(
        "WITH noted AS (SELECT t.id FROM {diff} t WHERE t.ark_op <> 'd' AND ({which}) \
          UNION SELECT t.id FROM {from} t WHERE ({which}) AND NOT EXISTS (SELECT FROM {diff} d WHERE d.id = t.id)), \
         kept AS (INSERT INTO {} SELECT {}, n.id FROM noted n ON CONFLICT DO NOTHING) \
         SELECT pg_catalog.count(*) FROM noted",
        mapping.staging.name("neutral"),
        live.table.oid
    );
    let row = mapping.client.query_one(&sql, &[]).await.map_err(fail)?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

async fn set(
    mapping: &Mapping<'_>,
    touched: &Touched<'_>,
    values: &[(&str, &str)],
    which: &str,
) -> Result<u64, Failure> {
    let changed = note(mapping, touched, which).await?;
    let Touched {
        from,
        diff,
        columns,
        ..
    } = touched;
    let sets: Vec<String> = values
        .iter()
        .map(|(column, value)| format!("{} = {}", quote_ident(column), quote_literal(value)))
        .collect();
    let list: Vec<String> = columns.iter().map(|column| quote_ident(column)).collect();
    let wanted: Vec<String> = columns
        .iter()
        .map(|column| {
            values.iter().find(|(name, _)| name == column).map_or_else(
                || format!("t.{}", quote_ident(column)),
                |(_, v)| quote_literal(v),
            )
        })
        .collect();
    let sql = format!(
        "INSERT INTO {diff} (ark_op, ark_n, {}) SELECT 'u'::\"char\", 1, {} FROM {from} t WHERE ({which}) \
         AND NOT EXISTS (SELECT FROM {diff} d WHERE d.id = t.id); \
         UPDATE {diff} t SET {} WHERE t.ark_op <> 'd' AND ({which})",
        list.join(", "),
        wanted.join(", "),
        sets.join(", ")
    );
    run(mapping, &sql).await?;
    Ok(changed)
}

async fn delete(mapping: &Mapping<'_>, touched: &Touched<'_>) -> Result<u64, Failure> {
    let changed = note(mapping, touched, "true").await?;
    let Touched { from, diff, .. } = touched;
    let sql = format!(
        "DELETE FROM {diff} t WHERE t.ark_op = 'i'; UPDATE {diff} t SET ark_op = 'd' WHERE t.ark_op = 'u'; \
         INSERT INTO {diff} (ark_op, ark_n, id) SELECT 'd'::\"char\", 1, t.id FROM {from} t \
         WHERE NOT EXISTS (SELECT FROM {diff} d WHERE d.id = t.id)"
    );
    run(mapping, &sql).await?;
    Ok(changed)
}

async fn present(
    mapping: &Mapping<'_>,
    touched: &Touched<'_>,
    values: &[(&str, &str)],
) -> Result<u64, Failure> {
    let Touched {
        live,
        from,
        diff,
        columns,
    } = touched;
    let values: Vec<(&str, &str)> = values
        .iter()
        .copied()
        .filter(|(column, _)| columns.iter().any(|known| known == column))
        .collect();
    let Some((told, value)) = values.first() else {
        return Ok(0);
    };
    let which = format!("t.{} = {}", quote_ident(told), quote_literal(value));
    // Such a row stays, even where the bundle does not have it.
    let stays = format!(
        "DELETE FROM {diff} d USING {from} t WHERE d.ark_op = 'd' AND d.id = t.id AND {which}"
    );
    run(mapping, &stays).await?;
    if note(mapping, touched, &which).await? > 0 {
        let names = || values.iter().map(|(column, _)| *column);
        let literals: Vec<String> = values
            .iter()
            .map(|(column, value)| {
                let kind = live
                    .column(column)
                    .map_or("text", |c| c.pg.type_name.as_str());
                format!("{}::{kind}", quote_literal(value))
            })
            .collect();
        let differs = format!(
            "{which} AND {} <> ROW({})::pg_catalog.text",
            row_text("t", names()),
            literals.join(", ")
        );
        return set(mapping, touched, &values, &differs).await;
    }
    let sequence = format!(
        "pg_catalog.pg_get_serial_sequence({}, 'id')",
        quote_literal(&live.table.sql())
    );
    let list: Vec<String> = values.iter().map(|(c, _)| quote_ident(c)).collect();
    let literals: Vec<String> = values.iter().map(|(_, v)| quote_literal(v)).collect();
    // No `nextval`: a dry run leaves sequences alone. They are raised beyond the rows at the end.
    let insert = format!(
        "INSERT INTO {diff} (ark_op, ark_n, id, {}) SELECT 'i'::\"char\", 1, 1 + GREATEST(0, (SELECT pg_catalog.max(t.id) FROM {from} t), \
         (SELECT pg_catalog.max(d.id) FROM {diff} d), (SELECT s.last_value FROM pg_catalog.pg_sequences s \
          WHERE pg_catalog.to_regclass(pg_catalog.format('%I.%I', s.schemaname, s.sequencename)) = {sequence}::pg_catalog.regclass)), {}",
        list.join(", "),
        literals.join(", ")
    );
    run(mapping, &insert).await?;
    note(mapping, touched, &which).await
}

async fn run(mapping: &Mapping<'_>, sql: &str) -> Result<(), Failure> {
    mapping.client.batch_execute(sql).await.map_err(fail)
}

fn fail(error: tokio_postgres::Error) -> Failure {
    failure_of("neutralise the copy", &error)
}

/// The condition that a row with that id was not touched, for a proof.
pub(super) fn untouched(mapping: &Mapping<'_>, table: &Table, id: &str) -> String {
    if mapping.neutralized {
        format!(
            "NOT EXISTS (SELECT FROM {} z WHERE z.tab = {} AND z.id = {id})",
            mapping.staging.name("neutral"),
            table.live.table.oid
        )
    } else {
        "true".to_owned()
    }
}
