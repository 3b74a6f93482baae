//! Getting in, and saying clearly why not.

use arkstream_pipeline::{Failure, FailureKind};
use arkstream_postgres::{ConnectSpec, Session, read_catalog, server_info};
use arkstream_sample::{Server, ServerOptions};

use super::support::{database, server};

async fn refused(text: &str) -> Failure {
    let spec = ConnectSpec::parse(text).unwrap();
    let failure = Session::connect(&spec, "test").await.unwrap_err();
    let shown = format!("{failure} {:?} {failure:?}", failure.advice());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(failure.advice().is_some(), "{shown}");
    failure
}

async fn show(session: &Session, name: &str) -> String {
    let query = "SELECT pg_catalog.current_setting($1)";
    session
        .client()
        .query_one(query, &[&name])
        .await
        .unwrap()
        .get(0)
}

async fn uses_tls(text: &str) -> bool {
    let session = Session::connect(&ConnectSpec::parse(text).unwrap(), "test")
        .await
        .unwrap();
    let query = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    session.client().query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn settings_are_pinned_whatever_role_and_database_say() {
    let (name, spec) = database(
        "ALTER ROLE postgres SET extra_float_digits = 0; \
         ALTER ROLE postgres SET datestyle = 'German'",
    );
    let quoted = name.replace('"', "\"\"");
    let sql = format!("ALTER DATABASE \"{quoted}\" SET statement_timeout = '1s'");
    server().psql(&name, &sql).unwrap();
    let session = Session::connect(&spec, "test").await.unwrap();
    for (setting, value) in [
        ("search_path", ""),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "3"),
        ("row_security", "off"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
    ] {
        assert_eq!(show(&session, setting).await, value, "{setting}");
    }
    server()
        .psql(&name, "ALTER ROLE postgres RESET ALL")
        .unwrap();
}

#[tokio::test]
async fn a_session_that_lost_its_settings_to_a_pooler_is_found_out() {
    let (_, spec) = database("");
    let session = Session::connect(&spec, "test").await.unwrap();
    session.check_pinned().await.unwrap();
    // What a pooler does to a server connection between two clients.
    session.client().batch_execute("DISCARD ALL").await.unwrap();
    let failure = session.check_pinned().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.why().contains("PgBouncer"), "{failure}");
}

#[tokio::test]
async fn a_wrong_password_is_said_without_repeating_it() {
    let failure = refused(&server().tcp_url("postgres", "postgres", "hunter2")).await;
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(
        failure.why().contains("password authentication failed"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_missing_password_names_the_places_to_give_it() {
    let url = format!(
        "host=127.0.0.1 port={} user=postgres passfile=/none",
        server().port()
    );
    let failure = refused(&url).await;
    assert!(
        failure.advice().unwrap().contains("PGPASSWORD"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_unknown_database_is_said_by_name() {
    let url = server().tcp_url("absent", "postgres", server().password());
    let failure = refused(&url).await;
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.why().contains("absent"), "{failure}");
}

#[tokio::test]
async fn an_unreachable_host_is_a_source_failure() {
    for text in [
        "postgresql://u:hunter2@127.0.0.1:1/d",
        "postgresql://u:hunter2@does-not-exist.invalid/d",
        "host=/nonexistent user=u password=hunter2 dbname=d",
        "postgresql://u:hunter2@127.0.0.1:1,127.0.0.1:2/d",
    ] {
        assert_eq!(refused(text).await.kind, FailureKind::Source, "{text}");
    }
}

#[tokio::test]
async fn no_line_in_pg_hba_is_explained() {
    let server = Server::start(ServerOptions::default()).unwrap();
    #[allow(clippy::disallowed_methods)]
    std::fs::write(
        server.data_dir().join("pg_hba.conf"),
        "local all all trust\nhost other all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    server
        .psql("postgres", "SELECT pg_reload_conf(), pg_sleep(0.5)")
        .unwrap();
    let failure = refused(&server.tcp_url("postgres", "postgres", "hunter2")).await;
    assert!(
        failure.advice().unwrap().contains("pg_hba.conf"),
        "{failure}"
    );
}

#[tokio::test]
async fn tls_modes_do_what_they_promise() {
    let server = Server::start(ServerOptions {
        tls: true,
        ..ServerOptions::default()
    })
    .unwrap();
    let other = Server::start(ServerOptions {
        tls: true,
        ..ServerOptions::default()
    })
    .unwrap();
    let url = server.tcp_url("postgres", "postgres", server.password());
    let ca = server.ca_file().unwrap().display();
    let foreign = other.ca_file().unwrap().display();

    assert!(!uses_tls(&format!("{url}?sslmode=disable")).await);
    for parameters in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca&sslrootcert={ca}"),
        format!("sslmode=verify-full&sslrootcert={ca}"),
    ] {
        assert!(
            uses_tls(&format!("{url}?{parameters}")).await,
            "{parameters}"
        );
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let failure = refused(&format!("{url}?sslmode={mode}&sslrootcert={foreign}")).await;
        assert!(
            failure.advice().unwrap().contains("sslrootcert"),
            "{mode}: {failure}"
        );
    }
    // The right authority, the wrong name: only verify-full looks at it.
    let named = url.replace("@127.0.0.1:", "@wrong.example:");
    let named = format!("{named}?hostaddr=127.0.0.1&sslrootcert={ca}");
    assert!(uses_tls(&format!("{named}&sslmode=verify-ca")).await);
    refused(&format!("{named}&sslmode=verify-full")).await;
}

#[tokio::test]
async fn tls_demanded_of_a_server_without_it_is_explained() {
    let url = server().tcp_url("postgres", "postgres", server().password());
    let failure = refused(&format!("{url}?sslmode=require")).await;
    assert!(failure.advice().unwrap().contains("ssl = on"), "{failure}");
    assert!(!uses_tls(&format!("{url}?sslmode=prefer")).await);
}

#[tokio::test]
async fn what_the_role_may_not_ask_of_the_server_is_none() {
    let (name, spec) = database("CREATE ROLE humble LOGIN");
    let admin = Session::connect(&spec, "test").await.unwrap();
    let full = server_info(admin.client()).await.unwrap();
    assert_eq!(full.database, name);
    assert_eq!(full.version_num / 10_000, server().major());
    assert!(full.system_identifier.is_some() && full.timeline == Some(1));
    assert!(full.wal_lsn.is_some() && full.next_xid.is_some());

    let revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC";
    server().psql(&name, revoke).unwrap();
    let socket = server().socket_dir();
    let host = socket.to_string_lossy();
    let port = server().port().to_string();
    let humble = ConnectSpec::from_parameters([
        ("host", host.as_ref()),
        ("port", port.as_str()),
        ("user", "humble"),
        ("dbname", name.as_str()),
    ])
    .unwrap();
    let session = Session::connect(&humble, "test").await.unwrap();
    let less = server_info(session.client()).await.unwrap();
    assert_eq!(less.system_identifier, None);
    assert_eq!(less.version, full.version);
}

#[tokio::test]
async fn the_catalog_has_keys_kinds_types_and_sizes() {
    let (_, spec) = database(
        "CREATE SCHEMA \"Other\"; \
         CREATE TABLE parent (id int PRIMARY KEY, tags text[], n numeric(10,2) NOT NULL, \
                              twice numeric GENERATED ALWAYS AS (n * 2) STORED, gone int); \
         ALTER TABLE parent DROP COLUMN gone; \
         CREATE TABLE \"Other\".\"Odd \"\"Name\" (b int, a int REFERENCES parent ON DELETE CASCADE, \
                              PRIMARY KEY (a, b)); \
         CREATE TABLE heir (extra int) INHERITS (parent); \
         CREATE TABLE p (k int) PARTITION BY RANGE (k); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (k); \
         CREATE TABLE p11 PARTITION OF p1 FOR VALUES FROM (0) TO (5); \
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); \
         CREATE VIEW v AS SELECT 1 AS one; \
         CREATE TYPE mood AS ENUM ('good'); CREATE TABLE moody (m mood); \
         INSERT INTO parent SELECT g, NULL, g FROM generate_series(1, 10000) g; \
         ALTER TABLE moody ENABLE ROW LEVEL SECURITY;",
    );
    let session = Session::connect(&spec, "test").await.unwrap();
    let catalog = read_catalog(session.client()).await.unwrap();
    let parent = catalog.in_public("parent").unwrap();
    let names: Vec<_> = parent.columns.iter().map(|c| c.pg.name.as_str()).collect();
    assert_eq!(names, ["id", "tags", "n", "twice"]);
    assert_eq!(parent.primary_key, ["id"]);
    assert_eq!(parent.columns[1].pg.element_oid, Some(25));
    assert_eq!(parent.columns[2].pg.type_name, "numeric(10,2)");
    assert!(parent.columns[2].pg.not_null && parent.columns[3].generated);
    assert!(parent.heap_blocks > 40 && parent.bytes >= u64::from(parent.heap_blocks) * 8192);
    let heir = catalog.in_public("heir").unwrap();
    assert_eq!(parent.children, [heir.table.oid]);

    let odd = catalog.by_name("Other", "Odd \"Name").unwrap();
    assert_eq!(odd.primary_key, ["a", "b"]);
    assert_eq!(odd.table.sql(), "\"Other\".\"Odd \"\"Name\"");
    let key = &odd.foreign_keys[0];
    assert_eq!(
        (key.references.as_str(), key.on_delete.as_str()),
        ("public.parent", "cascade")
    );
    assert_eq!(
        (&key.columns[..], &key.referenced_columns[..]),
        (&["a".into()][..], &["id".into()][..])
    );

    let p = catalog.in_public("p").unwrap();
    let leaves: Vec<_> = p.leaves.iter().map(|leaf| leaf.name.as_str()).collect();
    assert_eq!((p.kind, leaves.as_slice()), ('p', &["p11", "p2"][..]));
    assert_eq!(p.relfilenode, None);
    assert!(catalog.in_public("p11").unwrap().is_partition);
    assert_eq!(catalog.in_public("v").unwrap().kind, 'v');
    let moody = catalog.in_public("moody").unwrap();
    assert_eq!(
        (moody.columns[0].pg.type_kind, moody.row_security),
        ('e', true)
    );
    assert!(catalog.by_name("pg_catalog", "pg_class").is_none());
    assert!(catalog.by_oid(parent.table.oid).is_some());
}

#[tokio::test]
async fn the_catalog_is_read_while_a_table_is_locked_exclusively() {
    let (_, spec) = database("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g");
    let blocker = Session::connect(&spec, "blocker").await.unwrap();
    blocker
        .client()
        .batch_execute("BEGIN; LOCK TABLE public.t")
        .await
        .unwrap();
    let session = Session::connect(&spec, "test").await.unwrap();
    let catalog = read_catalog(session.client()).await.unwrap();
    assert_eq!(catalog.in_public("t").unwrap().columns.len(), 1);
}
