//! The states of sequences.

use std::collections::BTreeMap;

use serde_json::Value;

use super::whole_tables;
use crate::support::{Bundle, Profile, Stack};

/// State of every sequence by name, as the server has it.
fn live_sequences() -> BTreeMap<String, Value> {
    let stack = Stack::shared();
    let names = stack.ask(
        "SELECT c.relname FROM pg_class c WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY 1",
    );
    let states: Vec<String> = names
        .lines()
        .map(|name| {
            format!(
                "SELECT json_build_object('name', '{name}', 'last_value', s.last_value, 'is_called', s.is_called, \
                 'data_type', p.data_type::text, 'increment', p.increment_by, 'start', p.start_value, \
                 'min', p.min_value, 'max', p.max_value, 'cache', p.cache_size, 'cycle', p.cycle) \
                 FROM \"{name}\" s, pg_sequences p WHERE p.sequencename = '{name}'"
            )
        })
        .collect();
    let answer = stack.ask(&states.join(" UNION ALL "));
    answer
        .lines()
        .map(|line| {
            let state: Value = serde_json::from_str(line).expect("JSON");
            (state["name"].as_str().expect("a name").to_owned(), state)
        })
        .collect()
}

fn bundled_sequences(profile: Profile) -> BTreeMap<String, Value> {
    let rows = Bundle::shared(profile).rows("odoo_data/support/sequences");
    rows.into_iter()
        .map(|row| (row["name"].as_str().expect("a name").to_owned(), row))
        .collect()
}

#[test]
fn sequences_have_the_state_of_the_server() {
    let live = live_sequences();
    let all = bundled_sequences(Profile::All);
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        live.keys().collect::<Vec<_>>()
    );
    for (name, row) in &all {
        for (key, value) in live[name].as_object().expect("an object") {
            assert_eq!(&row[key], value, "{name} {key}");
        }
    }
}

/// Document numbering lives in sequences that no table owns: lost if only tables travelled.
#[test]
fn unowned_sequences_travel_with_the_numbering_they_belong_to() {
    let bundled = bundled_sequences(Profile::SamAi);
    assert_eq!(bundled["ir_sequence_002"]["last_value"], 777);
    assert_eq!(bundled["ir_sequence_002"]["ir_sequence_id"], 2);
    assert_eq!(bundled["ir_sequence_004_002"]["is_called"], false);
    assert_eq!(bundled["ir_sequence_004_002"]["date_range_id"], 2);
    assert_eq!(bundled["ir_sequence_004_001"]["last_value"], 501);
    // Those of sales orders and project tasks are somebody else's.
    assert!(!bundled.contains_key("ir_sequence_001"));
    assert!(!bundled.contains_key("ir_sequence_005"));
    // Caches are told by these; they travel for information only.
    for name in ["base_registry_signaling", "base_cache_signaling_default"] {
        assert_eq!(bundled[name]["restore"], false, "{name}");
    }
    assert_eq!(bundled["ai_message_id_seq"]["restore"], true);
    // Every sequence that a column of a whole table owns is there.
    let owned = Stack::shared().ask(
        "SELECT s.relname, t.relname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i') \
         AND d.classid = 'pg_class'::regclass AND d.refobjsubid > 0 JOIN pg_class t ON t.oid = d.refobjid \
         WHERE s.relkind = 'S'",
    );
    let whole = whole_tables(Bundle::shared(Profile::SamAi));
    let mut seen = 0;
    for line in owned.lines() {
        let (sequence, table) = line.split_once('|').expect("two columns");
        if whole.contains(&format!("public.{table}")) {
            assert!(bundled.contains_key(sequence), "{sequence} of {table}");
            seen += 1;
        }
    }
    assert!(seen > 70, "{seen}");
}
