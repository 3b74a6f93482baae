//! The spreadsheet: `export xlsx` and `backup --xlsx`.

use std::{env, fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::export;
use crate::support::{
    Bundle, Profile, Stack, arkstream, faults, files_below, python, run, scratch, soak,
};

/// What of Excel's rules a cell can break, in a model whose rows are otherwise the sample's.
const HARD: &str = "
    UPDATE ai_message SET content = E'=cmd|'' /C calc''!A0' WHERE id = 11;
    UPDATE ai_message SET content = E'@SUM(1)\\u0001\\u001b_x0041_ \\U0001F600\\r' WHERE id = 12;
    UPDATE ai_message SET content = E'\\t+1' WHERE id = 13;
    UPDATE ai_message SET content = '1234567890123456' WHERE id = 14;
    UPDATE ai_message SET content = '' WHERE id = 15;
    UPDATE ai_message SET content = repeat('https://example.com/a?b=c ', 90000) WHERE id = 16;";

/// Compares every cell with the bundle, by openpyxl.
fn compared(bundle: &Bundle, workbook: &Path, large: &Path) -> Value {
    compared_with(&[], bundle, workbook, large)
}

fn compared_with(options: &[&str], bundle: &Bundle, workbook: &Path, large: &Path) -> Value {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/e2e/support/workbook.py"
    );
    let mut command = python();
    let found = run(command
        .arg(script)
        .args(options)
        .arg(&bundle.dir)
        .arg(workbook)
        .arg(large))
    .ok()
    .json();
    assert_eq!(found["problems"], json!([]));
    found
}

fn with_xlsx(database: &str, out: &Path) -> Command {
    let mut command = Stack::shared().backup_of(database, out);
    command.args(["--xlsx", "--json"]);
    command
}

#[test]
fn every_cell_is_the_bundles_value_or_is_listed() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    stack.server.psql(&database, HARD).expect("hard values");
    let folder = scratch("xlsx");
    let path = folder.join("bundle.zip");
    let backup = run(&mut with_xlsx(&database, &path)).ok();
    assert_eq!(
        files_below(&folder),
        ["bundle.zip", "bundle.zip.report.html", "bundle.zip.sha256"],
        "no temporary file stays"
    );
    run(arkstream().arg("verify").arg(&path)).ok();
    let bundle = Bundle::open(path, backup.json(), backup.stderr);
    let log = fs::read_to_string(bundle.dir.join("logs/export_log.txt")).unwrap();
    assert!(log.contains("spreadsheet: "), "{log}");
    let member = bundle.dir.join("odoo_data/ai_brain_backup.xlsx");
    let inside = compared(&bundle, &member, &bundle.dir);
    assert!(inside["cells"].as_u64() > Some(30_000), "{inside}");
    assert!(inside["cut"].as_u64() >= Some(2), "{inside}");
    assert!(inside["dates"].as_u64() > Some(1_000), "{inside}");
    assert_eq!(inside["cut"], inside["listed"]);
    let list = bundle.json("manifest.json");
    assert!(list["components"]["xlsx"]["members"].as_u64() >= Some(3));

    let out = folder.join("rows.xlsx");
    let report = export("xlsx", &bundle.path, &out, &["--memory", "32MiB"])
        .ok()
        .json();
    assert_eq!(report["left_out"], 0);
    let beside = compared(&bundle, &out, &folder.join("rows.files"));
    assert_eq!(inside, beside);
    assert_eq!(report["sheets"], beside["sheets"]);
    export("xlsx", &bundle.path, &out, &[])
        .expect_code(6)
        .says(&["rows.files", "exists already"]);

    libreoffice(&bundle, &member);

    // The same on sheets that are soon full.
    let many = folder.join("many.xlsx");
    export(
        "xlsx",
        &bundle.path,
        &many,
        &[
            "--sheet-rows",
            "100",
            "--models",
            "ai.message,ai.conversation",
        ],
    )
    .ok();
    let found = compared(&bundle, &many, &folder.join("many.files"));
    assert!(found["sheets"].as_u64() > Some(2), "{found}");
}

/// What LibreOffice reads and writes again says the same.
fn libreoffice(bundle: &Bundle, workbook: &Path) {
    let Some(soffice) = env::var_os("ARKSTREAM_TEST_SOFFICE") else {
        eprintln!("left out: no LibreOffice was found (see scripts/setup.sh)");
        return;
    };
    let folder = scratch("libreoffice");
    let profile = format!(
        "-env:UserInstallation=file://{}",
        folder.join("profile").display()
    );
    let mut command = Command::new(soffice);
    command.args([&profile, "--headless", "--convert-to", "xlsx", "--outdir"]);
    run(command.arg(&folder).arg(workbook)).ok();
    let again = folder.join(workbook.file_name().unwrap());
    compared_with(&["--resaved"], bundle, &again, &bundle.dir);
}

#[test]
fn a_killed_export_leaves_nothing_after_the_next_run() {
    let bundle = Bundle::shared(Profile::SamAi);
    let points = [
        ("export.batch", 3),
        ("export.file", 1),
        ("export.finished", 1),
        ("export.rename", 1),
        ("export.rename", 2),
    ];
    for (point, hit) in points {
        let (folder, temp) = (scratch("killed-xlsx"), scratch("killed-temp"));
        let out = folder.join("rows.xlsx");
        let mut command = arkstream();
        command.args(["export", "xlsx", "--progress", "none", "--models", "ai.*"]);
        command.arg("--temp").arg(&temp).arg(&bundle.path).arg(&out);
        faults::at(&mut command, point, hit, "kill");
        assert_eq!(run(&mut command).code, None, "{point}");
        assert!(!out.exists(), "{point}");
        assert_eq!(files_below(&temp), [""; 0], "temporary files have no name");
        command.env_remove("ARKSTREAM_FAULT");
        run(&mut command).ok();
        let mut left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["rows.files", "rows.xlsx"], "{point}");
        assert_eq!(files_below(&temp), [""; 0]);
    }
}

#[test]
fn a_folder_of_somebody_else_is_not_removed() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("kept-xlsx");
    fs::create_dir(folder.join("rows.files")).unwrap();
    fs::write(folder.join("rows.files/mine"), "mine").unwrap();
    let out = folder.join("rows.xlsx");
    export("xlsx", &bundle.path, &out, &[])
        .expect_code(6)
        .says(&["exists already"]);
    // As if an earlier run had been killed.
    fs::write(folder.join("rows.xlsx.partial"), "").unwrap();
    export("xlsx", &bundle.path, &out, &[])
        .expect_code(6)
        .says(&["other things than an export wrote"]);
    assert_eq!(
        fs::read_to_string(folder.join("rows.files/mine")).unwrap(),
        "mine"
    );
}

#[test]
fn a_resumed_backup_and_one_upon_an_older_bundle_have_it_too() {
    let stack = Stack::shared();
    let folder = scratch("resumed-xlsx");
    let path = folder.join("bundle.zip");
    let mut command = with_xlsx(&stack.odoo, &path);
    faults::at(&mut command, "bundle.final-sync", 1, "kill");
    assert_eq!(run(&mut command).code, None);
    assert!(!path.exists());
    let resumed = run(with_xlsx(&stack.odoo, &path).arg("--resume")).ok();
    assert!(resumed.json()["resumed"]["kept_members"].as_u64() > Some(0));
    let older = Bundle::open(path.clone(), resumed.json(), resumed.stderr);
    let member = "odoo_data/ai_brain_backup.xlsx";
    compared(&older, &older.dir.join(member), &older.dir);
    run(arkstream().arg("verify").arg(&path)).ok();

    let newer = folder.join("newer.zip");
    let based = run(with_xlsx(&stack.odoo, &newer).arg("--base").arg(&path)).ok();
    let newer = Bundle::open(newer, based.json(), based.stderr);
    compared(&newer, &newer.dir.join(member), &newer.dir);
}

#[test]
fn a_folder_for_temporary_files_that_is_none_is_told_before_anything_is_read() {
    let folder = scratch("no-temp");
    let mut command = with_xlsx(&Stack::shared().odoo, &folder.join("bundle.zip"));
    run(command.arg("--temp").arg(folder.join("missing")))
        .expect_code(6)
        .says(&["create a temporary file in", "--temp"]);
    assert_eq!(files_below(&folder), [""; 0]);
}

#[test]
fn more_rows_than_a_sheet_holds() {
    let rows = soak(0, 1_200_000);
    if rows == 0 {
        // The limit itself is tested with a smaller one; this takes minutes.
        return;
    }
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let sql = format!(
        "INSERT INTO ai_conversation_tag (id, name) SELECT 100000 + n, to_jsonb(json_build_object('en_US', 'tag ' || n)) \
         FROM generate_series(1, {rows}) n"
    );
    stack.server.psql(&database, &sql).expect("rows");
    let folder = scratch("big-xlsx");
    let path = folder.join("bundle.zip");
    let mut command = with_xlsx(&database, &path);
    command.args(["--models", "ai.conversation.tag", "--memory", "64MiB"]);
    let backup = run(&mut command).ok();
    let (report, memory) = (backup.json(), 64 << 20);
    println!("{report}");
    assert!(report["peak_memory_bytes"].as_u64() < Some(2 * memory));
    let bundle = Bundle::open(path, backup.json(), backup.stderr);
    let out = folder.join("rows.xlsx");
    let report = export(
        "xlsx",
        &bundle.path,
        &out,
        &["--memory", "64MiB", "--models", "ai.conversation.tag"],
    )
    .ok()
    .json();
    println!("{report}");
    assert!(report["rows"].as_u64() > Some(1_200_000));
    assert!(
        report["peak_memory_bytes"].as_u64() < Some(2 * memory),
        "{report}"
    );
    compared(&bundle, &out, &folder.join("rows.files"));
    compared(
        &bundle,
        &bundle.dir.join("odoo_data/ai_brain_backup.xlsx"),
        &bundle.dir,
    );
}
