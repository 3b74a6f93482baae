//! What travels, decided on a sample that holds every trap of a real Odoo.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use arkstream_format::TableRole;
use arkstream_odoo::discover::read_memory_config;
use arkstream_odoo::registry::Resolution;
use arkstream_odoo::scope::{KnownRows, Rows};
use arkstream_postgres::Session;

use common::{Plan, Stack, select};

async fn plan(stack: &Stack) -> Plan {
    stack.plan(&select("sam_ai", &[], &[])).await.unwrap()
}

fn table_of(plan: &Plan, model: &str) -> String {
    match plan.registry.models[model].resolution {
        Resolution::Relation(oid) => plan.catalog.by_oid(oid).unwrap().table.name.clone(),
        ref other => panic!("{model}: {other:?}"),
    }
}

#[tokio::test]
async fn tables_are_not_named_after_their_models() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    for (model, table) in [
        ("ir.actions.act_window", "ir_act_window"),
        ("ir.actions.report", "ir_act_report_xml"),
        ("ir.actions.actions", "ir_actions"),
        ("project.task.stage.personal", "project_task_user_rel"),
        ("sam.brain.modes", "sam_brain_mode"),
        ("sam.member.mode", "sam_member_mode_rel"),
        ("sam.odd.column", "SAM_Odd.Table"),
        ("sam.type.matrix", "x_type_matrix"),
    ] {
        assert_eq!(table_of(&plan, model), table, "{model}");
    }
    let noted = |model: &str| plan.scope.notes.iter().any(|note| note.contains(model));
    assert!(
        noted("sam.brain.modes") && noted("sam.type.matrix"),
        "{:?}",
        plan.scope.notes
    );
}

#[tokio::test]
async fn versions_are_those_installed() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    assert_eq!(plan.registry.odoo_version, "18.0");
    assert_eq!(plan.registry.module_versions["base"], "18.0.1.3");
    let installed = stack
        .count("FROM ir_module_module WHERE state IN ('installed', 'to upgrade', 'to remove')");
    assert_eq!(plan.registry.module_versions.len() as u64, installed);
    let uuid = stack.ask("value FROM ir_config_parameter WHERE key = 'database.uuid'");
    assert_eq!(plan.registry.database_uuid.as_deref(), Some(uuid.as_str()));
}

#[tokio::test]
async fn inheritance_children_are_read_with_only() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    // The parent's rows are its own; the heirs travel beside it, one of them unknown to Odoo.
    assert!(plan.rows("sam_knowledge_doc").starts_with("FROM ONLY"));
    assert_eq!(
        plan.task("sam_knowledge_lesson").model.as_deref(),
        Some("sam.knowledge.lesson")
    );
    assert_eq!(
        plan.task("sam_knowledge_doc_archive").role,
        TableRole::Support
    );
    let whole = stack.count("FROM sam_knowledge_doc");
    let parts: u64 = [
        "sam_knowledge_doc",
        "sam_knowledge_lesson",
        "sam_knowledge_doc_archive",
    ]
    .iter()
    .map(|table| stack.count(&plan.rows(table)))
    .sum();
    assert_eq!(parts, whole);
}

#[tokio::test]
async fn heirs_of_support_and_relation_tables_lose_no_row() {
    let stack = Stack::build();
    stack.ask(
        "1; CREATE TABLE mail_message_2023 () INHERITS (mail_message); \
         INSERT INTO mail_message_2023 SELECT * FROM ONLY mail_message \
         WHERE model = 'ai.conversation' LIMIT 2; SELECT 1",
    );
    let plan = plan(&stack).await;
    assert_eq!(plan.task("mail_message_2023").role, TableRole::Support);
    assert_eq!(stack.count(&plan.rows("mail_message_2023")), 2);
}

#[tokio::test]
async fn a_sequence_that_a_default_counts_with_travels_whoever_owns_it() {
    let stack = Stack::build();
    stack.ask(
        "1; CREATE SEQUENCE by_hand; \
         ALTER TABLE ai_branch ADD COLUMN number int DEFAULT nextval('by_hand'); SELECT 1",
    );
    let plan = plan(&stack).await;
    let states = plan.task("sequences").virtual_query.clone().unwrap();
    let found = format!("FROM ({}) s WHERE name = 'by_hand'", states.sql);
    assert_eq!(stack.count(&found), 1);
}

#[tokio::test]
async fn heirs_of_a_chosen_model_travel_too() {
    let stack = Stack::shared();
    let plan = stack
        .plan(&select("sam_ai", &["ir.actions.actions"], &[]))
        .await
        .unwrap();
    for heir in [
        "ir_act_window",
        "ir_act_server",
        "ir_act_url",
        "ir_act_report_xml",
        "ir_act_client",
    ] {
        assert_eq!(plan.task(heir).role, TableRole::Model, "{heir}");
    }
    let parts: u64 = plan
        .scope
        .tasks
        .iter()
        .filter(|task| task.role == TableRole::Model)
        .map(|task| stack.count(&plan.rows(&task.table.table.name)))
        .sum();
    assert_eq!(parts, stack.count("FROM ir_actions"));
}

#[tokio::test]
async fn a_partitioned_table_is_one_table_with_all_its_rows() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    let task = plan.task("sam_usage_event");
    assert_eq!((task.table.kind, task.table.leaves.len()), ('p', 4));
    assert_eq!(stack.count(&plan.rows("sam_usage_event")), 400);
    assert!(
        plan.find("sam_usage_event_2024").is_none() && plan.find("sam_usage_event_2023").is_none()
    );
}

#[tokio::test]
async fn each_relation_table_travels_once() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    // Shared by two fields.
    assert_eq!(
        plan.task("ai_conversation_workspace_rel").role,
        TableRole::Relation
    );
    // Also a model: once, as the model.
    let member = plan.task("sam_member_mode_rel");
    assert_eq!(
        (member.role, member.model.as_deref()),
        (TableRole::Model, Some("sam.member.mode"))
    );
    let relations = plan
        .scope
        .tasks
        .iter()
        .filter(|task| task.role == TableRole::Relation);
    for task in relations {
        let relation = task.annotations.values().next().unwrap();
        assert!(relation.1.is_some(), "{} is annotated", task.member_dir);
        assert!(task.filter.is_none());
    }
}

#[tokio::test]
async fn relation_tables_of_wizards_stay_behind() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    for (oid, uses) in &plan.registry.relations {
        let table = &plan.catalog.by_oid(*oid).unwrap().table.name;
        let wizards = uses
            .iter()
            .all(|field| plan.registry.models[&field.model].transient);
        assert!(!wizards || plan.find(table).is_none(), "{table}");
    }
}

#[tokio::test]
async fn models_the_inventory_does_not_know_travel_and_extended_ones_are_named() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    for table in [
        "ai_prompt_library",
        "sam_dream_log",
        "sam_usage_event",
        "sam_vault_entry",
    ] {
        assert_eq!(plan.task(table).role, TableRole::Model, "{table}");
    }
    // The modules of the stack extend res.users; that is no reason to take all users along.
    assert_eq!(plan.task("res_users").role, TableRole::Support);
    assert!(
        plan.scope
            .notes
            .iter()
            .any(|note| note.contains("res.users")),
        "{:?}",
        plan.scope.notes
    );
}

#[tokio::test]
async fn profile_all_is_every_table_once() {
    let stack = Stack::shared();
    let plan = stack.plan(&select("all", &[], &[])).await.unwrap();
    let tables = plan
        .scope
        .tasks
        .iter()
        .filter(|task| task.virtual_query.is_none());
    let names: std::collections::BTreeSet<_> = tables
        .clone()
        .map(|task| task.table.table.qualified())
        .collect();
    assert_eq!(names.len(), tables.clone().count());
    let expected = stack.count(
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
         AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema)'",
    );
    assert_eq!(names.len() as u64, expected);
    assert!(
        tables
            .clone()
            .all(|task| task.filter.is_none() && task.columns.is_none())
    );
    let dirs: std::collections::BTreeSet<_> = plan
        .scope
        .tasks
        .iter()
        .map(|task| &task.member_dir)
        .collect();
    assert_eq!(
        dirs.len(),
        plan.scope.tasks.len(),
        "two tables share a folder"
    );
    assert_eq!(
        plan.task("ai_conversation_history_importer").role,
        TableRole::Model
    );
}

#[tokio::test]
async fn excluded_models_stay_behind() {
    let stack = Stack::shared();
    let plan = stack
        .plan(&select("all", &[], &["ai.message", "sam.vault.*"]))
        .await
        .unwrap();
    assert!(plan.find("ai_message").is_none() && plan.find("sam_vault_entry").is_none());
    let plan = stack
        .plan(&select("sam_ai", &[], &["ai.message"]))
        .await
        .unwrap();
    // What travels refers to messages: of those only the identity.
    let message = plan.task("ai_message");
    assert!(
        message
            .columns
            .as_ref()
            .is_some_and(|columns| !columns.contains(&"content".to_owned()))
    );
}

#[tokio::test]
async fn other_schemas_hold_models_too() {
    let stack = Stack::build();
    stack
        .server
        .psql(
            common::DATABASE,
            "CREATE SCHEMA archive; CREATE TABLE archive.ai_message (id int); \
             CREATE SCHEMA \"Labor\"; ALTER TABLE sam_dream_log SET SCHEMA \"Labor\"; SELECT 1",
        )
        .unwrap();
    let plan = plan(&stack).await;
    assert_eq!(plan.task("sam_dream_log").table.table.schema, "Labor");
    assert_eq!(plan.task("ai_message").table.table.schema, "public");
    let all = stack.plan(&select("all", &[], &[])).await.unwrap();
    assert!(
        all.scope
            .tasks
            .iter()
            .any(|t| t.member_dir == "odoo_data/support/archive.ai_message/")
    );
}

#[tokio::test]
async fn a_chosen_model_whose_table_cannot_be_told_is_an_error() {
    let stack = Stack::build();
    stack
        .server
        .psql(
            common::DATABASE,
            "CREATE SCHEMA one; CREATE SCHEMA two; ALTER TABLE sam_dream_log SET SCHEMA one; \
             CREATE TABLE two.sam_dream_log (id int); SELECT 1",
        )
        .unwrap();
    let selection = select("sam_ai", &[], &[]);
    let Err(failure) = stack.plan(&selection).await else {
        panic!("it was guessed");
    };
    let text = failure.to_string();
    assert!(
        text.contains("sam.dream.log")
            && text.contains("one.sam_dream_log")
            && text.contains("two.sam_dream_log"),
        "{text}"
    );
    assert!(failure.advice().unwrap().contains("--exclude"));
    assert!(
        stack
            .plan(&select("sam_ai", &[], &["sam.dream.log"]))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_settings_of_the_application_are_found() {
    let stack = Stack::shared();
    let session = Session::connect(&stack.spec(), "test").await.unwrap();
    let config = read_memory_config(session.client()).await.unwrap().unwrap();
    assert_eq!(
        config.chroma_persist_directory.as_deref(),
        Some("./chroma_data")
    );
    assert_eq!(config.graph_name.as_deref(), Some("sam"));
    let spec = config.graph_spec().unwrap().unwrap();
    assert_eq!(spec.describe(), "127.0.0.1:5433/sam_graph as graph");
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[tokio::test]
async fn of_several_settings_the_first_active_one_counts() {
    let stack = Stack::build();
    stack
        .server
        .psql(
            common::DATABASE,
            "UPDATE ai_memory_config SET active = false; ALTER TABLE ai_memory_config DROP COLUMN graph_port; \
             INSERT INTO ai_memory_config (name, active, graph_enabled, chroma_persist_directory) \
             VALUES ('second', true, false, '/srv/chroma'); SELECT 1",
        )
        .unwrap();
    let session = Session::connect(&stack.spec(), "test").await.unwrap();
    let config = read_memory_config(session.client()).await.unwrap().unwrap();
    assert_eq!(
        config.chroma_persist_directory.as_deref(),
        Some("/srv/chroma")
    );
    assert!(config.graph_spec().unwrap().is_none());
    assert!(
        config.notes.iter().any(|note| note.contains("2 rows")),
        "{:?}",
        config.notes
    );
}

#[tokio::test]
async fn a_database_that_is_not_odoos_is_told() {
    let stack = Stack::build();
    stack.server.create_database("empty").unwrap();
    let spec = stack.spec().with_database("empty");
    let session = Session::connect(&spec, "test").await.unwrap();
    let catalog = arkstream_postgres::read_catalog(session.client())
        .await
        .unwrap();
    let failure = arkstream_odoo::registry::read_registry(session.client(), &catalog)
        .await
        .unwrap_err();
    assert!(failure.to_string().contains("ir_model"), "{failure}");
    assert!(
        read_memory_config(session.client())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn rows_said_by_their_ids_are_the_same_rows() {
    let stack = Stack::shared();
    let selection = select("sam_ai", &[], &[]);
    let plan = stack.plan(&selection).await.unwrap();
    let mut known = KnownRows::new();
    for task in plan
        .scope
        .tasks
        .iter()
        .filter(|task| task.columns.is_some())
    {
        let rows = Rows::of(task).and("true");
        let ids = stack.ask(&format!("COALESCE(string_agg(t.id::text, ' '), '') {rows}"));
        let ids = ids.split_whitespace().map(|id| id.parse().unwrap());
        known.insert(task.table.table.oid, ids.collect());
    }
    assert!(known.len() > 3, "{known:?}");
    let settled = plan.knowing(&selection, &known);
    assert_eq!(settled.tasks.len(), plan.scope.tasks.len());
    let mut said_otherwise = 0;
    for (before, now) in plan.scope.tasks.iter().zip(&settled.tasks) {
        assert_eq!(before.member_dir, now.member_dir);
        if before.filter == now.filter {
            continue;
        }
        said_otherwise += 1;
        let [before, now] = [before, now].map(|task| Rows::of(task).and("true"));
        for (one, other) in [(&before, &now), (&now, &before)] {
            let query = format!("FROM (SELECT t.ctid {one} EXCEPT SELECT t.ctid {other}) x");
            assert_eq!(stack.count(&query), 0, "{one}\n{other}");
        }
    }
    // And the external ids of what is identified.
    assert!(said_otherwise > known.len());
}
