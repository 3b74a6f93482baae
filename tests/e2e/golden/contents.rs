//! What the golden bundles hold: fixed bytes, fixed times, fixed ids.

use std::{collections::HashMap, path::Path};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rusqlite::Connection;
use serde_json::{Value, json};

use arkstream_columnar::{CopyDecoder, EncodeOptions, PartEncoder, PgColumn, TableLayout};
use arkstream_format::{Component, Compression, Generation, Manifest, Proof};
use arkstream_pipeline::{Budget, MemberFacts, MemberSpec};

use crate::support::scratch;

/// The encoder of deflate members, by which complete bundles are named.
pub(super) const ENCODER: &str = if cfg!(feature = "igzip") {
    "igzip"
} else {
    "zlib-rs"
};
/// A line of the dumps. Repeated, chunks of 4 MiB are small in the file.
pub(super) const LINE: &str = "INSERT INTO public.n8n_menu_debug VALUES (1, 'the same row');\n";
/// Lines of the dump at which runs are interrupted: two chunks and some more.
pub(super) const LINES: usize = 140_000;
/// Lines of a dump of a whole chunk and a little more, which is why it streams.
pub(super) const CHUNK_AND_MORE: usize = 68_000;

pub(super) fn moment() -> DateTime<Utc> {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

/// A member as it is written.
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) component: Component,
    pub(super) compression: Compression,
    pub(super) bytes: Bytes,
    pub(super) facts: MemberFacts,
}

impl Item {
    fn new(
        name: &'static str,
        component: Component,
        compression: Compression,
        bytes: impl Into<Bytes>,
    ) -> Self {
        Self {
            name,
            component,
            compression,
            bytes: bytes.into(),
            facts: MemberFacts::default(),
        }
    }

    fn proven(mut self, rows: Option<u64>, proof: Value) -> Self {
        let proof: Proof = serde_json::from_value(proof).expect("a proof");
        self.facts = MemberFacts {
            rows,
            proof: Some(proof),
        };
        self
    }

    pub(super) fn spec(&self) -> MemberSpec {
        spec(self.name, self.component, self.compression)
    }
}

pub(super) fn spec(name: &str, component: Component, compression: Compression) -> MemberSpec {
    MemberSpec {
        name: name.to_owned(),
        component,
        compression,
        modified_at: moment(),
        mode: 0o640,
        // Little enough that a member of several chunks takes its place at once.
        budget: Budget::new(16 << 20),
    }
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut out);
    out
}

/// What the first run writes.
pub(super) fn first_generation() -> Vec<Item> {
    use Component::{Chroma, Filestore, Models};
    use Compression::{Deflate, Stored};
    let file = |size: usize| {
        json!({"of": "file", "inode": 77, "size": size, "mtime_ns": 1_767_322_000_000_000_000_u64,
               "ctime_ns": 1_767_322_000_000_000_000_u64, "seen_ns": 1_767_322_900_000_000_000_u64})
    };
    let part = |first: u32, end: Value| {
        json!({"of": "rows", "relation_oid": 16_400, "relfilenode": 16_401, "first_block": first,
               "end_block": end, "heap_blocks": 40, "generation": 1,
               "definition": blake3::hash(b"definition").to_hex().as_str(),
               "versions": {"count": 3, "hash": "00112233aabbccdd"},
               "content": blake3::hash(&[first as u8]).to_hex().as_str()})
    };
    vec![
        Item::new(
            "databases/chroma_data/chroma.sqlite3",
            Chroma,
            Deflate,
            sqlite(),
        ),
        Item::new(
            "odoo_data/filestore/aa/stored",
            Filestore,
            Stored,
            noise(1, 3000),
        )
        .proven(None, file(3000)),
        Item::new(
            "odoo_data/filestore/bb/deflated",
            Filestore,
            Deflate,
            LINE.repeat(50),
        )
        .proven(None, file(LINE.len() * 50)),
        Item::new("odoo_data/filestore/cc/empty", Filestore, Deflate, ""),
        Item::new(
            "odoo_data/filestore/dd/ünïcode ☃",
            Filestore,
            Deflate,
            noise(2, 500),
        ),
        Item::new(
            "odoo_data/models/ai.message/part-00000.parquet",
            Models,
            Stored,
            parquet(0, 1..4),
        )
        .proven(Some(3), part(0, json!(20))),
        Item::new(
            "odoo_data/models/ai.message/part-00001.parquet",
            Models,
            Stored,
            parquet(1, 4..7),
        )
        .proven(Some(3), part(20, Value::Null)),
    ]
}

/// What the second one makes again.
pub(super) fn changed_part() -> Item {
    let mut part = first_generation().pop().expect("parts");
    part.bytes = parquet(1, 4..9).into();
    part.facts.rows = Some(5);
    part
}

/// A dump in the shape of `pg_dump`'s.
pub(super) fn dump(lines: usize) -> Bytes {
    let mut dump = LINE.repeat(lines);
    dump.push_str("--\n-- PostgreSQL database dump complete\n--\n");
    dump.into()
}

/// What describes a bundle; written last. The checksum is that of all members before.
pub(super) fn descriptions(checksum: &str) -> Vec<Item> {
    let models = json!([{
        "model": "ai.message", "table": "public.ai_message", "status": "exported", "rows": 8,
        "reason": "profile", "category": "Other", "priority": "critical", "sensitive": "yes",
        "modules": ["sam_ai"], "import_order": 1
    }]);
    let metadata = json!({
        "backup_version": "1.0.0", "timestamp": moment(), "backup_type": "partial",
        "odoo_version": "18.0", "module_versions": {"base": "18.0.1.3"},
        "database_info": {"postgres_version": "16.4", "odoo_database": "golden", "graph_database": "graph",
                          "graph_name": "g", "chroma_persist_directory": "./chroma_data"},
        "model_counts": {"ai.message": 8}, "model_import_order": ["ai.message"],
        "file_sizes": {"models": "2.0 KB"}, "export_duration_seconds": 7,
        "export_status": "partial", "export_errors": ["filestore: ee/gone: it is not there"],
        "checksum": checksum, "run_id": run_id(2), "arkstream_version": "0.1.0", "database_uuid": null
    });
    let item =
        |name, text: String| Item::new(name, Component::Description, Compression::Deflate, text);
    let pretty = |value: &Value| serde_json::to_string_pretty(value).expect("JSON");
    vec![
        item("odoo_data/model_list.json", pretty(&models)),
        item("restore_instructions.md", "# How to restore\n".into()),
        item("logs/export_log.txt", "2026-01-02 a golden run\n".into()),
        item("metadata.json", pretty(&metadata)),
    ]
}

pub(super) fn run_id(number: u32) -> String {
    format!("{number:032}")
}

pub(super) fn generation(number: u32) -> Generation {
    let generation = json!({
        "number": number, "run_id": run_id(number), "taken_at": moment(), "barrier_skew_ms": 12,
        "chroma_hold_ms": 34,
        "snapshots": [{"component": "models", "snapshot": format!("0000000{number}-1"), "server": {
            "version": "16.4", "version_num": 160_004, "database": "golden", "database_oid": 5,
            "system_identifier": "7000000000000000001", "timeline": 1,
            "postmaster_started_at": "2026-01-01T00:00:00Z", "wal_lsn": "0/1", "next_xid": "800",
            "encoding": "UTF8", "collation": "C"
        }}]
    });
    serde_json::from_value(generation).expect("a generation")
}

/// A manifest with nothing but what it must have.
pub(super) fn plain_manifest(version: &str) -> Manifest {
    let manifest = json!({
        "format_version": version, "run_id": run_id(1), "generator": {"name": "golden", "version": "0.1.0"},
        "started_at": moment(), "generations": [], "components": {}, "members": [], "tables": []
    });
    serde_json::from_value(manifest).expect("a manifest")
}

/// The manifest of the complete bundle, as it is given to the writer.
pub(super) fn complete_manifest() -> Manifest {
    let part = |number: usize, rows: u64, first: u32, end: Value, generation: u32, kept: Value| {
        json!({"member": format!("odoo_data/models/ai.message/part-0000{number}.parquet"), "rows": rows,
               "relation": "public.ai_message", "relfilenode": 16_401, "first_block": first,
               "end_block": end, "generation": generation, "kept_by": kept})
    };
    let column = |name: &str, pg_type: &str| json!({"name": name, "pg_type": pg_type, "not_null": name == "id", "encoding": "native"});
    let mut manifest =
        serde_json::to_value(plain_manifest(arkstream_format::FORMAT_VERSION)).expect("JSON");
    manifest["run_id"] = json!(run_id(2));
    manifest["generations"] = json!([generation(1), generation(2)]);
    manifest["tables"] = json!([{
        "table": "public.ai_message", "role": "model", "model": "ai.message",
        "columns": [column("id", "integer"), column("content", "text")],
        "primary_key": ["id"], "foreign_keys": [], "rows": 8,
        "parts": [
            part(0, 3, 0, json!(20), 1, json!("row_versions")),
            part(1, 5, 20, Value::Null, 2, Value::Null),
        ],
    }]);
    manifest["omissions"] = json!([{
        "component": "filestore", "what": "ee/gone", "reason": "it is not there"
    }]);
    manifest["references"] = json!([{
        "from": "ir_attachment.res_id", "to": "ai.message", "total": 2, "dangling": 1
    }]);
    manifest["chroma"] = json!({
        "migrations": [{"dir": "sysdb", "version": 1, "filename": "00001.sql", "hash": "00"}],
        "collections": 0, "embeddings": 0, "queued": 0
    });
    manifest["graph"] = json!({
        "database": "graph", "age_version": "1.5.0", "graphs": ["g"],
        "pg_dump_version": "pg_dump (PostgreSQL) 16.4", "owner": "odoo", "settings_sql": []
    });
    serde_json::from_value(manifest).expect("a manifest")
}

/// A part of `public.ai_message`, from a COPY stream as PostgreSQL sends it.
fn parquet(number: u32, ids: std::ops::Range<i32>) -> Vec<u8> {
    let column = |name: &str, attnum, type_oid, type_name: &str| PgColumn {
        name: name.into(),
        attnum,
        type_oid,
        type_name: type_name.into(),
        typmod: -1,
        type_kind: 'b',
        element_oid: None,
        element_kind: None,
        not_null: name == "id",
        odoo_type: None,
        relation: None,
    };
    let layout = TableLayout::new(vec![
        column("id", 1, 23, "integer"),
        column("content", 2, 25, "text"),
    ]);
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for id in ids {
        let content = format!("message {id}");
        stream.extend_from_slice(&2i16.to_be_bytes());
        stream.extend_from_slice(&4i32.to_be_bytes());
        stream.extend_from_slice(&id.to_be_bytes());
        stream.extend_from_slice(&(content.len() as i32).to_be_bytes());
        stream.extend_from_slice(content.as_bytes());
    }
    stream.extend_from_slice(&(-1i16).to_be_bytes());
    let mut decoder = CopyDecoder::new(&layout);
    decoder.push(&stream).expect("a COPY stream");
    let batch = decoder.take_batch().expect("rows").expect("rows");
    decoder.finish().expect("its end");
    let metadata = [
        ("arkstream.model", "ai.message".to_owned()),
        ("arkstream.table", "public.ai_message".to_owned()),
        ("arkstream.part", number.to_string()),
        ("arkstream.snapshot", "00000001-1".to_owned()),
    ];
    let metadata: HashMap<String, String> =
        metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let schema = layout.arrow_schema(metadata);
    let mut encoder = PartEncoder::new(schema, &EncodeOptions::default()).expect("a part");
    encoder.write(&batch).expect("written");
    encoder.finish().expect("a part").to_vec()
}

/// The SQLite file of a ChromaDB directory without collections.
fn sqlite() -> Vec<u8> {
    let path = scratch("sqlite").join("chroma.sqlite3");
    write_sqlite(&path).expect("SQLite");
    std::fs::read(&path).expect("a file")
}

fn write_sqlite(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA page_size = 1024;
         CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT NOT NULL, dimension INTEGER);
         CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT, scope TEXT, collection TEXT);
         CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT, embedding_id TEXT, seq_id BLOB);
         CREATE TABLE embedding_metadata (id INTEGER, key TEXT, string_value TEXT, PRIMARY KEY (id, key));
         CREATE TABLE embedding_fulltext_search_docsize (id INTEGER PRIMARY KEY, sz BLOB);
         CREATE TABLE embeddings_queue (seq_id INTEGER PRIMARY KEY, operation INTEGER, topic TEXT, id TEXT);
         CREATE TABLE max_seq_id (segment_id TEXT PRIMARY KEY, seq_id BLOB);
         CREATE TABLE migrations (dir TEXT, version INTEGER, filename TEXT, sql TEXT, hash TEXT);
         INSERT INTO migrations VALUES ('sysdb', 1, '00001.sql', '', '00');",
    )
}
