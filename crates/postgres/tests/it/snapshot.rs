//! The barrier against everything that rewrites tables.

use std::time::Duration;

use arkstream_pipeline::FailureKind;
use arkstream_postgres::{ExportOptions, Session, SnapshotHolder};

use super::support::{
    Setting, catalog, database, psql_lines, server, setting, sorted, table, task,
};

const LIMIT: Duration = Duration::from_secs(20);
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); \
    INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 5000) g; \
    CREATE TABLE other (id int)";

const REWRITES: [&str; 6] = [
    "TRUNCATE t",
    "VACUUM FULL t",
    "ALTER TABLE t ALTER COLUMN v TYPE varchar(100) USING v",
    "ALTER TABLE t ADD COLUMN extra int",
    "ALTER TABLE t RENAME COLUMN v TO w",
    "DROP TABLE t",
];

async fn export(
    holder: &mut SnapshotHolder,
    setting: &Setting,
    name: &str,
    spec: &arkstream_postgres::ConnectSpec,
) -> u64 {
    let planned = table(&catalog(spec).await, name);
    let options = ExportOptions::default();
    let entries = holder
        .export(&setting.run, vec![task(planned).into()], &options)
        .await
        .unwrap();
    entries[0].rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_between_plan_and_lock_starts_the_barrier_again() {
    for rewrite in REWRITES {
        let (name, spec) = database(TABLE);
        let planned = table(&catalog(&spec).await, "t");
        server().psql(&name, rewrite).unwrap();
        let mut holder = SnapshotHolder::connect(&spec, 1).await.unwrap();
        let mut outcome = holder
            .lock(std::slice::from_ref(&planned.table), LIMIT)
            .await;
        if outcome.is_ok() {
            holder.take().await.unwrap();
            outcome = holder.verify_unchanged(&[&planned]).await.map(drop);
        }
        let failure = outcome.expect_err(rewrite);
        assert_eq!(failure.kind, FailureKind::Retry, "{rewrite}: {failure}");
        holder.release().await;

        // The same sessions try again with a new plan.
        let planned = table(
            &catalog(&spec).await,
            if rewrite == "DROP TABLE t" {
                "other"
            } else {
                "t"
            },
        );
        holder
            .lock(std::slice::from_ref(&planned.table), LIMIT)
            .await
            .unwrap();
        holder.take().await.unwrap();
        holder.verify_unchanged(&[&planned]).await.unwrap();
        holder.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_after_the_locks_waits_and_the_snapshot_keeps_its_rows() {
    for rewrite in REWRITES {
        let (name, spec) = database(TABLE);
        let planned = table(&catalog(&spec).await, "t");
        let expected = psql_lines(&name, "SELECT id, v FROM t ORDER BY id");
        let mut holder = SnapshotHolder::connect(&spec, 2).await.unwrap();
        holder
            .lock(std::slice::from_ref(&planned.table), LIMIT)
            .await
            .unwrap();
        let (snapshot, info, _) = holder.take().await.unwrap();
        assert!(!snapshot.is_empty() && info.database == name);
        let ddl = {
            let name = name.clone();
            tokio::task::spawn_blocking(move || server().psql(&name, rewrite))
        };
        wait_until_blocked(&name).await;
        holder.verify_unchanged(&[&planned]).await.unwrap();

        let setting = setting(2);
        let options = ExportOptions {
            part_bytes: Some(50_000),
            ..ExportOptions::default()
        };
        let entries = holder
            .export(&setting.run, vec![task(planned).into()], &options)
            .await
            .unwrap();
        assert_eq!(entries[0].rows, 5000, "{rewrite}");
        assert!(entries[0].parts.len() > 2);
        assert!(!ddl.is_finished(), "{rewrite} did not wait");
        holder.release().await;
        ddl.await.unwrap().unwrap();
        let lines = setting.lines("odoo_data/models/t/", "id", "v");
        assert_eq!(sorted(lines), sorted(expected), "{rewrite}");
    }
}

async fn wait_until_blocked(database: &str) {
    let query = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                 WHERE NOT granted AND mode = 'AccessExclusiveLock' AND datname = current_database()";
    for _ in 0..1000 {
        if server().psql(database, query).unwrap() != "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody waits for a lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_queued_behind_the_coordinator_is_met_with_retry_not_a_hang() {
    let (name, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let mut holder = SnapshotHolder::connect(&spec, 2).await.unwrap();
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    let ddl = {
        let name = name.clone();
        tokio::task::spawn_blocking(move || server().psql(&name, "TRUNCATE t"))
    };
    wait_until_blocked(&name).await;
    let failure = holder.take().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Retry, "{failure}");
    holder.release().await;
    ddl.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_a_lock_too_long_is_named() {
    let (_, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let blocker = Session::connect(&spec, "the-blocker").await.unwrap();
    blocker
        .client()
        .batch_execute("BEGIN; ALTER TABLE public.t ADD COLUMN x text DEFAULT 'hunter2'")
        .await
        .unwrap();
    let mut holder = SnapshotHolder::connect(&spec, 1).await.unwrap();
    let limit = Duration::from_millis(600);
    let failure = holder
        .lock(std::slice::from_ref(&planned.table), limit)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.why().contains("the-blocker"), "{failure}");
    assert!(
        failure.why().contains(&blocker.backend_pid().to_string()),
        "{failure}"
    );
    assert!(
        failure.why().contains("public.t: BEGIN; ALTER TABLE"),
        "{failure}"
    );
    assert!(!failure.why().contains("hunter2"), "{failure}");
    blocker.client().batch_execute("ROLLBACK").await.unwrap();
    holder.lock(&[planned.table], LIMIT).await.unwrap();
    holder.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_written_after_the_snapshot_are_not_in_it() {
    let (name, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let mut holder = SnapshotHolder::connect(&spec, 2).await.unwrap();
    holder.lock(&[planned.table], LIMIT).await.unwrap();
    holder.take().await.unwrap();
    server()
        .psql(&name, "INSERT INTO t SELECT g, 'new' FROM generate_series(6000, 20000) g; DELETE FROM t WHERE id < 100")
        .unwrap();
    let setting = setting(2);
    assert_eq!(export(&mut holder, &setting, "t", &spec).await, 5000);
    holder.release().await;
    holder.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_in_the_middle_of_a_lock_wait_leaves_no_lock_behind() {
    let (name, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let blocker = Session::connect(&spec, "blocker").await.unwrap();
    blocker
        .client()
        .batch_execute("BEGIN; LOCK TABLE public.t")
        .await
        .unwrap();
    let mut holder = SnapshotHolder::connect(&spec, 1).await.unwrap();
    let lock = holder.lock(std::slice::from_ref(&planned.table), LIMIT);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), lock)
            .await
            .is_err()
    );
    holder.release().await;
    blocker.client().batch_execute("ROLLBACK").await.unwrap();
    server()
        .psql(&name, "SET lock_timeout = '5s'; TRUNCATE t")
        .unwrap();
    let planned = table(&catalog(&spec).await, "t");
    holder.lock(&[planned.table], LIMIT).await.unwrap();
    holder.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_rows_are_an_error_not_an_omission() {
    let (name, spec) = database(&format!(
        "{TABLE}; DROP ROLE IF EXISTS limited; CREATE ROLE limited LOGIN; GRANT SELECT ON t TO limited; \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON t USING (id < 5)"
    ));
    let socket = server().socket_dir();
    let host = socket.to_string_lossy();
    let port = server().port().to_string();
    let limited = arkstream_postgres::ConnectSpec::from_parameters([
        ("host", host.as_ref()),
        ("port", port.as_str()),
        ("user", "limited"),
        ("dbname", name.as_str()),
    ])
    .unwrap();
    let planned = table(&catalog(&spec).await, "t");
    assert!(planned.row_security);
    let mut holder = SnapshotHolder::connect(&limited, 1).await.unwrap();
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    holder.take().await.unwrap();
    let setting = setting(1);
    let failure = holder
        .export(
            &setting.run,
            vec![task(planned).into()],
            &ExportOptions::default(),
        )
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.advice().unwrap().contains("BYPASSRLS"), "{failure}");
    assert!(setting.sink.contents().is_empty());
    holder.release().await;
}
