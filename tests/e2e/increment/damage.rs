//! An older bundle that is damaged.

use std::path::PathBuf;

use serde_json::Value;

use super::{based, database, few, full, hold_the_same, let_files_settle, new_out};
use crate::{
    support::{Bundle, arkstream, run, scratch},
    values::compare,
};

fn member(bundle: &Bundle, part_of_name: &str) -> Value {
    let manifest = bundle.json("manifest.json");
    let members = manifest["members"].as_array().expect("a list");
    let mut members = members
        .iter()
        .filter(|member| member["chunks"][0].is_object());
    let named = |m: &&Value| m["name"].as_str().is_some_and(|n| n.contains(part_of_name));
    members.find(named).expect(part_of_name).clone()
}

/// A copy with a flipped bit in the last chunk of each of these members.
fn damaged(bundle: &Bundle, names: &[&str]) -> PathBuf {
    let mut bytes = std::fs::read(&bundle.path).unwrap();
    for name in names {
        let member = member(bundle, name);
        let chunk = member["chunks"].as_array().and_then(|c| c.last()).unwrap();
        let at = chunk["offset"].as_u64().unwrap() + chunk["stored_len"].as_u64().unwrap() / 2;
        bytes[usize::try_from(at).unwrap()] ^= 8;
    }
    let path = new_out();
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_is_damaged_there_is_told_and_exported_again() {
    let database = database();
    let_files_settle();
    let first = full(&database);
    let hit = [
        "models/ai.message/part-00001",
        "odoo_data/filestore/",
        "postgres_graph_dump.sql",
        "link_lists.bin",
        "chroma.sqlite3",
    ];
    let base = damaged(&first, &hit);
    let second = based(&database, &base);
    let log = std::fs::read_to_string(second.dir.join("logs/export_log.txt")).unwrap();
    for name in hit {
        let name = member(&first, name)["name"].as_str().unwrap().to_owned();
        let told = log
            .lines()
            .any(|line| line.contains("is damaged in") && line.contains(&name));
        assert!(told, "{name} is not told: {log}");
        if name.ends_with(".parquet") {
            // The blocks are in a part of another name.
            continue;
        }
        let copied = &member(&second, &name)["copied"]["bytes"];
        let stored = member(&second, &name)["stored_len"].as_u64();
        assert!(copied.as_u64().unwrap_or(0) < stored.unwrap(), "{name}");
    }
    let redone = second.report["redone"].to_string();
    assert!(redone.contains("it is damaged in the older bundle"));
    let found = compare(&second, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    let manifest = second.json("manifest.json");
    assert!(manifest["dead_ranges"].is_null(), "{manifest:#}");
    hold_the_same(&second, &full(&database));
}

#[test]
fn one_without_a_manifest_is_refused_by_name_and_passed_over_in_a_folder() {
    let folder = scratch("series");
    let name = |day: u32| folder.join(format!("sam_ai_complete_backup_202601{day:02}_020000.zip"));
    run(few(&name(1)).arg("--base").arg(&folder)).ok();
    let bytes = std::fs::read(name(1)).unwrap();
    // Cut off in the middle, and the manifest flipped.
    std::fs::write(name(2), &bytes[..bytes.len() / 2]).unwrap();
    let mut flipped = bytes.clone();
    let name_of_it = b"manifest.json";
    let headers = flipped.windows(name_of_it.len()).enumerate();
    let at: Vec<usize> = headers
        .filter(|(_, found)| found == name_of_it)
        .map(|(at, _)| at)
        .collect();
    // Behind its local header; its name stands in the directory as well.
    flipped[at[at.len() - 2] + 100] ^= 1;
    std::fs::write(name(3), flipped).unwrap();
    for day in [2, 3] {
        let out = new_out();
        run(few(&out).arg("--base").arg(name(day)))
            .expect_code(4)
            .says(&[
                "could not build upon the older bundle",
                "choose another --base, or leave it out",
            ]);
        assert!(!out.exists());
    }
    run(few(&name(4)).arg("--base").arg(&folder)).ok();
    let shown = run(arkstream().args(["show", "--json"]).arg(name(4))).ok();
    let base = &shown.json()["bases"][0];
    let first = name(1);
    let first = first.file_name().unwrap().to_str();
    assert_eq!(base["name"].as_str(), first, "{base:#}");
}
