//! Whether a graph is intact: what a restored dump must satisfy, asked in a new session, for AGE
//! keeps what it read of its catalogs.

use arkstream_pipeline::{Failure, FailureKind};
use futures::TryStreamExt;
use tokio_postgres::Client;

use super::scan::{RowHasher, Rows};
use crate::failure::failure_of;
use crate::sql::{quote_ident, quote_literal};

/// A label: its graph, its name, its number, its table as SQL, its kind, its sequence.
struct Label {
    graph: String,
    name: String,
    id: i64,
    table: String,
    is_edge: bool,
    sequence: String,
}

/// What is wrong, and what is merely worth knowing.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) broken: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Findings {
    pub(super) fn judge(self, attempted: &str) -> Result<Vec<String>, Failure> {
        if self.broken.is_empty() {
            return Ok(self.notes);
        }
        Err(Failure::new(
            FailureKind::Damaged,
            attempted,
            self.broken.join("; "),
        ))
    }
}

/// Checks every graph of the database. A database without AGE has nothing to check.
pub(super) async fn intact(client: &Client) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let fail = |error: tokio_postgres::Error| failure_of("check the graph", &error);
    let has_age: bool = client
        .query_one(
            "SELECT pg_catalog.to_regclass('ag_catalog.ag_graph') IS NOT NULL",
            &[],
        )
        .await
        .map_err(fail)?
        .get(0);
    if !has_age {
        return Ok(findings);
    }
    let stale: i64 = client
        .query_one(
            "SELECT (SELECT pg_catalog.count(*) FROM ag_catalog.ag_graph g WHERE g.graphid <> g.namespace::pg_catalog.oid) \
                  + (SELECT pg_catalog.count(*) FROM ag_catalog.ag_label l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
                     LEFT JOIN ag_catalog.ag_graph g ON g.graphid = l.graph \
                     WHERE c.oid IS NULL OR g.graphid IS NULL OR c.relnamespace <> g.namespace::pg_catalog.oid)",
            &[],
        )
        .await
        .map_err(fail)?
        .get(0);
    if stale > 0 {
        findings.broken.push(format!(
            "{stale} rows of AGE's catalogs name graphs or tables by OIDs that do not exist here"
        ));
        return Ok(findings);
    }
    for label in labels(client).await.map_err(fail)? {
        check_label(client, &label, &mut findings)
            .await
            .map_err(fail)?;
    }
    Ok(findings)
}

async fn labels(client: &Client) -> Result<Vec<Label>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT g.name::pg_catalog.text, l.name::pg_catalog.text, l.id::pg_catalog.int8, \
                    l.relation::pg_catalog.regclass::pg_catalog.text, l.kind::pg_catalog.text = 'e', \
                    pg_catalog.format('%I.%I', n.nspname, l.seq_name) \
             FROM ag_catalog.ag_label l JOIN ag_catalog.ag_graph g ON g.graphid = l.graph \
             JOIN pg_catalog.pg_namespace n ON n.oid = g.namespace ORDER BY 1, 3",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Label {
            graph: row.get(0),
            name: row.get(1),
            id: row.get(2),
            table: row.get(3),
            is_edge: row.get(4),
            sequence: row.get(5),
        })
        .collect())
}

async fn check_label(
    client: &Client,
    label: &Label,
    findings: &mut Findings,
) -> Result<(), tokio_postgres::Error> {
    let parent = label.name.starts_with("_ag_label_");
    let what = format!("the label {} of the graph {}", label.name, label.graph);
    let table = &label.table;
    let id = "t.id::pg_catalog.text::pg_catalog.int8";
    let sql = format!(
        "SELECT (SELECT pg_catalog.count(*) FROM ONLY {table} t WHERE ({id} >> 48) <> {}), \
         (SELECT pg_catalog.count(*) - pg_catalog.count(DISTINCT {id}) FROM ONLY {table} t), \
         EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = {}::pg_catalog.regclass), \
         COALESCE((SELECT pg_catalog.max({id} & 281474976710655) FROM ONLY {table} t), 0), \
         CASE WHEN pg_catalog.to_regclass({}) IS NULL THEN -1 ELSE \
           COALESCE((SELECT s.last_value FROM pg_catalog.pg_sequences s WHERE \
             pg_catalog.format('%I.%I', s.schemaname, s.sequencename) = {}), 0) END, \
         COALESCE((SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE '%label_id(%' FROM pg_catalog.pg_attrdef d \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
           WHERE d.adrelid = {}::pg_catalog.regclass AND a.attname = 'id'), false)",
        label.id,
        quote_literal(table),
        quote_literal(&label.sequence),
        quote_literal(&label.sequence),
        quote_literal(table),
    );
    let row = client.query_one(&sql, &[]).await?;
    let mut broken = |wrong: bool, why: String| {
        if wrong {
            findings.broken.push(why);
        }
    };
    let (foreign, doubled): (i64, i64) = (row.get(0), row.get(1));
    broken(
        foreign > 0,
        format!("{what}: {foreign} ids belong to another label"),
    );
    broken(doubled > 0, format!("{what}: {doubled} ids occur twice"));
    broken(
        !parent && !row.get::<_, bool>(2),
        format!("{what}: its table inherits from no parent"),
    );
    let (largest, last): (i64, i64) = (row.get(3), row.get(4));
    broken(last < 0, format!("{what}: its sequence is missing"));
    broken(
        last >= 0 && last < largest,
        format!("{what}: its sequence stands at {last}, its largest id is {largest}"),
    );
    broken(
        !row.get::<_, bool>(5),
        format!("{what}: ids have no default that names the label"),
    );
    if label.is_edge && !parent {
        let vertices = format!("{}._ag_label_vertex", quote_ident(&label.graph));
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM ONLY {table} t WHERE \
             NOT EXISTS (SELECT FROM {vertices} v WHERE v.id = t.start_id) OR \
             NOT EXISTS (SELECT FROM {vertices} v WHERE v.id = t.end_id)"
        );
        // The operator may not be in the search path of a pinned session.
        let sql = format!("SET LOCAL search_path = ag_catalog, pg_catalog; {sql}");
        let dangling = client
            .simple_query(&format!("BEGIN; {sql}; ROLLBACK"))
            .await?
            .iter()
            .find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    row.get(0).and_then(|text| text.parse::<i64>().ok())
                }
                _ => None,
            })
            .unwrap_or(0);
        if dangling > 0 {
            findings.notes.push(format!(
                "{what}: {dangling} edges lead to vertices that do not exist; the dump has them so"
            ));
        }
    }
    Ok(())
}

/// Where AGE is the real one, asks each graph in its own language.
///
/// AGE has to be loaded before the statement with `cypher()` is parsed. `LOAD` is for superusers
/// alone; any of AGE's C functions loads it too, and the application's role may call those.
pub(super) async fn probe(client: &Client) -> Result<(), Failure> {
    let fail = |error: tokio_postgres::Error| {
        failure_of("ask the graph in Cypher as the application does", &error)
    };
    let real: bool = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
             WHERE n.nspname = 'ag_catalog' AND p.proname = 'cypher' AND l.lanname = 'c')",
            &[],
        )
        .await
        .map_err(fail)?
        .get(0);
    if !real {
        return Ok(());
    }
    client
        .batch_execute("SELECT 'null'::ag_catalog.agtype")
        .await
        .map_err(fail)?;
    let graphs = client
        .query(
            "SELECT name::pg_catalog.text FROM ag_catalog.ag_graph ORDER BY 1",
            &[],
        )
        .await
        .map_err(fail)?;
    for row in graphs {
        let query = format!(
            "SELECT * FROM ag_catalog.cypher({}, $$MATCH (n) RETURN count(n)$$) AS (n ag_catalog.agtype)",
            quote_literal(&row.get::<_, String>(0))
        );
        if let Err(first) = ask(client, "", &query).await {
            // A server on which a call is not enough.
            let loaded = ask(client, "LOAD 'age'; ", &query).await;
            loaded.map_err(|second| fail(first).and(format!("and after LOAD 'age': {second}")))?;
        }
    }
    Ok(())
}

/// Runs a query with AGE's names in sight, in a transaction that is rolled back.
async fn ask(client: &Client, before: &str, query: &str) -> Result<(), tokio_postgres::Error> {
    let sql =
        format!("BEGIN; {before}SET LOCAL search_path = ag_catalog, pg_catalog; {query}; ROLLBACK");
    let asked = client.batch_execute(&sql).await;
    if asked.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    asked
}

/// The rows of a table as `pg_dump` writes them, counted and hashed.
pub(super) async fn rows_of(client: &Client, table: &str) -> Result<Rows, Failure> {
    let fail = |error: tokio_postgres::Error| failure_of(&format!("read back {table}"), &error);
    let copy = format!("COPY {table} TO STDOUT");
    let stream = client.copy_out(&copy).await.map_err(fail)?;
    let mut stream = std::pin::pin!(stream);
    let mut hasher = RowHasher::default();
    while let Some(piece) = stream.try_next().await.map_err(fail)? {
        // One message is one row with its line end.
        for row in piece.split_inclusive(|byte| *byte == b'\n') {
            match row.split_last() {
                Some((b'\n', content)) => {
                    hasher.push(content);
                    hasher.end_row();
                }
                _ => hasher.push(row),
            }
        }
    }
    Ok(hasher.finish())
}
