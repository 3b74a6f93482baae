//! Parts that an earlier generation exported: kept only where nothing of them changed, whatever was
//! done to the table, the server or its data directory in between.

use std::{sync::Arc, time::Duration};

use arkstream_format::{Component, Generation, KeptBy, RunId, SnapshotEntry, TableEntry};
use arkstream_postgres::{ConnectSpec, ExportOptions, SnapshotHolder};
use arkstream_sample::{Server, ServerOptions, StopMode};

use super::support::{MemorySink, Setting, catalog, server, setting_of, sorted, table, task};

const LIMIT: Duration = Duration::from_secs(20);

/// Numbers that depend on a seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A table whose text depends on its rows, on an enum's labels and on a relation's name.
struct World<'a> {
    server: &'a Server,
    database: String,
    spec: ConnectSpec,
    generations: Vec<Generation>,
    sink: Option<MemorySink>,
    part_bytes: u64,
    jobs: usize,
    /// A copy of the data directory.
    saved: Option<tempfile::TempDir>,
}

const TABLE: &str = "\
    CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE friend (id int); \
    CREATE TABLE t (id int PRIMARY KEY, v text, w varchar(40), m mood, r regclass) WITH (fillfactor = 80); \
    INSERT INTO t SELECT g, repeat(md5(g::text), 1 + g % 9), g::text, 'good', 'friend' FROM generate_series(1, 3000) g; \
    CREATE TABLE plain (id int PRIMARY KEY, v text) WITH (fillfactor = 80); \
    INSERT INTO plain SELECT g, repeat(md5(g::text), 1 + g % 9) FROM generate_series(1, 3000) g; \
    CREATE TABLE split (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
    CREATE TABLE split_a PARTITION OF split FOR VALUES FROM (MINVALUE) TO (1500) WITH (fillfactor = 80); \
    CREATE TABLE split_b PARTITION OF split FOR VALUES FROM (1500) TO (MAXVALUE) WITH (fillfactor = 80); \
    INSERT INTO split SELECT g, repeat(md5(g::text), 1 + g % 9) FROM generate_series(1, 3000) g";

const TABLES: [&str; 3] = ["t", "plain", "split"];

impl<'a> World<'a> {
    fn new(server: &'a Server, database: &str) -> Self {
        server.create_database(database).unwrap();
        server.psql(database, TABLE).unwrap();
        Self {
            server,
            database: database.to_owned(),
            spec: ConnectSpec::parse(&server.conninfo(database)).unwrap(),
            generations: Vec::new(),
            sink: None,
            part_bytes: 40_000,
            jobs: 2,
            saved: None,
        }
    }

    fn sql(&self, sql: &str) {
        if let Err(error) = self.server.psql(&self.database, sql) {
            panic!("{error} in {sql}");
        }
    }

    /// Exports all tables as the next generation, and compares every value with what psql says.
    async fn export(&mut self) -> Vec<TableEntry> {
        let sink = self.sink.take().unwrap_or_default();
        let mut setting = setting_of(sink, 2);
        setting.run.generations.clone_from(&self.generations);
        let all = catalog(&self.spec).await;
        let tables = TABLES.map(|name| table(&all, name));
        let mut holder = SnapshotHolder::connect(&self.spec, self.jobs)
            .await
            .unwrap();
        let locks: Vec<_> = tables.iter().map(|table| table.table.clone()).collect();
        holder.lock(&locks, LIMIT).await.unwrap();
        let (snapshot, server, _) = holder.take().await.unwrap();
        let options = ExportOptions {
            part_bytes: Some(self.part_bytes),
            ..ExportOptions::default()
        };
        let tasks = tables.into_iter().map(task).map(Arc::new).collect();
        let entries = holder.export(&setting.run, tasks, &options).await.unwrap();
        holder.release().await;
        self.compare(&setting, &entries);
        self.generations.push(Generation {
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
        });
        self.sink = Some(setting.sink.interrupted());
        entries
    }

    /// What happens to a server now and then, the numbers being without meaning.
    fn server_event(&mut self, number: u64) {
        match number {
            0 => {
                println!("  restart");
                self.server.restart(StopMode::Fast).unwrap();
            }
            1 => {
                println!("  copy of the data directory");
                self.save();
            }
            2 if self.saved.is_some() => {
                println!("  data directory reverted");
                self.revert();
            }
            _ => {}
        }
    }

    fn save(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        let data = self.server.data_dir().display().to_string();
        self.server.stop(StopMode::Fast).unwrap();
        shell(&format!("cp -a '{data}' '{}/data'", copy.path().display()));
        self.server.start_again().unwrap();
        self.saved = Some(copy);
    }

    fn revert(&self) {
        let copy = self.saved.as_ref().unwrap().path().display();
        let data = self.server.data_dir().display().to_string();
        self.server.stop(StopMode::Fast).unwrap();
        shell(&format!("rm -r '{data}' && cp -a '{copy}/data' '{data}'"));
        self.server.start_again().unwrap();
    }

    fn compare(&self, setting: &Setting, entries: &[TableEntry]) {
        for (name, columns) in [
            ("t", &["v", "w", "m", "r"][..]),
            ("plain", &["v"]),
            ("split", &["v"]),
        ] {
            let folder = format!("odoo_data/models/{name}/");
            let entry = entries.iter().find(|e| e.table == format!("public.{name}"));
            let mut named: Vec<String> = entry
                .unwrap()
                .parts
                .iter()
                .map(|part| part.member.clone())
                .collect();
            named.sort();
            let members = setting.sink.contents();
            let there: Vec<_> = members.keys().filter(|m| m.starts_with(&folder)).collect();
            assert_eq!(
                there,
                named.iter().collect::<Vec<_>>(),
                "the members of the manifest"
            );
            for column in columns {
                let has = format!(
                    "SELECT count(*) FROM pg_attribute WHERE attrelid = '{name}'::regclass AND attname = '{column}'"
                );
                if self.server.psql(&self.database, &has).unwrap().trim() == "0" {
                    continue;
                }
                // Names are always exported with their schema.
                let value = match *column {
                    "r" => "'public.' || r::text".to_owned(),
                    column => format!("{column}::text"),
                };
                let sql = format!(
                    "COPY (SELECT id || '|' || COALESCE({value}, '') FROM {name}) TO STDOUT"
                );
                let live = self.server.psql(&self.database, &sql).unwrap();
                let live: Vec<String> = live.lines().map(str::to_owned).collect();
                let exported = setting.lines(&folder, "id", column);
                assert_eq!(exported.len(), live.len(), "rows of {name}");
                assert!(sorted(exported) == sorted(live), "{name}.{column} differs");
            }
        }
    }
}

fn shell(line: &str) {
    let status = std::process::Command::new("sh").args(["-c", line]).status();
    assert!(status.unwrap().success(), "{line}");
}

fn kept(entries: &[TableEntry], table: &str, by: KeptBy) -> (usize, usize) {
    let entry = entries
        .iter()
        .find(|e| e.table == format!("public.{table}"))
        .unwrap();
    let kept = entry.parts.iter().filter(|part| part.kept_by == Some(by));
    (kept.count(), entry.parts.len())
}

/// One change, of whatever kind.
fn edit(random: &mut Random) -> String {
    let id = 1 + random.below(3000);
    let name = TABLES[random.below(3) as usize];
    match random.below(22) {
        0..=4 => format!("UPDATE {name} SET v = v || 'x' WHERE id = {id}"),
        5 => format!("UPDATE {name} SET v = NULL WHERE id BETWEEN {id} AND {id} + 3"),
        6 => format!("UPDATE {name} SET id = -id WHERE id = {id}"),
        7 | 8 => format!(
            "DELETE FROM {name} WHERE id BETWEEN {id} AND {id} + {}",
            random.below(50)
        ),
        9 | 10 => format!(
            "INSERT INTO {name} (id, v) SELECT max(id) + 1, repeat('new', {}) FROM {name}",
            random.below(3000)
        ),
        11 => format!("VACUUM {name}"),
        12 => format!("VACUUM (FREEZE, ANALYZE) {name}"),
        13 => format!("VACUUM FULL {name}"),
        14 => format!("CLUSTER {name} USING {name}_pkey"),
        15 => format!("ALTER TABLE {name} ADD COLUMN IF NOT EXISTS extra text DEFAULT 'for all'"),
        16 => format!("ALTER TABLE {name} DROP COLUMN IF EXISTS extra"),
        17 => "ALTER TABLE t ALTER COLUMN w TYPE varchar(50)".to_owned(),
        18 => "DO $$BEGIN ALTER TYPE mood RENAME VALUE 'good' TO 'fine'; \
               EXCEPTION WHEN OTHERS THEN ALTER TYPE mood RENAME VALUE 'fine' TO 'good'; END$$"
            .to_owned(),
        19 => "DO $$BEGIN ALTER TABLE friend RENAME TO enemy; \
               EXCEPTION WHEN OTHERS THEN ALTER TABLE enemy RENAME TO friend; END$$"
            .to_owned(),
        20 => format!(
            "CREATE TEMP TABLE kept AS SELECT * FROM {name}; TRUNCATE {name}; \
             INSERT INTO {name} SELECT * FROM kept ORDER BY id"
        ),
        _ => format!("BEGIN; UPDATE {name} SET v = 'never'; ROLLBACK"),
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("ARKSTREAM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) if soak() => (0..200).collect(),
        Err(_) => (0..3).collect(),
    }
}

fn soak() -> bool {
    std::env::var_os("ARKSTREAM_SOAK").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_random_changes_no_part_is_kept_that_differs() {
    let (mut kept_parts, mut edits) = (0, 0);
    let server = Server::start(ServerOptions::default()).unwrap();
    for seed in seeds() {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new(&server, &format!("random_{seed}"));
        world.export().await;
        for _ in 0..3 {
            world.part_bytes = [20_000, 40_000, 40_000, 1 << 20][random.below(4) as usize];
            world.server_event(random.below(if soak() { 12 } else { 30 }));
            for _ in 0..1 + random.below(4) {
                let sql = edit(&mut random);
                println!("  {sql}");
                world.sql(&sql);
                edits += 1;
            }
            let entries = world.export().await;
            kept_parts += TABLES
                .map(|table| kept(&entries, table, KeptBy::RowVersions).0)
                .iter()
                .sum::<usize>();
        }
    }
    println!("{edits} changes, {kept_parts} parts kept by their row versions");
    assert!(kept_parts > 10, "nothing is proven by keeping nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_depend_on_a_catalog_are_compared_and_not_trusted() {
    let mut world = World::new(server(), "catalogs");
    world.export().await;
    let entries = world.export().await;
    let (plain, parts) = kept(&entries, "plain", KeptBy::RowVersions);
    assert!(plain == parts && parts > 5, "{plain} of {parts}");
    let (by_content, parts) = kept(&entries, "t", KeptBy::Content);
    assert_eq!(by_content, parts);
    for sql in [
        "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'",
        "ALTER TABLE friend RENAME TO enemy",
    ] {
        world.sql(sql);
        let entries = world.export().await;
        assert_eq!(kept(&entries, "t", KeptBy::Content).0, 0, "{sql}");
    }
}

/// What is asked of the server ahead of its turn must not lie between a part and its second reading.
#[tokio::test(flavor = "multi_thread")]
async fn small_tables_whose_content_changed_are_read_again_on_one_connection() {
    let mut world = World::new(server(), "reread");
    (world.jobs, world.part_bytes) = (1, 50_000);
    world.sql("DELETE FROM t WHERE id > 350; DELETE FROM plain WHERE id > 300; DELETE FROM split WHERE id > 200");
    for name in ["t", "plain", "split_a", "split_b"] {
        world.sql(&format!("VACUUM (FULL, ANALYZE) {name}"));
    }
    world.export().await;
    world.sql("UPDATE t SET v = v || 'x'");
    let again = tokio::time::timeout(LIMIT, world.export()).await;
    let entries = again.expect("the connection waits for what nobody reads");
    let (by_content, parts) = kept(&entries, "t", KeptBy::Content);
    assert!(by_content == 0 && parts > 2, "{by_content} of {parts}");
    let (by_versions, parts) = kept(&entries, "plain", KeptBy::RowVersions);
    assert!(
        by_versions == parts && parts > 1,
        "{by_versions} of {parts}"
    );
}

/// Rows are read before the server's WAL writer has written what the snapshot sees; their versions prove
/// something all the same, for the proofs wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn row_versions_are_proven_of_rows_that_were_read_before_their_commit_was_on_disk() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let mut world = World::new(&server, "unflushed");
    world.sql("ALTER SYSTEM SET wal_writer_delay = '500ms'");
    world.sql("SELECT pg_reload_conf(); ALTER DATABASE unflushed SET synchronous_commit = off");
    world.sql("UPDATE plain SET v = v || 'x'");
    world.export().await;
    let entries = world.export().await;
    let (kept, parts) = kept(&entries, "plain", KeptBy::RowVersions);
    assert!(kept == parts && parts > 5, "{kept} of {parts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_blocks_become_new_parts_and_the_last_one_is_kept() {
    let mut world = World::new(server(), "grown");
    let before = world.export().await;
    // The last block has no room for a row of this size.
    world.sql("INSERT INTO plain SELECT 10000 + g, repeat(md5(g::text), 200) FROM generate_series(1, 300) g");
    let after = world.export().await;
    let parts = |entries: &[TableEntry]| {
        let entry = entries.iter().find(|entry| entry.table == "public.plain");
        entry.unwrap().parts.clone()
    };
    let (before, after) = (parts(&before), parts(&after));
    assert!(after.len() > before.len());
    let lost = after
        .iter()
        .take(before.len())
        .filter(|part| part.kept_by.is_none())
        .count();
    assert!(lost <= 2, "only parts whose blocks had room: {after:#?}");
    let ends: Vec<_> = after.iter().map(|part| part.end_block).collect();
    let starts: Vec<_> = after
        .iter()
        .skip(1)
        .map(|part| Some(part.first_block))
        .collect();
    assert_eq!(ends[..ends.len() - 1], starts, "without gaps and overlaps");
    assert_eq!(ends.last(), Some(&None), "the last one is open");
}

/// A part of one leaf never gets the name of a part that another leaf keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_grew_leaves_the_others_their_members() {
    let mut world = World::new(server(), "leaves");
    world.part_bytes = 100 << 20;
    let entries = world.export().await;
    assert_eq!(kept(&entries, "split", KeptBy::RowVersions), (0, 2));
    world.sql(
        "INSERT INTO split SELECT -g, repeat(md5(g::text), 9) FROM generate_series(1, 3000) g",
    );
    world.part_bytes = 40_000;
    let entries = world.export().await;
    let (by_versions, parts) = kept(&entries, "split", KeptBy::RowVersions);
    assert!(by_versions >= 1 && parts > 5, "{by_versions} of {parts}");
}

/// What is compared and not trusted grows as well: what came is not one part, whatever its size.
#[tokio::test(flavor = "multi_thread")]
async fn a_compared_part_ends_where_the_table_ended() {
    let mut world = World::new(server(), "compared");
    let before = world.export().await;
    let (_, parts) = kept(&before, "t", KeptBy::Content);
    world.sql(
        "INSERT INTO t SELECT 10000 + g, repeat(md5(g::text), 40) FROM generate_series(1, 2000) g",
    );
    let after = world.export().await;
    let (by_content, now) = kept(&after, "t", KeptBy::Content);
    assert!(by_content + 2 >= parts, "{by_content} of {parts}");
    assert!(now > parts + 5, "{now} parts");
}

/// Two histories of one directory: equal count, hash, relfilenode, system identifier, timeline and
/// transaction ids, and other rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_was_reverted_and_written_again_proves_nothing() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let mut world = World::new(&server, "reverted");
    world.save();
    world.sql("UPDATE plain SET v = 'first history' WHERE id % 10 = 3");
    world.export().await;
    world.revert();
    world.sql("UPDATE plain SET v = 'second histor' WHERE id % 10 = 3");
    let entries = world.export().await;
    assert_eq!(kept(&entries, "plain", KeptBy::RowVersions).0, 0);
    assert_eq!(
        kept(&entries, "plain", KeptBy::Content).0,
        0,
        "every part has such rows"
    );
}
