//! The Odoo sample holds what it promises: every trap is asserted by a query, so that none can
//! vanish from the fixture unnoticed.

use std::path::Path;
use std::process::Command;

use arkstream_sample::{
    GraphSettings, OdooOptions, OdooSample, OdooSampleReport, SampleError, Server, ServerOptions,
    Traffic,
};

mod claims;

use claims::{REGISTRY, TABLES, TRAVELLERS, VALUES};

const SCALE: f64 = 0.05;

async fn build(server: &Server, database: &str, options: OdooOptions<'_>) -> OdooSampleReport {
    server.create_database(database).expect("created");
    let client = server.superuser_connect(database).await.expect("connects");
    match OdooSample::build(&client, options).await {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    }
}

fn options(filestore: &Path) -> OdooOptions<'_> {
    OdooOptions {
        scale: SCALE,
        ..OdooOptions::new(filestore)
    }
}

/// Asks every question; a question's answer must be `t`.
fn hold(server: &Server, claims: &[(&str, &str)]) {
    let mut broken = Vec::new();
    for (claim, sql) in claims {
        match server.psql("odoo", &format!("SELECT {sql}")) {
            Ok(answer) if answer == "t" => {}
            other => broken.push(format!("{claim}: {other:?}")),
        }
    }
    assert!(broken.is_empty(), "not held:\n{}", broken.join("\n"));
}

#[tokio::test]
async fn every_trap_is_there() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    let filestore = tempfile::tempdir().expect("a folder");
    let graph = GraphSettings {
        host: "127.0.0.1".to_owned(),
        port: 5433,
        user: "graph".to_owned(),
        password: "p'w".to_owned(),
        database: "sam_graph".to_owned(),
        graph_name: "sam".to_owned(),
    };
    let options = OdooOptions {
        owner_role: Some("odoo".to_owned()),
        graph: Some(graph),
        chroma_persist_directory: "./chroma 'data'".to_owned(),
        ..options(filestore.path())
    };
    build(&server, "odoo", options).await;
    for claims in [REGISTRY, TABLES, VALUES, TRAVELLERS] {
        hold(&server, claims);
    }
}

#[tokio::test]
async fn the_filestore_holds_what_attachments_name_and_some_orphans() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    let filestore = tempfile::tempdir().expect("a folder");
    // Built by the database's owner, who is no superuser.
    server
        .psql("postgres", "CREATE ROLE app LOGIN")
        .expect("psql");
    server
        .psql("postgres", "CREATE DATABASE odoo OWNER app")
        .expect("psql");
    let url = server.conninfo("odoo").replace("postgres@", "app@");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .expect("connects");
    tokio::spawn(connection);
    let report = match OdooSample::build(&client, options(filestore.path())).await {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    };
    let names = server
        .psql(
            "odoo",
            "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname IS NOT NULL",
        )
        .expect("psql");
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names.len() as u64, report.filestore_files);
    for name in &names {
        let listed = Command::new("sha1sum")
            .arg(filestore.path().join(name))
            .output()
            .expect("runs");
        let (folder, hash) = name.split_once('/').expect("a folder and a name");
        assert!(hash.starts_with(folder) && hash.len() == 40);
        assert!(
            String::from_utf8_lossy(&listed.stdout).starts_with(hash),
            "{name}"
        );
    }
    assert_eq!(report.filestore_orphans.len(), 3);
    for orphan in &report.filestore_orphans {
        assert!(filestore.path().join(orphan).is_file() && !names.contains(&orphan.as_str()));
    }
    assert!(filestore.path().join("checklist").is_dir());
}

#[tokio::test]
async fn equal_seeds_give_equal_data() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    let filestore = tempfile::tempdir().expect("a folder");
    let mut dumps = Vec::new();
    for (name, seed) in [("one", 5), ("two", 5), ("three", u64::MAX)] {
        let folder = filestore.path().join(name);
        build(
            &server,
            name,
            OdooOptions {
                seed,
                ..options(&folder)
            },
        )
        .await;
        let dump = Command::new(server.bin_dir().join("pg_dump"))
            .args(["--no-comments", "-d", &server.conninfo(name)])
            .output()
            .expect("pg_dump runs");
        assert!(
            dump.status.success(),
            "{}",
            String::from_utf8_lossy(&dump.stderr)
        );
        let text = String::from_utf8(dump.stdout).expect("UTF-8");
        let lines: Vec<String> = text
            .lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"))
            .map(str::to_owned)
            .collect();
        dumps.push(lines);
    }
    let difference = dumps[0].iter().zip(&dumps[1]).find(|(a, b)| a != b);
    assert!(
        difference.is_none() && dumps[0].len() == dumps[1].len(),
        "{difference:?}"
    );
    assert_ne!(dumps[0], dumps[2]);
}

#[tokio::test]
async fn a_failed_build_leaves_the_database_as_it_was() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    let filestore = tempfile::tempdir().expect("a folder");
    server.create_database("odoo").expect("created");
    server
        .psql("odoo", "CREATE TABLE x_type_matrix ()")
        .expect("psql");
    let client = server.superuser_connect("odoo").await.expect("connects");
    let error = OdooSample::build(&client, options(filestore.path()))
        .await
        .expect_err("in the way");
    assert!(error.to_string().contains("already exists"), "{error}");
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    assert_eq!(server.psql("odoo", tables).expect("psql"), "1");
    let tiny = OdooOptions {
        scale: 0.001,
        ..options(filestore.path())
    };
    assert!(matches!(
        OdooSample::build(&client, tiny).await,
        Err(SampleError::Options(_))
    ));
}

#[tokio::test]
async fn traffic_keeps_its_rules_at_every_moment() {
    let server = Server::start(ServerOptions::default()).expect("the server starts");
    let filestore = tempfile::tempdir().expect("a folder");
    build(&server, "odoo", options(filestore.path())).await;
    let traffic = Traffic::start(&server.conninfo("odoo"), 1)
        .await
        .expect("starts");
    let reader = server.superuser_connect("odoo").await.expect("connects");
    let mut seen = 0;
    while traffic.committed() < 200 {
        let row = reader
            .query_one(Traffic::BROKEN_RULES, &[])
            .await
            .expect("a row");
        assert_eq!(row.get::<_, i64>(0), 0);
        seen += 1;
    }
    let report = traffic.stop().await.expect("stops");
    assert!(
        seen > 0 && report.committed >= 200 && report.deleted > 0 && report.transfers > 0,
        "{report:?}"
    );
    assert_eq!((report.failed, &report.last_failure), (0, &None));
    let count = |sql: &str| {
        server
            .psql("odoo", sql)
            .expect("psql")
            .parse::<i64>()
            .expect("a number")
    };
    assert_eq!(
        count("SELECT sum(conversation_count) FROM ai_knowledge_domain"),
        report.domain_sum
    );
    assert_eq!(
        count("SELECT count(*) FROM ai_conversation WHERE name LIKE 'Traffic %'"),
        i64::try_from(report.conversations - report.deleted).expect("fits")
    );
}
