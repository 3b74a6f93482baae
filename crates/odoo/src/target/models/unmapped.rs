//! References that were lost on the way: counted before anything is written.

use arkstream_pipeline::{Failure, FailureKind, Lost, ReferencePlan};
use arkstream_postgres::{failure_of, quote_literal};

use super::MissingReference;
use super::maps::Mapping;
use super::references::Reference;
use super::shared;
use super::tables::{Class, Column, Table, col};

/// How many rows are named.
const EXAMPLES: usize = 5;

/// What is shown of a row that was not found.
const SHOWN: &[&str] = &["login", "email", "complete_name", "name", "model", "code"];

/// Counts, by column, the references whose row was found under another id, and those whose row
/// was not found.
pub(super) async fn count(mapping: &Mapping<'_>) -> Result<Vec<ReferencePlan>, Failure> {
    let mut found = Vec::new();
    for table in mapping.tables.written() {
        for (k, column) in table.values().enumerate() {
            let plan = if column.reference == Reference::Links && table.has_id() {
                links(mapping, table, column).await?
            } else if column.reference.can_be_lost() {
                one(mapping, table, k, column).await?
            } else {
                continue;
            };
            if plan.mapped + plan.unmapped > 0 {
                found.push(plan);
            }
        }
    }
    Ok(found)
}

async fn one(
    mapping: &Mapping<'_>,
    table: &Table,
    k: usize,
    column: &Column,
) -> Result<ReferencePlan, Failure> {
    let (was, now) = (format!("x.ark_was_{k}"), col("x", &column.name));
    let lost = match column.reference {
        // An entry by company that leads nowhere, or whose company is not here, is left out or null.
        Reference::ByCompany(_) => format!(
            "pg_catalog.jsonb_typeof({was}) = 'object' AND \
             (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_each({was}) e WHERE e.value <> 'null') <> \
             (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_each({now}) e WHERE e.value <> 'null')"
        ),
        _ => format!("{was} IS NOT NULL AND {now} IS NULL"),
    };
    let left_out = shared::is_for_whom(table, &column.name);
    let (joined, written) = if !table.has_id() {
        let written = match table.class {
            Class::Shared => shared::owned(mapping, table, "x"),
            _ => "true".to_owned(),
        };
        (String::new(), written)
    } else {
        let map = mapping.map(table);
        let joined = format!(" LEFT JOIN {map} m ON m.old = x.ark_old");
        // A row that is left out has no part in the map, or keeps what the target has.
        let written = if left_out {
            format!(
                "(m.write OR m.how = 'left out' OR (m.old IS NULL AND {}))",
                shared::owned(mapping, table, "x")
            )
        } else {
            "m.write".to_owned()
        };
        (joined, written)
    };
    let from = format!("FROM {} x{joined} WHERE {written}", mapping.mapped(table));
    let sql = format!(
        "SELECT pg_catalog.count(*) FILTER (WHERE {was}::pg_catalog.text <> {now}::pg_catalog.text AND NOT ({lost})), \
         pg_catalog.count(*) FILTER (WHERE {lost}) {from}"
    );
    let fail = |error: tokio_postgres::Error| {
        failure_of(
            &format!(
                "count the references of {}.{}",
                table.entry.table, column.name
            ),
            &error,
        )
    };
    let row = mapping.client.query_one(&sql, &[]).await.map_err(fail)?;
    let unmapped = row.get::<_, i64>(1).unsigned_abs();
    let mut plan = ReferencePlan {
        from: format!("{}.{}", table.entry.table, column.name),
        to: target_of(column),
        mapped: row.get::<_, i64>(0).unsigned_abs(),
        unmapped,
        examples: Vec::new(),
        lost: if left_out {
            Lost::RowLeftOut
        } else {
            Lost::Emptied
        },
    };
    if unmapped > 0 {
        let shown = shown(mapping, column, &was);
        let sql =
            format!("SELECT DISTINCT {shown} {from} AND ({lost}) ORDER BY 1 LIMIT {EXAMPLES}");
        let rows = mapping.client.query(&sql, &[]).await.map_err(fail)?;
        plan.examples = rows.iter().map(|row| row.get(0)).collect();
    }
    Ok(plan)
}

/// Links to attachments inside a text. One whose attachment was not found stays as it is; that is
/// right in the database it came from, unless the bundle knows the attachment and the target does not.
async fn links(
    mapping: &Mapping<'_>,
    table: &Table,
    column: &Column,
) -> Result<ReferencePlan, Failure> {
    let value = format!("{}::pg_catalog.text", col("w", &column.name));
    // A regular expression takes four bytes a character, and no more than 1 GiB. Only CASE keeps it from
    // values that this can tell.
    let links =
        format!("CASE WHEN pg_catalog.strpos({value}, '/web/') > 0 THEN {value} ELSE '' END");
    let attachments = mapping
        .tables
        .odoo("ir_attachment")
        .filter(|table| table.has_id());
    let (join, new) = match attachments {
        Some(attachments) => (
            format!(" LEFT JOIN {} a ON a.old = l.id", mapping.map(attachments)),
            "a.new",
        ),
        None => (String::new(), "NULL::pg_catalog.int8"),
    };
    let astray = if mapping.resolving.same_database {
        format!(
            "EXISTS (SELECT FROM {} z WHERE z.model = 'ir.attachment' AND z.id = l.id)",
            mapping.staging.name("lost")
        )
    } else {
        "true".to_owned()
    };
    let sql = format!(
        "SELECT pg_catalog.count(*) FILTER (WHERE {new} <> l.id), \
         pg_catalog.count(*) FILTER (WHERE {new} IS NULL AND {astray}), \
         (pg_catalog.array_agg(DISTINCT l.link ORDER BY l.link) FILTER (WHERE {new} IS NULL AND {astray}))[1:{EXAMPLES}] \
         FROM {w} w JOIN {map} m ON m.old = w.id AND m.write CROSS JOIN LATERAL \
         (SELECT f.m[1] AS link, f.m[2]::pg_catalog.int8 AS id FROM \
          pg_catalog.regexp_matches({links}, '(/web/(?:image|content)/([0-9]{{1,18}}))', 'g') f(m)) l{join} \
         WHERE {links} ~ '/web/(image|content)/[0-9]'",
        w = mapping.typed(table),
        map = mapping.map(table),
    );
    let row = mapping.client.query_one(&sql, &[]).await.map_err(|error| {
        failure_of(
            &format!("count the links in {}.{}", table.entry.table, column.name),
            &error,
        )
    })?;
    Ok(ReferencePlan {
        from: format!("{}.{}", table.entry.table, column.name),
        to: "ir.attachment".to_owned(),
        mapped: row.get::<_, i64>(0).unsigned_abs(),
        unmapped: row.get::<_, i64>(1).unsigned_abs(),
        examples: row.get::<_, Option<Vec<String>>>(2).unwrap_or_default(),
        lost: Lost::Kept,
    })
}

fn target_of(column: &Column) -> String {
    match &column.reference {
        Reference::Table(table) => table.clone(),
        Reference::Pair(model) => format!("the model in {model}"),
        Reference::Text => "the model it names".to_owned(),
        Reference::ByCompany(Some(model)) => model.clone(),
        Reference::ByCompany(None) => "res.company".to_owned(),
        _ => "the field's model".to_owned(),
    }
}

/// The id and, where the bundle knows it, what names the row. Never a plain value.
fn shown(mapping: &Mapping<'_>, column: &Column, was: &str) -> String {
    let id = format!("pg_catalog.left({was}::pg_catalog.text, 60)");
    if let Reference::ByCompany(model) = &column.reference {
        let entry = match model {
            Some(_) => {
                "CASE WHEN e.value::pg_catalog.text ~ '^[0-9]{1,18}$' THEN 'company ' || e.key || ': ' || e.value::pg_catalog.text \
                 ELSE 'company ' || e.key END"
            }
            None => "'company ' || e.key",
        };
        return format!(
            "(SELECT pg_catalog.left(pg_catalog.string_agg({entry}, ', ' ORDER BY e.key), 60) FROM pg_catalog.jsonb_each({was}) e)"
        );
    }
    if column.reference == Reference::Default {
        return format!(
            "CASE WHEN {was}::pg_catalog.text ~ '^[0-9]{{1,18}}$' THEN {was}::pg_catalog.text ELSE 'a value' END"
        );
    }
    let Reference::Table(target) = &column.reference else {
        return id;
    };
    let Some(target) = mapping
        .tables
        .named(target)
        .filter(|target| target.class == Class::Identity && target.has_id())
    else {
        return id;
    };
    let names: Vec<String> = SHOWN
        .iter()
        .filter(|name| target.has(name))
        .take(2)
        .map(|name| {
            format!(
                "COALESCE({} || pg_catalog.left(w.{name}::pg_catalog.text, 60), '')",
                quote_literal(&format!(" {name} "))
            )
        })
        .collect();
    if names.is_empty() {
        return id;
    }
    format!(
        "COALESCE((SELECT {id} || {} FROM {} w WHERE w.id = {was}), {id})",
        names.join(" || "),
        mapping.typed(target)
    )
}

/// Refuses what would lose references against the user's word, or cannot be NULL.
pub(super) fn judge(
    mapping: &Mapping<'_>,
    references: &[ReferencePlan],
    missing: MissingReference,
) -> Result<(), Failure> {
    let lost: Vec<&ReferencePlan> = references
        .iter()
        .filter(|r| r.unmapped > 0 && r.lost != Lost::Kept)
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let required: Vec<&&ReferencePlan> = lost
        .iter()
        .filter(|r| r.lost == Lost::Emptied && is_required(mapping, &r.from))
        .collect();
    let describe = |reference: &ReferencePlan| {
        format!(
            "{} → {}: {} ({})",
            reference.from,
            reference.to,
            reference.unmapped,
            reference.examples.join("; ")
        )
    };
    let attempted = "find what the restored rows refer to";
    if !required.is_empty() {
        let lines: Vec<String> = required.iter().map(|r| describe(r)).collect();
        return Err(Failure::new(
            FailureKind::Refused,
            attempted,
            format!(
                "required references lead to rows that the target does not have: {}",
                lines.join(", ")
            ),
        )
        .help(
            "create these users, companies or records in the target first (the same login, code or \
             external id is enough), then run again",
        ));
    }
    if missing == MissingReference::Fail {
        let lines: Vec<String> = lost.iter().map(|r| describe(r)).collect();
        return Err(Failure::new(
            FailureKind::Refused,
            attempted,
            format!(
                "references lead to rows that neither the bundle nor the target has: {}",
                lines.join(", ")
            ),
        )
        .help(
            "create these rows in the target first, or give --missing-reference null to empty the \
             references; they are counted, and the exit code is 3",
        ));
    }
    Ok(())
}

fn is_required(mapping: &Mapping<'_>, from: &str) -> bool {
    let Some((table, column)) = from.rsplit_once('.') else {
        return false;
    };
    let Some(table) = mapping.tables.named(table) else {
        return false;
    };
    // A row of a many2many table that leads nowhere is left out, as if the link had been removed.
    let is_key = !table.has_id() && table.live.primary_key.iter().any(|key| key == column);
    table
        .live
        .column(column)
        .is_some_and(|column| column.pg.not_null)
        && !is_key
}
