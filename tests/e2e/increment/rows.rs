//! What is exported again, and what is not.

use super::{
    NEWEST, based, copied, database, full, hold_the_same, kept, let_files_settle, messages,
};
use crate::{
    support::{Stack, arkstream, run},
    values::compare,
};

#[test]
fn after_touching_rows_only_their_parts_are_exported_and_the_bundle_is_a_full_one() {
    let database = database();
    let_files_settle();
    let first = full(&database);
    Stack::shared()
        .server
        .psql(&database, NEWEST)
        .expect(NEWEST);
    let second = based(&database, &first.path);
    let at_once = full(&database);
    std::fs::remove_file(&first.path).expect("the older bundle");
    run(arkstream()
        .args(["verify", "--progress", "none"])
        .arg(&second.path))
    .ok();

    let parts = messages(&second);
    let again: Vec<_> = parts.iter().filter(|p| p["generation"] == 2).collect();
    assert!(parts.len() >= 4, "{} parts", parts.len());
    assert!(!again.is_empty() && again.len() <= 2, "{again:#?}");
    assert_eq!(kept(&parts, "row_versions"), parts.len() - again.len());
    let (whole, all) = copied(&second, "models");
    assert_eq!(whole + again.len() as u64, all);
    for component in ["filestore", "graph", "chroma"] {
        let (whole, all) = copied(&second, component);
        assert_eq!(whole, all, "{component}");
    }
    let redone = second.report["redone"].as_array().expect("a list");
    assert!(
        redone.iter().all(|r| r["reason"] == "its rows changed"),
        "{redone:#?}"
    );
    let found = compare(&second, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    hold_the_same(&second, &at_once);
}

/// A week of backups, each upon the one before, which is removed.
#[test]
fn the_last_bundle_of_a_chain_stands_alone_and_where_nothing_changed_nothing_was_exported() {
    let database = database();
    let stack = Stack::shared();
    let_files_settle();
    let first = full(&database);
    let second = based(&database, &first.path);
    std::fs::remove_file(&first.path).expect("the first");
    for component in ["models", "filestore", "graph", "chroma"] {
        let (whole, all) = copied(&second, component);
        assert_eq!(whole, all, "{component}: {:#}", second.report["redone"]);
    }
    assert_eq!(second.report["redone"].as_array().map(Vec::len), Some(0));

    stack.server.psql(&database, NEWEST).expect(NEWEST);
    let third = based(&database, &second.path);
    std::fs::remove_file(&second.path).expect("the second");
    stack
        .server
        .psql(&database, "DELETE FROM ai_message WHERE id % 1000 = 0")
        .expect("psql");
    let fourth = based(&database, &third.path);
    std::fs::remove_file(&third.path).expect("the third");
    let path = &fourth.path;
    run(arkstream().args(["verify", "--progress", "none"]).arg(path)).ok();
    let found = compare(&fourth, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    hold_the_same(&fourth, &full(&database));
    let manifest = fourth.json("manifest.json");
    assert_eq!(manifest["bases"].as_array().map(Vec::len), Some(1));
    let base = &manifest["bases"][0];
    assert_eq!(base["run_id"], third.json("manifest.json")["run_id"]);
    // What no part was read under is forgotten.
    let generations = manifest["generations"].as_array().expect("a list");
    assert!((2..=4).contains(&generations.len()), "{generations:#?}");
    let based_on = &fourth.json("metadata.json")["based_on"][0];
    assert_eq!(based_on["run_id"], base["run_id"]);
    assert_eq!(based_on["timestamp"], base["taken_at"]);
}

/// The older bundle may be one of other models: what it has is taken, what it lacks is exported.
#[test]
fn another_selection_is_no_obstacle() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let small = super::new_out();
    let models = ["--models", "ai.conversation,ai.message"];
    run(&mut crate::failures::backup(
        &stack.url(&database),
        &small,
        &models,
    ))
    .ok();
    let second = based(&database, &small);
    let (whole, all) = copied(&second, "models");
    assert!(whole > 0 && whole < all, "{whole} of {all}");
    assert_eq!(copied(&second, "filestore").0, 0);
    let found = compare(&second, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
}

/// A copy of a database has its tables' numbers and files, and may differ in any row.
#[test]
fn of_another_database_rows_are_compared_and_never_trusted() {
    let stack = Stack::shared();
    let (one, other) = (stack.fresh_database(), stack.fresh_database());
    let first = full(&one);
    // As many rows, with values as long.
    let sql = "UPDATE ai_message SET content = reverse(content) WHERE id % 7 = 0";
    stack.server.psql(&other, sql).expect(sql);
    let second = based(&other, &first.path);
    let found = compare(&second, &other);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    let text = second.json("manifest.json").to_string();
    assert!(!text.contains("row_versions\""), "something was trusted");
    let log = std::fs::read_to_string(second.dir.join("logs/export_log.txt")).unwrap();
    assert!(log.contains("it is another server or database"), "{log}");
    hold_the_same(&second, &full(&other));
}
