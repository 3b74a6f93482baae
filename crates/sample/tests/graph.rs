//! The graph sample: what Apache AGE's catalogs do to a dump happens here too.

use std::process::{Command, Stdio};

use arkstream_sample::{GraphSample, GraphSampleReport, Server, ServerOptions};

#[tokio::test]
async fn a_restored_dump_has_equal_rows_and_stale_oids() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    for name in ["graph", "restored", "application"] {
        server.create_database(name).expect("created");
    }
    let client = server.superuser_connect("graph").await.expect("connects");
    let report = GraphSample::build(&client, "sam graph", 100, 250)
        .await
        .expect("built");
    assert_eq!(
        report,
        GraphSampleReport {
            vertices: 100,
            edges: 250,
            labels: 5
        }
    );
    let ask = |database: &str, sql: &str| server.psql(database, sql).expect("psql");
    let count = "LOAD 'age'; SELECT * FROM ag_catalog.cypher('sam graph', $$MATCH (n) RETURN count(n)$$) AS (n ag_catalog.agtype)";
    let edges = "SELECT * FROM ag_catalog.cypher('sam graph', $$MATCH ()-[r]->() RETURN count(r)$$) AS (n ag_catalog.agtype)";
    assert_eq!(ask("graph", count), "100");
    assert_eq!(ask("graph", edges), "250");
    // The parents hold no rows themselves; the labels do, with their number in each id.
    assert_eq!(
        ask(
            "graph",
            "SELECT count(*) FROM ONLY \"sam graph\"._ag_label_vertex"
        ),
        "0"
    );
    assert_eq!(
        ask(
            "graph",
            "SELECT DISTINCT ag_catalog._extract_label_id(id) FROM \"sam graph\".\"Concept\""
        ),
        "4"
    );
    assert_eq!(
        ask(
            "graph",
            "SELECT count(*) FROM \"sam graph\"._ag_label_edge e WHERE NOT EXISTS (SELECT FROM \"sam graph\"._ag_label_vertex v WHERE v.id = e.start_id) OR NOT EXISTS (SELECT FROM \"sam graph\"._ag_label_vertex v WHERE v.id = e.end_id)"
        ),
        "0"
    );

    let mut dump = Command::new(server.bin_dir().join("pg_dump"))
        .args(["--no-owner", "--no-acl", "-d", &server.conninfo("graph")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pg_dump starts");
    // Other databases take OIDs meanwhile, as on any real server.
    ask("restored", "CREATE SCHEMA unrelated");
    let restore = Command::new(server.bin_dir().join("psql"))
        .args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-1",
            "-d",
            &server.conninfo("restored"),
        ])
        .stdin(dump.stdout.take().expect("piped"))
        .output()
        .expect("psql runs");
    assert!(dump.wait().expect("ends").success());
    assert!(
        restore.status.success(),
        "{}",
        String::from_utf8_lossy(&restore.stderr)
    );

    for table in [
        "\"Conversation\"",
        "\"Concept\"",
        "\"Person With Space\"",
        "\"MENTIONS\"",
        "\"RELATED_TO\"",
    ] {
        let rows = format!("SELECT * FROM \"sam graph\".{table} ORDER BY id");
        assert_eq!(ask("graph", &rows), ask("restored", &rows));
    }
    let error = server
        .psql("restored", count)
        .expect_err("the graph's OID is another one's");
    assert!(error.to_string().contains("graph with oid"), "{error}");
    ask(
        "restored",
        "BEGIN; CREATE TEMP TABLE g AS SELECT n.oid AS graphid, g.name, g.namespace FROM ag_catalog.ag_graph g JOIN pg_namespace n ON n.oid = g.namespace;
         CREATE TEMP TABLE l AS SELECT l.name, c.relnamespace AS graph, l.id::int, l.kind::\"char\", l.relation, l.seq_name FROM ag_catalog.ag_label l JOIN pg_class c ON c.oid = l.relation;
         DELETE FROM ag_catalog.ag_label; DELETE FROM ag_catalog.ag_graph;
         INSERT INTO ag_catalog.ag_graph SELECT * FROM g; INSERT INTO ag_catalog.ag_label SELECT * FROM l; COMMIT",
    );
    assert_eq!(ask("restored", count), "100");
    // Defaults name graph and label, so new rows get the right label bits.
    assert_eq!(
        ask(
            "restored",
            "INSERT INTO \"sam graph\".\"Concept\" DEFAULT VALUES RETURNING ag_catalog._extract_label_id(id)"
        ),
        "4"
    );
}

#[tokio::test]
async fn only_a_superuser_loads_the_extension() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    server.create_database("app").expect("created");
    server
        .psql(
            "app",
            "CREATE ROLE plain CREATEDB; GRANT CREATE ON DATABASE app TO plain",
        )
        .expect("psql");
    server
        .psql("app", "SET ROLE plain; CREATE EXTENSION age")
        .expect_err("refused");
    server
        .psql("app", "SET ROLE plain; LOAD 'age'")
        .expect_err("refused");
    server
        .psql("app", "CREATE EXTENSION age; LOAD 'age'")
        .expect("a superuser may");
}
