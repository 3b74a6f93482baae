//! Tables to Parquet members.

use std::{sync::Arc, time::Duration};

use arkstream_format::{Component, TableEntry, TableRole};
use arkstream_pipeline::{Event, Failure, FailureKind};
use arkstream_postgres::{
    ConnectSpec, ExportOptions, SnapshotHolder, TableRef, TableTask, VirtualQuery,
};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::support::{Setting, catalog, database, psql_lines, setting, sorted, table, task};

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn try_export(
    spec: &ConnectSpec,
    setting: &Setting,
    tasks: Vec<TableTask>,
    part_bytes: Option<u64>,
) -> Result<Vec<TableEntry>, Failure> {
    let mut holder = SnapshotHolder::connect(spec, setting.run.jobs).await?;
    let tables: Vec<TableRef> = tasks.iter().map(|task| task.table.table.clone()).collect();
    holder.lock(&tables, LIMIT).await?;
    holder.take().await?;
    let options = ExportOptions {
        part_bytes,
        ..ExportOptions::default()
    };
    let tasks = tasks.into_iter().map(Arc::new).collect();
    let outcome = holder.export(&setting.run, tasks, &options).await;
    holder.release().await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_several_workers_together_are_what_copy_gives() {
    let (name, spec) = database(
        "CREATE TABLE t (id int PRIMARY KEY, v text); \
         INSERT INTO t SELECT g, repeat(md5(g::text), g % 90) FROM generate_series(1, 20000) g; \
         DELETE FROM t WHERE id % 7 = 0; UPDATE t SET v = NULL WHERE id % 11 = 0",
    );
    let setting = setting(3);
    let planned = table(&catalog(&spec).await, "t");
    let tasks = vec![TableTask {
        model: Some("t.model".to_owned()),
        ..task(planned.clone())
    }];
    let entries = try_export(&spec, &setting, tasks, Some(1 << 20))
        .await
        .unwrap();

    let copied = psql_lines(
        &name,
        "COPY (SELECT id || '|' || COALESCE(v, '') FROM t) TO STDOUT",
    );
    let exported = setting.lines("odoo_data/models/t/", "id", "v");
    assert_eq!(sorted(exported), sorted(copied.clone()));

    let entry = &entries[0];
    assert_eq!(
        (entry.table.as_str(), entry.rows),
        ("public.t", copied.len() as u64)
    );
    assert!(entry.parts.len() >= 10, "{} parts", entry.parts.len());
    for (number, part) in entry.parts.iter().enumerate() {
        assert_eq!(
            part.member,
            format!("odoo_data/models/t/part-{number:05}.parquet")
        );
        assert_eq!(part.relfilenode, planned.relfilenode);
        assert_eq!((part.relation.as_str(), part.generation), ("public.t", 1));
        // No gap and no overlap, and nothing behind the last.
        let next = entry.parts.get(number + 1).map(|next| next.first_block);
        assert_eq!(part.end_block, next);
    }
    assert_eq!(entry.parts[0].first_block, 0);

    let (bytes, _) = &setting.sink.contents()["odoo_data/models/t/part-00001.parquet"];
    let reader = SerializedFileReader::new(bytes.clone()).unwrap();
    let pairs = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .clone();
    let get = |key: &str| {
        pairs
            .iter()
            .find(|p| p.key == key)
            .and_then(|p| p.value.clone())
    };
    assert_eq!(get("arkstream.table").as_deref(), Some("public.t"));
    assert_eq!(get("arkstream.model").as_deref(), Some("t.model"));
    assert_eq!(get("arkstream.part").as_deref(), Some("1"));
    assert!(get("arkstream.snapshot").is_some());

    let events = setting.events.0.lock().unwrap().clone();
    let component = Component::Models;
    let told = events
        .iter()
        .filter(|event| matches!(event, Event::Member { .. }))
        .count();
    assert_eq!(told, entry.parts.len());
    assert!(setting.read_bytes(component) > 20_000_000);
    assert!(setting.run.budget.peak() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_read_by_leaf_and_heirs_not_with_their_parent() {
    let (name, spec) = database(
        "CREATE TABLE part (id int, v text) PARTITION BY RANGE (id); \
         CREATE TABLE \"Leaf one\" PARTITION OF part FOR VALUES FROM (0) TO (1000); \
         CREATE TABLE part_b (v text, id int); \
         ALTER TABLE part ATTACH PARTITION part_b FOR VALUES FROM (1000) TO (3000); \
         INSERT INTO part SELECT g, 'p' || g FROM generate_series(0, 2999) g; \
         CREATE TABLE parent (id int, v text); CREATE TABLE heir () INHERITS (parent); \
         INSERT INTO parent VALUES (1, 'parent'); INSERT INTO heir VALUES (2, 'heir'); \
         CREATE TABLE empty (id int, v text); \
         CREATE TABLE childless (id int, v text) PARTITION BY RANGE (id); \
         CREATE TABLE \"select\" (\"from\" int, \"We\"\"ird\" text); \
         INSERT INTO \"select\" VALUES (7, 'x''y'); CREATE TABLE no_columns (); \
         INSERT INTO no_columns SELECT FROM generate_series(1, 3)",
    );
    let found = catalog(&spec).await;
    let names = [
        "part",
        "parent",
        "heir",
        "empty",
        "childless",
        "select",
        "no_columns",
    ];
    let setting = setting(2);
    let tasks = names.iter().map(|name| task(table(&found, name))).collect();
    let entries = try_export(&spec, &setting, tasks, Some(20_000))
        .await
        .unwrap();
    let rows: Vec<u64> = entries.iter().map(|entry| entry.rows).collect();
    assert_eq!(rows, [3000, 1, 1, 0, 0, 1, 0]);
    let omitted = setting.run.omissions();
    assert_eq!(
        (omitted.len(), omitted[0].what.as_str()),
        (1, "3 rows of public.no_columns")
    );

    let exported = sorted(setting.lines("odoo_data/models/part/", "id", "v"));
    assert_eq!(
        exported,
        sorted(psql_lines(&name, "SELECT id, v FROM part"))
    );
    let leaves: std::collections::BTreeSet<_> = entries[0]
        .parts
        .iter()
        .map(|part| part.relation.as_str())
        .collect();
    assert_eq!(
        leaves.into_iter().collect::<Vec<_>>(),
        ["public.Leaf one", "public.part_b"]
    );
    assert!(entries[0].parts.len() > 2);

    // An empty table still tells its columns.
    assert_eq!(entries[3].parts.len(), 1);
    let (bytes, rows) = &setting.sink.contents()["odoo_data/models/empty/part-00000.parquet"];
    let reader = SerializedFileReader::new(bytes.clone()).unwrap();
    assert_eq!(
        (reader.metadata().file_metadata().num_rows(), *rows),
        (0, Some(0))
    );
    assert_eq!(
        reader
            .metadata()
            .file_metadata()
            .schema_descr()
            .num_columns(),
        2
    );
    let weird = setting.lines("odoo_data/models/select/", "from", "We\"ird");
    assert_eq!(weird, ["7|x'y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_columns_annotations_views_and_queries() {
    let (_, spec) = database(
        "CREATE TABLE u (id int PRIMARY KEY, login text, password text, boss int REFERENCES u); \
         INSERT INTO u SELECT g, 'u' || g, 'secret', NULL FROM generate_series(1, 100) g; \
         CREATE VIEW v AS SELECT id, login FROM u WHERE id <= 10; \
         CREATE MATERIALIZED VIEW m AS SELECT id, login FROM u WHERE id > 90; \
         CREATE SEQUENCE s START 5",
    );
    let found = catalog(&spec).await;
    let identity = TableTask {
        role: TableRole::Support,
        filter: Some("t.id IN (1, 2) OR t.login = 'u3'".to_owned()),
        columns: Some(vec!["login".to_owned(), "id".to_owned()]),
        annotations: [("id".to_owned(), (Some("integer".to_owned()), None))].into(),
        ..task(table(&found, "u"))
    };
    let query = VirtualQuery {
        name: "sequences".to_owned(),
        sql: "SELECT 1 AS id, schemaname::text AS name, start_value, '{a,b}'::text[] AS tags, \
              1.50::numeric(6,2) AS price FROM pg_catalog.pg_sequences"
            .to_owned(),
    };
    let setting = setting(2);
    let tasks = vec![
        identity,
        task(table(&found, "v")),
        task(table(&found, "m")),
        TableTask::of_query(query, TableRole::Support, "odoo_data/support/sequences/"),
    ];
    let entries = try_export(&spec, &setting, tasks, None).await.unwrap();
    let lines = setting.lines("odoo_data/models/u/", "id", "login");
    assert_eq!(lines, ["1|u1", "2|u2", "3|u3"]);
    let columns: Vec<_> = entries[0].columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(columns, ["id", "login"], "the table's order");
    assert_eq!(entries[0].columns[0].odoo_type.as_deref(), Some("integer"));
    assert_eq!(entries[0].columns_left_out, ["password", "boss"]);
    assert_eq!(entries[0].foreign_keys.len(), 1);
    assert!(entries[0].filter.is_some());
    assert_eq!((entries[1].rows, entries[2].rows), (10, 10));

    assert_eq!(
        (entries[3].table.as_str(), entries[3].rows),
        ("sequences", 1)
    );
    let types: Vec<_> = entries[3]
        .columns
        .iter()
        .map(|c| c.pg_type.as_str())
        .collect();
    assert_eq!(
        types,
        ["integer", "text", "bigint", "text[]", "numeric(6,2)"]
    );
    assert_eq!(
        setting.lines("odoo_data/support/", "id", "name"),
        ["1|public"]
    );
    for (bytes, _) in setting.sink.contents().values() {
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_late_in_the_stream_fails_the_export() {
    let (_, spec) = database("CREATE TABLE t (id int)");
    let query = VirtualQuery {
        name: "late".to_owned(),
        sql: "SELECT g, 1 / (50000 - g) AS x FROM pg_catalog.generate_series(1, 50000) g"
            .to_owned(),
    };
    // One worker asks for the table while it reads the stream, and is refused because of it.
    for jobs in [1, 2] {
        let setting = setting(jobs);
        let late = TableTask::of_query(query.clone(), TableRole::Support, "late/");
        let tasks = vec![late, task(table(&catalog(&spec).await, "t"))];
        let failure = try_export(&spec, &setting, tasks, None).await.unwrap_err();
        assert!(failure.why().contains("division by zero"), "{failure}");
        let contents = setting.sink.contents();
        assert!(contents.keys().all(|name| !name.starts_with("late/")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_export_stops_and_the_sessions_serve_again() {
    let (_, spec) = database("CREATE TABLE t AS SELECT 1 AS id, 'v'::text AS v");
    let slow = || {
        VirtualQuery {
        name: "slow".to_owned(),
        sql: "SELECT g, pg_catalog.pg_sleep(0.01)::text AS x FROM pg_catalog.generate_series(1, 100000) g"
            .to_owned(),
    }
    };
    let setting = setting(2);
    let mut holder = SnapshotHolder::connect(&spec, 2).await.unwrap();
    let planned = table(&catalog(&spec).await, "t");
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    holder.take().await.unwrap();
    let tasks =
        ["a/", "b/"].map(|folder| TableTask::of_query(slow(), TableRole::Support, folder).into());
    let cancel = setting.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.raise();
    });
    let options = ExportOptions::default();
    let failure = holder
        .export(&setting.run, tasks.to_vec(), &options)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(setting.sink.contents().is_empty());
    holder.release().await;

    let again = super::support::setting(2);
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    holder.take().await.unwrap();
    let entries = holder
        .export(&again.run, vec![task(planned).into()], &options)
        .await
        .unwrap();
    assert_eq!(entries[0].rows, 1);
    holder.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_given_up_leaves_the_holder_usable() {
    let (name, spec) = database("CREATE TABLE t AS SELECT 1 AS id, 'v'::text AS v");
    let query = VirtualQuery {
        name: "slow".to_owned(),
        sql: "SELECT 1 AS g, pg_catalog.pg_sleep(600)::text AS x".to_owned(),
    };
    let setting = setting(2);
    let mut holder = SnapshotHolder::connect(&spec, 2).await.unwrap();
    let planned = table(&catalog(&spec).await, "t");
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    holder.take().await.unwrap();
    let options = ExportOptions::default();
    let tasks = vec![TableTask::of_query(query, TableRole::Support, "slow/").into()];
    let export = holder.export(&setting.run, tasks, &options);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), export)
            .await
            .is_err()
    );
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    holder.take().await.unwrap();
    let entries = holder
        .export(&setting.run, vec![task(planned).into()], &options)
        .await
        .unwrap();
    assert_eq!(entries[0].rows, 1);
    let sleeping = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND query LIKE 'COPY%pg_sleep%'";
    for _ in 0..500 {
        if psql_lines(&name, sleeping) == ["0"] {
            holder.release().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the abandoned COPY still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_a_failure_not_an_end() {
    let (name, spec) = database("CREATE TABLE t (id int)");
    let query = VirtualQuery {
        name: "slow".to_owned(),
        sql: "SELECT g, pg_catalog.pg_sleep(0.01)::text AS x FROM pg_catalog.generate_series(1, 100000) g"
            .to_owned(),
    };
    let setting = setting(1);
    tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(700));
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE query LIKE 'COPY%' AND datname = current_database()";
        super::support::server().psql(&name, sql).unwrap();
    });
    let tasks = vec![TableTask::of_query(query, TableRole::Support, "slow/")];
    let failure = try_export(&spec, &setting, tasks, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source, "{failure}");
    assert!(setting.sink.contents().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_larger_than_the_budget_are_exported_all_the_same() {
    let (_, spec) = database(
        "CREATE TABLE t (id int, v text); \
         INSERT INTO t SELECT g, repeat(md5(g::text), 400000) FROM generate_series(1, 4) g",
    );
    let sink = setting(2);
    let run = arkstream_pipeline::Run::new(
        sink.run.sink.clone(),
        sink.run.observer.clone(),
        sink.cancel.clone(),
        arkstream_pipeline::Budget::new(4 << 20),
        2,
    );
    let small = Setting { run, ..sink };
    let planned = table(&catalog(&spec).await, "t");
    let entries = try_export(&spec, &small, vec![task(planned)], None)
        .await
        .unwrap();
    assert_eq!(entries[0].rows, 4);
    let mut whole = 0;
    for (name, (bytes, _)) in small.sink.contents() {
        whole += usize::from(name.ends_with(".bin") && bytes.len() == 400_000 * 32);
    }
    assert_eq!(whole, 4);
}
