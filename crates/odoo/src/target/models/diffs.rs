//! From matched rows to differences: one diff table `d<n>` for each live table that changes.
//!
//! The form of a diff table is the engine's (`arkstream_postgres::TableDiff`): an operation, an
//! occurrence number, the key, the wanted values. Values are compared as the text of their row, so
//! that what merely compares as equal (`1.0` and `1.00`) is not taken for equal.

use arkstream_pipeline::{Failure, TablePlan};
use arkstream_postgres::{Key, TableDiff, compared, failure_of, quote_ident};

use super::Mode;
use super::maps::Mapping;
use super::references::Reference;
use super::shared;
use super::tables::{Class, Table, col};

/// Makes the diff tables of all tables that are written.
pub(super) async fn make(mapping: &Mapping<'_>) -> Result<Vec<TableDiff>, Failure> {
    let mut diffs = Vec::new();
    for table in mapping.tables.written() {
        let diff = diff_name(mapping, table);
        let (key, sql) = if table.has_id() {
            (Key::Columns(vec!["id".to_owned()]), by_id(mapping, table))
        } else if !table.live.primary_key.is_empty()
            && table
                .live
                .primary_key
                .iter()
                .all(|column| table.has(column))
        {
            let key = table.live.primary_key.clone();
            let sql = by_primary_key(mapping, table, &key);
            (Key::Columns(key), sql)
        } else {
            (Key::WholeRow, by_whole_row(mapping, table))
        };
        mapping
            .run(
                table,
                &format!("CREATE TABLE {diff} AS {sql}; ANALYZE {diff}"),
            )
            .await?;
        diffs.push(TableDiff {
            table: table.live.clone(),
            diff,
            key,
            columns: table.columns.iter().map(|c| c.name.clone()).collect(),
        });
    }
    Ok(diffs)
}

fn diff_name(mapping: &Mapping<'_>, table: &Table) -> String {
    mapping.staging.name(&format!("d{}", table.number))
}

/// What the diff tables do, table by table.
pub(super) async fn count_all(mapping: &Mapping<'_>) -> Result<Vec<TablePlan>, Failure> {
    let mut plans = Vec::new();
    for table in mapping.tables.written() {
        plans.push(count(mapping, table, &diff_name(mapping, table)).await?);
    }
    Ok(plans)
}

/// `'i'`, `'u'` or `'d'` as the type of the operation column.
fn op(expression: &str) -> String {
    format!("({expression})::\"char\" AS ark_op, 1 AS ark_n")
}

fn values(table: &Table) -> Vec<&str> {
    table.values().map(|column| column.name.as_str()).collect()
}

fn by_id(mapping: &Mapping<'_>, table: &Table) -> String {
    let names = values(table);
    let id_type = table
        .column("id")
        .map_or("pg_catalog.int4", |column| column.live_type.as_str());
    let wanted: String = names
        .iter()
        .map(|name| format!(", {} AS {}", wanted(table, name), quote_ident(name)))
        .collect();
    let differs = if names.is_empty() {
        "false".to_owned()
    } else {
        format!(
            "{} IS DISTINCT FROM {}",
            table.row_text("t", names.iter().copied()),
            wanted_text(table)
        )
    };
    let live = table.only_live();
    let mut sql = format!(
        "SELECT {}, m.new::{id_type} AS id{wanted} FROM {} x JOIN {} m ON m.old = x.ark_old \
         LEFT JOIN {live} t ON t.id = m.new WHERE m.write AND (t.id IS NULL OR {differs})",
        op("CASE WHEN t.id IS NULL THEN 'i' ELSE 'u' END"),
        mapping.mapped(table),
        mapping.map(table),
    );
    if let Some(gone) = deleted(mapping, table) {
        let nothing: String = table
            .values()
            .map(|column| format!(", NULL::{}", column.live_type))
            .collect();
        sql.push_str(&format!(
            " UNION ALL SELECT {}, t.id{nothing} FROM {live} t WHERE {gone} \
             AND NOT EXISTS (SELECT FROM {} m WHERE m.new = t.id)",
            op("'d'"),
            mapping.map(table)
        ));
    }
    sql
}

/// Where numbering without gaps goes on. A number that was given away stays given away.
const ONLY_RAISED: &[(&str, &str)] = &[
    ("ir_sequence", "number_next"),
    ("ir_sequence_date_range", "number_next"),
];

/// What a column of a row of the bundle, `x`, shall be live, where `t` is the live row if there is one.
fn wanted(table: &Table, column: &str) -> String {
    if ONLY_RAISED.contains(&(table.name(), column)) {
        format!("GREATEST({}, {})", col("t", column), col("x", column))
    } else {
        col("x", column)
    }
}

/// The text of a row as it shall be live, without its id.
pub(super) fn wanted_text(table: &Table) -> String {
    let values: Vec<String> = table
        .values()
        .map(|column| compared(&wanted(table, &column.name), &column.live_type))
        .collect();
    format!("ROW({})::pg_catalog.text", values.join(", "))
}

/// Which live rows are deleted unless the bundle has them; `None` when none is.
fn deleted(mapping: &Mapping<'_>, table: &Table) -> Option<String> {
    match (mapping.mode, table.class) {
        (Mode::Replace, Class::Whole) => Some("true".to_owned()),
        (Mode::Replace, Class::Shared) => shared::deleted(mapping, table),
        _ => None,
    }
}

fn by_primary_key(mapping: &Mapping<'_>, table: &Table, key: &[String]) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let others: Vec<&str> = columns
        .iter()
        .copied()
        .filter(|column| !key.iter().any(|k| k == column))
        .collect();
    let on: Vec<String> = key
        .iter()
        .map(|k| format!("{} = {}", col("t", k), col("x", k)))
        .collect();
    let given: Vec<String> = key
        .iter()
        .map(|k| format!("{} IS NOT NULL", col("x", k)))
        .collect();
    let absent = format!("{} IS NULL", col("t", &key[0]));
    let differs = if others.is_empty() {
        "false".to_owned()
    } else {
        format!(
            "{} IS DISTINCT FROM {}",
            table.row_text("t", others.iter().copied()),
            table.row_text("x", others.iter().copied())
        )
    };
    let overwrites = mapping.mode == Mode::Replace;
    let wanted: String = columns
        .iter()
        .map(|name| format!(", x.{0} AS {0}", quote_ident(name)))
        .collect();
    let live = table.only_live();
    let mut sql = format!(
        "SELECT DISTINCT ON ({keys}) {}{wanted} FROM {} x LEFT JOIN {live} t ON {on} \
         WHERE {given} AND {wins} AND ({absent} OR ({overwrites} AND {differs}))",
        op(&format!("CASE WHEN {absent} THEN 'i' ELSE 'u' END")),
        mapping.mapped(table),
        keys = key
            .iter()
            .map(|k| col("x", k))
            .collect::<Vec<_>>()
            .join(", "),
        on = on.join(" AND "),
        given = given.join(" AND "),
        wins = pair_wins(mapping, table),
    );
    if let Some(gone) = deleted(mapping, table) {
        let nothing: String = table
            .columns
            .iter()
            .map(|column| {
                if key.contains(&column.name) {
                    format!(", {}", col("t", &column.name))
                } else {
                    format!(", NULL::{}", column.live_type)
                }
            })
            .collect();
        sql = format!(
            "({sql}) UNION ALL SELECT {}{nothing} FROM {live} t WHERE {gone} \
             AND NOT EXISTS (SELECT FROM {} x WHERE {})",
            op("'d'"),
            mapping.mapped(table),
            on.join(" AND "),
        );
    }
    sql
}

/// Rows of many2many tables follow the records on their sides: in `merge` they are added when one
/// of them is written, and of shared records when their owner is restored.
fn pair_wins(mapping: &Mapping<'_>, table: &Table) -> String {
    let owned = match table.class {
        Class::Shared => shared::owned(mapping, table, "x"),
        _ => "true".to_owned(),
    };
    if mapping.mode == Mode::Replace {
        return owned;
    }
    let mut written = Vec::new();
    for column in &table.columns {
        if let Reference::Table(target) = &column.reference
            && let Some(target) = mapping
                .tables
                .named(target)
                .filter(|target| target.has_id() && target.class != Class::Identity)
        {
            written.push(format!(
                "EXISTS (SELECT FROM {} m WHERE m.new = {} AND m.write)",
                mapping.map(target),
                col("x", &column.name)
            ));
        }
    }
    if written.is_empty() {
        owned
    } else {
        format!("{owned} AND ({})", written.join(" OR "))
    }
}

/// Tables without a key are sets of rows that may occur several times.
fn by_whole_row(mapping: &Mapping<'_>, table: &Table) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let list = |alias: &str| {
        columns
            .iter()
            .map(|name| format!(", {}", col(alias, name)))
            .collect::<String>()
    };
    let numbered = |from: &str, alias: &str| {
        let text = table.row_text(alias, columns.iter().copied());
        format!(
            "(SELECT {text} AS ark_text, pg_catalog.row_number() OVER (PARTITION BY {text})::pg_catalog.int4 AS ark_n{} \
             FROM {from})",
            list(alias)
        )
    };
    let counted = |from: &str, alias: &str| {
        format!(
            "(SELECT {} AS ark_text, pg_catalog.count(*) AS n FROM {from} GROUP BY 1)",
            table.row_text(alias, columns.iter().copied())
        )
    };
    let wanted = format!(
        "{} x WHERE {}",
        mapping.mapped(table),
        pair_wins(mapping, table)
    );
    let live = format!("{} t", table.only_live());
    let mut sql = format!(
        "SELECT 'i'::\"char\" AS ark_op, a.ark_n{} FROM {} a LEFT JOIN {} b ON b.ark_text = a.ark_text \
         WHERE a.ark_n > COALESCE(b.n, 0)",
        list("a"),
        numbered(&wanted, "x"),
        counted(&live, "t"),
    );
    if let Some(gone) = deleted(mapping, table) {
        let goes = format!("{live} WHERE {gone}");
        sql.push_str(&format!(
            " UNION ALL SELECT 'd'::\"char\", a.ark_n{} FROM {} a LEFT JOIN {} b ON b.ark_text = a.ark_text \
             WHERE a.ark_n > COALESCE(b.n, 0)",
            list("a"),
            numbered(&goes, "t"),
            counted(&wanted, "x"),
        ));
    }
    sql
}

async fn count(mapping: &Mapping<'_>, table: &Table, diff: &str) -> Result<TablePlan, Failure> {
    let renumbered = if table.has_id() {
        format!(
            "(SELECT pg_catalog.count(*) FROM {} m WHERE m.old <> m.new)",
            mapping.map(table)
        )
    } else {
        "0::pg_catalog.int8".to_owned()
    };
    let sql = format!(
        "SELECT pg_catalog.count(*) FILTER (WHERE ark_op = 'i'), pg_catalog.count(*) FILTER (WHERE ark_op = 'u'), \
         pg_catalog.count(*) FILTER (WHERE ark_op = 'd'), {renumbered}, \
         (SELECT pg_catalog.count(*) FROM {} w) FROM {diff}",
        mapping.typed(table)
    );
    let row = mapping.client.query_one(&sql, &[]).await.map_err(|error| {
        failure_of(
            &format!("count what changes in {}", table.entry.table),
            &error,
        )
    })?;
    let number = |index: usize| row.get::<_, i64>(index).unsigned_abs();
    let (inserted, updated) = (number(0), number(1));
    let in_bundle: Vec<&str> = table
        .entry
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    Ok(TablePlan {
        table: table.entry.table.clone(),
        model: table.entry.model.clone(),
        inserted,
        updated,
        deleted: number(2),
        unchanged: number(4).saturating_sub(inserted + updated),
        renumbered: number(3),
        columns_dropped: in_bundle
            .iter()
            .filter(|name| table.live.column(name).is_none())
            .map(|name| (*name).to_owned())
            .collect(),
        columns_missing: table
            .live
            .columns
            .iter()
            .filter(|column| !column.generated && !in_bundle.contains(&column.pg.name.as_str()))
            .map(|column| column.pg.name.clone())
            .collect(),
    })
}
