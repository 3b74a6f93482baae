//! A database of an ordinary role, wanted contents, and diff tables made by plain SQL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arkstream_pipeline::Failure;
use arkstream_postgres::cutover::{self, Applied};
use arkstream_postgres::{
    ApplyOptions, Catalog, ConnectSpec, Key, Session, Strategy, TableDiff, quote_ident,
    read_catalog,
};

use super::super::support::server;

pub(crate) const UNDO: &str = "arkstream_undo_0123456789abcdef";
pub(crate) const WAIT: Duration = Duration::from_secs(20);

/// A database whose owner is an ordinary role.
pub(crate) struct World {
    pub(crate) spec: ConnectSpec,
    /// The owner's session of the restore.
    pub(crate) session: Session,
    /// Another one of the owner, with `public` on its path.
    pub(crate) other: Session,
}

impl World {
    pub(crate) async fn new(sql: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cutover {number}");
        let role = format!("cutover_owner_{number}");
        let server = server();
        server.create_database(&name).unwrap();
        server
            .psql(
                &name,
                &format!(
                    "CREATE ROLE {role} LOGIN; ALTER DATABASE \"{name}\" OWNER TO {role}; \
                     CREATE EXTENSION IF NOT EXISTS plpgsql"
                ),
            )
            .unwrap();
        let url = server
            .conninfo(&name)
            .replacen("postgres@", &format!("{role}@"), 1);
        let spec = ConnectSpec::parse(&url).unwrap();
        let session = Session::connect(&spec, "the restore").await.unwrap();
        let other = Session::connect(&spec, "somebody else").await.unwrap();
        let world = Self {
            spec,
            session,
            other,
        };
        world.run("SET search_path = public").await;
        world.run("CREATE SCHEMA want; CREATE SCHEMA stage").await;
        world.run(sql).await;
        world
    }

    /// Runs statements beside the restore.
    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.other.client().batch_execute(sql).await {
            panic!("{error:?} in {sql}");
        }
    }

    /// The rows of a query's single text column, sorted.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        let rows = self.other.client().query(sql, &[]).await.unwrap();
        let mut lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        lines.sort();
        lines
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.other
            .client()
            .query_one(sql, &[])
            .await
            .unwrap()
            .get(0)
    }

    /// The rows of a table as text, sorted; of partitions and heirs too.
    pub(crate) async fn rows(&self, table: &str) -> Vec<String> {
        self.lines(&format!("SELECT t::text FROM {table} t")).await
    }

    pub(crate) async fn catalog(&self) -> Catalog {
        read_catalog(self.session.client()).await.unwrap()
    }

    /// Fills `want.<table>`, a table of the live one's columns.
    pub(crate) async fn want(&self, table: &str, values: &str) {
        self.run(&format!(
            "CREATE TABLE want.{table} (LIKE {table} INCLUDING GENERATED); {}",
            if values.is_empty() {
                String::new()
            } else {
                format!("INSERT INTO want.{table} VALUES {values}")
            }
        ))
        .await;
    }

    /// The difference between `public.<table>` and `want.<table>`.
    pub(crate) async fn diff(&self, catalog: &Catalog, table: &str) -> TableDiff {
        let live = catalog.in_public(table).unwrap();
        let columns: Vec<String> = live
            .columns
            .iter()
            .filter(|column| !column.generated)
            .map(|column| column.pg.name.clone())
            .collect();
        self.diff_of(catalog, "public", "want", table, &columns)
            .await
    }

    pub(crate) async fn diffs(&self, tables: &[&str]) -> (Catalog, Vec<TableDiff>) {
        let catalog = self.catalog().await;
        let mut diffs = Vec::new();
        for table in tables {
            diffs.push(self.diff(&catalog, table).await);
        }
        (catalog, diffs)
    }

    /// Makes the diff table of `columns`.
    pub(crate) async fn diff_of(
        &self,
        catalog: &Catalog,
        schema: &str,
        want: &str,
        table: &str,
        columns: &[String],
    ) -> TableDiff {
        let live = catalog.by_name(schema, table).unwrap().clone();
        let list = |alias: &str, columns: &[String]| -> String {
            let quoted: Vec<String> = columns
                .iter()
                .map(|c| format!("{alias}.{}", quote_ident(c)))
                .collect();
            quoted.join(", ")
        };
        let only = if live.kind == 'p' { "" } else { "ONLY " };
        let diff = format!("stage.\"d {schema} {table}\"");
        let key = &live.primary_key;
        let sql = if key.is_empty() {
            let numbered = |from: &str| {
                format!(
                    "(SELECT x.*, ROW({0})::text AS txt, row_number() OVER (PARTITION BY ROW({0})::text)::int AS n FROM {from} x)",
                    list("x", columns)
                )
            };
            let (l, w) = (
                numbered(&format!("{only}{schema}.{table}")),
                numbered(&format!("{want}.{table}")),
            );
            format!(
                "SELECT 'i'::\"char\" AS ark_op, w.n AS ark_n, {} FROM {w} w WHERE NOT EXISTS (SELECT FROM {l} l WHERE l.txt = w.txt AND l.n = w.n) \
                 UNION ALL SELECT 'd', l.n, {} FROM {l} l WHERE NOT EXISTS (SELECT FROM {w} w WHERE l.txt = w.txt AND l.n = w.n)",
                list("w", columns),
                list("l", columns)
            )
        } else {
            let others: Vec<String> = columns
                .iter()
                .filter(|c| !key.contains(c))
                .cloned()
                .collect();
            let on: Vec<String> = key
                .iter()
                .map(|k| format!("l.{0} = w.{0}", quote_ident(k)))
                .collect();
            let keys: Vec<String> = key
                .iter()
                .map(|k| format!("COALESCE(w.{0}, l.{0}) AS {0}", quote_ident(k)))
                .collect();
            let (gone, new) = (
                format!("w.{} IS NULL", quote_ident(&key[0])),
                format!("l.{} IS NULL", quote_ident(&key[0])),
            );
            let others_list = if others.is_empty() {
                String::new()
            } else {
                format!(", {}", list("w", &others))
            };
            format!(
                "SELECT (CASE WHEN {new} THEN 'i' WHEN {gone} THEN 'd' ELSE 'u' END)::\"char\" AS ark_op, 1 AS ark_n, {}{others_list} \
                 FROM ONLY {want}.{table} w FULL JOIN (SELECT * FROM {only}{schema}.{table}) l ON {} WHERE {new} OR {gone} OR ROW({})::text <> ROW({})::text",
                keys.join(", "),
                on.join(" AND "),
                list("w", &others),
                list("l", &others)
            )
        };
        // Of rows with a key the values stand beside, as they do where they stay staged.
        let wanted = if key.is_empty() {
            diff.clone()
        } else {
            format!("stage.\"v {schema} {table}\"")
        };
        self.run(&format!(
            "DROP TABLE IF EXISTS {wanted}, {diff}; CREATE TABLE {wanted} AS {sql}"
        ))
        .await;
        if !key.is_empty() {
            let keys = list("v", key);
            self.run(&format!(
                "CREATE TABLE {diff} AS SELECT v.ark_op, v.ark_n, {keys} FROM {wanted} v"
            ))
            .await;
        }
        TableDiff {
            key: if key.is_empty() {
                Key::WholeRow
            } else {
                Key::Columns(key.clone())
            },
            table: live,
            wanted,
            row_bytes: 0,
            diff,
            columns: columns.to_vec(),
        }
    }

    pub(crate) fn options(strategy: Strategy, cascade: bool) -> ApplyOptions {
        ApplyOptions {
            undo_schema: UNDO.to_owned(),
            strategy,
            cascade,
            ..ApplyOptions::default()
        }
    }

    /// Locks, applies, and commits or rolls back.
    pub(crate) async fn apply(
        &self,
        catalog: &Catalog,
        diffs: &[TableDiff],
        options: &ApplyOptions,
    ) -> Result<Applied, Failure> {
        let client = self.session.client();
        client.batch_execute("BEGIN").await.unwrap();
        let tables: Vec<_> = diffs.iter().map(|d| d.table.table.clone()).collect();
        cutover::lock_tables(&self.session, &tables, WAIT).await?;
        let applied = cutover::apply(client, catalog, diffs, options).await;
        let end = if applied.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        client.batch_execute(end).await.unwrap();
        applied
    }

    pub(crate) async fn undo(&self) -> Result<Applied, Failure> {
        cutover::undo(&self.session, UNDO, WAIT).await
    }

    /// What an undo would overwrite; the undo is not executed.
    pub(crate) async fn changed(&self) -> Vec<String> {
        let look = cutover::prepare_undo(&self.session, UNDO, WAIT, false).await;
        self.session.rollback().await;
        look.unwrap().unwrap().changed
    }

    pub(crate) async fn is_live(&self) -> bool {
        cutover::is_live(&self.session, UNDO, WAIT).await.unwrap()
    }

    /// Every constraint, index, comment, identity and row-level security of a schema.
    pub(crate) async fn shape(&self, schema: &str) -> Vec<String> {
        self.lines(&format!(
            "SELECT concat_ws(' | ', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid), k.convalidated, obj_description(k.oid, 'pg_constraint')) \
             FROM pg_constraint k WHERE k.connamespace = '{schema}'::regnamespace \
             UNION ALL SELECT concat_ws(' | ', pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisreplident, obj_description(i.indexrelid, 'pg_class')) \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = '{schema}'::regnamespace \
             UNION ALL SELECT concat_ws(' | ', c.relname, c.relforcerowsecurity, c.relreplident) FROM pg_class c WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'p') \
             UNION ALL SELECT concat_ws(' | ', a.attrelid::regclass, a.attname, a.attidentity, a.attnotnull) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE c.relnamespace = '{schema}'::regnamespace AND a.attnum > 0 AND c.relkind IN ('r', 'p')"
        ))
        .await
    }

    /// Applies with live keys and with rebuilt ones; each time the rows are the wanted ones, the
    /// undo gives back the former ones, and no constraint has changed.
    pub(crate) async fn round_trip(&self, tables: &[&str], cascade: bool) -> Vec<Applied> {
        let shape = self.shape("public").await;
        let all = self.everything().await;
        let mut done = Vec::new();
        for strategy in [Strategy::LiveKeys, Strategy::RebuildKeys] {
            let (catalog, diffs) = self.diffs(tables).await;
            let options = Self::options(strategy, cascade);
            done.push(self.apply(&catalog, &diffs, &options).await.unwrap());
            for table in tables {
                let want = self.rows(&format!("want.{table}")).await;
                let only = if catalog.in_public(table).unwrap().kind == 'p' {
                    ""
                } else {
                    "ONLY "
                };
                assert_eq!(
                    self.rows(&format!("{only}{table}")).await,
                    want,
                    "{table} {strategy:?}"
                );
            }
            assert_eq!(self.shape("public").await, shape, "{strategy:?}");
            assert_eq!(self.changed().await, Vec::<String>::new());
            self.undo().await.unwrap();
            assert_eq!(self.everything().await, all, "{strategy:?}");
            assert_eq!(self.shape("public").await, shape, "undo of {strategy:?}");
            self.run(&format!("DROP SCHEMA {UNDO} CASCADE")).await;
        }
        done
    }

    /// All rows of all tables of `public`.
    pub(crate) async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in self.catalog().await.tables() {
            if table.table.schema == "public" && matches!(table.kind, 'r' | 'p') {
                let name = table.table.sql();
                let rows = self.rows(&name).await;
                all.extend(rows.iter().map(|row| format!("{name} {row}")));
            }
        }
        all
    }
}
