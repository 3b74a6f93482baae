//! The 63 models of the inventory, and those it does not know.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use super::text;
use crate::support::{Bundle, Profile, Stack, python, run, scratch};

/// Where an entry of the inventory has another status than `exported`, and which.
const NOT_EXPORTED: &[(&str, &str)] = &[
    ("ai.service", "abstract"),
    ("ai.context.builder", "abstract"),
    ("ai.graph.service", "abstract"),
    ("ai.vector.service", "abstract"),
    ("ai.document.extractor", "abstract"),
    ("ai.categorization.service", "abstract"),
    ("ai.subcategory.detection.service", "abstract"),
    ("ai.registry.watcher", "view"),
    ("n8n.simple.extractor", "transient"),
    ("canvas_pan_move", "absent"),
];

/// Entries that the database knows under another name.
const RENAMED: &[(&str, &str)] = &[
    ("connections", "workflow.connection"),
    ("ai.service.provider", "api.service.provider"),
    ("documentation_intelligence", "documentation.intelligence"),
];

fn inventory() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../odoo/data/model-inventory.csv"
    );
    let script =
        "import csv, json, sys; print(json.dumps(list(csv.DictReader(open(sys.argv[1])))))";
    let run = run(python().args(["-c", script, path])).ok();
    run.json().as_array().expect("a list").clone()
}

#[test]
fn each_of_the_63_models_is_accounted_for_with_its_status() {
    let bundle = Bundle::shared(Profile::SamAi);
    let inventory = inventory();
    assert_eq!(inventory.len(), 63);
    let other_status: BTreeMap<&str, &str> = NOT_EXPORTED.iter().copied().collect();
    let renamed: BTreeMap<&str, &str> = RENAMED.iter().copied().collect();
    for known in &inventory {
        let name = text(&known["model"]);
        let entry = bundle.model(renamed.get(name).unwrap_or(&name));
        assert_eq!(
            entry["inventory_name"].as_str(),
            renamed.get(name).map(|_| name)
        );
        let expected = other_status.get(name).unwrap_or(&"exported");
        assert_eq!(entry["status"], *expected, "{entry}");
        for key in ["category", "priority"] {
            assert_eq!(entry[key], known[key], "{name}");
        }
        assert_eq!(entry["sensitive"], known["sensitive"], "{name}");
        assert!(!text(&entry["reason"]).is_empty(), "{name}");
        match *expected {
            "exported" => {
                let table = text(&entry["table"]);
                assert_eq!(entry["rows"], bundle.table(table)["rows"], "{name}");
                assert!(entry["import_order"].is_u64(), "{entry}");
            }
            _ => {
                assert_eq!(entry["rows"], 0, "{entry}");
                assert!(
                    entry["table"].is_null() && entry["import_order"].is_null(),
                    "{entry}"
                );
            }
        }
    }
}

#[test]
fn the_rows_of_a_model_are_those_of_its_table() {
    let bundle = Bundle::shared(Profile::SamAi);
    for (model, table) in [
        ("ai.conversation", "ai_conversation"),
        ("ai.message", "ai_message"),
        ("sam.brain.modes", "sam_brain_mode"),
    ] {
        let count = Stack::shared().ask(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(bundle.model(model)["rows"].to_string(), count, "{model}");
        assert_eq!(
            bundle
                .rows(&format!("odoo_data/models/{model}"))
                .len()
                .to_string(),
            count
        );
    }
}

#[test]
fn models_of_the_same_modules_that_the_inventory_does_not_name_travel_too() {
    let bundle = Bundle::shared(Profile::SamAi);
    for model in ["ai.prompt.library", "sam.dream.log", "sam.usage.event"] {
        let entry = bundle.model(model);
        assert_eq!(entry["status"], "exported", "{entry}");
        assert_eq!(entry["category"], "Other", "{entry}");
        assert_eq!(entry["priority"], "unrated", "{entry}");
    }
    let list = bundle.json("odoo_data/model_list.json");
    let models = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| text(&entry["model"]));
    for model in models {
        assert!(
            !model.starts_with("sale.") && !model.starts_with("res."),
            "{model}"
        );
    }
}

#[test]
fn a_model_that_appeared_yesterday_travels_when_a_module_of_the_stack_defines_it() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    stack
        .server
        .psql(
            &database,
            "CREATE TABLE brand_new (id serial PRIMARY KEY, name text);
             INSERT INTO brand_new (name) SELECT 'row ' || i FROM generate_series(1, 17) i;
             CREATE TABLE somebody_elses (id serial PRIMARY KEY, name text);
             INSERT INTO somebody_elses (name) VALUES ('not ours');
             INSERT INTO ir_model (id, name, model, \"order\", state, transient)
                VALUES (9001, '{\"en_US\": \"Brand New\"}', 'brand.new', 'id', 'base', false),
                       (9002, '{\"en_US\": \"Else\"}', 'somebody.elses', 'id', 'base', false);
             INSERT INTO ir_model_data (id, module, name, model, res_id)
                VALUES (90001, 'sam_dreams', 'model_brand_new', 'ir.model', 9001),
                       (90002, 'sale', 'model_somebody_elses', 'ir.model', 9002)",
        )
        .expect("two new models");
    let bundle = odoo_only(&stack.url(&database), &[]);
    let entry = bundle.model("brand.new");
    assert_eq!(entry["status"], "exported");
    assert_eq!(entry["rows"], 17);
    assert_eq!(entry["table"], "public.brand_new");
    assert!(text(&entry["reason"]).contains("sam_dreams"), "{entry}");
    assert_eq!(bundle.rows("odoo_data/models/brand.new").len(), 17);
    let list = bundle.json("odoo_data/model_list.json").to_string();
    assert!(!list.contains("somebody.elses"));
}

#[test]
fn transient_models_are_recorded_and_travel_when_asked_for() {
    let shared = Bundle::shared(Profile::SamAi);
    for model in ["ai.conversation.history.importer", "n8n.simple.extractor"] {
        assert_eq!(shared.model(model)["status"], "transient");
        assert!(
            !shared
                .dir
                .join(format!("odoo_data/models/{model}"))
                .exists()
        );
    }
    let stack = Stack::shared();
    let bundle = odoo_only(&stack.url(&stack.odoo), &["--include-transient"]);
    let rows = stack.ask("SELECT count(*) FROM ai_conversation_history_importer");
    let entry = bundle.model("ai.conversation.history.importer");
    assert_eq!(entry["status"], "exported");
    assert_eq!(entry["rows"].to_string(), rows);
}

/// A backup of the rows alone.
pub(super) fn odoo_only(url: &str, options: &[&str]) -> Bundle {
    let path = scratch("odoo-only").join("bundle.zip");
    let run = run(&mut odoo_only_command(url, options, &path)).ok();
    Bundle::open(path, run.json(), run.stderr)
}

pub(super) fn odoo_only_command(url: &str, options: &[&str], out: &std::path::Path) -> Command {
    let mut command = crate::support::arkstream();
    command.args(["backup", "--json", "--progress", "none", "--odoo-db", url]);
    command.args(["--no-filestore", "--no-graph", "--no-chroma"]);
    command.args(options).arg("--out").arg(out);
    command
}
