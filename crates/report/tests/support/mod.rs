//! Bundles to make pages of.

use serde_json::{Value, json};

use arkstream_format::{Manifest, Metadata, ModelEntry};
use arkstream_report::{Facts, RunLog, Span};

/// What a page is made of, but for what it borrows.
pub(crate) struct Parts {
    pub(crate) file_name: String,
    pub(crate) sha256: Option<String>,
    pub(crate) manifest: Manifest,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) models: Option<Vec<ModelEntry>>,
    pub(crate) run: RunLog,
}

impl Parts {
    pub(crate) fn page(&self) -> String {
        arkstream_report::render(&Facts {
            file_name: self.file_name.clone(),
            file_bytes: 1_000_000,
            sha256: self.sha256.clone(),
            manifest: &self.manifest,
            metadata: self.metadata.clone(),
            models: self.models.clone(),
            run: self.run.clone(),
            program: "Arkstream 0.1.0".into(),
        })
    }
}

const MOMENT: &str = "2026-01-02T03:04:05Z";

/// A bundle of one run, with everything in it and nothing left out.
pub(crate) fn complete() -> Parts {
    Parts {
        file_name: "night.zip".into(),
        sha256: Some("ab".repeat(32)),
        manifest: from(manifest()),
        metadata: Some(from(metadata())),
        models: Some(from(models())),
        run: run(),
    }
}

/// A bundle about which there is everything to say that a page can say.
pub(crate) fn eventful() -> Parts {
    let mut parts = complete();
    let mut value = serde_json::to_value(&parts.manifest).unwrap();
    value["omissions"] = json!([
        {"component": "filestore", "what": "ab/ab12", "reason": "it vanished"},
        {"component": "chroma", "what": "link", "reason": "a symbolic link"},
    ]);
    value["bases"] = json!([{
        "number": 1, "manifest": "11".repeat(32), "run_id": "older", "taken_at": MOMENT,
        "name": "monday.zip", "copied": {"filestore": {"members": 3, "bytes": 4096}},
    }]);
    let mut earlier = value["generations"][0].clone();
    earlier["number"] = json!(1);
    value["generations"][0]["number"] = json!(2);
    value["generations"]
        .as_array_mut()
        .unwrap()
        .insert(0, earlier);
    value["tables"][0]["parts"][0]["kept_by"] = json!("row_versions");
    parts.manifest = from(value);
    parts.run.resumed = Some("continuing the bundle begun yesterday: 3 members are kept".into());
    let reason = "its rows changed".to_owned();
    parts
        .run
        .remade
        .insert((arkstream_format::Component::Models, reason), 4);
    parts.run.warnings = vec!["the server was gone; trying again in 1 s".into()];
    parts.run.warned = 7;
    parts
}

/// What a salvage made of it.
pub(crate) fn salvaged() -> Parts {
    let mut parts = eventful();
    let mut value = serde_json::to_value(&parts.manifest).unwrap();
    value["salvage"] = json!({
        "source": "damaged.zip", "source_bytes": 999, "source_run_id": "run", "at": MOMENT,
        "described": true, "proven_by_crc": ["logs/export_log.txt"],
        "lost": [
            {"member": "databases/postgres_graph_dump.sql", "component": "graph", "ranges": [
                {"raw_start": 10, "raw_end": 20, "file_start": 1, "file_end": 2, "reason": "a flipped bit"},
            ], "pieces": ["salvaged/databases/postgres_graph_dump.sql/0000000000000000-0000000000000010"]},
            {"ranges": [{"reason": "the end is cut off"}]},
        ],
    });
    parts.manifest = from(value);
    parts
}

/// A bundle that says next to nothing of itself.
pub(crate) fn bare() -> Parts {
    let mut value = manifest();
    for list in ["generations", "tables", "references"] {
        value[list] = json!([]);
    }
    value["components"] = json!({});
    value["chroma"] = Value::Null;
    value["graph"] = Value::Null;
    Parts {
        file_name: "bare.zip".into(),
        sha256: None,
        manifest: from(value),
        metadata: None,
        models: None,
        run: RunLog::default(),
    }
}

pub(crate) fn from<T: for<'de> serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn run() -> RunLog {
    use arkstream_format::Component::{Chroma, Filestore, Graph, Models};
    let at = |millis| {
        MOMENT.parse::<chrono::DateTime<chrono::Utc>>().unwrap()
            + chrono::TimeDelta::milliseconds(millis)
    };
    let span = |component, from, to| Span {
        component,
        from: at(from),
        started: true,
        to: Some(at(to)),
        read: Some(5_000_000),
        kept: Some(1_000),
    };
    let given_up = Span {
        to: None,
        read: None,
        kept: None,
        ..span(Models, 900, 0)
    };
    RunLog {
        from: Some(at(-300)),
        to: Some(at(9_000)),
        barriers: vec![at(400), at(2_000)],
        spans: vec![
            span(Chroma, 100, 700),
            given_up,
            span(Filestore, 2_100, 3_000),
            span(Models, 3_000, 8_000),
            span(Graph, 8_000, 9_000),
        ],
        ..RunLog::default()
    }
}

fn manifest() -> Value {
    let sum = |members: u64, rows: u64, raw: u64, stored: u64| json!({"members": members, "rows": rows, "raw_bytes": raw, "stored_bytes": stored});
    let server = json!({
        "version": "15.18", "version_num": 150018, "database": "prod", "database_oid": 5,
        "encoding": "UTF8", "collation": "C",
    });
    let table = |name: &str, role: &str, model: Value, rows: u64, left_out: Value| {
        json!({
            "table": name, "role": role, "model": model, "filter": "id > 0",
            "columns": [{"name": "id", "pg_type": "integer", "not_null": true, "encoding": "native"}],
            "columns_left_out": left_out, "primary_key": ["id"], "foreign_keys": [], "rows": rows,
            "parts": [{"member": "part", "rows": rows, "relation": name, "first_block": 0, "generation": 1}],
        })
    };
    json!({
        "format_version": "1.0.0", "run_id": "8e619e11ae8c459a",
        "generator": {"name": "arkstream", "version": "0.1.0"}, "started_at": MOMENT,
        "generations": [{
            "number": 1, "run_id": "8e619e11ae8c459a", "taken_at": MOMENT, "barrier_skew_ms": 43,
            "chroma_hold_ms": 246,
            "snapshots": [
                {"component": "models", "snapshot": "00000005-0000000B-1", "server": server},
                {"component": "graph", "snapshot": "00000005-0000000C-1", "server": server},
            ],
        }],
        "components": {
            "models": sum(118, 20_587, 2_533_480, 2_533_480),
            "filestore": sum(125, 0, 7_229_989, 6_263_642),
            "graph": sum(1, 0, 542_937, 85_948),
            "chroma": sum(24, 0, 7_420_364, 2_055_892),
            "description": sum(5, 0, 738_396, 114_876),
        },
        "members": [],
        "dead_ranges": [{"offset": 1, "len": 5_000, "blake3": "22".repeat(32), "reason": "superseded"}],
        "tables": [
            table("public.ai_message", "model", json!("ai.message"), 7_000, json!([])),
            table("public.tag_rel", "relation", Value::Null, 12, json!([])),
            table("public.res_users", "support", json!("res.users"), 9, json!(["password"])),
        ],
        "omissions": [],
        "references": [
            {"from": "ir_attachment.res_id", "to": "canvas", "total": 27, "dangling": 2},
            {"from": "ir_attachment.res_id", "to": "ai.message", "total": 27, "dangling": 0},
        ],
        "chroma": {
            "migrations": [{"dir": "sysdb", "version": 1, "filename": "1.sql", "hash": "aa"}],
            "collections": 6, "embeddings": 3_771, "queued": 0,
        },
        "graph": {
            "database": "memory", "age_version": "1.5.0", "graphs": ["knowledge"],
            "pg_dump_version": "pg_dump (PostgreSQL) 15.18", "owner": "sam",
            "settings_sql": ["ALTER ROLE sam PASSWORD 'hunter2'"],
        },
    })
}

fn metadata() -> Value {
    json!({
        "backup_version": "1.0.0", "timestamp": MOMENT, "backup_type": "complete", "odoo_version": "18.0",
        "module_versions": {"base": "18.0.1.3", "ai_brain": "18.0.3.2.1"},
        "database_info": {
            "postgres_version": "15.18", "odoo_database": "prod", "graph_database": "memory",
            "graph_name": "knowledge", "chroma_persist_directory": "/srv/chroma data",
        },
        "model_counts": {"ai.message": 7_000}, "model_import_order": ["ai.message"],
        "file_sizes": {"models": "2.4 MB"}, "export_duration_seconds": 3_725, "export_status": "success",
        "export_errors": [], "checksum": "sha256:abc", "run_id": "8e619e11ae8c459a",
        "arkstream_version": "0.1.0", "database_uuid": "11-22",
    })
}

fn models() -> Value {
    let model = |name: &str, status: &str, rows: u64, category: &str| {
        json!({
            "model": name, "inventory_name": "an.older.name", "table": "public.t", "status": status,
            "rows": rows, "reason": "as the test says", "category": category, "priority": "critical",
            "sensitive": "Yes (user content)", "modules": ["ai_brain"], "import_order": 1,
        })
    };
    json!([
        model("ai.message", "exported", 7_000, "Core SAM AI Models"),
        model("ai.memory.config", "empty", 0, "Memory System Models"),
        model("ai.graph.service", "abstract", 0, "Memory System Models"),
        model("ai.report", "view", 0, "Core SAM AI Models"),
        model("ai.wizard", "transient", 0, "Core SAM AI Models"),
        model("ai.secret", "excluded", 0, "Core SAM AI Models"),
        model("canvas_pan_move", "absent", 0, "Canvas/Workflow Models"),
        model("x.custom", "exported", 5, "Other"),
    ])
}
