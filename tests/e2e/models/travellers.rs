//! What travels with the models: attachments and their files, chatter, external ids, references.

use std::collections::{BTreeMap, BTreeSet};

use super::{ids, ids_of, models_with, number, sql_list, text};
use crate::support::{Bundle, Profile, Stack, arkstream, files_below, run, scratch, sh};

fn chosen(bundle: &Bundle) -> String {
    sql_list(&models_with(
        bundle,
        &["exported", "empty", "abstract", "view"],
    ))
}

/// The ids of the bundle's rows of a support table are those that this query gives.
#[track_caller]
fn holds_exactly(bundle: &Bundle, table: &str, sql: &str) -> BTreeSet<u64> {
    let found = ids(&bundle.rows(&format!("odoo_data/support/{table}")), "id");
    let expected = ids_of(&Stack::shared().ask(sql));
    assert_eq!(found, expected, "{table}");
    assert!(!found.is_empty(), "{table}");
    found
}

/// Attachments of chosen models and of messages that travel; nothing of others.
fn attachments_sql(models: &str) -> String {
    format!(
        "SELECT id FROM ir_attachment WHERE res_model IN ({models}) UNION \
         SELECT r.attachment_id FROM message_attachment_rel r JOIN mail_message m ON m.id = r.message_id \
         WHERE m.model IN ({models})"
    )
}

#[test]
fn attachments_of_chosen_models_travel_and_no_others() {
    let bundle = Bundle::shared(Profile::SamAi);
    let models = chosen(bundle);
    holds_exactly(bundle, "ir_attachment", &attachments_sql(&models));
    // The shared sample has foreign ones that nothing leads to.
    let left = format!(
        "SELECT count(*) FROM ir_attachment WHERE id NOT IN ({})",
        attachments_sql(&models)
    );
    assert!(Stack::shared().ask(&left).parse::<u64>().expect("a number") > 20);
}

#[test]
fn attachments_of_all_four_shapes_travel() {
    let rows = Bundle::shared(Profile::SamAi).rows("odoo_data/support/ir_attachment");
    let shape = |row: &&serde_json::Value| {
        let has = |column: &str| !row[column].is_null();
        (has("store_fname"), has("db_datas"), has("url"))
    };
    let shapes: BTreeSet<_> = rows.iter().map(|row| shape(&row)).collect();
    for wanted in [
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (false, false, false),
    ] {
        assert!(
            shapes.contains(&wanted),
            "{wanted:?} is missing from {shapes:?}"
        );
    }
    // Binary fields live in attachments with a `res_field`, which Odoo's own search hides.
    assert!(
        rows.iter()
            .any(|row| row["res_field"] == "file_data" && row["res_model"] == "sam.knowledge.doc")
    );
    let inline = rows
        .iter()
        .find(|row| !row["db_datas"].is_null())
        .expect("one in the database");
    assert_eq!(text(&inline["db_datas"]).len(), 36, "{inline}");
}

#[test]
fn the_filestore_is_exactly_the_files_that_travelling_attachments_name() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = bundle.dir.join("odoo_data/filestore");
    let files: BTreeSet<String> = files_below(&folder).into_iter().collect();
    let rows = bundle.rows("odoo_data/support/ir_attachment");
    let named: BTreeSet<String> = rows
        .iter()
        .filter_map(|row| row["store_fname"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(files, named);
    let in_rows = rows
        .iter()
        .filter(|row| !row["store_fname"].is_null())
        .count();
    assert!(in_rows > named.len(), "files are shared by attachments");
    // Each file's name is the SHA-1 of its bytes: the check that costs nothing.
    let list: String = files
        .iter()
        .map(|name| format!("{}  {name}\n", name.rsplit('/').next().expect("a name")))
        .collect();
    let sums = stack.dir.join("filestore.sha1");
    std::fs::write(&sums, list).expect("a file");
    sh(&folder, &format!("sha1sum --quiet -c '{}'", sums.display()));
    for orphan in &stack.odoo_report.filestore_orphans {
        assert!(!files.contains(orphan), "{orphan}");
    }
    let log = std::fs::read_to_string(bundle.dir.join("logs/export_log.txt")).expect("a log");
    assert!(
        log.contains("3 files that no attachment names"),
        "orphans are counted"
    );
}

#[test]
fn the_whole_database_brings_the_whole_filestore_orphans_aside() {
    let bundle = Bundle::shared(Profile::All);
    let files = files_below(&bundle.dir.join("odoo_data/filestore"));
    assert_eq!(
        files.len() as u64,
        Stack::shared().odoo_report.filestore_files
    );
}

#[test]
fn orphans_of_the_filestore_travel_when_they_are_asked_for() {
    let stack = Stack::shared();
    let path = scratch("orphans").join("bundle.zip");
    let mut command = arkstream();
    command.args([
        "backup",
        "--json",
        "--progress",
        "none",
        "--no-graph",
        "--no-chroma",
    ]);
    command.args([
        "--models",
        "ai.message",
        "--include-orphans",
        "--odoo-db",
        &stack.url(&stack.odoo),
    ]);
    command
        .arg("--filestore")
        .arg(&stack.filestore)
        .arg("--out")
        .arg(&path);
    let run = run(&mut command).ok();
    let bundle = Bundle::open(path, run.json(), run.stderr);
    let files = files_below(&bundle.dir.join("odoo_data/filestore"));
    for orphan in &stack.odoo_report.filestore_orphans {
        assert!(files.contains(orphan), "{orphan} is not in {files:?}");
    }
    // Odoo's list of candidates for its collector is no file of anybody's.
    assert!(
        !files.iter().any(|name| name.starts_with("checklist/")),
        "{files:?}"
    );
}

#[test]
fn messages_followers_and_activities_of_chosen_models_travel_and_no_others() {
    let bundle = Bundle::shared(Profile::SamAi);
    let models = chosen(bundle);
    let messages = format!("SELECT id FROM mail_message WHERE model IN ({models})");
    holds_exactly(bundle, "mail_message", &messages);
    holds_exactly(
        bundle,
        "mail_followers",
        &format!("SELECT id FROM mail_followers WHERE res_model IN ({models})"),
    );
    holds_exactly(
        bundle,
        "mail_activity",
        &format!("SELECT id FROM mail_activity WHERE res_model IN ({models})"),
    );
    // What hangs on them follows.
    for table in ["mail_notification", "mail_tracking_value"] {
        let sql = format!("SELECT id FROM {table} WHERE mail_message_id IN ({messages})");
        holds_exactly(bundle, table, &sql);
    }
    let recipients = bundle
        .rows("odoo_data/support/mail_message_res_partner_rel")
        .len();
    let sql = format!(
        "SELECT count(*) FROM mail_message_res_partner_rel WHERE mail_message_id IN ({messages})"
    );
    assert_eq!(recipients.to_string(), Stack::shared().ask(&sql));
}

#[test]
fn external_ids_are_those_of_what_travels() {
    let bundle = Bundle::shared(Profile::SamAi);
    let rows = bundle.rows("odoo_data/support/ir_model_data");
    let models: BTreeSet<&str> = rows.iter().map(|row| text(&row["model"])).collect();
    for foreign in ["sale.order", "product.product", "res.lang"] {
        assert!(!models.contains(foreign), "{foreign}");
    }
    let of_chosen = format!(
        "SELECT id FROM ir_model_data WHERE model IN ({})",
        chosen(bundle)
    );
    let found = ids(&rows, "id");
    let expected = ids_of(&Stack::shared().ask(&of_chosen));
    assert!(
        found.is_superset(&expected),
        "{:?}",
        expected.difference(&found)
    );
    // Rows that are referred to and do not travel are known again by these.
    for (model, folder) in [
        ("res.users", "res_users"),
        ("res.partner", "res_partner"),
        ("res.company", "res_company"),
    ] {
        let known = ids(&bundle.rows(&format!("odoo_data/support/{folder}")), "id");
        for row in rows.iter().filter(|row| row["model"] == model) {
            assert!(known.contains(&number(&row["res_id"])), "{row}");
        }
        assert!(models.contains(model), "{model}");
    }
}

#[test]
fn rows_that_models_refer_to_are_identified() {
    let bundle = Bundle::shared(Profile::SamAi);
    let users = bundle.rows("odoo_data/support/res_users");
    let referred = ids_of(&Stack::shared().ask(
        "SELECT user_id FROM ai_conversation WHERE user_id IS NOT NULL UNION \
         SELECT create_uid FROM ai_message WHERE create_uid IS NOT NULL",
    ));
    assert!(ids(&users, "id").is_superset(&referred));
    let admin = users
        .iter()
        .find(|row| row["id"] == 2)
        .expect("the administrator");
    assert_eq!(admin["login"], "admin");
    let partners = ids(&bundle.rows("odoo_data/support/res_partner"), "id");
    for user in &users {
        assert!(partners.contains(&number(&user["partner_id"])), "{user}");
    }
}

/// References without a foreign key are counted over the rows that travel, and those that point
/// nowhere are told.
#[test]
fn loose_references_are_counted_and_dangling_ones_told() {
    let bundle = Bundle::shared(Profile::SamAi);
    let manifest = bundle.json("manifest.json");
    let found: BTreeMap<(&str, &str), (u64, u64)> = manifest["references"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|check| {
            (
                (text(&check["from"]), text(&check["to"])),
                (number(&check["total"]), number(&check["dangling"])),
            )
        })
        .collect();
    let count = |sql: &str| Stack::shared().ask(sql).parse::<u64>().expect("a number");
    for (from, to, total, dangling) in [
        ("ai_conversation.record_ref", "ai.agent.registry", 1, 1),
        ("ai_conversation.record_ref", "(no such model)", 1, 1),
        ("ai_conversation.record_ref", "sale.order", 1, 0),
        (
            "ir_model_data.res_id",
            "ai.agent.registry",
            count("SELECT count(*) FROM ir_model_data WHERE model = 'ai.agent.registry'"),
            1,
        ),
        (
            "ir_attachment.res_id",
            "ai.conversation",
            count(
                "SELECT count(*) FROM ir_attachment WHERE res_model = 'ai.conversation' AND res_id > 0",
            ),
            1,
        ),
        (
            "mail_message.res_id",
            "sam.member",
            count("SELECT count(*) FROM mail_message WHERE model = 'sam.member'"),
            0,
        ),
        (
            "mail_followers.res_id",
            "canvas",
            count("SELECT count(*) FROM mail_followers WHERE res_model = 'canvas'"),
            0,
        ),
        // {"1": 5}, {"1": 4, "2": 99999} …: ids inside JSON are references too.
        (
            "ai_workspace.default_provider_id",
            "api.service.provider",
            count(
                "SELECT count(*) FROM ai_workspace, jsonb_each(default_provider_id) v WHERE jsonb_typeof(v.value) = 'number'",
            ),
            1,
        ),
        (
            "sam_mode_context.parent_path",
            "sam.mode.context",
            count(
                "SELECT sum(cardinality(string_to_array(parent_path, '/')) - 1) FROM sam_mode_context",
            ),
            0,
        ),
    ] {
        assert_eq!(
            found.get(&(from, to)),
            Some(&(total, dangling)),
            "{from} -> {to}"
        );
    }
}
