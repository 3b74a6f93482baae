//! What travels with the models, and what of it: decided on a sample that holds every trap.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use arkstream_odoo::scope::identity_columns;

use common::{Plan, Stack, select};

async fn plan(stack: &Stack) -> Plan {
    stack.plan(&select("sam_ai", &[], &[])).await.unwrap()
}

#[tokio::test]
async fn secrets_in_columns_that_are_no_field_travel_with_the_table_but_not_with_identity_rows() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    // A chosen model's table is exported as it is, a column without a field included.
    let provider = plan.task("api_service_provider");
    assert!(provider.columns.is_none() && provider.table.column("api_key_encrypted").is_some());
    // Of users only what identifies them.
    let users = plan.task("res_users").columns.clone().unwrap();
    assert!(
        users.contains(&"login".to_owned()) && users.contains(&"partner_id".to_owned()),
        "{users:?}"
    );
    for secret in ["password", "totp_secret"] {
        assert!(
            plan.task("res_users").table.column(secret).is_some(),
            "the sample has {secret}"
        );
        assert!(!users.iter().any(|column| column == secret));
    }
    // Whatever table an identity is taken of.
    for table in plan.catalog.tables() {
        for column in identity_columns(table) {
            let lower = column.to_lowercase();
            for word in [
                "password",
                "passwd",
                "secret",
                "token",
                "api_key",
                "totp",
                "salt",
                "hash",
                "signature",
            ] {
                assert!(
                    !lower.contains(word),
                    "{}.{column}",
                    table.table.qualified()
                );
            }
            let keys =
                ["res_users_apikeys", "auth_totp_device"].contains(&table.table.name.as_str());
            assert!(
                !(keys && column == "key"),
                "{}.{column}",
                table.table.qualified()
            );
        }
    }
}

#[tokio::test]
async fn identity_rows_are_those_that_are_referred_to_and_their_partners() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    let users = plan.rows("res_users");
    assert_eq!(
        stack.count(&format!(
            "FROM (SELECT user_id FROM sam_member UNION SELECT create_uid FROM ai_message UNION SELECT user_id FROM sam_usage_event) r \
             WHERE user_id IS NOT NULL AND user_id NOT IN (SELECT t.id {users})"
        )),
        0
    );
    let partners = plan.rows("res_partner");
    assert_eq!(stack.count(&format!("FROM res_users u WHERE u.id IN (SELECT t.id {users}) AND u.partner_id NOT IN (SELECT t.id {partners})")), 0);
    assert!(
        stack.count(&partners) < stack.count("FROM res_partner"),
        "all partners travel"
    );
    // Nothing that is exported refers to orders.
    assert!(plan.find("sale_order").is_none());
    // External ids of identity rows come along, those of other rows do not.
    let ids = plan.rows("ir_model_data");
    assert_eq!(
        stack.count(&format!(
            "{ids} AND t.model = 'res.users' AND t.name = 'user_admin'"
        )),
        1
    );
    assert_eq!(stack.count(&format!("{ids} AND t.model = 'sale.order'")), 0);
    assert_eq!(
        stack.count(&format!("{ids} AND t.model = 'ai.agent.registry'")),
        stack.count("FROM ir_model_data WHERE model = 'ai.agent.registry'")
    );
}

#[tokio::test]
async fn filters_stay_readable_however_they_build_on_each_other() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    for task in &plan.scope.tasks {
        let length = task.filter.as_ref().map_or(0, String::len);
        assert!(length < 64 << 10, "{}: {length} bytes", task.member_dir);
    }
}

#[tokio::test]
async fn stored_binary_fields_without_a_column_travel_as_attachments() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    let rows = plan.rows("ir_attachment");
    let own = "res_model = 'sam.knowledge.doc' AND res_field = 'file_data'";
    assert_eq!(
        stack.count(&format!("{rows} AND {own}")),
        stack.count(&format!("FROM ir_attachment WHERE {own}"))
    );
    assert_eq!(
        stack.count(&format!(
            "{rows} AND res_model = 'res.partner' AND res_field IS NOT NULL"
        )),
        0
    );
    // Of others' attachments only those that hang on travelling messages.
    let strangers = stack.count(&format!("{rows} AND res_model = 'sale.order'"));
    let hanging = stack.count(&format!(
        "FROM ir_attachment a WHERE a.res_model = 'sale.order' AND a.id IN (SELECT r.attachment_id FROM message_attachment_rel r \
         WHERE r.message_id IN (SELECT t.id {}))",
        plan.rows("mail_message")
    ));
    assert_eq!(strangers, hanging);
    assert_eq!(plan.scope.attachments.as_ref().unwrap().and("true"), rows);
}

#[tokio::test]
async fn chatter_travels_where_the_model_has_it_and_what_hangs_on_it() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    let messages = plan.rows("mail_message");
    assert_eq!(
        stack.count(&format!("{messages} AND model = 'ai.conversation'")),
        stack.count("FROM mail_message WHERE model = 'ai.conversation'")
    );
    assert_eq!(
        stack.count(&format!(
            "{messages} AND (model IS NULL OR model = 'sale.order')"
        )),
        0
    );
    for (table, column) in [
        ("mail_notification", "mail_message_id"),
        ("mail_tracking_value", "mail_message_id"),
        ("mail_message_res_partner_rel", "mail_message_id"),
        ("message_attachment_rel", "message_id"),
    ] {
        let expected = stack.count(&format!(
            "FROM {table} WHERE {column} IN (SELECT t.id {messages})"
        ));
        assert!(expected > 0, "{table}");
        assert_eq!(stack.count(&plan.rows(table)), expected, "{table}");
    }
    let followers = plan.rows("mail_followers");
    assert_eq!(
        stack.count(&format!(
            "{followers} AND res_model IN ('sale.order', 'res.partner')"
        )),
        0
    );
    let subtypes = stack.count(&format!(
        "FROM mail_followers_mail_message_subtype_rel WHERE mail_followers_id IN (SELECT t.id {followers})"
    ));
    assert_eq!(
        stack.count(&plan.rows("mail_followers_mail_message_subtype_rel")),
        subtypes
    );
    assert!(stack.count(&plan.rows("mail_activity")) > 0);
}

#[tokio::test]
async fn defaults_of_company_dependent_fields_travel() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    let rows = plan.rows("ir_default");
    let wanted = "FROM ir_default d JOIN ir_model_fields f ON f.id = d.field_id WHERE f.model ~ '^(ai|sam)\\.'";
    assert!(stack.count(wanted) > 0);
    assert_eq!(
        stack.count(&format!("{wanted} AND d.id NOT IN (SELECT t.id {rows})")),
        0
    );
}

#[tokio::test]
async fn document_numbering_travels_with_its_sequence() {
    let stack = Stack::shared();
    let plan = plan(&stack).await;
    let sql = plan
        .scope
        .tasks
        .iter()
        .find_map(|task| task.virtual_query.as_ref())
        .map(|query| query.sql.clone())
        .unwrap();
    let row = |name: &str| {
        stack.ask(&format!("concat_ws('|', last_value, is_called, owned_by, ir_sequence_id, date_range_id, restore) FROM ({sql}) s WHERE name = '{name}'"))
    };
    let message = stack.ask("last_value || '|t|public.ai_message.id|t' FROM ai_message_id_seq");
    assert_eq!(row("ai_message_id_seq"), message);
    let in_scope = stack.ask(&format!(
        "string_agg(t.id::text, ' ' ORDER BY t.id) {}",
        plan.rows("ir_sequence")
    ));
    let all = stack.ask("string_agg(id::text, ' ' ORDER BY id) FROM ir_sequence");
    assert_ne!(in_scope, all, "every sequence travels");
    let numbered = stack.ask(&format!("string_agg(DISTINCT ir_sequence_id::text, ' ') FROM ({sql}) s WHERE ir_sequence_id IS NOT NULL"));
    for id in numbered.split(' ') {
        assert!(
            in_scope.split(' ').any(|known| known == id),
            "{id} of {in_scope}"
        );
    }
    assert_eq!(row("ir_sequence_002"), "777|t|2|t");
    assert_eq!(
        stack.count(&format!("FROM ({sql}) s WHERE name = 'ir_sequence_001'")),
        0
    );
    // A range that was never used: its value was not called.
    assert_eq!(
        stack.ask(&format!(
            "is_called FROM ({sql}) s WHERE name = 'ir_sequence_004_002'"
        )),
        "f"
    );
    assert_eq!(
        stack.ask(&format!(
            "bool_or(restore) FROM ({sql}) s WHERE name ~ '^base_(registry|cache)_signaling'"
        )),
        "f"
    );
}
