//! From matched rows to differences: one diff table `d<n>` for each live table that changes.
//!
//! The form of a diff table is the engine's (`arkstream_postgres::TableDiff`): an operation, an
//! occurrence number, the key, the wanted values. Of rows with an id the values stay where they are
//! staged, and `v<n>` gives them by `ark_old`, unless something may change them on the way: a view where
//! most rows of the table are written, a table where it is few of many.
//! Values are compared as the bytes of their row, so that what merely compares as equal (`1.0` and
//! `1.00`) is not taken for equal.

use arkstream_pipeline::{Failure, TablePlan};
use arkstream_postgres::{Key, TableDiff, failure_of, quote_ident, quote_literal, row_bytes};

use super::Mode;
use super::maps::Mapping;
use super::references::Reference;
use super::shared;
use super::tables::{Class, Column, Table, bytes_of, col};
use super::{neutralize, views};

/// Makes the diff tables of all tables that are written.
pub(super) async fn make(mapping: &Mapping<'_>) -> Result<Vec<TableDiff>, Failure> {
    let mut diffs = Vec::new();
    for table in mapping.tables.written() {
        let diff = diff_name(mapping, table);
        let staged = table.has_id() && stay_staged(mapping, table);
        let (key, rows) = if table.has_id() {
            let key = Key::Columns(vec!["id".to_owned()]);
            (key, by_id(mapping, table, staged))
        } else if !table.live.primary_key.is_empty()
            && table
                .live
                .primary_key
                .iter()
                .all(|column| table.has(column))
        {
            let key = table.live.primary_key.clone();
            let rows = by_primary_key(mapping, table, &key);
            (Key::Columns(key), rows)
        } else {
            (Key::WholeRow, by_whole_row(mapping, table))
        };
        let sql = format!("CREATE TABLE {diff} AS {rows}; ANALYZE {diff}");
        mapping.run(table, &sql).await?;
        let (written, bytes) = written(mapping, table).await?;
        let wanted = match staged {
            true => staged_values(mapping, table, written).await?,
            false => diff.clone(),
        };
        diffs.push(TableDiff {
            table: table.live.clone(),
            diff,
            wanted,
            row_bytes: bytes.div_ceil(table.entry.rows.max(1)),
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

/// Whether the wanted values may be read where they are staged until the end: nothing that this
/// transaction or another does to live tables changes what they resolve to.
fn stay_staged(mapping: &Mapping<'_>, table: &Table) -> bool {
    let raised = ONLY_RAISED
        .iter()
        .any(|(raised, column)| *raised == table.name() && table.has(column));
    let neutralized = mapping.neutralized && neutralize::touches(table.name());
    !raised
        && !neutralized
        && views::is_settled(mapping.staging, mapping.tables, table, mapping.resolving)
}

/// Whether so few of the rows that are staged are written that whoever looks at them should not have
/// to read all.
fn are_few(written: u64, staged: u64) -> bool {
    written < staged / 5
}

/// Makes what gives the rows to insert and to update with the values that are staged.
async fn staged_values(
    mapping: &Mapping<'_>,
    table: &Table,
    written: u64,
) -> Result<String, Failure> {
    let name = mapping.staging.name(&format!("v{}", table.number));
    let values: String = values(table)
        .iter()
        .map(|name| format!(", {}", col("x", name)))
        .collect();
    let rows = format!(
        "SELECT d.ark_op, d.ark_n, d.id{values} FROM {} d JOIN {} x ON x.ark_old = d.ark_old",
        diff_name(mapping, table),
        mapping.mapped(table)
    );
    let sql = match are_few(written, table.entry.rows) {
        true => format!("CREATE TABLE {name} AS {rows}; ANALYZE {name}"),
        false => format!("CREATE VIEW {name} AS {rows}"),
    };
    mapping.run(table, &sql).await?;
    Ok(name)
}

/// How many rows are inserted or updated, and the bytes of all that are staged.
async fn written(mapping: &Mapping<'_>, table: &Table) -> Result<(u64, u64), Failure> {
    let sql = format!(
        "SELECT pg_catalog.count(*) FILTER (WHERE ark_op <> 'd'), \
         pg_catalog.pg_table_size({}::pg_catalog.regclass) FROM {}",
        quote_literal(&table.staged.sql),
        diff_name(mapping, table)
    );
    let what = format!("measure the differences of {}", table.entry.table);
    let row = mapping.client.query_one(&sql, &[]).await;
    let row = row.map_err(|error| failure_of(&what, &error))?;
    let number = |index: usize| row.get::<_, i64>(index).unsigned_abs();
    Ok((number(0), number(1)))
}

/// The differences of a table with an id: with the wanted values or, where these are read where they
/// are staged, with the bundle's id as `ark_old`.
fn by_id(mapping: &Mapping<'_>, table: &Table, staged: bool) -> String {
    let names = values(table);
    let id_type = table
        .column("id")
        .map_or("pg_catalog.int4", |column| column.live_type.as_str());
    let wanted: String = if staged {
        ", x.ark_old".to_owned()
    } else {
        names
            .iter()
            .map(|name| format!(", {} AS {}", wanted(table, name), quote_ident(name)))
            .collect()
    };
    let differs = if names.is_empty() {
        "false".to_owned()
    } else {
        format!(
            "{} IS DISTINCT FROM {}",
            bytes_of("t", table.values()),
            wanted_bytes(table)
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
        // Not `NULL::type`: a domain may forbid it.
        let nothing: String = if staged {
            ", NULL::pg_catalog.int8".to_owned()
        } else {
            table
                .values()
                .map(|column| format!(", {}", col("z", &column.name)))
                .collect()
        };
        sql.push_str(&format!(
            " UNION ALL SELECT {}, t.id{nothing} FROM {live} t LEFT JOIN {live} z ON false WHERE {gone} \
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

/// The bytes of a row as it shall be live, without its id.
pub(super) fn wanted_bytes(table: &Table) -> String {
    let values = table.values();
    row_bytes(values.map(|column| column.compared(wanted(table, &column.name))))
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
    let others: Vec<&Column> = table
        .columns
        .iter()
        .filter(|column| !key.contains(&column.name))
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
            bytes_of("t", others.iter().copied()),
            bytes_of("x", others.iter().copied())
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
                    format!(", {}", col("z", &column.name))
                }
            })
            .collect();
        sql = format!(
            "({sql}) UNION ALL SELECT {}{nothing} FROM {live} t LEFT JOIN {live} z ON false WHERE {gone} \
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_copied_where_few_of_many_rows_are_written() {
        assert!(are_few(1, 1_000_000));
        assert!(!are_few(1_000_000, 1_000_000));
        assert!(!are_few(0, 0));
    }
}
