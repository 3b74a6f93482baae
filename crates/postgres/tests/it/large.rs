//! Values and rows that a part has no room for: beside it in the bundle, and back where they were.

use std::time::Duration;

use arkstream_columnar::{EncodeOptions, read_part};
use arkstream_conformance::MemoryBundle;
use arkstream_format::{
    CHUNK_SIZE, Component, Compression, Generation, KeptBy, LargeEntry, Proof, RunId,
    SnapshotEntry, TableEntry,
};
use arkstream_pipeline::{Budget, FailureKind, MemberFacts, MemberSpec, Run, Sink as _};
use arkstream_postgres::{
    CatalogTable, ConnectSpec, ExportOptions, Session, SnapshotHolder, Staging,
};
use bytes::Bytes;

use super::bundle::restoring;
use super::support::{MemorySink, Setting, catalog, database, psql_lines, setting_of, table, task};

const LIMIT: Duration = Duration::from_secs(20);

/// Values of every kind, most of which some rows have no room for.
const TABLE: &str = "\
    CREATE TYPE pair AS (a int, b text); \
    CREATE TABLE t (id int PRIMARY KEY, t text, v varchar, j jsonb, js json, b bytea, a text[], odd int[], \
      n numeric, p pair, e text); \
    CREATE FUNCTION noise(seed int, length int) RETURNS text LANGUAGE sql AS $$ \
      SELECT left(string_agg(md5((seed * 7919 + g)::text), ''), length) FROM generate_series(0, length / 32) g $$; \
    INSERT INTO t SELECT g, noise(g, g * 900), NULLIF(noise(g + 1, g % 5 * 4000), ''), \
      jsonb_build_object('k', noise(g + 2, g * 700), 'z', g), \
      (CASE WHEN g % 2 = 0 THEN '{\"b\": \"' || repeat('ä', g * 500) || '\",  \"a\":1}' END)::json, \
      decode(md5(g::text) || repeat('00ff', g * 400), 'hex'), \
      ARRAY[noise(g, g * 300), NULL, '\"', noise(g + 3, g * 300)], \
      ('[0:' || g * 300 - 1 || ']={' || (SELECT string_agg(x::text, ',') FROM generate_series(1, g * 300) x) || '}')::int[], \
      ('NaN')::numeric, ROW(g, noise(g, g * 800))::pair, '' \
    FROM generate_series(1, 24) g; \
    INSERT INTO t (id) VALUES (25)";

struct Exported {
    setting: Setting,
    entry: TableEntry,
    generation: Generation,
}

/// Exports the table with a budget for one worker; parts of the plan are as large as they like.
async fn export(
    spec: &ConnectSpec,
    planned: &CatalogTable,
    sink: MemorySink,
    generations: Vec<Generation>,
    (budget, row_group_bytes): (u64, usize),
) -> Exported {
    let mut setting = setting_of(sink, 1);
    setting.run = Run::new(
        setting.run.sink.clone(),
        setting.run.observer.clone(),
        setting.cancel.clone(),
        Budget::new(budget),
        1,
    );
    setting.run.generations = generations;
    let mut holder = SnapshotHolder::connect(spec, 1).await.unwrap();
    holder
        .lock(std::slice::from_ref(&planned.table), LIMIT)
        .await
        .unwrap();
    let (snapshot, server, _) = holder.take().await.unwrap();
    let options = ExportOptions {
        part_bytes: Some(64 << 20),
        encode: EncodeOptions {
            row_group_bytes,
            ..EncodeOptions::default()
        },
    };
    let tasks = vec![task(planned.clone()).into()];
    let entries = holder.export(&setting.run, tasks, &options).await.unwrap();
    holder.release().await;
    let generation = Generation {
        number: setting.run.generation(),
        run_id: RunId("00".into()),
        taken_at: setting.run.begun_at,
        barrier_skew_ms: 0,
        chroma_hold_ms: None,
        snapshots: vec![SnapshotEntry {
            component: Component::Models,
            snapshot,
            server,
        }],
    };
    let entry = entries.into_iter().next().unwrap();
    Exported {
        setting,
        entry,
        generation,
    }
}

fn notes(file: &Bytes) -> Vec<LargeEntry> {
    LargeEntry::read(&read_part(file.clone()).unwrap().notes()).unwrap()
}

/// Loads the exported table beside the live one, and returns the rows that are not what they were.
async fn differing(spec: &ConnectSpec, exported: &Exported, columns: &[(&str, &str)]) -> i64 {
    let contents = exported.setting.sink.contents();
    let mut bundle = MemoryBundle::default();
    for (name, (bytes, _)) in &contents {
        let chunks = bytes.chunks(CHUNK_SIZE).map(|c| Some(bytes.slice_ref(c)));
        bundle.add(name, Component::Models, 0o600, chunks.collect());
    }
    bundle.manifest.tables = vec![exported.entry.clone()];
    let restoring = restoring("0123456789abcdef", bundle);
    let staging = Staging::new("arkstream_0123456789abcdef");
    let session = Session::connect(spec, "the restore").await.unwrap();
    let client = session.client();
    staging.create(client).await.unwrap();
    let staged = staging
        .table(client, &restoring, "s0", &exported.entry)
        .await
        .unwrap();
    for part in 0..staged.parts().len() {
        staging
            .load(client, &restoring, &staged, part, true)
            .await
            .unwrap();
    }
    // `IS DISTINCT FROM` on their binary forms, so that nothing is equal that looks different.
    let differs: Vec<String> = columns
        .iter()
        .map(|(column, sql_type)| {
            let staged = staged.expression(column, "s", sql_type).unwrap();
            format!("pg_catalog.record_image_ne(ROW({staged}), ROW(l.\"{column}\"))")
        })
        .collect();
    let sql = format!(
        "SELECT count(*) FROM public.t l FULL JOIN {} s ON s.id = l.id \
         WHERE s.id IS NULL OR l.id IS NULL OR {}",
        staged.sql,
        differs.join(" OR ")
    );
    let count = client.query_one(&sql, &[]).await.unwrap().get(0);
    staging.drop(client).await.unwrap();
    count
}

const COLUMNS: [(&str, &str); 11] = [
    ("id", "integer"),
    ("t", "text"),
    ("v", "character varying"),
    ("j", "jsonb"),
    ("js", "json"),
    ("b", "bytea"),
    ("a", "text[]"),
    ("odd", "integer[]"),
    ("n", "numeric"),
    ("p", "public.pair"),
    ("e", "text"),
];

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_that_have_no_room_come_back_as_they_were() {
    let (name, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let exported = export(
        &spec,
        &planned,
        MemorySink::default(),
        Vec::new(),
        (64 << 20, 9_000),
    )
    .await;
    let entry = &exported.entry;
    assert_eq!((entry.rows, entry.parts.len()), (25, 1));
    let part = &entry.parts[0];
    let contents = exported.setting.sink.contents();
    let notes = notes(&contents[&part.member].0);
    let named: Vec<&String> = notes.iter().map(|value| &value.member).collect();
    assert!(
        named.iter().copied().eq(&part.large),
        "{named:?} {:?}",
        part.large
    );
    assert_eq!(contents.len(), 1 + named.len(), "and nothing else");
    let kinds: std::collections::BTreeSet<_> = notes.iter().map(|v| v.column.as_str()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["a", "b", "j", "js", "odd", "p", "t", "v"]
    );
    for value in notes
        .iter()
        .filter(|value| ["t", "j", "js"].contains(&value.column.as_str()))
    {
        let sql = format!(
            "SELECT {} FROM t ORDER BY id OFFSET {} LIMIT 1",
            value.column, value.row
        );
        let there = psql_lines(&name, &sql).join("\n");
        assert_eq!(there.as_bytes(), contents[&value.member].0, "{value:?}");
        assert_eq!(value.bytes, there.len() as u64);
    }
    assert_eq!(differing(&spec, &exported, &COLUMNS).await, 0);
}

/// A plan that is wrong about the size of rows does not make a file any larger.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_outgrows_its_share_has_several_files() {
    let (_, spec) = database(TABLE);
    let sql = "INSERT INTO t SELECT 100 + g, noise(g, 7000), NULL, NULL, NULL, \
               CASE WHEN g % 40 = 0 THEN decode(repeat(md5(g::text), 900), 'hex') END \
               FROM generate_series(1, 900) g";
    let session = Session::connect(&spec, "test").await.unwrap();
    let sql = format!("SET search_path = public; {sql}");
    session.client().batch_execute(&sql).await.unwrap();
    let planned = table(&catalog(&spec).await, "t");
    let limits = (4 << 20, 9_000);
    let exported = export(&spec, &planned, MemorySink::default(), Vec::new(), limits).await;
    let entry = &exported.entry;
    assert!(entry.parts.len() > 2, "{} files", entry.parts.len());
    assert_eq!(entry.rows, 925);
    let contents = exported.setting.sink.contents();
    let ranges: std::collections::BTreeSet<_> = entry
        .parts
        .iter()
        .map(|part| (part.first_block, part.end_block))
        .collect();
    assert_eq!(ranges.len(), 1, "all are one range of blocks");
    for part in &entry.parts {
        let bytes = contents[&part.member].0.len();
        assert!(bytes < 2 << 20, "{} has {bytes} bytes", part.member);
        let notes = notes(&contents[&part.member].0);
        assert!(notes.iter().map(|value| &value.member).eq(&part.large));
        assert!(notes.iter().all(|value| value.row < part.rows));
    }
    assert_eq!(differing(&spec, &exported, &COLUMNS).await, 0);

    // All of it is kept, or none.
    let sink = exported.setting.sink.interrupted();
    let again = export(
        &spec,
        &planned,
        sink,
        vec![exported.generation.clone()],
        limits,
    )
    .await;
    let named = |entry: &TableEntry| -> Vec<_> {
        let parts = entry.parts.iter();
        parts
            .map(|part| (part.member.clone(), part.rows, part.large.clone()))
            .collect()
    };
    assert!(named(&again.entry) == named(entry));
    assert!(again.entry.parts.iter().all(|part| part.kept_by.is_some()));
    assert!(again.setting.sink.contents() == contents);
}

/// What an interrupted run had replaced of a part, and not the part itself, is not taken for its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_kept_with_its_own_values_only() {
    let (_, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let limits = (64 << 20, 9_000);
    let first = export(&spec, &planned, MemorySink::default(), Vec::new(), limits).await;
    let contents = first.setting.sink.contents();
    let lost = first.entry.parts[0].large[3].clone();
    for replaced in [false, true] {
        let sink = first.setting.sink.interrupted();
        for name in contents.keys().filter(|name| **name != lost) {
            sink.keep(name, None).await.unwrap().unwrap();
        }
        if replaced {
            let spec = MemberSpec {
                name: lost.clone(),
                component: Component::Models,
                compression: Compression::Deflate,
                modified_at: chrono::Utc::now(),
                mode: 0o600,
                budget: Budget::new(16 << 20),
            };
            let bytes = Bytes::from_static(b"another row's");
            sink.put(spec, bytes, MemberFacts::default()).await.unwrap();
        }
        let sink = sink.interrupted();
        let again = export(
            &spec,
            &planned,
            sink,
            vec![first.generation.clone()],
            limits,
        )
        .await;
        let part = &again.entry.parts[0];
        assert_eq!(part.kept_by, None, "{replaced}");
        let now = again.setting.sink.contents();
        for (before, after) in first.entry.parts[0].large.iter().zip(&part.large) {
            assert!(contents[before].0 == now[after].0, "{before} {after}");
        }
    }
}

/// After a restart of the server, rows are read again and compared; what is kept then is kept whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_compared_is_kept_with_its_values() {
    let (_, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let limits = (64 << 20, 9_000);
    let first = export(&spec, &planned, MemorySink::default(), Vec::new(), limits).await;
    let mut generation = first.generation.clone();
    generation.snapshots[0].server.timeline = Some(77);
    let sink = first.setting.sink.interrupted();
    let again = export(&spec, &planned, sink, vec![generation], limits).await;
    assert_eq!(again.entry.parts[0].kept_by, Some(KeptBy::Content));
    assert!(again.entry.parts[0].large == first.entry.parts[0].large);
    assert!(again.setting.sink.contents() == first.setting.sink.contents());
    let part = again.setting.sink.member(&again.entry.parts[0].member);
    let Some(Proof::Rows(proof)) = part.proof else {
        panic!("no proof");
    };
    assert_eq!(
        proof.with.len(),
        again.entry.parts[0].large.len(),
        "the next run needs them"
    );
}

/// A value that is not the one its part names is never loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_row_is_refused_before_it_is_loaded() {
    let (_, spec) = database(TABLE);
    let planned = table(&catalog(&spec).await, "t");
    let limits = (64 << 20, 9_000);
    let exported = export(&spec, &planned, MemorySink::default(), Vec::new(), limits).await;
    let contents = exported.setting.sink.contents();
    let large = &exported.entry.parts[0].large;
    let mut bundle = MemoryBundle::default();
    for (name, (bytes, _)) in &contents {
        let bytes = match *name == large[0] {
            true => contents[&large[1]].0.clone(),
            false => bytes.clone(),
        };
        bundle.add(name, Component::Models, 0o600, vec![Some(bytes)]);
    }
    bundle.manifest.tables = vec![exported.entry.clone()];
    let restoring = restoring("fedcba9876543210", bundle);
    let staging = Staging::new("arkstream_fedcba9876543210");
    let session = Session::connect(&spec, "the restore").await.unwrap();
    let client = session.client();
    staging.create(client).await.unwrap();
    let staged = staging
        .table(client, &restoring, "s0", &exported.entry)
        .await
        .unwrap();
    let refused = staging.load(client, &restoring, &staged, 0, true).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Damaged);
    assert!(refused.to_string().contains(&large[0]), "{refused}");
    let count = format!("SELECT count(*) FROM {}", staged.sql);
    assert_eq!(
        client
            .query_one(&count, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
}
