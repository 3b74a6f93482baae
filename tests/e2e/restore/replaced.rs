//! `replace` over whatever somebody made of the rows: they become the bundle's, and nothing else changes.

use super::stage::{Place, bundle, json_of, source};
use crate::support::{Random, seeds, soak};

/// Tables of restored models that the changes below reach.
const TABLES: [&str; 3] = ["ai_conversation", "ai_message", "ai_token_usage"];

/// Rows of a table as text, without those of heirs.
fn rows(database: &str, table: &str) -> String {
    let sql = format!("SELECT t::text FROM ONLY {table} t ORDER BY 1");
    source().server.psql(database, &sql).expect("psql")
}

/// One change, of whatever kind.
fn change(random: &mut Random) -> String {
    let (step, rest) = (2 + random.below(9), random.below(2));
    let some = format!("id % {step} = {rest}");
    match random.below(7) {
        0 => format!("DELETE FROM ai_message WHERE {some}"),
        1 => format!("UPDATE ai_message SET content = md5(content) WHERE {some}"),
        2 => format!("DELETE FROM ai_token_usage WHERE {some}"),
        3 => format!("UPDATE ai_token_usage SET model_name = 'changed' WHERE {some}"),
        4 => "INSERT INTO ai_message (conversation_id, role, content) \
              SELECT max(id), 'user', repeat('new ', 500) FROM ai_conversation"
            .to_owned(),
        5 => format!("UPDATE ai_conversation SET name = 'renamed ' || id WHERE {some}"),
        // Rows stand under other ids than the bundle's.
        _ => format!("UPDATE ai_token_usage SET id = id + 100000 WHERE {some}"),
    }
}

#[test]
fn whatever_was_made_of_the_rows_they_become_the_bundles() {
    for seed in seeds(soak(2, 60)) {
        let mut random = Random(seed);
        let place = Place::copy();
        for _ in 0..1 + random.below(8) {
            let sql = change(&mut random);
            println!("seed {seed}: {sql}");
            place.sql(&sql);
        }
        let others = place.sql("SELECT t::text FROM res_partner t UNION ALL SELECT t::text FROM res_users t ORDER BY 1");
        let report = json_of(
            place
                .rows(bundle())
                .args(["--mode", "replace", "--cascade"]),
        );
        assert_eq!(report["proof"]["holds"], true, "seed {seed}: {report:#}");
        for table in TABLES {
            let (here, there) = (rows(&place.database, table), rows(&source().odoo, table));
            assert!(here == there, "seed {seed}: {table} differs");
        }
        let now = place.sql("SELECT t::text FROM res_partner t UNION ALL SELECT t::text FROM res_users t ORDER BY 1");
        assert!(now == others, "seed {seed}: persons changed");
    }
}
