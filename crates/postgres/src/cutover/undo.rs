//! Back to the former versions, judged on the rows that were touched.

use std::time::Duration;

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::Client;

use super::change::{change, count_all};
use super::outside::Outside;
use super::reach::{self, Locking};
use super::{
    Applied, ApplyOptions, Key, TableDiff, attempted, lock_tables, row_security, run, writable,
};
use crate::advisory::Advisory;
use crate::catalog::{Catalog, read_catalog};
use crate::failure::failure_of;
use crate::session::Session;
use crate::sql::{HAS_BINARY_FORM, hash_of, quote_ident, quote_literal, row_bytes};

/// How many changed rows of a table are named.
const EXAMPLES: i64 = 5;

/// A table of the undo schema.
pub(super) struct UndoTable {
    /// The undo table as SQL.
    pub(super) undo: String,
    pub(super) schema: String,
    /// The live table's name.
    pub(super) name: String,
    /// The live table as SQL, without what inherits from it; `None` when it is gone.
    pub(super) live: Option<String>,
    pub(super) key: Key,
    pub(super) columns: Vec<String>,
    /// Those of type `bytea`.
    pub(super) binary: Vec<String>,
    /// Those whose values can be sent in binary form.
    pub(super) sendable: Vec<String>,
}

impl UndoTable {
    pub(super) fn joined(&self, a: &str, b: &str) -> String {
        match &self.key {
            Key::Columns(columns) => columns
                .iter()
                .map(|column| format!("{a}.{0} = {b}.{0}", quote_ident(column)))
                .collect::<Vec<_>>()
                .join(" AND "),
            Key::WholeRow => "false".to_owned(),
        }
    }
}

/// The hash of a row.
pub(super) fn row_hash(table: &UndoTable, alias: &str) -> String {
    let values = table.columns.iter().map(|column| {
        let value = format!("{alias}.{}", quote_ident(column));
        let sql_type = if table.binary.contains(column) {
            "bytea"
        } else {
            ""
        };
        (value, sql_type, table.sendable.contains(column))
    });
    hash_of(&row_bytes(values))
}

/// The tables of an undo schema.
pub(super) async fn tables(client: &Client, schema: &str) -> Result<Vec<UndoTable>, Failure> {
    let sql = format!(
        "SELECT u.n, u.schema, u.name, u.key, u.columns, c.relkind::pg_catalog.text, \
           ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid \
             AND a.atttypid = 'pg_catalog.bytea'::pg_catalog.regtype), \
           ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_catalog.pg_type e ON t.typcategory = 'A' AND e.oid = t.typelem \
             WHERE a.attrelid = c.oid AND {HAS_BINARY_FORM}) \
         FROM {}.tables u LEFT JOIN pg_catalog.pg_class c \
         ON c.oid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', u.schema, u.name)) ORDER BY u.n",
        quote_ident(schema)
    );
    let rows = client
        .query(&sql, &[])
        .await
        .map_err(|error| failure_of("read what is kept of a restore", &error))?;
    Ok(rows
        .iter()
        .map(|row| {
            let (schema_name, name): (String, String) = (row.get(1), row.get(2));
            let only = |kind: String| if kind == "p" { "" } else { "ONLY " };
            UndoTable {
                undo: format!(
                    "{}.{}",
                    quote_ident(schema),
                    quote_ident(&format!("t{}", row.get::<_, i32>(0)))
                ),
                live: row.get::<_, Option<String>>(5).map(|kind| {
                    format!(
                        "{}{}.{}",
                        only(kind),
                        quote_ident(&schema_name),
                        quote_ident(&name)
                    )
                }),
                schema: schema_name,
                name,
                key: row
                    .get::<_, Option<Vec<String>>>(3)
                    .map_or(Key::WholeRow, Key::Columns),
                columns: row.get(4),
                binary: row.get(6),
                sendable: row.get(7),
            }
        })
        .collect())
}

/// Whether the restore that keeps its former versions in that schema is live. A switch or an undo
/// that the server is still working on is waited for.
///
/// # Errors
/// When the server does not answer, or not in time.
pub async fn is_live(session: &Session, schema: &str, timeout: Duration) -> Result<bool, Failure> {
    Advisory::of(schema).settle(session, timeout).await?;
    Ok(status(session.client(), schema).await?.as_deref() == Some("live"))
}

/// Whether something is kept of a restore, be it live or undone.
///
/// # Errors
/// When the server does not answer.
pub async fn is_kept(client: &Client, schema: &str) -> Result<bool, Failure> {
    Ok(status(client, schema).await?.is_some())
}

async fn status(client: &Client, schema: &str) -> Result<Option<String>, Failure> {
    let fail =
        |error: tokio_postgres::Error| failure_of("look for what is kept of a restore", &error);
    let state = format!("{}.state", quote_ident(schema));
    let sql = format!(
        "SELECT pg_catalog.to_regclass({}) IS NOT NULL",
        quote_literal(&state)
    );
    if !client
        .query_one(&sql, &[])
        .await
        .map_err(fail)?
        .get::<_, bool>(0)
    {
        return Ok(None);
    }
    let sql = format!("SELECT value FROM {state} WHERE key = 'status'");
    let row = client.query_opt(&sql, &[]).await.map_err(fail)?;
    Ok(row.map(|row| row.get(0)))
}

/// What of the touched rows is not as the restore left it.
async fn changes(
    client: &Client,
    catalog: &Catalog,
    tables: &[UndoTable],
) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for table in tables {
        let live = catalog.by_name(&table.schema, &table.name);
        let (Some(live), Some(from)) = (live, &table.live) else {
            lines.push(format!("{}.{} is gone", table.schema, table.name));
            continue;
        };
        let now = writable(live);
        let lost: Vec<&str> = table
            .columns
            .iter()
            .filter(|column| !now.contains(column))
            .map(String::as_str)
            .collect();
        if !lost.is_empty() {
            lines.push(format!(
                "{}: columns are gone: {}",
                table.name,
                lost.join(", ")
            ));
            continue;
        }
        match &table.key {
            Key::Columns(key) => changed_rows(client, table, key, from, &mut lines).await?,
            Key::WholeRow => missing_rows(client, table, from, &mut lines).await?,
        }
    }
    Ok(lines)
}

/// Rows that do not look as the restore left them.
async fn changed_rows(
    client: &Client,
    table: &UndoTable,
    key: &[String],
    live: &str,
    lines: &mut Vec<String>,
) -> Result<(), Failure> {
    let first = key
        .first()
        .map(|column| quote_ident(column))
        .unwrap_or_default();
    let sql = format!(
        "SELECT pg_catalog.concat_ws(',', {keys}), \
         CASE WHEN u.ark_expect IS NULL THEN 'appeared again' WHEN t.{first} IS NULL THEN 'was deleted' ELSE 'was changed' END, \
         pg_catalog.count(*) OVER () FROM {} u LEFT JOIN {live} t ON {} \
         WHERE CASE WHEN t.{first} IS NULL THEN NULL ELSE {} END IS DISTINCT FROM u.ark_expect \
         ORDER BY {keys} LIMIT {EXAMPLES}",
        table.undo,
        table.joined("t", "u"),
        row_hash(table, "t"),
        keys = super::list(key, "u"),
    );
    let what = format!("look for changes in {}", table.name);
    let rows = client
        .query(&sql, &[])
        .await
        .map_err(|error| failure_of(&what, &error))?;
    for row in &rows {
        lines.push(format!(
            "{} {} {} {}",
            table.name,
            key.join(","),
            row.get::<_, String>(0),
            row.get::<_, String>(1)
        ));
    }
    let more = rows.first().map_or(0, |row| row.get::<_, i64>(2)) - rows.len() as i64;
    if more > 0 {
        lines.push(format!("{}: {more} more rows", table.name));
    }
    Ok(())
}

/// Of rows without a key only those can be missed that the restore brought.
async fn missing_rows(
    client: &Client,
    table: &UndoTable,
    live: &str,
    lines: &mut Vec<String>,
) -> Result<(), Failure> {
    let text = |alias: &str| super::row_text(&table.columns, &table.binary, alias);
    let sql = format!(
        "SELECT COALESCE(pg_catalog.sum(GREATEST(u.n - COALESCE(l.n, 0), 0)), 0)::pg_catalog.int8 FROM \
         (SELECT {} AS ark_text, pg_catalog.count(*) FILTER (WHERE d.ark_op = 'd') \
            - pg_catalog.count(*) FILTER (WHERE d.ark_op = 'i') AS n FROM {} d GROUP BY 1) u \
         LEFT JOIN (SELECT {} AS ark_text, pg_catalog.count(*) AS n FROM {live} t GROUP BY 1) l \
         ON l.ark_text = u.ark_text",
        text("d"),
        table.undo,
        text("t"),
    );
    let what = format!("look for changes in {}", table.name);
    let missing = super::count(client, &what, &sql).await?;
    if missing > 0 {
        lines.push(format!(
            "{}: {missing} rows are no longer there",
            table.name
        ));
    }
    Ok(())
}

/// The differences that lead back.
fn diffs(catalog: &Catalog, tables: &[UndoTable]) -> Vec<TableDiff> {
    let mut diffs = Vec::new();
    for table in tables {
        let Some(live) = catalog.by_name(&table.schema, &table.name) else {
            continue;
        };
        let now = writable(live);
        diffs.push(TableDiff {
            table: live.clone(),
            diff: table.undo.clone(),
            wanted: table.undo.clone(),
            row_bytes: 0,
            key: table.key.clone(),
            columns: table
                .columns
                .iter()
                .filter(|column| now.contains(column))
                .cloned()
                .collect(),
        });
    }
    diffs
}

/// What an undo does, or would do.
#[derive(Clone, Debug, Default)]
pub struct Undone {
    /// What it did; nothing when it was not to overwrite [`Undone::changed`].
    pub applied: Applied,
    /// What it overwrites: lines for people about touched rows that changed since the restore, and
    /// about what refers to rows that it deletes.
    pub changed: Vec<String>,
}

/// Brings the former versions back, in one transaction. Nothing happens when that was done before,
/// or when the restore never became live.
///
/// Rows that changed since are overwritten, and references to rows that go are emptied or, where
/// they are required, deleted with their rows.
///
/// # Errors
/// Those of [`prepare_undo`], and of the commit.
pub async fn undo(
    session: &Session,
    schema: &str,
    lock_timeout: Duration,
) -> Result<Applied, Failure> {
    let Some(undone) = prepare_undo(session, schema, lock_timeout, true).await? else {
        return Ok(Applied::default());
    };
    run(session.client(), "commit the undo", "COMMIT").await?;
    Ok(undone.applied)
}

/// Begins a transaction and executes the undo in it. The caller commits it or rolls it back; where
/// nothing is to be undone (`None`), or the undo fails, it is rolled back already.
///
/// What changed since the restore is looked for when the tables are locked: nobody can change
/// anything between the look and the commit. Where something did and `force` is not set, nothing is
/// executed.
///
/// # Errors
/// When the tables cannot be locked, or the former versions no longer fit (a unique value taken
/// since, a table that is gone). Nothing is changed then.
pub async fn prepare_undo(
    session: &Session,
    schema: &str,
    lock_timeout: Duration,
    force: bool,
) -> Result<Option<Undone>, Failure> {
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    run(session.client(), "begin the undo", begin).await?;
    let done = undo_within(session, schema, lock_timeout, force).await;
    if !matches!(done, Ok(Some(_))) {
        session.rollback().await;
    }
    done
}

async fn undo_within(
    session: &Session,
    schema: &str,
    lock_timeout: Duration,
    force: bool,
) -> Result<Option<Undone>, Failure> {
    let client = session.client();
    Advisory::of(schema).hold(session, lock_timeout).await?;
    if status(client, schema).await?.as_deref() != Some("live") || !claim(client, schema).await? {
        return Ok(None);
    }
    let catalog = read_catalog(client).await?;
    let tables = tables(client, schema).await?;
    let diffs = diffs(&catalog, &tables);
    let refs: Vec<_> = diffs.iter().map(|diff| diff.table.table.clone()).collect();
    lock_tables(session, &refs, lock_timeout).await?;
    let oids: Vec<u32> = refs.iter().map(|table| table.oid).collect();
    let mut forced = row_security::lift(client, &oids).await?;
    let mut changed = changes(client, &catalog, &tables).await?;
    let gone = tables.len() - diffs.len();
    if gone > 0 {
        return Err(Failure::new(
            FailureKind::Refused,
            "bring the former rows back",
            format!(
                "{gone} of the tables they belong to are gone: {}",
                changed.join("; ")
            ),
        )
        .help(format!(
            "their former rows are still in the schema {schema}; `arkstream forget` drops them"
        )));
    }
    prepare_tables(client, &diffs).await?;
    let reached = reach::find(client, &catalog, &diffs, Locking::Rows).await?;
    changed.extend(reached.found.iter().map(|found| {
        format!(
            "{}: {} rows refer to restored rows by {} ({})",
            found.table, found.rows, found.key, found.rule
        )
    }));
    if !changed.is_empty() && !force {
        return Ok(Some(Undone {
            applied: Applied::default(),
            changed,
        }));
    }
    forced.extend_from_slice(&reached.forced);
    let outside = Outside::new(&catalog, &reached);
    let counts = count_all(client, &diffs).await?;
    let options = ApplyOptions::default();
    let (tables, keys_rebuilt) = change(client, &diffs, &counts, &outside, &options).await?;
    row_security::force(client, &forced).await?;
    let sql = format!(
        "UPDATE {}.state SET value = 'undone' WHERE key = 'status'",
        quote_ident(schema)
    );
    run(client, "note the undo", &sql).await?;
    Ok(Some(Undone {
        applied: Applied {
            tables,
            reach: reached.found,
            keys_rebuilt,
        },
        changed,
    }))
}

/// Keeps a second undo out until the transaction ends. False when another one was faster.
async fn claim(client: &Client, schema: &str) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT value FROM {}.state WHERE key = 'status' FOR UPDATE",
        quote_ident(schema)
    );
    let row = client
        .query_opt(&sql, &[])
        .await
        .map_err(|error| failure_of("begin the undo", &error))?;
    Ok(row.is_some_and(|row| row.get::<_, String>(0) == "live"))
}

/// What the world did to the touched rows since: a row to be updated that is gone is inserted, one
/// to be inserted that is there is updated, one to be deleted that is gone is left.
async fn prepare_tables(client: &Client, diffs: &[TableDiff]) -> Result<(), Failure> {
    for diff in diffs {
        let sql = match &diff.key {
            Key::Columns(_) => {
                let there = format!(
                    "EXISTS (SELECT FROM {} t WHERE {})",
                    diff.live(),
                    diff.joined("t", "u")
                );
                format!(
                    "DELETE FROM {0} u WHERE u.ark_op = 'd' AND NOT {there}; \
                     UPDATE {0} u SET ark_op = CASE u.ark_op WHEN 'u' THEN 'i' ELSE 'u' END::\"char\" \
                     WHERE CASE u.ark_op WHEN 'u' THEN NOT {there} WHEN 'i' THEN {there} ELSE false END",
                    diff.diff
                )
            }
            Key::WholeRow => {
                let text = |alias: &str| super::row_text(&diff.columns, &diff.binary(), alias);
                format!(
                    "DELETE FROM {0} u USING (SELECT d.ctid AS place, {1} AS ark_text, \
                       pg_catalog.row_number() OVER (PARTITION BY {1}) AS n FROM {0} d WHERE d.ark_op = 'd') d \
                     LEFT JOIN (SELECT {2} AS ark_text, pg_catalog.count(*) AS n FROM {3} t GROUP BY 1) l \
                     ON l.ark_text = d.ark_text WHERE u.ctid = d.place AND d.n > COALESCE(l.n, 0)",
                    diff.diff,
                    text("d"),
                    text("t"),
                    diff.live()
                )
            }
        };
        let what = attempted("look at the present rows of", &diff.table);
        run(client, &what, &sql).await?;
    }
    Ok(())
}
