//! Rows of a sample Odoo, streamed as a backup streams them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use arkstream_format::{Component, ModelEntry, ModelStatus, ReferenceCheck};
use arkstream_odoo::inventory::inventory;
use arkstream_odoo::order::import_order_of;
use arkstream_odoo::{ModelsSource, Odoo, OdooOptions};
use arkstream_pipeline::{Failure, FailureKind, Run, Source, SourceReport};
use arkstream_postgres::SharedSnapshot;

use common::{Backup, Stack, backup, omitted, runs, select, whole};

fn entries(backup: &Backup) -> BTreeMap<String, ModelEntry> {
    backup
        .odoo
        .model_list()
        .into_iter()
        .map(|entry| (entry.model.clone(), entry))
        .collect()
}

fn check<'a>(report: &'a SourceReport, from: &str, to: &str) -> &'a ReferenceCheck {
    report
        .references
        .iter()
        .find(|check| check.from == from && check.to == to)
        .unwrap_or_else(|| panic!("{from} → {to} is not counted: {:?}", report.references))
}

#[tokio::test]
async fn every_model_of_the_inventory_is_accounted_for() {
    let stack = Stack::shared();
    let backup = whole(&stack).await;
    let list = backup.odoo.model_list();
    for entry in inventory() {
        let found = list
            .iter()
            .filter(|model| model.inventory_name.as_ref().unwrap_or(&model.model) == &entry.model);
        assert_eq!(found.count(), 1, "{}", entry.model);
    }
    let models = entries(&backup);
    for (model, status) in [
        ("ai.message", ModelStatus::Exported),
        ("n8n.menu.debug", ModelStatus::Empty),
        ("ai.service", ModelStatus::Abstract),
        ("ai.context.builder", ModelStatus::Abstract),
        ("ai.graph.service", ModelStatus::Abstract),
        ("ai.vector.service", ModelStatus::Abstract),
        ("ai.document.extractor", ModelStatus::Abstract),
        ("ai.service.cost.comparison", ModelStatus::View),
        ("ai.registry.watcher", ModelStatus::View),
        ("n8n.simple.extractor", ModelStatus::Transient),
        ("canvas_pan_move", ModelStatus::Absent),
        ("sam.dream.log", ModelStatus::Exported),
    ] {
        assert_eq!(
            models[model].status, status,
            "{model}: {}",
            models[model].reason
        );
        assert!(!models[model].reason.is_empty());
    }
    assert_eq!(
        models["workflow.connection"].inventory_name.as_deref(),
        Some("connections")
    );
    assert_eq!(models["workflow.connection"].priority, "critical");
    assert_eq!(models["sam.dream.log"].category, "Other");
    assert!(!models.contains_key("connections"));
}

#[tokio::test]
async fn rows_are_counted_as_the_database_counts_them() {
    let stack = Stack::shared();
    let backup = whole(&stack).await;
    let mut compared = 0;
    for model in backup
        .odoo
        .model_list()
        .iter()
        .filter(|model| model.table.is_some())
    {
        let (schema, table) = model.table.as_ref().unwrap().split_once('.').unwrap();
        let only = if table == "sam_usage_event" {
            ""
        } else {
            "ONLY"
        };
        let expected = stack.count(&format!("FROM {only} \"{schema}\".\"{table}\""));
        assert_eq!(model.rows, expected, "{}", model.model);
        assert_eq!(model.status == ModelStatus::Empty, expected == 0);
        assert!(
            !backup
                .sink
                .names(&format!("odoo_data/models/{}/", model.model))
                .is_empty(),
            "{}",
            model.model
        );
        compared += 1;
    }
    assert!(compared > 70, "{compared}");
    assert!(omitted(&backup.run.omissions(), Component::Models).is_empty());
}

#[tokio::test]
async fn profile_all_streams_every_row_of_every_table() {
    let stack = Stack::shared();
    let backup = backup(&stack, select("all", &[], &[]), stack.filestore.path())
        .await
        .unwrap();
    for entry in backup
        .report
        .tables
        .iter()
        .filter(|entry| entry.table != "sequences")
    {
        let (schema, table) = entry.table.split_once('.').unwrap();
        let only = if table == "sam_usage_event" {
            ""
        } else {
            "ONLY"
        };
        assert_eq!(
            entry.rows,
            stack.count(&format!("FROM {only} \"{schema}\".\"{table}\"")),
            "{}",
            entry.table
        );
        assert!(entry.columns_left_out.is_empty() && entry.filter.is_none());
    }
    let sequences = backup
        .report
        .tables
        .iter()
        .find(|entry| entry.table == "sequences")
        .unwrap();
    assert_eq!(sequences.rows, stack.count("FROM pg_sequences"));
    let models = entries(&backup);
    assert_eq!(
        models["ir.actions.actions"].table.as_deref(),
        Some("public.ir_actions")
    );
    assert_eq!(models["res.users"].status, ModelStatus::Exported);
}

#[tokio::test]
async fn a_dry_run_lists_models_without_calling_them_empty() {
    let stack = Stack::shared();
    let odoo = Odoo::new(stack.spec(), OdooOptions::default());
    assert!(odoo.planned_model_list().await.is_empty());
    let plan = odoo.models().plan().await.unwrap();
    assert!(
        plan.bytes() > 0
            && plan
                .items
                .iter()
                .any(|item| item.name == "odoo_data/models/ai.message")
    );
    let list = odoo.planned_model_list().await;
    let message = list
        .iter()
        .find(|model| model.model == "ai.message")
        .unwrap();
    assert_eq!((message.status, message.rows), (ModelStatus::Exported, 0));
    assert!(list.iter().all(|model| model.status != ModelStatus::Empty));
}

#[tokio::test]
async fn columns_that_are_no_field_are_in_the_bundle_and_fields_are_annotated() {
    let stack = Stack::shared();
    let backup = whole(&stack).await;
    let table = |name: &str| {
        backup
            .report
            .tables
            .iter()
            .find(|entry| entry.table == name)
            .unwrap()
    };
    let column = |table_name: &str, name: &str| {
        table(table_name)
            .columns
            .iter()
            .find(|column| column.name == name)
            .cloned()
    };
    let secret = column("public.api_service_provider", "api_key_encrypted").unwrap();
    assert_eq!(secret.odoo_type, None);
    let author = column("public.ai_message", "conversation_id").unwrap();
    assert_eq!(author.odoo_type.as_deref(), Some("many2one"));
    assert_eq!(author.relation.as_deref(), Some("ai.conversation"));
    let users = table("public.res_users");
    assert!(
        users.columns_left_out.contains(&"password".to_owned()),
        "{:?}",
        users.columns_left_out
    );
    assert!(users.filter.is_some() && users.rows > 0);
}

#[tokio::test]
async fn row_level_security_loses_no_row() {
    let stack = Stack::shared();
    let models = entries(&whole(&stack).await);
    assert_eq!(
        (
            models["sam.private.note"].rows,
            models["sam.vault.entry"].rows
        ),
        (30, 20)
    );
}

#[tokio::test]
async fn the_import_order_goes_by_groups_that_form_cycles() {
    let stack = Stack::shared();
    let backup = whole(&stack).await;
    let groups = import_order_of(&backup.report.tables);
    let group = |table: &str| {
        groups
            .iter()
            .position(|group| group.iter().any(|name| name == table))
            .unwrap()
    };
    assert_eq!(
        group("public.ai_conversation"),
        group("public.ai_message"),
        "they refer to each other"
    );
    for entry in &backup.report.tables {
        for key in &entry.foreign_keys {
            if groups.iter().flatten().any(|name| *name == key.references) {
                assert!(
                    group(&key.references) <= group(&entry.table),
                    "{} → {}",
                    entry.table,
                    key.references
                );
            }
        }
    }
    let models = entries(&backup);
    let orders: BTreeSet<_> = models
        .values()
        .filter_map(|model| model.import_order)
        .collect();
    let with_table = models
        .values()
        .filter(|model| model.table.is_some())
        .count();
    assert_eq!(
        orders.len(),
        with_table,
        "an order is missing or taken twice"
    );
}

#[tokio::test]
async fn loose_references_are_counted_and_dangling_ones_told() {
    let stack = Stack::shared();
    let backup = whole(&stack).await;
    let report = &backup.report;
    let attachments = check(report, "ir_attachment.res_id", "ai.conversation");
    assert!(attachments.total > 1);
    let gone = stack.count(
        "FROM ir_attachment a WHERE res_model = 'ai.conversation' AND res_id <> 0 \
         AND NOT EXISTS (SELECT FROM ai_conversation c WHERE c.id = a.res_id)",
    );
    assert!(gone > 0);
    assert_eq!(attachments.dangling, gone);
    let ids = check(report, "ir_model_data.res_id", "ai.agent.registry");
    assert_eq!(ids.dangling, 1);
    assert!(check(report, "mail_message.res_id", "ai.conversation").total > 0);
    // `reference` texts, one to a record that is gone and one to a model that never was.
    assert!(check(report, "ai_conversation.record_ref", "ai.agent.registry").dangling >= 1);
    let nowhere = check(report, "ai_conversation.record_ref", "(no such model)");
    assert_eq!((nowhere.total, nowhere.dangling), (1, 1));
    let path = check(report, "sam_mode_context.parent_path", "sam.mode.context");
    assert!(path.total > 3 && path.dangling == 0, "{path:?}");
    // Ids inside company-dependent JSON; `{"1": null}` is none.
    let json = check(
        report,
        "ai_workspace.default_provider_id",
        "api.service.provider",
    );
    let expected = stack.count(
        "FROM ai_workspace, jsonb_each(default_provider_id) v WHERE jsonb_typeof(v.value) = 'number'",
    );
    assert!(expected > 0);
    assert_eq!(json.total, expected);
    // A row of an inheriting table is not missing.
    let docs = report
        .references
        .iter()
        .find(|c| c.from == "ir_attachment.res_id" && c.to == "sam.knowledge.doc")
        .unwrap();
    let missing = stack.count(
        "FROM ir_attachment a WHERE res_model = 'sam.knowledge.doc' AND res_id <> 0 \
         AND NOT EXISTS (SELECT FROM sam_knowledge_doc d WHERE d.id = a.res_id)",
    );
    assert_eq!(docs.dangling, missing);
}

/// How often a table was read as a whole.
async fn scans(stack: &Stack, table: &str) -> u64 {
    // What a connection read is counted when it ends.
    while stack.ask("count(*) FROM pg_stat_activity WHERE application_name LIKE 'arkstream%'")
        != "0"
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let scans = format!("seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'");
    stack.ask(&scans).parse().unwrap()
}

#[tokio::test]
async fn who_is_referred_to_is_asked_once_and_not_in_every_query() {
    let stack = Stack::build();
    let before = scans(&stack, "sam_mode_context").await;
    drop(whole(&stack).await);
    let read = scans(&stack, "sam_mode_context").await - before;
    // Its rows, what proves them, its references, and users that it names.
    assert!((3..=8).contains(&read), "{read} times");
}

#[tokio::test]
async fn a_shared_snapshot_outlives_the_rows_until_the_release() {
    let stack = Stack::shared();
    let shared = SharedSnapshot::default();
    let odoo = Odoo::new(
        stack.spec(),
        OdooOptions {
            selection: select("sam_ai", &["sam.private.note"], &[]),
            ..OdooOptions::default()
        },
    )
    .share_snapshot(shared.clone());
    let (_sink, run) = runs();
    let mut models = odoo.models();
    models.plan().await.unwrap();
    models.lock(&run).await.unwrap();
    let entry = models.snapshot(&run).await.unwrap().unwrap();
    assert_eq!(shared.get().as_deref(), Some(entry.snapshot.as_str()));
    models.stream(&run).await.unwrap();
    let import = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'; SELECT 1",
        entry.snapshot
    );
    stack
        .server
        .psql(common::DATABASE, &import)
        .expect("the snapshot is still there");
    models.release().await;
    models.release().await;
    assert_eq!(shared.get(), None);
    assert!(stack.server.psql(common::DATABASE, &import).is_err());
    assert_eq!(odoo.facts().odoo_version, "18.0");
    assert_eq!(odoo.facts().database, "odoo");
    assert!(!odoo.facts().postgres_version.is_empty());
}

/// The steps from the plan to the stream.
async fn barrier(models: &mut ModelsSource, run: &Run) -> Result<(), Failure> {
    models.lock(run).await?;
    models.snapshot(run).await?;
    models.confirm(run).await
}

/// Nothing of the plan changed, yet the bundle would lack rows.
#[tokio::test]
async fn a_table_that_appears_after_the_plan_is_not_lost() {
    let stack = Stack::build();
    let odoo = Odoo::new(stack.spec(), OdooOptions::default());
    let (_sink, run) = runs();
    let mut models = odoo.models();
    models.plan().await.unwrap();
    stack
        .server
        .psql(
            common::DATABASE,
            "CREATE TABLE sam_dream_log_late (CHECK (id > 0)) INHERITS (sam_dream_log); \
             INSERT INTO sam_dream_log_late (id, name) VALUES (900001, 'late'); SELECT 1",
        )
        .unwrap();
    assert_eq!(
        barrier(&mut models, &run).await.unwrap_err().kind,
        FailureKind::Retry
    );
    models.release().await;
    models.plan().await.unwrap();
    barrier(&mut models, &run).await.unwrap();
    let report = models.stream(&run).await.unwrap();
    let late = report
        .tables
        .iter()
        .find(|table| table.table == "public.sam_dream_log_late");
    assert_eq!(late.map(|table| table.rows), Some(1));
}

#[tokio::test]
async fn a_table_that_changed_since_the_plan_asks_for_another_try() {
    let stack = Stack::build();
    let odoo = Odoo::new(stack.spec(), OdooOptions::default());
    let (_sink, run) = runs();
    let mut models = odoo.models();
    models.plan().await.unwrap();
    stack
        .server
        .psql(
            common::DATABASE,
            "ALTER TABLE sam_dream_log ADD COLUMN later int; SELECT 1",
        )
        .unwrap();
    assert_eq!(
        barrier(&mut models, &run).await.unwrap_err().kind,
        FailureKind::Retry
    );
    models.release().await;
    models.plan().await.unwrap();
    barrier(&mut models, &run).await.unwrap();
    models.stream(&run).await.unwrap();
    let list = odoo.model_list();
    assert!(
        list.iter()
            .any(|model| model.model == "sam.dream.log" && model.rows > 0)
    );
}
