//! `replace` and `merge` beside other models' data, and against a model of `merge` made here.

use std::collections::BTreeMap;

use super::compare::differing;
use super::stage::{Place, bundle, done, json_of, source};
use crate::support::{arkstream, run, soak};

/// Moves the ids of shared rows, so that the bundle's ids belong to other rows.
const COLLIDE: &str = r"
SET session_replication_role = replica;
DO $$ DECLARE k record; m record; BEGIN
  FOR m IN SELECT * FROM (VALUES ('ir_attachment', 7), ('mail_message', 5), ('mail_followers', 3), ('ir_model_data', 2)) v(tab, step) LOOP
    FOR k IN SELECT c.conrelid::regclass AS tab, a.attname FROM pg_constraint c
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
             WHERE c.contype = 'f' AND c.confrelid = m.tab::regclass LOOP
      EXECUTE format('UPDATE ONLY %s SET %I = %I + 100000', k.tab, k.attname, k.attname);
      EXECUTE format('UPDATE ONLY %s SET %I = %I - %s', k.tab, k.attname, k.attname, 100000 - m.step);
    END LOOP;
    EXECUTE format('UPDATE %I SET id = id + 100000', m.tab);
    EXECUTE format('UPDATE %I SET id = id - %s', m.tab, 100000 - m.step);
  END LOOP;
END $$;
UPDATE ir_attachment SET res_id = res_id + 5 WHERE res_model = 'mail.message';
UPDATE ir_config_parameter SET value = 'another-database' WHERE key = 'database.uuid';
";

/// Models that the bundle has whole, as a list for SQL.
fn models() -> String {
    let mut cat = arkstream();
    cat.arg("cat").arg(bundle()).arg("manifest.json");
    let manifest = run(&mut cat).ok().json();
    let names: Vec<String> = manifest["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .filter(|table| table["role"] == "model")
        .filter_map(|table| table["model"].as_str().map(|name| format!("'{name}'")))
        .collect();
    assert!(names.len() > 60);
    names.join(",")
}

/// Every row that belongs to no restored model, of every table that Odoo shares, and every row of
/// all tables that are not restored.
fn foreign(place: &Place) -> String {
    let models = models();
    let own = format!("SELECT id FROM mail_message WHERE model IN ({models})");
    place.sql(&format!(
        "SELECT 'a' || t::text FROM ir_attachment t WHERE res_model IS NULL OR (res_model NOT IN ({models}) \
           AND NOT (res_model = 'mail.message' AND res_id IN ({own}))) UNION ALL \
         SELECT 'm' || t::text FROM mail_message t WHERE model IS NULL OR model NOT IN ({models}) UNION ALL \
         SELECT 'f' || t::text FROM mail_followers t WHERE res_model NOT IN ({models}) UNION ALL \
         SELECT 'n' || t::text FROM mail_notification t WHERE mail_message_id NOT IN ({own}) UNION ALL \
         SELECT 'd' || t::text FROM ir_model_data t WHERE model NOT IN ({models}) \
           AND NOT (model = 'ir.sequence' AND module = 'ai_brain') UNION ALL \
         SELECT 'u' || t::text FROM res_users t UNION ALL SELECT 'p' || t::text FROM res_partner t UNION ALL \
         SELECT 'c' || t::text FROM res_company t UNION ALL SELECT 'v' || t::text FROM ir_model_fields t \
         ORDER BY 1"
    ))
}

fn lines_lost(before: &str, after: &str) -> Vec<String> {
    let after: std::collections::BTreeSet<&str> = after.lines().collect();
    before
        .lines()
        .filter(|line| !after.contains(line))
        .map(str::to_owned)
        .collect()
}

fn not_one_foreign_row_is_touched(mode: &[&str]) {
    let place = Place::copy();
    place.sql(COLLIDE);
    place.sql("UPDATE ai_message SET content = 'mine' WHERE id % 4 = 0; DELETE FROM mail_message WHERE id % 9 = 0");
    let (before, whole) = (foreign(&place), place.every_row_of_tables());
    assert!(before.lines().count() > 500);
    let report = json_of(
        place
            .rows(bundle())
            .args(mode)
            .args(["--missing-reference", "null"]),
    );
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    let lost = lines_lost(&before, &foreign(&place));
    assert!(
        lost.is_empty(),
        "{} rows: {:#?}",
        lost.len(),
        &lost[..lost.len().min(4)]
    );
    run(&mut place.after("undo")).ok();
    assert_eq!(place.every_row_of_tables(), whole);
}

#[test]
fn not_one_foreign_row_is_touched_by_a_replace() {
    not_one_foreign_row_is_touched(&["--mode", "replace", "--cascade"]);
}

#[test]
fn not_one_foreign_row_is_touched_by_a_merge() {
    not_one_foreign_row_is_touched(&["--mode", "merge", "--on-conflict", "overwrite"]);
}

#[test]
fn shared_rows_find_their_records_when_every_id_belongs_to_another_row() {
    let place = Place::copy();
    place.sql(COLLIDE);
    done(
        place
            .rows(bundle())
            .args(["--mode", "replace", "--missing-reference", "null"]),
    );
    // What belongs to a conversation is what belonged to it, whatever the ids.
    for sql in [
        "SELECT res_id, res_field, name, checksum FROM ir_attachment WHERE res_model = 'ai.conversation' ORDER BY 1, 2, 3, 4",
        "SELECT res_id, message_id, subject, author_id FROM mail_message WHERE model = 'ai.conversation' ORDER BY 1, 2",
        "SELECT res_id, partner_id FROM mail_followers WHERE res_model = 'ai.conversation' ORDER BY 1, 2",
        "SELECT module, name, model, res_id FROM ir_model_data WHERE model LIKE 'ai.%' ORDER BY 1, 2",
        "SELECT m.message_id, a.name FROM message_attachment_rel r JOIN mail_message m ON m.id = r.message_id \
         JOIN ir_attachment a ON a.id = r.attachment_id WHERE m.model = 'ai.conversation' ORDER BY 1, 2",
    ] {
        assert_eq!(place.sql(sql), source().ask(sql), "{sql}");
    }
}

/// One row of the table that merges are tried on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Usage {
    created: String,
    written: String,
    rest: String,
}

/// The rows of `ai_token_usage` by id: creation, last writing, everything else.
fn usage(database: &str) -> BTreeMap<u64, Usage> {
    let sql = "SELECT id || E'\\x1f' || COALESCE(create_date::text, '') || E'\\x1f' || COALESCE(write_date::text, '') || E'\\x1f' || \
               (to_jsonb(t) - 'id' - 'create_date' - 'write_date')::text FROM ai_token_usage t ORDER BY id";
    let text = source().server.psql(database, sql).expect("psql");
    text.lines()
        .map(|line| {
            let mut fields = line.split('\u{1f}').map(str::to_owned);
            let mut next = || fields.next().expect("a field");
            let id = next().parse().expect("a number");
            let row = Usage {
                created: next(),
                written: next(),
                rest: next(),
            };
            (id, row)
        })
        .collect()
}

/// What a merge must leave behind: rows by id, and rows that got ids of their own.
fn merged(
    ours: &BTreeMap<u64, Usage>,
    theirs: &BTreeMap<u64, Usage>,
    policy: &str,
) -> (BTreeMap<u64, Usage>, Vec<Usage>) {
    let (mut rows, mut new) = (ours.clone(), Vec::new());
    for (id, bundle) in theirs {
        match ours.get(id) {
            None => {
                rows.insert(*id, bundle.clone());
            }
            // The same number, another record.
            Some(live) if live.created != bundle.created => new.push(bundle.clone()),
            Some(live) => {
                let age = |row: &Usage| {
                    if row.written.is_empty() {
                        row.created.clone()
                    } else {
                        row.written.clone()
                    }
                };
                let wins = match policy {
                    "overwrite" => true,
                    "newest" => age(bundle) > age(live),
                    _ => false,
                };
                if wins {
                    rows.insert(*id, bundle.clone());
                }
            }
        }
    }
    new.sort();
    (rows, new)
}

#[test]
fn a_merge_equals_a_model_of_it_under_every_policy() {
    let theirs = usage(&source().odoo);
    for round in 0..soak(1u32, 12) {
        for policy in ["keep", "overwrite", "newest"] {
            let place = Place::copy();
            // Some rows gone, some written since, some of the same id created by somebody else.
            place.sql(&format!(
                "DELETE FROM ai_token_usage WHERE ('x' || substr(md5('d{round}' || id), 1, 4))::bit(16)::int % 5 = 0; \
                 UPDATE ai_token_usage SET model_name = 'changed', write_date = create_date + \
                   (('x' || substr(md5('w{round}' || id), 1, 4))::bit(16)::int - 30000) * interval '1 hour' \
                   WHERE ('x' || substr(md5('u{round}' || id), 1, 4))::bit(16)::int % 3 = 0; \
                 UPDATE ai_token_usage SET create_date = create_date + interval '1 second', model_name = 'other' \
                   WHERE ('x' || substr(md5('o{round}' || id), 1, 4))::bit(16)::int % 4 = 0"
            ));
            let ours = usage(&place.database);
            let report = json_of(place.rows(bundle()).args([
                "--mode",
                "merge",
                "--on-conflict",
                policy,
                "--models",
                "ai.token.usage",
            ]));
            assert_eq!(report["proof"]["holds"], true, "{report:#}");
            let (expected, expected_new) = merged(&ours, &theirs, policy);
            let live = usage(&place.database);
            let largest = ours.keys().chain(theirs.keys()).max().copied().unwrap_or(0);
            let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
                live.into_iter().partition(|(id, _)| *id <= largest);
            assert_eq!(old, expected, "{policy} {round}");
            let mut new: Vec<Usage> = new.into_values().collect();
            new.sort();
            assert_eq!(new, expected_new, "{policy} {round}");
            assert!(!new.is_empty());
        }
    }
}

#[test]
fn an_external_id_outweighs_an_id() {
    let place = Place::copy();
    // The record that the bundle knows under an external id stands under another id here.
    let id = source().ask(
        "SELECT min(res_id) FROM ir_model_data WHERE model = 'sam.knowledge.doc' AND module = '__import__'",
    );
    place.sql(&format!(
        "SET session_replication_role = replica; UPDATE ONLY sam_knowledge_doc SET id = 5001, name = '{{\"en_US\": \"moved\"}}' WHERE id = {id}; \
         UPDATE ir_model_data SET res_id = 5001 WHERE model = 'sam.knowledge.doc' AND res_id = {id}"
    ));
    let before = place.sql("SELECT count(*) FROM ONLY sam_knowledge_doc");
    done(place.rows(bundle()).args([
        "--mode",
        "merge",
        "--on-conflict",
        "overwrite",
        "--models",
        "sam.knowledge.doc",
        "--missing-reference",
        "null",
    ]));
    assert_eq!(
        place.sql("SELECT count(*) FROM ONLY sam_knowledge_doc"),
        before
    );
    let name = source().ask(&format!(
        "SELECT name FROM ONLY sam_knowledge_doc WHERE id = {id}"
    ));
    assert_eq!(
        place.sql("SELECT name FROM ONLY sam_knowledge_doc WHERE id = 5001"),
        name
    );
}

#[test]
fn only_the_named_models_are_restored() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine'; DELETE FROM ai_token_usage");
    done(
        place
            .rows(bundle())
            .args(["--mode", "replace", "--models", "ai.token.*"]),
    );
    assert_eq!(
        place.sql("SELECT count(*) FROM ai_message WHERE content <> 'mine'"),
        "0"
    );
    assert_eq!(
        differing(&place, &["public.ai_token_usage".to_owned()], false),
        BTreeMap::new()
    );
}

#[test]
fn deletions_that_reach_other_models_are_listed_and_need_cascade() {
    let place = Place::copy();
    place.sql(
        "INSERT INTO ai_conversation_tag (id, name) VALUES (7001, '{\"en_US\": \"extra\"}'); \
         CREATE TABLE x_beside (id int PRIMARY KEY, tag int REFERENCES ai_conversation_tag ON DELETE CASCADE, \
           other int REFERENCES ai_conversation_tag ON DELETE RESTRICT); \
         INSERT INTO x_beside VALUES (1, 7001, NULL), (2, NULL, 7001), (3, NULL, NULL); ALTER TABLE x_beside OWNER TO odoo",
    );
    let before = place.every_row();
    for more in [&[][..], &["--dry-run"]] {
        run(place.rows(bundle()).args(["--mode", "replace"]).args(more))
            .expect_code(6)
            .says(&["x_beside", "--cascade", "cascade", "restrict"]);
    }
    assert_eq!(place.every_row(), before);
    done(
        place
            .rows(bundle())
            .args(["--mode", "replace", "--cascade"]),
    );
    assert_eq!(
        place.sql("SELECT id, other FROM x_beside ORDER BY id"),
        "2|\n3|"
    );
    run(&mut place.after("undo")).ok();
    assert_eq!(place.every_row(), before);
}
