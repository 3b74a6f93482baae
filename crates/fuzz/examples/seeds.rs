//! Makes the first inputs of the targets from real things; `tests/fuzz/README.md` has the command.
//!
//! `seeds OUT CHROMA_DIR [DUMP.sql …]`: corpus folders, a directory that Chroma wrote, streams of
//! `pg_dump`. Bundles, journals and the rest are made here by the program's own writers.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arkstream_bundle::{Beginning, BundleFile, BundleWriter, Leftover, OutputPaths, SpaceWait};
use arkstream_format::{
    Component, Compression, Generation, Generator, Manifest, RestorePhase, RestoreRecord, RunId,
    ServerInfo, SnapshotEntry,
};
use arkstream_pipeline::{
    Budget, BundleReader as _, BundleSink as _, Cancel, MemberFacts, MemberSpec, Silent, Sink as _,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

const COLUMNAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../columnar/tests/data");

fn main() {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (out, chroma) = (arguments.next().unwrap(), arguments.next().unwrap());
    let put = |target: &str, name: &str, parts: &[&[u8]]| {
        let folder = out.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), parts.concat()).unwrap();
    };
    for (number, table) in ["scalars", "arrays", "bare"].iter().enumerate() {
        let wire = fs::read(Path::new(COLUMNAR).join(format!("{table}.copy"))).unwrap();
        put("copy_decode", table, &[&[number as u8, 100], &wire]);
        put("copy_round_trip", table, &[&[number as u8], &wire]);
    }
    let bytes: Vec<u8> = (0..=255).collect();
    put("copy_encode", "bytes", &[&bytes]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bundle(&put, false));
    runtime.block_on(bundle(&put, true));
    texts(&put);
    json(&put);
    chroma_files(&chroma, &put);
    for (number, dump) in arguments.enumerate() {
        let text = fs::read(dump).unwrap();
        put("dump_scan", &format!("dump-{number}"), &[&[0, 7], &text]);
    }
}

type Put<'a> = &'a dyn Fn(&str, &str, &[&[u8]]);

/// A bundle of short members, one of which was retracted; or what an interrupted run leaves, torn in
/// a member that streams.
async fn bundle(put: Put<'_>, torn: bool) {
    let root = tempfile::tempdir().unwrap();
    let paths = OutputPaths::new(&root.path().join("bundle.zip"));
    let beginning = Beginning {
        run_id: RunId("0".repeat(32)),
        plan: [("what".to_owned(), "seeds".to_owned())].into(),
        at: DateTime::UNIX_EPOCH,
    };
    let wait = SpaceWait {
        limit: Duration::ZERO,
        cancel: Cancel::default(),
        observer: Arc::new(Silent),
    };
    let (writer, _) =
        BundleWriter::open(paths.clone(), beginning, Leftover::Discard, wait).unwrap();
    writer.begin_generation(generation()).await.unwrap();
    let text = Bytes::from("the same words, ".repeat(40));
    for (name, bytes, compression) in [
        (
            "odoo_data/models/m/part-00000.parquet",
            Bytes::from_static(b"PAR1"),
            Compression::Stored,
        ),
        (
            "odoo_data/filestore/ab/\u{e9}",
            text.clone(),
            Compression::Deflate,
        ),
        (
            "databases/chroma_data/empty",
            Bytes::new(),
            Compression::Deflate,
        ),
    ] {
        let facts = MemberFacts::default();
        writer
            .put(spec(name, compression), bytes, facts)
            .await
            .unwrap();
    }
    writer
        .retract("databases/chroma_data/empty", "it changed")
        .await
        .unwrap();
    writer.sync().await.unwrap();
    if torn {
        let dump = spec("databases/dump.sql", Compression::Deflate);
        let mut stream = writer.begin(dump).await.unwrap();
        stream
            .write(Bytes::from(vec![b'A'; 9 << 20]))
            .await
            .unwrap();
        writer.sync().await.unwrap();
        keep(put, "torn", &paths).await;
        return;
    }
    keep(put, "finished", &paths).await;
    let manifest = Manifest {
        generations: vec![generation()],
        ..Manifest::empty(
            RunId("0".repeat(32)),
            Generator::new("arkstream", "0"),
            DateTime::UNIX_EPOCH,
        )
    };
    writer.publish(manifest).await.unwrap();
    let file = fs::read(&paths.bundle).unwrap();
    let bundle = BundleFile::open(&paths.bundle).unwrap();
    let json = serde_json::to_vec(bundle.manifest()).unwrap();
    let behind = |member: &arkstream_format::Member| {
        member.data_offset + member.stored_len + 24 * u64::from(member.descriptor)
    };
    let members = bundle.manifest().members.iter().map(behind);
    let dead = bundle
        .manifest()
        .dead_ranges
        .iter()
        .map(|range| range.offset + range.len);
    let end = members.chain(dead).max().unwrap() as usize;
    put("bundle_sealed", "bundle", &[&json, &[0], &file[..end]]);
    put("bundle_open", "bundle", &[&file]);
    put("zip_survey", "bundle", &[&file]);
    put("format_json", "manifest", &[&[0], &json]);
}

async fn keep(put: Put<'_>, name: &str, paths: &OutputPaths) {
    let journal = fs::read_to_string(&paths.journal).unwrap();
    let lines: Vec<String> = journal
        .lines()
        .map(|line| format!("{}\n", &line[9..]))
        .collect();
    let partial = fs::read(&paths.partial).unwrap();
    let text = lines.concat();
    put("journal_file", name, &[&[0, 200], text.as_bytes()]);
    put("resume", name, &[text.as_bytes(), &[0], &partial]);
    for line in lines {
        let kind = line.split('"').nth(3).unwrap().to_owned();
        put("journal_record", &kind, &[&[0], line.trim_end().as_bytes()]);
    }
}

fn generation() -> Generation {
    Generation {
        number: 1,
        run_id: RunId("0".repeat(32)),
        taken_at: DateTime::UNIX_EPOCH,
        barrier_skew_ms: 3,
        chroma_hold_ms: Some(5),
        snapshots: vec![SnapshotEntry {
            component: Component::Models,
            snapshot: "00000003-1".into(),
            server: ServerInfo::default(),
        }],
    }
}

fn spec(name: &str, compression: Compression) -> MemberSpec {
    MemberSpec {
        name: name.into(),
        component: Component::Filestore,
        compression,
        modified_at: "2026-01-02T03:04:05Z".parse::<DateTime<Utc>>().unwrap(),
        mode: 0o640,
        budget: Budget::new(1 << 20),
    }
}

fn texts(put: Put<'_>) {
    for (name, text) in [
        (
            "url",
            "postgresql://odoo:p%40ss@db.example:5433,[::1]/prod?sslmode=require&application_name=a",
        ),
        (
            "pairs",
            "host=/tmp port=5432 user=odoo password='it\\'s' dbname = 'a b' connect_timeout=3 options='-c x=y'",
        ),
        (
            "many",
            "host=a,b,, hostaddr=127.0.0.1,,::1, port=1,2,3,4 sslrootcert=/r sslcert=/c sslkey=/k passfile=/p",
        ),
    ] {
        put("connection_string", name, &[&[0, 20], text.as_bytes()]);
    }
    let parts = "odoo\0s'ec\\ret\0::1\0my db\0app";
    put("connection_string", "parts-url", &[&[1], parts.as_bytes()]);
    put(
        "connection_string",
        "parts-pairs",
        &[&[2], parts.as_bytes()],
    );
    put("connection_string", "raw", &[&[3], b"12/x"]);
    let file = "db\\:1\0p:d\0odoo\0# comment\n*:5432:other:odoo:no\ndb\\\\\\:1:*:p\\:d:*:s\\:ec\\\\ret:x\r\n*:*:*:*:last";
    put("password_file", "file", &[file.as_bytes()]);
    put(
        "dump_settings",
        "list",
        &[b"g\0App\0search_path=ag_catalog, \"$user\", \"a,\"\"b\""],
    );
    put("dump_settings", "custom", &[b"g\0\0app.secret=x"]);
    put(
        "dump_settings",
        "value",
        &[b"my \"db\0\0application_name=it's \\ so"],
    );
    put("dump_scan", "restrict", &[&[0, 3], b"\\restrict key\nSET transaction_timeout = 0;\nCOPY g.\"A b\" (id, p) FROM stdin;\n1\ta\n\\restrict is a row\n\\.\n\nCOPY g.c (id) FROM stdin;\n\\.\n\\unrestrict key\n"]);
    let conf = "; comment\n[options]\naddons_path = /opt/odoo,\n    /opt/extra\ndb_host = db\ndb_port: 5433\ndb_user = odoo\nDB_PASSWORD = pa=ss;word # kept\ndb_name = a, b\ndata_dir = /srv\npg_path = None\n[queue_job]\ndb_name = x\n";
    put("odoo_conf", "real", &[&[0, 110], conf.as_bytes()]);
    let toml = "odoo_db = \"postgresql://u@h/d\"\nmodels = [\"a.*\", 'b']\njobs = 4\nno_graph = true\ngraph_snapshot = \"own\"\nmemory = \"256MiB\"\n";
    put("settings_file", "real", &[&[0, 20], toml.as_bytes()]);
    put(
        "settings_file",
        "wrong",
        &[&[0, 8], b"jobs = \"\"\"four\"\"\"\n"],
    );
}

fn json(put: Put<'_>) {
    let metadata = r#"{"backup_version":"1.0.0","timestamp":"2026-01-02T03:04:05.678Z","backup_type":"partial","odoo_version":"18.0","module_versions":{"base":"18.0.1.3"},"database_info":{"postgres_version":"15.20","odoo_database":"d","graph_database":null,"graph_name":null,"chroma_persist_directory":"./chroma_data"},"model_counts":{"a.b":7},"model_import_order":["a.b"],"file_sizes":{"models":"45.2 MB"},"export_duration_seconds":3,"export_status":"partial","export_errors":["x"],"checksum":"sha256:00","run_id":"00","arkstream_version":"0.1.0","database_uuid":null}"#;
    let models = r#"[{"model":"a.b","table":"public.a_b","status":"exported","rows":7,"reason":"chosen","category":"Other","priority":"critical","sensitive":"no","modules":["base"],"import_order":1}]"#;
    let record = RestoreRecord {
        version: RestoreRecord::VERSION,
        restore_id: "0123456789abcdef".into(),
        bundle: "b.zip".into(),
        bundle_run_id: RunId("0".repeat(32)),
        bundle_manifest: arkstream_format::Digest::of(b""),
        started_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        phase: RestorePhase::Staging,
        targets: Vec::new(),
    };
    put("format_json", "metadata", &[&[1], metadata.as_bytes()]);
    put(
        "format_json",
        "restore",
        &[&[2], &serde_json::to_vec(&record).unwrap()],
    );
    put("format_json", "models", &[&[3], models.as_bytes()]);
}

fn chroma_files(directory: &Path, put: Put<'_>) {
    for entry in fs::read_dir(directory).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(header) = fs::read(folder.join("header.bin")) else {
            continue;
        };
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        let needed = (number(20) * number(28)) as usize;
        let level0 = fs::read(folder.join("data_level0.bin")).unwrap();
        let lists = fs::read(folder.join("link_lists.bin")).unwrap();
        let len = (needed as u16).to_be_bytes();
        put(
            "hnsw_index",
            "index",
            &[&header, &len, &level0[..needed], &lists],
        );
        let pickle = fs::read(folder.join("index_metadata.pickle")).unwrap();
        put("pickle", "segment", &[&pickle]);
    }
    for version in ["1.5.9", "0.5.23"] {
        let path = format!(
            "{}/../chroma/tests/fixtures/chroma-{version}.pickle",
            env!("CARGO_MANIFEST_DIR")
        );
        put("pickle", version, &[&fs::read(path).unwrap()]);
    }
}
