//! The undo schema: former versions as diff tables that lead back.
//!
//! ```text
//! state   key, value          'status': 'live', later 'undone'
//! tables  n, schema, name, key (NULL: no key), columns
//! t<n>    ark_op, ark_n, ark_expect, the columns of tables.columns
//! ```
//!
//! `ark_expect` is the hash of the row as the restore left it; NULL where it left none. Rows without
//! a key have none: they are counted. Rows that are new have nothing former: they are written down with
//! their hash when they are there.

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;

use super::change::Counts;
use super::outside::Outside;
use super::undo::{self, UndoTable, row_hash};
use super::{Key, TableDiff, attempted, count, from_live, list, run, writable};
use crate::catalog::CatalogTable;
use crate::sql::{quote_ident, quote_literal};

/// The schema that keeps the former versions.
pub(super) struct Former<'a> {
    schema: &'a str,
}

impl<'a> Former<'a> {
    pub(super) async fn create(client: &Client, schema: &'a str) -> Result<Self, Failure> {
        let name = quote_ident(schema);
        let sql = format!(
            "CREATE SCHEMA {name}; \
             CREATE TABLE {name}.state (key pg_catalog.text PRIMARY KEY, value pg_catalog.text NOT NULL); \
             INSERT INTO {name}.state VALUES ('status', 'live'); \
             CREATE TABLE {name}.tables (n pg_catalog.int4 PRIMARY KEY, schema pg_catalog.text NOT NULL, \
               name pg_catalog.text NOT NULL, key pg_catalog.text[], columns pg_catalog.text[] NOT NULL)"
        );
        run(client, "create the schema of the former versions", &sql).await?;
        Ok(Self { schema })
    }

    fn table(&self, number: usize) -> String {
        format!(
            "{}.{}",
            quote_ident(self.schema),
            quote_ident(&format!("t{number}"))
        )
    }

    async fn note(
        &self,
        client: &Client,
        number: usize,
        table: &CatalogTable,
        key: &Key,
        columns: &[String],
    ) -> Result<(), Failure> {
        let array = |names: &[String]| {
            let quoted: Vec<String> = names.iter().map(|name| quote_literal(name)).collect();
            format!("ARRAY[{}]::pg_catalog.text[]", quoted.join(","))
        };
        let key = match key {
            Key::Columns(columns) => array(columns),
            Key::WholeRow => "NULL".to_owned(),
        };
        let sql = format!(
            "INSERT INTO {}.tables VALUES ({number}, {}, {}, {key}, {})",
            quote_ident(self.schema),
            quote_literal(&table.table.schema),
            quote_literal(&table.table.name),
            array(columns)
        );
        run(
            client,
            &attempted("note the former versions of", table),
            &sql,
        )
        .await
    }

    /// The way back for rows of a diff that change or go. Where all are new, [`Self::expect`] makes
    /// the undo table.
    pub(super) async fn keep(
        &self,
        client: &Client,
        number: usize,
        diff: &TableDiff,
        only_new: bool,
    ) -> Result<(), Failure> {
        let undo = self.table(number);
        let all = writable(&diff.table);
        self.note(client, number, &diff.table, &diff.key, &all)
            .await?;
        let (values, from) = match &diff.key {
            Key::Columns(_) if only_new => return Ok(()),
            Key::Columns(_) => (
                values(diff, "d", &all, |column| {
                    format!("t.{}", quote_ident(column))
                }),
                format!(
                    "{} d JOIN {} t ON {} WHERE d.ark_op <> 'i'",
                    diff.diff,
                    diff.live(),
                    diff.joined("t", "d"),
                ),
            ),
            Key::WholeRow => (list(&all, "d"), format!("{} d", diff.diff)),
        };
        let sql = format!(
            "CREATE TABLE {undo} AS SELECT (CASE d.ark_op WHEN 'i' THEN 'd' WHEN 'u' THEN 'u' ELSE 'i' END)::\"char\" AS ark_op, \
             d.ark_n, NULL::pg_catalog.text AS ark_expect, {values} FROM {from}; ANALYZE {undo}"
        );
        let what = attempted("keep the former versions of", &diff.table);
        run(client, &what, &sql).await
    }

    /// The way back for rows that deletions reach, of a table outside or outside the diff of a table;
    /// then they go into the undo table of that diff.
    pub(super) async fn keep_outside(
        &self,
        client: &Client,
        number: usize,
        table: &CatalogTable,
        emptied: &[Vec<String>],
        in_diff: Option<(usize, &TableDiff)>,
    ) -> Result<(), Failure> {
        let all = writable(table);
        let key = match in_diff {
            Some((_, diff)) => diff.key.clone(),
            None if table.primary_key.is_empty() => Key::WholeRow,
            None => Key::Columns(table.primary_key.clone()),
        };
        // A row that is updated too has its former version there already.
        let not_kept = match in_diff {
            Some((_, diff)) => format!(
                " WHERE NOT EXISTS (SELECT FROM {} d WHERE {})",
                diff.diff,
                diff.joined("t", "d")
            ),
            None => String::new(),
        };
        let emptied_columns = |alias: &str| {
            let cases: Vec<String> = all
                .iter()
                .map(|column| {
                    let sets: Vec<String> = emptied
                        .iter()
                        .filter(|columns| columns.contains(column))
                        .map(|columns| quote_literal(&list(columns, "")))
                        .collect();
                    let value = format!("{alias}.{}", quote_ident(column));
                    if sets.is_empty() {
                        return value;
                    }
                    format!(
                        "CASE WHEN r.emptied && ARRAY[{}]::pg_catalog.text[] THEN NULL ELSE {value} END",
                        sets.join(", ")
                    )
                })
                .collect();
            cases.join(", ")
        };
        let rows = format!(
            "(SELECT r.rel, r.row, pg_catalog.bool_or(r.columns IS NULL) AS goes, pg_catalog.array_agg(r.columns) AS emptied \
              FROM pg_temp.ark_reach r WHERE r.tab = {} GROUP BY r.rel, r.row) r \
             JOIN {} t ON t.tableoid = r.rel AND t.ctid = r.row{not_kept}",
            table.table.oid,
            from_live(table)
        );
        let start = "1 AS ark_n, NULL::pg_catalog.text AS ark_expect";
        let select = match &key {
            Key::Columns(_) => format!(
                "SELECT (CASE WHEN r.goes THEN 'i' ELSE 'u' END)::\"char\" AS ark_op, {start}, {} FROM {rows}",
                list(&all, "t")
            ),
            // Without a key, an update is a row that goes and one that comes.
            Key::WholeRow => format!(
                "SELECT 'i'::\"char\" AS ark_op, {start}, {} FROM {rows} \
                 UNION ALL SELECT 'd'::\"char\", {start}, {} FROM {rows}{} NOT r.goes",
                list(&all, "t"),
                emptied_columns("t"),
                if not_kept.is_empty() {
                    " WHERE"
                } else {
                    " AND"
                }
            ),
        };
        let what = attempted("keep the former versions of", table);
        let sql = if let Some((existing, _)) = in_diff {
            format!(
                "INSERT INTO {} (ark_op, ark_n, ark_expect, {}) {select}",
                self.table(existing),
                list(&all, "")
            )
        } else {
            self.note(client, number, table, &key, &all).await?;
            let undo = self.table(number);
            format!("CREATE TABLE {undo} AS {select}; ANALYZE {undo}")
        };
        run(client, &what, &sql).await
    }

    /// Notes what every touched row looks like now, and the way back for rows that are new.
    pub(super) async fn expect(
        &self,
        client: &Client,
        diffs: &[TableDiff],
        counts: &[Counts],
        outside: &Outside<'_>,
    ) -> Result<(), Failure> {
        for (number, table) in undo::tables(client, self.schema).await?.iter().enumerate() {
            let diff = diffs.get(number).zip(counts.get(number));
            let (Key::Columns(_), Some(live)) = (&table.key, &table.live) else {
                continue;
            };
            let what = format!("note the new versions of {}", table.name);
            let new = diff.map_or(0, |(_, counts)| counts.inserts);
            let only_new = diff.is_some_and(|(diff, counts)| only_new(diff, counts, outside));
            if !only_new {
                let sql = format!(
                    "UPDATE {} u SET ark_expect = {} FROM {live} t WHERE {}",
                    table.undo,
                    row_hash(table, "t"),
                    table.joined("t", "u")
                );
                run(client, &what, &sql).await?;
            }
            if let Some((diff, _)) = diff.filter(|_| only_new || new > 0) {
                let rows = new_rows(diff, table, live);
                let columns = list(&table.columns, "");
                // Of the two only this one reads with several processes.
                let sql = match only_new {
                    true => format!("CREATE TABLE {} AS {rows}", table.undo),
                    false => format!(
                        "INSERT INTO {} (ark_op, ark_n, ark_expect, {columns}) {rows}",
                        table.undo
                    ),
                };
                run(client, &what, &format!("{sql}; ANALYZE {}", table.undo)).await?;
            }
            let sql = format!(
                "SELECT {new} - pg_catalog.count(*) FILTER (WHERE ark_op = 'd') \
                 + pg_catalog.count(*) FILTER (WHERE ark_op = 'u' AND ark_expect IS NULL) FROM {}",
                table.undo
            );
            let vanished = count(client, &what, &sql).await?;
            if vanished > 0 {
                return Err(Failure::new(
                    FailureKind::Refused,
                    format!("restore the rows of {}.{}", table.schema, table.name),
                    format!(
                        "{vanished} of them were gone again at the end, deleted by a foreign key \
                         or a trigger"
                    ),
                )
                .help("look for a trigger on this table or on one that it refers to"));
            }
        }
        Ok(())
    }
}

/// Whether no row of the table that is there changes or goes.
pub(super) fn only_new(diff: &TableDiff, counts: &Counts, outside: &Outside<'_>) -> bool {
    counts.updates + counts.deletes == 0 && !outside.touches(diff.table.table.oid)
}

/// The columns of an undo table: those of `key` where they are the diff's key, else what `value` says.
fn values(
    diff: &TableDiff,
    key: &str,
    columns: &[String],
    value: impl Fn(&str) -> String,
) -> String {
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let quoted = quote_ident(column);
            if diff.is_key(column) {
                format!("{key}.{quoted}")
            } else {
                format!("{} AS {quoted}", value(column))
            }
        })
        .collect();
    values.join(", ")
}

/// A query for the way back of rows that are new, as they are now. Which rows these are is asked by
/// `EXISTS`, so that the server keeps their keys at hand and not the rows.
fn new_rows(diff: &TableDiff, table: &UndoTable, live: &str) -> String {
    // Not `NULL::type`: a domain may forbid it.
    let nothing = |column: &str| format!("z.{}", quote_ident(column));
    format!(
        "SELECT 'd'::\"char\" AS ark_op, 1 AS ark_n, {} AS ark_expect, {} FROM {live} t LEFT JOIN {live} z ON false \
         WHERE EXISTS (SELECT FROM {} d WHERE d.ark_op = 'i' AND {})",
        row_hash(table, "t"),
        values(diff, "t", &table.columns, nothing),
        diff.diff,
        table.joined("t", "d")
    )
}
