//! Applying differences, with the undo tables that lead back.

use arkstream_pipeline::{Failure, FailureKind, Reach};
use tokio_postgres::Client;

use super::keys::{self, Order, Uniques};
use super::reach::{self, Reached};
use super::{
    Applied, ApplyOptions, Key, Strategy, TableDiff, count, from_live, list, run, writable,
};
use crate::catalog::{Catalog, CatalogTable};
use crate::sql::{quote_ident, quote_literal};

/// Writes the undo tables, then applies all differences, in the caller's open transaction.
///
/// # Errors
/// [`FailureKind::Refused`] when deletions reach rows outside the differences and
/// [`ApplyOptions::cascade`] is not set; what the server says otherwise, naming table and
/// constraint. The caller rolls back.
pub async fn apply(
    client: &Client,
    catalog: &Catalog,
    diffs: &[TableDiff],
    options: &ApplyOptions,
) -> Result<Applied, Failure> {
    let reached = reach::find(client, catalog, diffs).await?;
    if !reached.found.is_empty() && !options.cascade {
        return Err(refuse(&reached.found));
    }
    let undo = Undo::create(client, &options.undo_schema).await?;
    let mut number = 0;
    for diff in diffs {
        undo.keep(client, number, diff).await?;
        number += 1;
    }
    let outside = Outside::new(catalog, reached);
    for table in &outside.tables {
        undo.keep_outside(client, number, table, outside.touches(table, diffs))
            .await?;
        number += 1;
    }
    outside.change(client).await?;
    let rebuilt = change(client, diffs, options).await?;
    undo.expect(client).await?;
    Ok(Applied {
        reach: outside.found,
        keys_rebuilt: rebuilt,
    })
}

fn refuse(found: &[Reach]) -> Failure {
    let lines: Vec<String> = found
        .iter()
        .map(|reach| {
            format!(
                "{} rows of {} by {} ({})",
                reach.rows, reach.table, reach.key, reach.rule
            )
        })
        .collect();
    Failure::new(
        FailureKind::Refused,
        "delete the rows that the bundle does not have",
        format!(
            "rows outside the restored models refer to them: {}",
            lines.join(", ")
        ),
    )
    .help(
        "give --cascade to empty these references or, where they are required, to delete the rows; \
         they are kept for an undo",
    )
}

/// Applies the differences. Returns the number of foreign keys that were made again.
pub(super) async fn change(
    client: &Client,
    diffs: &[TableDiff],
    options: &ApplyOptions,
) -> Result<usize, Failure> {
    let mut rows = 0;
    let mut colliding = Vec::new();
    for diff in diffs {
        let ops = |which: &str| {
            format!(
                "SELECT pg_catalog.count(*) FROM {} WHERE ark_op {which}",
                diff.diff
            )
        };
        let attempted = "count the differences";
        let inserts = count(client, attempted, &ops("= 'i'")).await?;
        let updates = count(client, attempted, &ops("= 'u'")).await?;
        let deletes = count(client, attempted, &ops("= 'd'")).await?;
        rows += inserts + updates + deletes;
        if updates > 0 || (inserts > 0 && deletes > 0) {
            colliding.push(diff.table.table.oid);
        }
    }
    let rebuild = match options.strategy {
        Strategy::Auto => rows > options.rebuild_above_rows,
        Strategy::LiveKeys => false,
        Strategy::RebuildKeys => true,
    };
    let oids: Vec<u32> = diffs.iter().map(|diff| diff.table.table.oid).collect();
    let order = Order::new(diffs, &keys::read(client, &oids).await?, rebuild);
    let uniques = Uniques::drop(client, &colliding).await?;
    order.drop_keys(client).await?;
    for number in &order.diffs {
        if let Some(diff) = diffs.get(*number) {
            insert(client, diff, &second_columns(&order, *number)).await?;
        }
    }
    for number in &order.diffs {
        if let Some(diff) = diffs.get(*number) {
            fill(client, diff, &second_columns(&order, *number)).await?;
            update(client, diff).await?;
        }
    }
    for number in order.diffs.iter().rev() {
        if let Some(diff) = diffs.get(*number) {
            empty(client, diff, &second_columns(&order, *number)).await?;
        }
    }
    for number in order.diffs.iter().rev() {
        if let Some(diff) = diffs.get(*number) {
            delete(client, diff).await?;
        }
    }
    uniques.add(client).await?;
    order.add_keys(client).await?;
    Ok(order.dropped.len())
}

/// Columns that are filled in the second step.
fn second_columns(order: &Order, number: usize) -> Vec<String> {
    let mut columns: Vec<String> = order
        .second
        .get(&number)
        .into_iter()
        .flatten()
        .flat_map(|key| key.columns.iter().cloned())
        .collect();
    columns.sort();
    columns.dedup();
    columns
}

fn attempted(what: &str, table: &CatalogTable) -> String {
    format!("{what} {}", table.table.qualified())
}

async fn insert(client: &Client, diff: &TableDiff, second: &[String]) -> Result<(), Failure> {
    let values: Vec<String> = diff
        .columns
        .iter()
        .map(|column| {
            if second.contains(column) && !diff.is_key(column) {
                "NULL".to_owned()
            } else {
                format!("d.{}", quote_ident(column))
            }
        })
        .collect();
    let sql = format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} d WHERE d.ark_op = 'i'",
        diff.table.table.sql(),
        list(&diff.columns, ""),
        values.join(", "),
        diff.diff
    );
    run(client, &attempted("insert into", &diff.table), &sql).await
}

/// Fills references inside a cycle of the rows that were inserted.
async fn fill(client: &Client, diff: &TableDiff, second: &[String]) -> Result<(), Failure> {
    let columns: Vec<&String> = second
        .iter()
        .filter(|column| diff.columns.contains(column) && !diff.is_key(column))
        .collect();
    if columns.is_empty() {
        return Ok(());
    }
    let sets: Vec<String> = columns
        .iter()
        .map(|column| format!("{0} = d.{0}", quote_ident(column)))
        .collect();
    let given: Vec<String> = columns
        .iter()
        .map(|column| format!("d.{} IS NOT NULL", quote_ident(column)))
        .collect();
    let sql = format!(
        "UPDATE {} t SET {} FROM {} d WHERE d.ark_op = 'i' AND ({}) AND {}",
        diff.live(),
        sets.join(", "),
        diff.diff,
        given.join(" OR "),
        diff.joined("t", "d")
    );
    run(client, &attempted("fill references of", &diff.table), &sql).await
}

async fn update(client: &Client, diff: &TableDiff) -> Result<(), Failure> {
    let sets: Vec<String> = diff
        .columns
        .iter()
        .filter(|column| !diff.is_key(column))
        .map(|column| format!("{0} = d.{0}", quote_ident(column)))
        .collect();
    if sets.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE {} t SET {} FROM {} d WHERE d.ark_op = 'u' AND {}",
        diff.live(),
        sets.join(", "),
        diff.diff,
        diff.joined("t", "d")
    );
    run(client, &attempted("update", &diff.table), &sql).await
}

/// Empties references inside a cycle of the rows that go.
async fn empty(client: &Client, diff: &TableDiff, second: &[String]) -> Result<(), Failure> {
    let sets: Vec<String> = second
        .iter()
        .filter(|column| !diff.is_key(column))
        .map(|column| format!("{} = NULL", quote_ident(column)))
        .collect();
    if sets.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE {} t SET {} FROM {} d WHERE d.ark_op = 'd' AND {}",
        diff.live(),
        sets.join(", "),
        diff.diff,
        diff.joined("t", "d")
    );
    run(client, &attempted("empty references of", &diff.table), &sql).await
}

async fn delete(client: &Client, diff: &TableDiff) -> Result<(), Failure> {
    let live = diff.live();
    let sql = match &diff.key {
        Key::Columns(_) => format!(
            "DELETE FROM {live} t USING {} d WHERE d.ark_op = 'd' AND {}",
            diff.diff,
            diff.joined("t", "d")
        ),
        Key::WholeRow => {
            let text =
                |alias: &str| format!("ROW({})::pg_catalog.text", list(&diff.columns, alias));
            format!(
                "DELETE FROM {live} t WHERE t.ctid IN (SELECT n.ctid FROM \
                 (SELECT t.ctid, {0} AS ark_text, pg_catalog.row_number() OVER (PARTITION BY {0}) AS ark_n FROM {live} t) n \
                 JOIN (SELECT {1} AS ark_text, pg_catalog.count(*) AS n FROM {2} d WHERE d.ark_op = 'd' GROUP BY 1) d \
                 ON d.ark_text = n.ark_text AND n.ark_n <= d.n)",
                text("t"),
                text("d"),
                diff.diff
            )
        }
    };
    run(client, &attempted("delete from", &diff.table), &sql).await
}

/// Empties and deletes rows outside the differences, without keeping them.
pub(super) async fn change_outside(
    client: &Client,
    catalog: &Catalog,
    reached: Reached,
) -> Result<(), Failure> {
    Outside::new(catalog, reached).change(client).await
}

/// The schema that keeps the former versions.
struct Undo<'a> {
    schema: &'a str,
}

impl<'a> Undo<'a> {
    async fn create(client: &Client, schema: &'a str) -> Result<Self, Failure> {
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

    /// The way back from a diff.
    async fn keep(&self, client: &Client, number: usize, diff: &TableDiff) -> Result<(), Failure> {
        let undo = self.table(number);
        let sql = match &diff.key {
            Key::Columns(_) => {
                let all = writable(&diff.table);
                let values: Vec<String> = all
                    .iter()
                    .map(|column| {
                        let name = quote_ident(column);
                        if diff.is_key(column) {
                            format!("d.{name}")
                        } else {
                            format!("t.{name}")
                        }
                    })
                    .collect();
                self.note(client, number, &diff.table, &diff.key, &all)
                    .await?;
                format!(
                    "CREATE TABLE {undo} AS SELECT (CASE d.ark_op WHEN 'i' THEN 'd' WHEN 'u' THEN 'u' ELSE 'i' END)::\"char\" AS ark_op, \
                     1 AS ark_n, NULL::pg_catalog.text AS ark_expect, {} FROM {} d LEFT JOIN {} t ON {}",
                    values.join(", "),
                    diff.diff,
                    diff.live(),
                    diff.joined("t", "d")
                )
            }
            Key::WholeRow => {
                self.note(client, number, &diff.table, &diff.key, &diff.columns)
                    .await?;
                format!(
                    "CREATE TABLE {undo} AS SELECT (CASE d.ark_op WHEN 'i' THEN 'd' ELSE 'i' END)::\"char\" AS ark_op, \
                     d.ark_n, NULL::pg_catalog.text AS ark_expect, {} FROM {} d",
                    list(&diff.columns, "d"),
                    diff.diff
                )
            }
        };
        run(
            client,
            &attempted("keep the former versions of", &diff.table),
            &sql,
        )
        .await
    }

    /// The way back for rows of a table outside, or outside the diff of a table.
    async fn keep_outside(
        &self,
        client: &Client,
        number: usize,
        table: &CatalogTable,
        in_diff: Option<usize>,
    ) -> Result<(), Failure> {
        let all = writable(table);
        let rows = format!(
            "SELECT (CASE WHEN pg_catalog.bool_or(r.columns IS NULL) THEN 'i' ELSE 'u' END)::\"char\" AS ark_op, r.row \
             FROM pg_temp.ark_reach r WHERE r.tab = {} GROUP BY r.row",
            table.table.oid
        );
        let select = format!(
            "SELECT r.ark_op, 1 AS ark_n, NULL::pg_catalog.text AS ark_expect, {} FROM ({rows}) r JOIN {} t ON t.ctid = r.row",
            list(&all, "t"),
            from_live(table)
        );
        let what = attempted("keep the former versions of", table);
        if let Some(existing) = in_diff {
            let sql = format!(
                "INSERT INTO {} (ark_op, ark_n, ark_expect, {}) {select}",
                self.table(existing),
                list(&all, "")
            );
            return run(client, &what, &sql).await;
        }
        let key = if table.primary_key.is_empty() {
            Key::WholeRow
        } else {
            Key::Columns(table.primary_key.clone())
        };
        self.note(client, number, table, &key, &all).await?;
        let undo = self.table(number);
        run(client, &what, &format!("CREATE TABLE {undo} AS {select}")).await
    }

    /// Notes what every touched row looks like now.
    async fn expect(&self, client: &Client) -> Result<(), Failure> {
        for table in super::undo::tables(client, self.schema).await? {
            if let (Key::Columns(_), Some(live)) = (&table.key, &table.live) {
                let sql = format!(
                    "UPDATE {} u SET ark_expect = {} FROM {live} t WHERE {}",
                    table.undo,
                    super::undo::row_hash(&table.columns, "t"),
                    table.joined("t", "u")
                );
                run(
                    client,
                    &format!("note the new versions of {}", table.name),
                    &sql,
                )
                .await?;
            }
        }
        Ok(())
    }
}

/// Rows outside the differences.
struct Outside<'c> {
    tables: Vec<&'c CatalogTable>,
    deleted_from: Vec<&'c CatalogTable>,
    emptied: Vec<(&'c CatalogTable, Vec<String>)>,
    found: Vec<Reach>,
}

impl<'c> Outside<'c> {
    fn new(catalog: &'c Catalog, reached: Reached) -> Self {
        let mut tables: Vec<&CatalogTable> = reached
            .deleted_from
            .iter()
            .chain(reached.emptied.iter().map(|(oid, _)| oid))
            .filter_map(|oid| catalog.by_oid(*oid))
            .collect();
        tables.sort_by_key(|table| table.table.oid);
        tables.dedup_by_key(|table| table.table.oid);
        Self {
            tables,
            deleted_from: reached
                .deleted_from
                .iter()
                .filter_map(|oid| catalog.by_oid(*oid))
                .collect(),
            emptied: reached
                .emptied
                .into_iter()
                .filter_map(|(oid, columns)| Some((catalog.by_oid(oid)?, columns)))
                .collect(),
            found: reached.found,
        }
    }

    /// The diff of the same table, whose undo table then takes these rows too.
    fn touches(&self, table: &CatalogTable, diffs: &[TableDiff]) -> Option<usize> {
        diffs.iter().position(|diff| {
            diff.table.table.oid == table.table.oid && matches!(diff.key, Key::Columns(_))
        })
    }

    /// Empties references first, then deletes, what was found last first: what refers goes before
    /// what it refers to. Emptying moves a row, so its new place is noted.
    async fn change(&self, client: &Client) -> Result<(), Failure> {
        for (table, columns) in &self.emptied {
            let named = quote_literal(&list(columns, ""));
            let sets: Vec<String> = columns
                .iter()
                .map(|column| format!("{} = NULL", quote_ident(column)))
                .collect();
            let oid = table.table.oid;
            let sql = format!(
                "WITH moved AS (UPDATE {live} t SET {} FROM (SELECT x.ctid AS was, x.ctid FROM {live} x \
                   JOIN pg_temp.ark_reach r ON r.tab = {oid} AND r.row = x.ctid AND r.columns = {named}) o \
                 WHERE t.ctid = o.ctid RETURNING o.was, t.ctid AS now) \
                 UPDATE pg_temp.ark_reach r SET row = moved.now FROM moved WHERE r.tab = {oid} AND r.row = moved.was",
                sets.join(", "),
                live = from_live(table),
            );
            run(client, &attempted("empty references of", table), &sql).await?;
        }
        for table in self.deleted_from.iter().rev() {
            let sql = format!(
                "DELETE FROM {} t WHERE t.ctid IN (SELECT r.row FROM pg_temp.ark_reach r WHERE r.tab = {} AND r.columns IS NULL)",
                from_live(table),
                table.table.oid
            );
            run(client, &attempted("delete from", table), &sql).await?;
        }
        Ok(())
    }
}
