//! CSV, JSON lines and Parquet.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};

use super::export;
use crate::support::{
    Bundle, Profile, Stack, arkstream, faults, files_below, python, run, scratch,
};

/// The tables of a bundle that hold all rows and columns of a table of the database.
fn whole_tables(bundle: &Bundle) -> Vec<(String, String)> {
    let manifest = bundle.json("manifest.json");
    let tables = manifest["tables"].as_array().expect("a list").iter();
    tables
        .filter(|t| {
            t["filter"].is_null() && t["columns_left_out"] == json!([]) && t["role"] == "model"
        })
        .map(|t| {
            (
                t["table"].as_str().unwrap().to_owned(),
                t["model"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn postgresql_reads_the_csv_back_to_the_same_rows() {
    let (stack, bundle) = (Stack::shared(), Bundle::shared(Profile::SamAi));
    let out = scratch("csv").join("rows");
    let report = export("csv", &bundle.path, &out, &[]).ok().json();
    assert_eq!(report["omissions"], json!([]));
    let database = stack.fresh_database();
    let mut compared = Vec::new();
    for (table, model) in whole_tables(bundle) {
        let file = out.join(format!("{model}.csv"));
        let head = fs::read_to_string(&file).expect("a file");
        let columns = head.lines().next().expect("a header").to_owned();
        let generated = bundle.table(&table)["columns"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["generated"] == true);
        let inherited = stack.server.psql(
            &database,
            &format!("SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass"),
        );
        if columns.is_empty() || generated || inherited.expect("a count").trim() != "0" {
            continue;
        }
        let sql = format!(
            "CREATE TABLE copy_of (LIKE {table}); COPY copy_of ({columns}) FROM '{}' (FORMAT csv, HEADER); \
             SELECT count(*) FROM ((SELECT t::text FROM {table} t EXCEPT ALL SELECT c::text FROM copy_of c) \
               UNION ALL (SELECT c::text FROM copy_of c EXCEPT ALL SELECT t::text FROM {table} t)) d; \
             DROP TABLE copy_of",
            readable(&file).display()
        );
        let differing = stack
            .server
            .psql(&database, &sql)
            .unwrap_or_else(|error| panic!("{table}: {error}"));
        assert!(
            differing.lines().any(|line| line.trim() == "0"),
            "{table}: {differing}"
        );
        compared.push(table);
    }
    assert!(compared.len() > 40, "{compared:?}");
    assert!(compared.contains(&"public.x_type_matrix".to_owned()));
}

/// The server runs as another user.
fn readable(file: &Path) -> std::path::PathBuf {
    assert_eq!(
        fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let copy = std::env::temp_dir().join(format!("arkstream-csv-{}.csv", std::process::id()));
    fs::copy(file, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    copy
}

#[test]
fn parquet_and_json_say_what_the_parts_say() {
    let bundle = Bundle::shared(Profile::SamAi);
    let (parquet, jsonl) = (
        scratch("parquet").join("rows"),
        scratch("jsonl").join("rows"),
    );
    let written = export("parquet", &bundle.path, &parquet, &[]).ok().json();
    export("jsonl", &bundle.path, &jsonl, &[]).ok();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/e2e/support/exports.py"
    );
    let manifest = bundle.dir.join("manifest.json");
    let compared = run(python()
        .arg(script)
        .arg(manifest)
        .arg(&bundle.dir)
        .arg(&parquet)
        .arg(&jsonl))
    .ok()
    .json();
    assert_eq!(compared["problems"], json!([]));
    assert_eq!(compared["rows"], written["rows"]);
    assert_eq!(
        compared["tables"],
        written["files"].as_array().expect("a list").len()
    );
    assert!(compared["strings_for_numbers"].as_u64() > Some(0));
}

#[test]
fn only_the_models_that_were_asked_for_are_written() {
    let bundle = Bundle::shared(Profile::SamAi);
    let out = scratch("some").join("rows");
    let report = export(
        "csv",
        &bundle.path,
        &out,
        &["--models", "ai.conversation*,x_type_matrix"],
    )
    .ok()
    .json();
    let names = files_below(&out);
    assert!(
        names.contains(&"ai.conversation.csv".to_owned()),
        "{names:?}"
    );
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("ai.conversation") || name.starts_with("sam.type.matrix"))
    );
    assert_eq!(report["files"].as_array().map(Vec::len), Some(names.len()));
    let nothing = scratch("none").join("rows");
    export("csv", &bundle.path, &nothing, &["--models", "ai.mesage"])
        .expect_code(2)
        .says(&["did you mean", "`ai.message`"]);
    assert!(!nothing.exists());
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_has_a_final_name() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("kept");
    let out = folder.join("rows");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("ai.message.csv"), "mine").unwrap();
    export("csv", &bundle.path, &out, &[])
        .expect_code(6)
        .says(&["it exists already", "nothing is ever overwritten"]);
    assert_eq!(
        fs::read_to_string(out.join("ai.message.csv")).unwrap(),
        "mine"
    );
    assert_eq!(files_below(&folder), ["rows/ai.message.csv"]);

    let folder = scratch("killed");
    let out = folder.join("rows");
    let mut command = arkstream();
    command
        .args(["export", "csv", "--progress", "none"])
        .arg(&bundle.path)
        .arg(&out);
    faults::at(&mut command, "export.file", 5, "kill");
    assert_eq!(run(&mut command).code, None);
    assert!(!out.exists());
    assert_eq!(
        files_below(&folder).len(),
        4,
        "what the killed run left is beside the name"
    );
    export("csv", &bundle.path, &out, &[]).ok();
    let left: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["rows"]);
}

#[test]
fn what_a_salvaged_bundle_has_lost_is_counted() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("salvaged");
    let damaged = folder.join("damaged.zip");
    let manifest = bundle.json("manifest.json");
    let name = "odoo_data/models/ai.message/part-00000.parquet";
    let member = manifest["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["name"] == name)
        .expect("a part");
    let mut bytes = fs::read(&bundle.path).unwrap();
    bytes[member["data_offset"].as_u64().unwrap() as usize + 100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let out = folder.join("rows");
    export("csv", &damaged, &out, &[])
        .expect_code(4)
        .says(&[name, "chunk 0"]);
    assert!(!out.exists());

    let salvaged = folder.join("salvaged.zip");
    run(arkstream()
        .args(["salvage", "--progress", "none"])
        .arg(&damaged)
        .arg(&salvaged))
    .expect_code(3);
    let report = export("csv", &salvaged, &out, &[]).expect_code(3).json();
    let omitted: Vec<&Value> = report["omissions"].as_array().unwrap().iter().collect();
    assert_eq!(omitted.len(), 1);
    assert_eq!(omitted[0]["member"], name);
    assert_eq!(omitted[0]["rows"], member["rows"]);
}
