//! `--neutralize`: a copy that must not act. As Odoo's own neutralisation does, scheduled actions,
//! mail servers, API keys and webhooks are switched off, in the same transaction and with the same
//! undo as the restored rows.

use arkstream_pipeline::Failure;
use arkstream_postgres::{Catalog, Key, TableDiff, failure_of, quote_ident};

use super::maps::Mapping;
use super::tables::{Table, from_live};

/// What is done to rows of a table.
enum Act {
    /// A column gets a value.
    Set(&'static str, &'static str),
    /// They are deleted.
    Delete,
}

/// Table, act, which rows (alias `t`), what it is for people.
const RULES: &[(&str, Act, &str, &str)] = &[
    (
        "ir_cron",
        Act::Set("active", "false"),
        "t.active AND NOT EXISTS (SELECT FROM SCHEMA.ir_model_data d WHERE d.model = 'ir.cron' \
         AND d.name = 'autovacuum_job' AND d.res_id = t.id)",
        "scheduled actions",
    ),
    (
        "ir_mail_server",
        Act::Set("active", "false"),
        "t.active",
        "outgoing mail servers",
    ),
    (
        "fetchmail_server",
        Act::Set("active", "false"),
        "t.active",
        "incoming mail servers",
    ),
    (
        "res_users_apikeys",
        Act::Delete,
        "true",
        "API keys of users",
    ),
    (
        "ir_act_server",
        Act::Set("webhook_url", "'neutralization - disable webhook'"),
        "t.webhook_url IS NOT NULL",
        "webhooks of server actions",
    ),
    (
        "base_automation",
        Act::Set("active", "false"),
        "t.active AND t.trigger = 'on_webhook'",
        "automations by webhook",
    ),
];

/// Adds what neutralisation changes to the differences. Returns lines for people.
pub(super) async fn add(
    mapping: &Mapping<'_>,
    catalog: &Catalog,
    diffs: &mut Vec<TableDiff>,
) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for (number, (name, act, which, what)) in RULES.iter().enumerate() {
        let Some(live) = catalog.in_public(name) else {
            continue;
        };
        let column = match act {
            Act::Set(column, _) if live.column(column).is_none() => continue,
            Act::Set(column, _) => Some(*column),
            Act::Delete => None,
        };
        let which = which.replace("SCHEMA", &quote_ident(&live.table.schema));
        let known = mapping
            .tables
            .written()
            .find(|table| table.live.table.oid == live.table.oid);
        let (diff, columns) = match known {
            Some(table) => (
                mapping.staging.name(&format!("d{}", table.number)),
                table.columns.iter().map(|c| c.name.clone()).collect(),
            ),
            None => (
                mapping.staging.name(&format!("n{number}")),
                std::iter::once("id")
                    .chain(column)
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            ),
        };
        let changed = change(
            mapping,
            live_from(live, known),
            &diff,
            &columns,
            act,
            &which,
            known.is_some(),
        )
        .await?;
        if changed > 0 {
            lines.push(format!("neutralised: {changed} {what}"));
            if !diffs.iter().any(|d| d.diff == diff) {
                diffs.push(TableDiff {
                    table: live.clone(),
                    diff,
                    key: Key::Columns(vec!["id".to_owned()]),
                    columns,
                });
            }
        }
    }
    Ok(lines)
}

fn live_from(live: &arkstream_postgres::CatalogTable, known: Option<&Table>) -> String {
    known.map_or_else(|| from_live(live), Table::only_live)
}

async fn change(
    mapping: &Mapping<'_>,
    live: String,
    diff: &str,
    columns: &[String],
    act: &Act,
    which: &str,
    known: bool,
) -> Result<u64, Failure> {
    let list: Vec<String> = columns.iter().map(|column| quote_ident(column)).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|name| match act {
            Act::Set(column, value) if column == name => (*value).to_owned(),
            _ => format!("t.{}", quote_ident(name)),
        })
        .collect();
    let op = match act {
        Act::Set(..) => "'u'",
        Act::Delete => "'d'",
    };
    let mut sql = String::new();
    if known {
        match act {
            Act::Set(column, value) => sql.push_str(&format!(
                "UPDATE {diff} t SET {} = {value} WHERE t.ark_op <> 'd' AND ({which}); ",
                quote_ident(column)
            )),
            Act::Delete => sql.push_str(&format!(
                "DELETE FROM {diff} t WHERE t.ark_op = 'i' AND ({which}); \
                 UPDATE {diff} t SET ark_op = 'd' WHERE t.ark_op = 'u' AND ({which}); "
            )),
        }
    } else {
        sql.push_str(&format!(
            "CREATE TABLE {diff} AS SELECT 'u'::\"char\" AS ark_op, 1 AS ark_n, {} FROM {live} t WHERE false; ",
            list.iter().map(|c| format!("t.{c}")).collect::<Vec<_>>().join(", ")
        ));
    }
    sql.push_str(&format!(
        "INSERT INTO {diff} (ark_op, ark_n, {}) SELECT {op}::\"char\", 1, {} FROM {live} t WHERE ({which}) \
         AND NOT EXISTS (SELECT FROM {diff} d WHERE d.id = t.id)",
        list.join(", "),
        values.join(", ")
    ));
    let fail = |error: tokio_postgres::Error| failure_of("neutralise the copy", &error);
    mapping.client.batch_execute(&sql).await.map_err(fail)?;
    let row = mapping
        .client
        .query_one(&format!("SELECT pg_catalog.count(*) FROM {diff}"), &[])
        .await
        .map_err(fail)?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}
