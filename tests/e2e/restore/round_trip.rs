//! Everything destroyed, everything back.

use super::compare::{differing, whole_tables};
use super::stage::{Place, bundle, done, json_of, source};
use crate::support::{arkstream, run};

fn manifest() -> serde_json::Value {
    let mut cat = arkstream();
    cat.arg("cat").arg(bundle()).arg("manifest.json");
    run(&mut cat).ok().json()
}

/// Empties the stack's tables, as a fresh installation of the same modules has them.
fn empty(place: &Place, tables: &[String]) {
    let names: Vec<String> = tables
        .iter()
        .map(|table| {
            let (schema, name) = table.split_once('.').expect("a schema");
            format!("DELETE FROM \"{schema}\".\"{name}\"")
        })
        .collect();
    place.sql(&format!(
        "SET session_replication_role = replica; {}",
        names.join("; ")
    ));
}

#[test]
fn every_row_comes_back_into_a_database_with_other_ids_of_users_and_companies() {
    let tables = whole_tables(&manifest());
    assert!(tables.len() > 80, "{}", tables.len());
    let place = Place::shifted();
    empty(&place, &tables);
    let report = json_of(place.rows(bundle()).args(["--missing-reference", "null"]));
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    assert!(report["inserted"].as_u64().expect("a number") > 2000);
    let different = differing(&place, &tables, true);
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn rows_over_rows_of_the_same_database_become_the_bundles() {
    let tables = whole_tables(&manifest());
    let place = Place::copy();
    place.sql(
        "UPDATE ai_message SET content = content || ' changed' WHERE id % 3 = 0; \
         DELETE FROM ai_token_usage WHERE id % 2 = 0; \
         INSERT INTO ai_conversation_tag (name) SELECT to_jsonb('new ' || i) FROM generate_series(1, 5) i",
    );
    let report = json_of(place.rows(bundle()).args(["--mode", "replace"]));
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    for what in ["inserted", "updated", "deleted"] {
        assert!(
            report[what].as_u64().expect("a number") >= 5,
            "{what}: {report:#}"
        );
    }
    assert_eq!(differing(&place, &tables, false), Default::default());
}

#[test]
fn an_undo_gives_every_row_of_every_table_back() {
    let place = Place::copy();
    place
        .sql("UPDATE ai_message SET content = 'mine' WHERE id % 3 = 0; DELETE FROM ai_token_usage");
    let before = place.every_row();
    done(place.rows(bundle()).args(["--mode", "replace"]));
    assert_ne!(place.every_row(), before);
    run(&mut place.after("undo")).ok();
    assert_eq!(place.every_row(), before);
    let again = place.restores();
    assert_eq!(again.as_array().map(Vec::len), Some(0), "{again}");
}

#[test]
fn an_undo_is_refused_when_a_restored_row_was_changed_since() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine' WHERE id = 3");
    done(place.rows(bundle()).args(["--mode", "replace"]));
    place.sql("UPDATE ai_message SET content = 'later' WHERE id = 3; UPDATE res_partner SET name = 'Else' WHERE id = 4");
    let before = place.every_row();
    run(&mut place.after("undo"))
        .expect_code(6)
        .says(&["ai_message id 3 was changed", "--force"]);
    assert_eq!(place.every_row(), before);
    run(place.after("undo").arg("--force")).ok();
    assert_eq!(
        place.sql("SELECT content FROM ai_message WHERE id = 3"),
        "mine"
    );
    assert_eq!(
        place.sql("SELECT name FROM res_partner WHERE id = 4"),
        "Else"
    );
}

#[test]
fn what_was_forgotten_cannot_be_undone_and_leaves_no_schema() {
    let place = Place::copy();
    place.sql("DELETE FROM ai_token_usage");
    done(place.rows(bundle()).args(["--mode", "replace"]));
    let name = place.kept();
    run(&mut place.after("forget")).ok();
    assert_eq!(
        place.sql("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^arkstream'"),
        "0"
    );
    let mut undo = arkstream();
    undo.args(["undo", &name, "--state-dir"]).arg(&place.state);
    undo.env("PGPASSWORD", crate::support::Stack::OWNER_PASSWORD);
    run(&mut undo).expect_code(6).says(&["forgotten"]);
}

#[test]
fn odoo_workers_are_told_after_restore_and_undo() {
    let place = Place::copy();
    let signals = || place.sql("SELECT last_value FROM base_registry_signaling");
    let (before, source_value) = (
        signals(),
        source().ask("SELECT last_value FROM base_registry_signaling"),
    );
    assert_eq!(before, source_value);
    place.sql("DELETE FROM ai_token_usage");
    done(place.rows(bundle()).args(["--mode", "replace"]));
    let after = signals();
    assert!(after.parse::<u64>().unwrap() > before.parse::<u64>().unwrap());
    run(&mut place.after("undo")).ok();
    assert!(signals().parse::<u64>().unwrap() > after.parse::<u64>().unwrap());
}

#[test]
fn sequences_are_raised_and_never_set_back() {
    let place = Place::copy();
    place.sql(
        "SELECT setval('ir_sequence_002', 5), setval('ai_message_id_seq', 99999); DELETE FROM ai_message; \
         DROP SEQUENCE ir_sequence_004_001",
    );
    done(
        place
            .rows(bundle())
            .args(["--mode", "replace", "--cascade"]),
    );
    assert_eq!(
        place.sql("SELECT last_value FROM ai_message_id_seq"),
        "99999"
    );
    assert_eq!(place.sql("SELECT last_value FROM ir_sequence_002"), "777");
    assert_eq!(
        place.sql("SELECT last_value FROM ir_sequence_004_001"),
        "501"
    );
    run(&mut place.after("undo")).ok();
    assert_eq!(
        place.sql("SELECT to_regclass('ir_sequence_004_001') IS NULL"),
        "t"
    );
}
