//! Rows for the models: one `INSERT … SELECT FROM generate_series` per table.
//!
//! A value depends on the seed, the column and the row number alone, so equal seed and scale give
//! equal rows. Rows are numbered 1…n; heirs of a parent table continue their parent's numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::model::{Field, Model};
use super::schema::{RelationTable, literal, quote};

/// First id minus one, and number of rows, of every filled table.
pub(super) type Counts = BTreeMap<String, (u32, u32)>;

pub(super) fn counts(models: &BTreeMap<String, Model>, scale: f64) -> Counts {
    let mut counts = Counts::new();
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for model in models.values().filter(|m| m.has_table()) {
        let rows = model.scaled_rows(scale);
        let family = model.inherits.as_deref().unwrap_or(&model.name);
        let first = next.entry(family).or_insert(0);
        counts.insert(model.name.clone(), (*first, rows));
        *first += rows;
    }
    counts
}

pub(super) fn fill_tables(models: &BTreeMap<String, Model>, counts: &Counts) -> String {
    let mut sql = String::new();
    // Tables without rows at scale 1 are filled elsewhere.
    for model in models.values().filter(|m| m.rows > 0) {
        let Some(&(base, rows)) = counts.get(&model.name).filter(|(_, rows)| *rows > 0) else {
            continue;
        };
        let parent = model.inherits.as_ref().and_then(|p| models.get(p));
        let mut columns = vec!["id".to_owned()];
        let mut values = vec![format!("i + {base}")];
        for field in model
            .fields
            .iter()
            .chain(parent.into_iter().flat_map(|p| &p.fields))
        {
            if field.column_type().is_some() {
                columns.push(quote(&field.name));
                values.push(value(model, field, counts));
            }
        }
        let users = counts.get("res.users").map_or(1, |c| c.1.max(1));
        let key = &model.table;
        for (column, expression) in [
            (
                "create_uid",
                format!("1 + pg_temp.h('{key}.cu', i) % {users}"),
            ),
            (
                "write_uid",
                format!("CASE WHEN i % 7 > 0 THEN 1 + pg_temp.h('{key}.wu', i) % {users} END"),
            ),
            ("create_date", moment(&format!("{key}.cd"), true)),
            ("write_date", moment(&format!("{key}.wd"), true)),
        ] {
            columns.push(column.to_owned());
            values.push(expression);
        }
        let _ = writeln!(
            sql,
            "INSERT INTO {} ({}) SELECT {} FROM generate_series(1::bigint, {rows}) AS i;",
            quote(&model.table),
            columns.join(", "),
            values.join(", ")
        );
    }
    sql
}

/// A few partners for every row of the left side.
pub(super) fn fill_relations(relations: &[RelationTable<'_>], counts: &Counts) -> String {
    let mut sql = String::new();
    for rel in relations {
        let size = |model: &Model| counts.get(&model.name).map_or(0, |c| c.1);
        let (left, right) = (size(rel.left.1), size(rel.right.1));
        if left == 0 || right == 0 {
            continue;
        }
        let _ = writeln!(
            sql,
            "INSERT INTO {} ({}, {}) SELECT DISTINCT i, 1 + pg_temp.h('{}' || k, i) % {right} \
             FROM generate_series(1::bigint, {left}) AS i, generate_series(1, 3) AS k \
             WHERE k <= pg_temp.h('{}.n', i) % 4 ORDER BY 1, 2;",
            quote(rel.table),
            quote(rel.left.0),
            quote(rel.right.0),
            rel.table,
            rel.table
        );
    }
    sql
}

fn moment(key: &str, micros: bool) -> String {
    let fraction = match micros {
        true => format!(" + pg_temp.h('{key}u', i) % 1000000 * interval '1 microsecond'"),
        false => String::new(),
    };
    format!(
        "timestamp '2024-01-01' + pg_temp.h('{key}', i) % 60000000 * interval '1 second'{fraction}"
    )
}

/// The expression for a field of row `i`.
fn value(model: &Model, field: &Field, counts: &Counts) -> String {
    let key = format!("{}.{}", model.table, field.name);
    let h = format!("pg_temp.h('{key}', i)");
    if field.company {
        return company_value(field, &h, counts);
    }
    if field.translate {
        let en = text_value(model, field, &key, &h);
        return format!(
            "CASE WHEN {h} % 11 = 3 THEN jsonb_build_object('en_US', {en}) \
             ELSE jsonb_build_object('en_US', {en}, 'fr_FR', 'Fr : ' || {en}) END"
        );
    }
    let expression = match field.ttype.as_str() {
        "many2one" => return many2one(model, field, &h, counts),
        "char" | "text" | "html" => text_value(model, field, &key, &h),
        "selection" => selection(field, &h),
        "integer" if field.name == "sequence" => "(i * 10)::int".to_owned(),
        "integer" => format!("({h} % 20011 - 10)::int"),
        "many2one_reference" => format!("(1 + {h} % 20)::int"),
        "float" if field.digits => format!("round(({h} % 1000003)::numeric / 1000, 3)"),
        "float" => format!("({h} % 1000003)::float8 / 997"),
        "monetary" => format!("round(({h} % 1000003)::numeric / 100, 2)"),
        "boolean" if field.name == "active" => format!("{h} % 10 > 0"),
        "boolean" => format!("{h} % 2 = 0"),
        "date" => format!("date '2024-01-01' + ({h} % 700)::int"),
        "datetime" => moment(&key, false),
        "json" => format!("pg_temp.json('{key}', i)"),
        "reference" => format!("'res.partner,' || (1 + {h} % 20)"),
        "binary" => format!("decode(md5({h}::text) || repeat('00ff', ({h} % 40)::int), 'hex')"),
        _ => "NULL".to_owned(),
    };
    match field.required || matches!(field.name.as_str(), "name" | "active" | "sequence") {
        true => expression,
        false => format!("CASE WHEN {h} % 6 > 0 THEN {expression} END"),
    }
}

fn many2one(model: &Model, field: &Field, h: &str, counts: &Counts) -> String {
    let relation = field.relation.as_deref().unwrap_or_default();
    let (base, size) = counts.get(relation).copied().unwrap_or_default();
    if size == 0 {
        return "NULL".to_owned();
    }
    if relation == model.name {
        // A tree: the parent comes before its child.
        return format!("CASE WHEN i > 2 AND {h} % 5 > 0 THEN 1 + {h} % (i - 1) END");
    }
    let target = format!("{} + {h} % {size}", base + 1);
    match field.required {
        true => target,
        false => format!(
            "CASE WHEN pg_temp.h('{}n', {h}) % 5 > 0 THEN {target} END",
            field.name
        ),
    }
}

/// Company-dependent: `{"1": value}`, with `{"1": null}`, both companies, and SQL NULL.
fn company_value(field: &Field, h: &str, counts: &Counts) -> String {
    let one = match field.ttype.as_str() {
        "many2one" => {
            let relation = field.relation.as_deref().unwrap_or_default();
            let size = counts.get(relation).map_or(1, |c| c.1.max(1));
            format!("(1 + {h} % {size})")
        }
        "char" => format!("pg_temp.tricky({h})"),
        _ => format!("round(({h} % 100003)::numeric / 100, 2)"),
    };
    format!(
        "CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN jsonb_build_object('1', {one}) \
         WHEN 2 THEN '{{\"1\": null}}'::jsonb WHEN 3 THEN jsonb_build_object('1', {one}, '2', NULL) \
         ELSE jsonb_build_object('2', {one}) END"
    )
}

fn text_value(model: &Model, field: &Field, key: &str, h: &str) -> String {
    let name = field.name.as_str();
    match name {
        "name" | "display_name" => {
            format!(
                "{} || ' ' || pg_temp.word({h}) || ' ' || i",
                literal(&model.description)
            )
        }
        "login" | "code" | "key" | "technical_name" | "mode_key" | "node_id" => {
            format!("pg_temp.word({h}) || '_' || i")
        }
        "parent_path" => "NULL::text".to_owned(),
        "url" | "api_endpoint" | "webhook_url" => {
            format!("'https://example.com/' || pg_temp.word({h}) || '?q=' || i")
        }
        "email" => "'user' || i || '@example.com'".to_owned(),
        "api_key" | "client_secret" | "access_token" | "password" => {
            format!("'sk-sample-' || md5({h}::text)")
        }
        _ if field.ttype == "char" => {
            format!("CASE WHEN {h} % 13 = 1 THEN pg_temp.tricky({h}) ELSE pg_temp.word({h}) END")
        }
        "content" if model.name == "ai.message" => {
            format!("pg_temp.para('{key}', i, (6 + {h} % 18)::int)")
        }
        _ if field.ttype == "html" => format!(
            "'<p>' || pg_temp.para('{key}', i, 2) || '</p><img src=\"/web/image/' || (1 + {h} % 20) || '\"/>'"
        ),
        _ => format!(
            "CASE WHEN {h} % 13 = 1 THEN pg_temp.tricky({h}) ELSE pg_temp.para('{key}', i, (1 + {h} % 4)::int) END"
        ),
    }
}

fn selection(field: &Field, h: &str) -> String {
    let choices = match field.name.as_str() {
        "role" => "'user','assistant','system'",
        "state" | "status" => "'draft','open','done','error'",
        "provider" | "ai_provider" => "'anthropic','openai','local'",
        "ttype" | "type" => "'binary','url'",
        _ => "'standard','manual','automatic','none'",
    };
    format!(
        "(ARRAY[{choices}])[1 + {h} % {}]",
        choices.split(',').count()
    )
}
