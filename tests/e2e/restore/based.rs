//! A bundle that was built upon an older one is restored like any other.

use super::stage::{Place, json_of, source};
use crate::support::{arkstream, run};

#[test]
fn a_bundle_that_was_built_upon_an_older_one_comes_back_without_it() {
    let place = Place::copy();
    let first = place.bundle();
    let path = place.dir.join("based.zip");
    place.sql("UPDATE ai_message SET content = content || ' changed' WHERE id % 50 = 0");
    let mut backup = arkstream();
    backup.args(["backup", "--no-graph", "--no-chroma", "--progress", "none"]);
    backup.args(["--odoo-db", &source().url(&place.database), "--json"]);
    backup.arg("--filestore").arg(&source().filestore);
    backup.arg("--base").arg(&first).arg("--out").arg(&path);
    let report = run(&mut backup).ok().json();
    let copied = &report["bases"][0]["copied"];
    assert!(copied["models"]["members"].as_u64() > Some(50), "{copied}");
    std::fs::remove_file(&first).expect("the older bundle");
    let before = place.every_row_of_tables();
    place.sql("UPDATE ai_message SET content = 'spoiled'; DELETE FROM ai_token_usage");
    assert_ne!(place.every_row_of_tables(), before);
    let report = json_of(place.rows(&path).args(["--mode", "replace"]));
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    assert_eq!(place.every_row_of_tables(), before);
}
