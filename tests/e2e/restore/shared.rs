//! Rows that belong to restored models in tables of all of Odoo, and references without a key.

use super::stage::{Place, bundle, done, json_of, source};

#[test]
fn a_number_that_was_given_away_is_not_given_again() {
    let (from, to) = (Place::copy(), Place::copy());
    from.sql("UPDATE ir_sequence_date_range SET number_next = 7 WHERE id = 1");
    let bundle = from.bundle();
    to.sql(
        "UPDATE ir_sequence SET number_next = 100, padding = 9 WHERE id = 3; \
         UPDATE ir_sequence_date_range SET number_next = 3 WHERE id = 1",
    );
    for mode in [
        &["--mode", "replace"][..],
        &["--mode", "merge", "--on-conflict", "overwrite"],
    ] {
        let report = json_of(
            to.rows(&bundle)
                .args(mode)
                .args(["--missing-reference", "null"]),
        );
        assert_eq!(report["proof"]["holds"], true, "{report:#}");
        assert_eq!(
            to.sql("SELECT number_next, padding FROM ir_sequence WHERE id = 3"),
            "100|4"
        );
        assert_eq!(
            to.sql("SELECT number_next FROM ir_sequence_date_range WHERE id = 1"),
            "7"
        );
    }
}

#[test]
fn links_of_a_table_without_a_key_become_the_bundles_and_foreign_ones_stay() {
    let place = Place::copy();
    let own = "message_id IN (SELECT id FROM mail_message WHERE model = 'ai.conversation')";
    let foreign = "message_id IN (SELECT id FROM mail_message WHERE model = 'sale.order')";
    place.sql(&format!(
        "ALTER TABLE message_attachment_rel DROP CONSTRAINT message_attachment_rel_pkey; \
         DELETE FROM message_attachment_rel WHERE {own} AND message_id % 2 = 0; \
         INSERT INTO message_attachment_rel SELECT id, 1 FROM mail_message WHERE model = 'ai.conversation' AND id % 3 = 1; \
         INSERT INTO message_attachment_rel SELECT id, 2 FROM mail_message WHERE model = 'sale.order'"
    ));
    let links =
        |which: &str| format!("SELECT * FROM message_attachment_rel WHERE {which} ORDER BY 1, 2");
    let (before, whole) = (place.sql(&links(foreign)), place.every_row());
    let report = json_of(place.rows(bundle()).args(["--mode", "replace"]));
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    assert_eq!(place.sql(&links(own)), source().ask(&links(own)));
    assert_eq!(place.sql(&links(foreign)), before);
    crate::support::run(&mut place.after("undo")).ok();
    assert_eq!(place.every_row(), whole);
}

#[test]
fn a_many2one_without_a_foreign_key_is_kept_where_its_row_exists() {
    let places = [Place::copy(), Place::copy()];
    for place in &places {
        place.sql(
            "ALTER TABLE ai_conversation_tag ADD COLUMN action_id int4, ADD COLUMN cost_id int4; \
             INSERT INTO ir_model_fields (id, name, model, relation, model_id, field_description, ttype, state, store) \
             SELECT 90000 + n, f, 'ai.conversation.tag', r, m.id, '{}', 'many2one', 'base', true \
             FROM (VALUES (1, 'action_id', 'ir.actions.actions'), (2, 'cost_id', 'ai.service.cost.comparison')) v(n, f, r), ir_model m \
             WHERE m.model = 'ai.conversation.tag'; \
             UPDATE ai_conversation_tag SET action_id = (SELECT min(id) FROM ir_act_window), cost_id = 1; \
             UPDATE ai_conversation_tag SET action_id = 99999 WHERE id = 2",
        );
    }
    let [from, to] = places;
    let bundle = from.bundle();
    let values = "SELECT id, action_id, cost_id FROM ai_conversation_tag WHERE id <> 2 ORDER BY id";
    to.sql("UPDATE ai_conversation_tag SET action_id = NULL, cost_id = NULL");
    done(
        to.rows(&bundle)
            .args(["--mode", "replace", "--missing-reference", "null"]),
    );
    assert_eq!(to.sql(values), from.sql(values));
    assert_eq!(
        to.sql("SELECT action_id IS NULL FROM ai_conversation_tag WHERE id = 2"),
        "t"
    );
}

#[test]
fn links_that_lead_astray_are_counted() {
    let (from, to) = (Place::copy(), Place::copy());
    from.sql("UPDATE ai_message SET content = 'see /web/image/777777' WHERE id = 14");
    let bundle = from.bundle();
    let links = || {
        let plan = json_of(to.rows(&bundle).args([
            "--mode",
            "replace",
            "--dry-run",
            "--missing-reference",
            "null",
        ]));
        let references = plan["plan"]["components"]["models"]["references"].clone();
        let references = references.as_array().expect("a list");
        let found = references
            .iter()
            .find(|r| r["from"] == "public.ai_message.content");
        found.map(|r| {
            (
                r["unmapped"].as_u64(),
                r["examples"].to_string(),
                r["lost"].clone(),
            )
        })
    };
    // In the database that it came from, an attachment that the bundle does not have may be there.
    assert!(links().is_none_or(|(unmapped, ..)| unmapped == Some(0)));
    to.sql("UPDATE ir_config_parameter SET value = 'another-database' WHERE key = 'database.uuid'");
    let (unmapped, examples, lost) = links().expect("links of messages");
    assert!(unmapped >= Some(1), "{unmapped:?}");
    assert!(examples.contains("/web/image/777777"), "{examples}");
    assert_eq!(lost, "kept");
}
