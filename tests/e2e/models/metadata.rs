//! `metadata.json`, `manifest.json`, `model_list.json`.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{number, text};
use crate::support::{Bundle, GRAPH_NAME, Profile, Stack, python, run};

#[test]
fn metadata_has_every_field_of_the_specification() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let metadata = bundle.json("metadata.json");
    assert_eq!(metadata["backup_version"], "1.0.0");
    assert_eq!(metadata["backup_type"], "complete");
    assert_eq!(metadata["odoo_version"], "18.0");
    assert_eq!(metadata["export_status"], "success");
    assert_eq!(metadata["export_errors"], json!([]));
    assert!(metadata["export_duration_seconds"].is_u64());
    assert_eq!(
        metadata["timestamp"],
        bundle.json("manifest.json")["generations"][0]["taken_at"]
    );
    let info = &metadata["database_info"];
    assert_eq!(
        info["postgres_version"]
            .as_str()
            .and_then(|v| v.split('.').next()),
        Some(&*stack.server.major().to_string())
    );
    assert_eq!(info["odoo_database"], *stack.odoo);
    assert_eq!(info["graph_database"], *stack.graph);
    assert_eq!(info["graph_name"], GRAPH_NAME);
    assert_eq!(info["chroma_persist_directory"], "./chroma_data");
    for key in [
        "odoo_data",
        "filestore",
        "postgres_dump",
        "chroma_data",
        "total_zip",
    ] {
        let size = text(&metadata["file_sizes"][key]);
        assert!(
            size.split_once(' ')
                .is_some_and(|(n, unit)| n.parse::<f64>().is_ok() && unit.ends_with('B')),
            "{key}: {size}"
        );
    }
    assert_eq!(
        metadata["database_uuid"],
        stack.ask("SELECT value FROM ir_config_parameter WHERE key = 'database.uuid'")
    );
}

/// Installed modules, and those whose update is pending: they are installed too.
#[test]
fn module_versions_are_those_of_installed_modules() {
    let metadata = Bundle::shared(Profile::SamAi).json("metadata.json");
    let found: Vec<String> = metadata["module_versions"]
        .as_object()
        .expect("an object")
        .iter()
        .map(|(module, version)| format!("{module}|{}", text(version)))
        .collect();
    let live = Stack::shared().ask(
        "SELECT name, latest_version FROM ir_module_module WHERE state IN ('installed', 'to upgrade', 'to remove') \
         ORDER BY name COLLATE \"C\"",
    );
    assert_eq!(found.join("\n"), live);
}

#[test]
fn model_counts_are_the_counts_of_the_database() {
    let bundle = Bundle::shared(Profile::SamAi);
    let metadata = bundle.json("metadata.json");
    let counts = metadata["model_counts"].as_object().expect("an object");
    assert_eq!(counts.len() as u64, number(&bundle.report["models"]));
    for (model, rows) in counts {
        assert_eq!(rows, &bundle.model(model)["rows"], "{model}");
    }
    assert_eq!(
        counts["ai.message"].to_string(),
        Stack::shared().ask("SELECT count(*) FROM ai_message")
    );
    assert_eq!(counts["n8n.menu.debug"], 0);
}

/// Computed again from the unpacked files, by the rule that FORMAT.md states: a member's digest is
/// the BLAKE3 of its 4 MiB chunks' BLAKE3s, and `checksum` the SHA-256 of all members' lines.
#[test]
fn the_checksum_covers_all_other_members() {
    let bundle = Bundle::shared(Profile::SamAi);
    let manifest = bundle.json("manifest.json");
    let mut lines = Sha256::new();
    for member in manifest["members"].as_array().expect("a list") {
        let name = text(&member["name"]);
        let bytes = std::fs::read(bundle.dir.join(name)).expect(name);
        let mut hasher = blake3::Hasher::new();
        for chunk in bytes.chunks(4 << 20) {
            hasher.update(blake3::hash(chunk).as_bytes());
        }
        let digest = hasher.finalize().to_hex();
        assert_eq!(member["digest"], digest.as_str(), "{name}");
        assert_eq!(number(&member["raw_len"]), bytes.len() as u64, "{name}");
        if name != "metadata.json" && !name.starts_with("index/") {
            lines.update(format!("{digest}  {name}\n"));
        }
    }
    let hex: String = lines
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        bundle.json("metadata.json")["checksum"],
        format!("sha256:{hex}")
    );
}

/// Every member of the ZIP is in the manifest, but the manifest itself, which is the last.
#[test]
fn the_manifest_lists_every_member() {
    for profile in [Profile::SamAi, Profile::All] {
        let bundle = Bundle::shared(profile);
        let manifest = bundle.json("manifest.json");
        let mut listed: Vec<&str> = manifest["members"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|member| text(&member["name"]))
            .collect();
        listed.push("manifest.json");
        listed.sort_unstable();
        assert_eq!(listed, bundle.members());
        for required in [
            "restore_instructions.md",
            "odoo_data/model_list.json",
            "databases/postgres_graph_dump.sql",
            "databases/chroma_data/chroma.sqlite3",
            "logs/export_log.txt",
            "metadata.json",
        ] {
            assert!(listed.contains(&required), "{required}");
        }
    }
}

#[test]
fn documents_of_a_real_bundle_obey_their_schemas() {
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
    let script = "import json, jsonschema, sys
for document, schema in zip(sys.argv[1::2], sys.argv[2::2]):
    schema = json.load(open(schema))
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    kind(schema).validate(json.load(open(document)))
    print(kind.__name__)";
    for profile in [Profile::SamAi, Profile::All] {
        let bundle = Bundle::shared(profile);
        let mut command = python();
        command.args(["-c", script]);
        for (document, schema) in [
            ("manifest.json", "manifest"),
            ("metadata.json", "metadata"),
            ("odoo_data/model_list.json", "model_list"),
        ] {
            command
                .arg(bundle.dir.join(document))
                .arg(format!("{schemas}/{schema}.schema.json"));
        }
        let run = run(&mut command).ok();
        assert_eq!(run.stdout.lines().count(), 3);
    }
}

#[test]
fn a_bundle_without_a_component_says_so() {
    let stack = Stack::shared();
    let bundle = super::inventory::odoo_only(&stack.url(&stack.odoo), &["--models", "ai.message"]);
    let metadata = bundle.json("metadata.json");
    assert_eq!(metadata["backup_type"], "partial");
    assert_eq!(metadata["export_status"], "success");
    assert_eq!(metadata["file_sizes"]["chroma_data"], Value::Null);
    let manifest = bundle.json("manifest.json");
    assert!(manifest["components"]["graph"].is_null() && manifest["chroma"].is_null());
}
