//! What PostgreSQL and Odoo do to tables, and what must not cost a row.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::inventory::{odoo_only, odoo_only_command};
use super::{ids, models_with, number, text};
use crate::support::{Bundle, Profile, Stack, run, scratch};

fn rows_of(bundle: &Bundle, table: &str) -> u64 {
    number(&bundle.table(table)["rows"])
}

fn count(sql: &str) -> u64 {
    Stack::shared().ask(sql).parse().expect("a number")
}

#[test]
fn inheritance_children_lose_no_row_and_no_row_travels_twice() {
    let sam_ai = Bundle::shared(Profile::SamAi);
    // An heir that is a model, and one that only the catalog knows.
    let family = [
        "sam_knowledge_doc",
        "sam_knowledge_lesson",
        "sam_knowledge_doc_archive",
    ];
    let rows: u64 = family
        .iter()
        .map(|table| rows_of(sam_ai, &format!("public.{table}")))
        .sum();
    assert_eq!(rows, count("SELECT count(*) FROM sam_knowledge_doc"));
    assert_eq!(
        rows_of(sam_ai, "public.sam_knowledge_doc"),
        count("SELECT count(*) FROM ONLY sam_knowledge_doc")
    );
    assert_eq!(
        sam_ai
            .rows("odoo_data/support/sam_knowledge_doc_archive")
            .len(),
        9
    );

    let all = Bundle::shared(Profile::All);
    let actions = [
        "ir_actions",
        "ir_act_window",
        "ir_act_server",
        "ir_act_url",
        "ir_act_report_xml",
        "ir_act_client",
    ];
    let rows: u64 = actions
        .iter()
        .map(|table| rows_of(all, &format!("public.{table}")))
        .sum();
    assert_eq!(rows, count("SELECT count(*) FROM ir_actions"));
    assert!(rows > rows_of(all, "public.ir_actions"));
}

#[test]
fn a_partitioned_table_loses_no_row() {
    let bundle = Bundle::shared(Profile::SamAi);
    let rows = bundle.rows("odoo_data/models/sam.usage.event");
    assert_eq!(rows.len(), 400);
    assert_eq!(ids(&rows, "id").len(), 400);
    let entry = bundle.table("public.sam_usage_event");
    let parts = entry["parts"].as_array().expect("a list");
    let leaves: BTreeSet<&str> = parts.iter().map(|part| text(&part["relation"])).collect();
    let expected = [
        "public.sam_usage_event_2023",
        "public.sam_usage_event_2024_chat",
        "public.sam_usage_event_2024_rest",
        "public.sam_usage_event_default",
    ];
    assert_eq!(leaves, expected.into());
}

#[test]
fn row_level_security_hides_no_row_from_a_superuser() {
    let bundle = Bundle::shared(Profile::SamAi);
    assert_eq!(bundle.rows("odoo_data/models/sam.private.note").len(), 30);
    assert_eq!(bundle.rows("odoo_data/models/sam.vault.entry").len(), 20);
}

/// Under FORCE ROW LEVEL SECURITY the owner would get two rows of twenty, without an error.
#[test]
fn forced_row_level_security_is_an_error_for_the_owner_and_never_fewer_rows() {
    let stack = Stack::shared();
    let url = stack
        .server
        .tcp_url(&stack.odoo, stack.owner(), Stack::OWNER_PASSWORD);
    let out = scratch("rls").join("bundle.zip");
    let run = run(&mut odoo_only_command(&url, &[], &out)).expect_code(7);
    let run = run.says(&["sam_vault_entry", "row-level security", "BYPASSRLS"]);
    assert!(!run.stderr.contains(Stack::OWNER_PASSWORD));
    assert!(!out.exists() && !out.with_extension("zip.sha256").exists());

    // Without that table the owner, whom the other policy does not bind, gets everything.
    let bundle = odoo_only(&url, &["--exclude", "sam.vault.entry"]);
    assert_eq!(bundle.rows("odoo_data/models/sam.private.note").len(), 30);
    assert_eq!(bundle.model("sam.vault.entry")["status"], "excluded");
}

#[test]
fn tables_that_do_not_follow_the_models_name_are_found() {
    let (sam_ai, all) = (Bundle::shared(Profile::SamAi), Bundle::shared(Profile::All));
    for (bundle, model, table) in [
        (sam_ai, "sam.brain.modes", "public.sam_brain_mode"),
        (sam_ai, "sam.member.mode", "public.sam_member_mode_rel"),
        (sam_ai, "sam.type.matrix", "public.x_type_matrix"),
        (sam_ai, "sam.odd.column", "public.SAM_Odd.Table"),
        (all, "ir.actions.act_window", "public.ir_act_window"),
        (all, "ir.actions.report", "public.ir_act_report_xml"),
        (all, "ir.actions.act_url", "public.ir_act_url"),
        (
            all,
            "project.task.stage.personal",
            "public.project_task_user_rel",
        ),
    ] {
        let entry = bundle.model(model);
        assert_eq!(entry["table"], table, "{entry}");
        assert_eq!(entry["status"], "exported", "{entry}");
        assert_eq!(
            bundle.rows(&format!("odoo_data/models/{model}")).len() as u64,
            rows_of(bundle, table)
        );
    }
}

#[test]
fn a_relation_table_that_two_fields_share_travels_once() {
    let bundle = Bundle::shared(Profile::SamAi);
    let manifest = bundle.json("manifest.json");
    let tables = manifest["tables"].as_array().expect("a list");
    let names: Vec<&str> = tables.iter().map(|table| text(&table["table"])).collect();
    let once: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(
        names.len(),
        once.len(),
        "a table stands twice in the manifest"
    );
    let shared = bundle.table("public.ai_conversation_workspace_rel");
    assert_eq!(shared["role"], "relation");
    assert_eq!(
        number(&shared["rows"]),
        count("SELECT count(*) FROM ai_conversation_workspace_rel")
    );
    // A relation table that is a model travels as the model.
    assert_eq!(bundle.table("public.sam_member_mode_rel")["role"], "model");
    assert!(
        !bundle
            .dir
            .join("odoo_data/relations/sam_member_mode_rel")
            .exists()
    );
}

/// Every many2many table between two exported models is there.
#[test]
fn relation_tables_between_exported_models_travel() {
    let bundle = Bundle::shared(Profile::SamAi);
    let exported = models_with(bundle, &["exported", "empty"]);
    let list = super::sql_list(&exported);
    let answer = Stack::shared().ask(&format!(
        "SELECT DISTINCT relation_table FROM ir_model_fields WHERE ttype = 'many2many' AND store \
         AND model IN ({list}) AND relation IN ({list})"
    ));
    let mut seen = 0;
    for table in answer.lines() {
        assert_eq!(
            rows_of(bundle, &format!("public.{table}")),
            count(&format!("SELECT count(*) FROM {table}"))
        );
        seen += 1;
    }
    assert!(seen > 5, "{answer}");
}

#[test]
fn sql_null_json_null_and_an_empty_object_stay_three_values() {
    let rows = Bundle::shared(Profile::SamAi).rows("odoo_data/models/ai.message");
    let metadata =
        |id: u64| rows.iter().find(|row| row["id"] == id).expect("a row")["metadata"].clone();
    assert_eq!(metadata(60), Value::Null);
    assert_eq!(metadata(61), "null");
    assert_eq!(metadata(62), "{}");
    assert_eq!(metadata(63), "[]");
    assert_eq!(metadata(64), "\"\"");
    // Numbers keep their zeros, and integers beyond 2^53 would too.
    assert!(
        text(&metadata(67)).contains("\"exact\": 1.500"),
        "{}",
        metadata(67)
    );
}

#[test]
fn translations_and_company_dependent_values_travel_with_their_fallbacks() {
    let bundle = Bundle::shared(Profile::SamAi);
    let rows = bundle.rows("odoo_data/models/ai.workspace");
    let value = |id: u64| {
        rows.iter().find(|row| row["id"] == id).expect("a row")["default_provider_id"].clone()
    };
    let expected = [
        json!("{\"1\": 5}"),
        json!("{\"1\": null}"),
        Value::Null,
        json!("{}"),
    ];
    assert_eq!([value(1), value(2), value(3), value(4)], expected);
    // A value equal to the fallback is NULL: lost without ir_default.
    let defaults = bundle.rows("odoo_data/support/ir_default");
    let fields = Stack::shared().ask(
        "SELECT d.id FROM ir_default d JOIN ir_model_fields f ON f.id = d.field_id \
         WHERE f.model IN ('ai.workspace', 'sam.user.settings', 'ai.conversation')",
    );
    assert_eq!(ids(&defaults, "id"), super::ids_of(&fields));
    assert!(defaults.len() >= 5);
    let prompts = bundle.rows("odoo_data/models/ai.prompt.library");
    assert!(prompts.iter().any(|row| {
        row["name"]
            .as_str()
            .is_some_and(|name| name.contains("fr_FR"))
    }));
}

#[test]
fn an_empty_table_has_its_schema() {
    let bundle = Bundle::shared(Profile::SamAi);
    assert_eq!(bundle.model("n8n.menu.debug")["status"], "empty");
    let schemas = bundle.schemas("odoo_data/models/n8n.menu.debug");
    assert_eq!(schemas.len(), 1);
    assert_eq!(schemas[0]["rows"], 0);
    let names: Vec<&Value> = schemas[0]["fields"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|field| &field["name"])
        .collect();
    assert!(
        names.contains(&&json!("id")) && names.len() > 4,
        "{names:?}"
    );
}

#[test]
fn quoted_names_generated_dropped_and_late_columns() {
    let bundle = Bundle::shared(Profile::SamAi);
    let entry = bundle.table("public.SAM_Odd.Table");
    let columns = entry["columns"].as_array().expect("a list");
    let names: Vec<&str> = columns.iter().map(|column| text(&column["name"])).collect();
    let expected = [
        "id",
        "Mixed Case",
        "select",
        "quo\"te",
        "dash-é",
        "doubled",
        "create_uid",
        "write_uid",
        "create_date",
        "write_date",
        "added_later",
    ];
    assert_eq!(names, expected);
    let generated: Vec<&Value> = columns
        .iter()
        .filter(|column| column["generated"] == true)
        .map(|column| &column["name"])
        .collect();
    assert_eq!(generated, ["doubled"]);
    let rows = bundle.rows("odoo_data/models/sam.odd.column");
    assert_eq!(rows.len(), 25);
    for row in &rows {
        assert_eq!(row["Mixed Case"], format!("Value {}", row["id"]));
        assert_eq!(number(&row["doubled"]), 2 * number(&row["select"]));
        assert_eq!(row["added_later"], "filled without a rewrite");
    }
}

/// Each foreign key leads to an earlier model, cycles aside.
#[test]
fn the_import_order_respects_foreign_keys() {
    let bundle = Bundle::shared(Profile::SamAi);
    let manifest = bundle.json("manifest.json");
    let tables = manifest["tables"].as_array().expect("a list");
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for table in tables {
        let keys = table["foreign_keys"].as_array().expect("a list");
        edges.insert(
            text(&table["table"]),
            keys.iter().map(|key| text(&key["references"])).collect(),
        );
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges
        .keys()
        .map(|table| (*table, reachable(table, &edges)))
        .collect();
    let metadata = bundle.json("metadata.json");
    let order: Vec<&str> = metadata["model_import_order"]
        .as_array()
        .expect("a list")
        .iter()
        .map(text)
        .collect();
    let listed = models_with(bundle, &["exported", "empty"]);
    assert_eq!(
        order
            .iter()
            .map(|m| (*m).to_owned())
            .collect::<BTreeSet<_>>(),
        listed
    );
    let place: BTreeMap<&str, usize> = order
        .iter()
        .enumerate()
        .map(|(place, model)| (*model, place))
        .collect();
    let model_of: BTreeMap<&str, &str> = tables
        .iter()
        .filter_map(|table| Some((text(&table["table"]), table["model"].as_str()?)))
        .collect();
    let (mut kept, mut cyclic) = (0, 0);
    for (table, targets) in &edges {
        for target in targets {
            let places = |table| model_of.get(table).and_then(|model| place.get(model));
            let (Some(from), Some(to)) = (places(table), places(target)) else {
                continue;
            };
            if reached[target].contains(table) {
                cyclic += 1;
            } else {
                assert!(
                    to < from,
                    "{table} comes before {target}, which it refers to"
                );
                kept += 1;
            }
        }
    }
    assert!(kept > 30 && cyclic > 2, "{kept} {cyclic}");
    // model_list.json and metadata.json tell the same order.
    let mut by_list: Vec<(u64, String)> = listed
        .iter()
        .map(|model| (number(&bundle.model(model)["import_order"]), model.clone()))
        .collect();
    by_list.sort();
    assert_eq!(
        by_list
            .into_iter()
            .map(|(_, model)| model)
            .collect::<Vec<_>>(),
        order
    );
}

fn reachable<'a>(from: &str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = edges.get(from).into_iter().flatten().copied().collect();
    while let Some(table) = next.pop() {
        if let Some((known, targets)) = edges.get_key_value(table)
            && found.insert(*known)
        {
            next.extend(targets);
        }
    }
    found
}
