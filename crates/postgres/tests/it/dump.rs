//! `pg_dump` streams.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkstream_format::{Component, GraphSummary};
use arkstream_pipeline::{Failure, FailureKind, Source};
use arkstream_postgres::{
    ConnectSpec, DumpOptions, DumpSnapshot, DumpSource, SharedSnapshot, SnapshotHolder,
};

use super::support::{Setting, catalog, database, psql_lines, server, setting};

const NAME: &str = "databases/postgres_graph_dump.sql";
const LIMIT: Duration = Duration::from_secs(20);

fn source(spec: &ConnectSpec, snapshot: DumpSnapshot, pg_path: Option<PathBuf>) -> DumpSource {
    let options = DumpOptions {
        pg_path,
        snapshot,
        lock_timeout: LIMIT,
    };
    DumpSource::new(Component::Graph, NAME, spec.clone(), options)
}

async fn dump(source: &mut DumpSource, setting: &Setting) -> Result<GraphSummary, Failure> {
    source.plan().await?;
    source.lock(&setting.run).await?;
    source.snapshot(&setting.run).await?;
    Ok(source.stream(&setting.run).await?.graph.unwrap())
}

fn text(setting: &Setting) -> String {
    String::from_utf8(setting.sink.contents()[NAME].0.to_vec()).unwrap()
}

/// A script that claims to be a new `pg_dump` and then does what it is told.
fn fake(folder: &Path, does: &str) -> PathBuf {
    let path = folder.join("pg_dump");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n--version) echo 'pg_dump (PostgreSQL) 99.1';;\n\
         --help) echo '  --restrict-key=KEY';;\n*) {does};;\nesac\n"
    );
    #[allow(clippy::disallowed_methods)]
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_shows_the_snapshot_and_is_the_same_twice() {
    let (name, spec) = database(
        "CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'before'); \
         CREATE TABLE p (id int) PARTITION BY RANGE (id); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); INSERT INTO p VALUES (3)",
    );
    let first = setting(1);
    let mut one = source(&spec, DumpSnapshot::Shared, None);
    let plan = one.plan().await.unwrap();
    assert_eq!(plan.items.len(), 1);
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("age is not installed")),
        "{:?}",
        plan.notes
    );
    one.lock(&first.run).await.unwrap();
    let snapshot = one.snapshot(&first.run).await.unwrap().unwrap();
    assert!(!snapshot.snapshot.is_empty() && snapshot.server.database == name);
    server()
        .psql(&name, "INSERT INTO t VALUES (2, 'after')")
        .unwrap();
    // A TRUNCATE has to wait, however late the stream begins.
    let ddl = {
        let name = name.clone();
        tokio::task::spawn_blocking(move || {
            server().psql(&name, "SET lock_timeout = '300ms'; TRUNCATE p")
        })
    };
    assert!(ddl.await.unwrap().is_err());
    let report = one.stream(&first.run).await.unwrap();
    assert!(text(&first).contains("1\tbefore") && !text(&first).contains("after"));
    assert!(text(&first).contains("-- PostgreSQL database dump complete"));
    assert_eq!(report.graph.unwrap().database, name);
    assert_eq!(
        first.read_bytes(Component::Graph),
        text(&first).len() as u64
    );

    server().psql(&name, "DELETE FROM t WHERE id = 2").unwrap();
    let second = setting(1);
    dump(&mut source(&spec, DumpSnapshot::Own, None), &second)
        .await
        .unwrap();
    assert_eq!(text(&first), text(&second));
    server()
        .psql(&name, "SET lock_timeout = '5s'; TRUNCATE p")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_under_a_given_snapshot_agrees_with_its_giver() {
    let (name, spec) = database("CREATE TABLE t (id int); INSERT INTO t VALUES (41)");
    let shared = SharedSnapshot::default();
    let setting = setting(1);
    let mut dump = source(&spec, DumpSnapshot::Given(shared.clone()), None);
    let mut giver = SnapshotHolder::connect(&spec, 1).await.unwrap();
    let table = catalog(&spec).await.in_public("t").unwrap().table.clone();
    dump.plan().await.unwrap();
    giver.lock(&[table], LIMIT).await.unwrap();
    dump.lock(&setting.run).await.unwrap();
    let (snapshot, ..) = giver.take().await.unwrap();
    shared.set(&snapshot);
    assert!(dump.snapshot(&setting.run).await.unwrap().is_none());
    server().psql(&name, "INSERT INTO t VALUES (42)").unwrap();
    dump.stream(&setting.run).await.unwrap();
    assert!(text(&setting).contains("41\n") && !text(&setting).contains("42\n"));
    giver.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_appears_before_the_snapshot_starts_the_barrier_again() {
    let (name, spec) = database("CREATE TABLE t (id int)");
    let setting = setting(1);
    let mut dump = source(&spec, DumpSnapshot::Shared, None);
    dump.plan().await.unwrap();
    server().psql(&name, "CREATE TABLE late (id int)").unwrap();
    dump.lock(&setting.run).await.unwrap();
    let failure = dump.snapshot(&setting.run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry, "{failure}");
    dump.release().await;
    dump.plan().await.unwrap();
    dump.lock(&setting.run).await.unwrap();
    dump.snapshot(&setting.run).await.unwrap();
    dump.stream(&setting.run).await.unwrap();
    assert!(text(&setting).contains("public.late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_that_dies_fails_and_abandons_its_member() {
    let (_, spec) = database("CREATE TABLE t (id int)");
    for (does, said) in [
        (
            "echo '-- half'; echo 'pg_dump: error: boom' >&2; exit 1",
            "boom",
        ),
        ("echo '-- half'; kill -9 $$", "signal: 9"),
        ("echo '-- half'; exit 0", "end mark"),
        ("exit 3", "said nothing"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = fake(folder.path(), does);
        let setting = setting(1);
        let mut source = source(&spec, DumpSnapshot::Shared, Some(path));
        let failure = dump(&mut source, &setting).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Source, "{does}");
        assert!(failure.why().contains(said), "{does}: {failure}");
        assert_eq!(setting.sink.abandoned(), [NAME], "{does}");
        assert!(setting.sink.contents().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_pg_dump_by_environment_only() {
    let (name, _) = database("CREATE TABLE t (id int)");
    let folder = tempfile::tempdir().unwrap();
    let does = "echo \"$*\"; env | grep '^PG' | sort; echo '-- PostgreSQL database dump complete'";
    let path = fake(folder.path(), does);
    let spec =
        ConnectSpec::parse(&server().tcp_url(&name, "postgres", server().password())).unwrap();
    let setting = setting(1);
    dump(
        &mut source(&spec, DumpSnapshot::Shared, Some(path)),
        &setting,
    )
    .await
    .unwrap();
    let text = text(&setting);
    let (arguments, environment) = text.split_once('\n').unwrap();
    assert!(!arguments.contains(server().password()));
    for part in [
        "--no-owner",
        "--no-acl",
        "--no-password",
        "--snapshot=",
        "--restrict-key=",
    ] {
        assert!(arguments.contains(part), "{arguments}");
    }
    assert!(environment.contains(&format!("PGPASSWORD={}", server().password())));
    assert!(environment.contains(&format!("PGDATABASE={name}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_dump_leaves_no_child_behind() {
    let (_, spec) = database("CREATE TABLE t (id int)");
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let does = format!(
        "echo $$ > {}; echo '-- half'; exec sleep 600",
        pid_file.display()
    );
    let path = fake(folder.path(), &does);
    let setting = setting(1);
    let cancel = setting.cancel.clone();
    let seen = pid_file.clone();
    tokio::spawn(async move {
        // The shell makes the file before it writes the number.
        while !std::fs::read_to_string(&seen).is_ok_and(|pid| pid.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.raise();
    });
    let failure = dump(
        &mut source(&spec, DumpSnapshot::Shared, Some(path)),
        &setting,
    )
    .await
    .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert_eq!(setting.sink.abandoned(), [NAME]);
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_grants_and_settings_come_back_after_a_restore() {
    let (name, spec) = database(
        "CREATE ROLE \"App Role\"; CREATE ROLE reader; \
         CREATE SCHEMA g AUTHORIZATION \"App Role\"; \
         CREATE TABLE g.\"T\" (id serial, v text); ALTER TABLE g.\"T\" OWNER TO \"App Role\"; \
         GRANT SELECT ON g.\"T\" TO reader WITH GRANT OPTION; GRANT UPDATE (v) ON g.\"T\" TO reader; \
         GRANT USAGE ON SCHEMA g TO PUBLIC; \
         CREATE SEQUENCE g.s; ALTER SEQUENCE g.s OWNER TO \"App Role\"; \
         GRANT USAGE ON SEQUENCE g.s TO reader; \
         CREATE VIEW g.v AS SELECT 1 AS one; GRANT SELECT ON g.v TO reader; \
         CREATE FUNCTION g.f(a int, b text DEFAULT 'x') RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         REVOKE ALL ON FUNCTION g.f FROM PUBLIC; GRANT EXECUTE ON FUNCTION g.f TO reader; \
         CREATE TYPE g.mood AS ENUM ('a'); ALTER TYPE g.mood OWNER TO \"App Role\"; \
         ALTER DEFAULT PRIVILEGES FOR ROLE \"App Role\" IN SCHEMA g GRANT SELECT ON TABLES TO reader",
    );
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    server()
        .psql(
            &name,
            &format!(
                "ALTER DATABASE {quoted} SET search_path = g, \"$user\", public; \
                 ALTER ROLE reader IN DATABASE {quoted} SET work_mem = '9MB'; \
                 REVOKE ALL ON DATABASE {quoted} FROM PUBLIC; \
                 GRANT CONNECT ON DATABASE {quoted} TO reader; \
                 ALTER DATABASE {quoted} OWNER TO \"App Role\""
            ),
        )
        .unwrap();
    let state = || {
        [
            "SELECT c.relname, relowner::regrole, relacl FROM pg_class c WHERE relnamespace = 'g'::regnamespace AND relkind <> 'i' ORDER BY 1",
            "SELECT nspname, nspowner::regrole, nspacl FROM pg_namespace WHERE nspname IN ('g', 'public') ORDER BY 1",
            "SELECT proname, proowner::regrole, proacl FROM pg_proc WHERE pronamespace = 'g'::regnamespace",
            "SELECT typname, typowner::regrole, typacl FROM pg_type WHERE typname = 'mood'",
            "SELECT attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'g.\"T\"'::regclass",
            "SELECT defaclrole::regrole, defaclobjtype, defaclacl FROM pg_default_acl",
            "SELECT datdba::regrole, datacl FROM pg_database WHERE datname = current_database()",
            "SELECT setrole::regrole, setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() ORDER BY 1",
        ]
        .map(|sql| psql_lines(&name, sql).iter().map(|line| normal(line)).collect::<Vec<_>>())
    };
    let before = state();
    let setting = setting(1);
    let mut source = source(&spec, DumpSnapshot::Shared, None);
    let summary = dump(&mut source, &setting).await.unwrap();
    assert_eq!(summary.owner, "App Role");
    drop(source);
    tokio::time::sleep(Duration::from_millis(300)).await;

    server()
        .psql("postgres", &format!("DROP DATABASE {quoted} WITH (FORCE)"))
        .unwrap();
    server().create_database(&name).unwrap();
    restore(&name, &text(&setting));
    server()
        .psql(&name, &summary.settings_sql.join("\n"))
        .unwrap();
    assert_eq!(state(), before);
}

/// Grants are sets.
fn normal(line: &str) -> String {
    let Some((head, acl)) = line.rsplit_once('{') else {
        return line.to_owned();
    };
    let mut items: Vec<&str> = acl.trim_end_matches('}').split(',').collect();
    items.sort_unstable();
    format!("{head}{{{}}}", items.join(","))
}

/// A dump holds COPY data, which `psql -c` does not take.
fn restore(database: &str, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    #[allow(clippy::disallowed_methods)]
    std::fs::write(file.path(), text).unwrap();
    let status = std::process::Command::new(server().bin_dir().join("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(server().conninfo(database))
        .arg("-f")
        .arg(file.path())
        .status()
        .unwrap();
    assert!(status.success());
}
