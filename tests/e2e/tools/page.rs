//! The page that says what is in a bundle: beside each new one, and by `arkstream report`.

use std::{env, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::{Value, json};

use super::{rows_alone, small_bundle, text};
use crate::support::{Bundle, Profile, Stack, arkstream, run, scratch, setting};

fn page_beside(bundle: &Path) -> String {
    let path = format!("{}.report.html", bundle.display());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn each_new_bundle_has_a_page_that_tells_what_is_in_it() {
    let bundle = Bundle::shared(Profile::SamAi);
    let path = format!("{}.report.html", bundle.path.display());
    assert_eq!(text(&bundle.report["report"]), path);
    assert_eq!(bundle.report["report_error"], Value::Null);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let page = page_beside(&bundle.path);
    assert!(page.contains("Complete: the whole stack, nothing left out"));
    assert!(page.contains("63 named models"), "all of the inventory");
    // Every model is in the page, with a reason where it has no rows here.
    for entry in bundle.json("odoo_data/model_list.json").as_array().unwrap() {
        let name = text(&entry["model"]);
        assert!(page.contains(&format!("<code>{name}</code>")), "{name}");
    }
    // What only the log tells: when each component was read, and how fast.
    let log = fs::read_to_string(bundle.dir.join("logs/export_log.txt")).unwrap();
    assert!(
        log.contains("reading component=chroma"),
        "before the barrier"
    );
    for (component, title) in [
        ("models", "Odoo models"),
        ("filestore", "Odoo filestore"),
        ("graph", "Apache AGE graph"),
        ("chroma", "ChromaDB"),
    ] {
        let done = format!("finished component={component} read_bytes=");
        assert!(
            log.contains(&done) && !log.contains(&format!("{done}0 ")),
            "{log}"
        );
        assert!(page.contains(&format!("{title} is complete, ")), "{title}");
    }
    assert!(page.contains("How fast it was read"));
    assert!(page.contains(text(&bundle.report["sha256"])));

    let out = scratch("page").join("again.html");
    run(arkstream()
        .arg("report")
        .arg(&bundle.path)
        .arg("-o")
        .arg(&out))
    .ok();
    assert_eq!(
        fs::read_to_string(out).unwrap(),
        page,
        "the same bundle, the same page"
    );
    check(Path::new(&path));
}

/// Valid HTML, accessible, and not one request: see `tests/support/page`.
fn check(page: &Path) {
    let Some(chromium) = env::var_os("ARKSTREAM_TEST_CHROMIUM") else {
        eprintln!("left out: no Chromium was found (see scripts/setup.sh)");
        return;
    };
    let mut command = Command::new(setting("ARKSTREAM_TEST_NODE"));
    command.current_dir(setting("ARKSTREAM_TEST_PAGE_DIR"));
    command.arg("check.mjs").arg(page).env("CHROMIUM", chromium);
    let found = run(&mut command).ok().json();
    assert_eq!(found, json!({ page.to_str().unwrap(): [] }));
}

#[test]
fn its_commands_are_those_of_this_program() {
    let page = page_beside(&Bundle::shared(Profile::SamAi).path);
    let commands: Vec<&str> = page
        .split("<pre ")
        .skip(1)
        .filter_map(|rest| rest.split_once("<code>")?.1.split("</code>").next())
        .collect();
    let restore = commands
        .iter()
        .find(|c| c.contains("--dry-run"))
        .expect("a dry run");
    let line = restore.replace("\\\n", " ");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..2], ["arkstream", "restore"]);
    // The machine of the test has no such configuration. So it fails for that, not for its options.
    let folder = Bundle::shared(Profile::SamAi)
        .path
        .parent()
        .expect("a folder");
    let mut command = arkstream();
    let failed = run(command.args(&words[1..]).current_dir(folder));
    assert_ne!(failed.code, Some(0));
    failed.says(&["error: could not ", "/etc/odoo/odoo.conf"]);
}

#[test]
fn a_page_that_cannot_be_written_leaves_the_bundle_good_and_is_told() {
    let stack = Stack::shared();
    let url = stack.url(&stack.odoo);
    let out = scratch("page").join("bundle.zip");
    let page = format!("{}.report.html", out.display());
    fs::write(&page, "somebody's notes").unwrap();
    let mut command = rows_alone(&url, &out);
    let told = run(command.args(["--models", "n8n.menu.debug"])).expect_code(3);
    let report = told.json();
    let told = told.says(&[
        "left out: the report",
        "no report of Arkstream",
        "published and good",
    ]);
    drop(told);
    assert_eq!(report["omissions"], json!([]), "the bundle is whole");
    assert!(text(&report["report_error"]).contains(&page));
    assert_eq!(fs::read_to_string(&page).unwrap(), "somebody's notes");
    run(arkstream().arg("verify").arg(&out)).ok();
    run(arkstream().arg("report").arg(&out))
        .expect_code(6)
        .says(&["no report of Arkstream"]);
    // With the name free, the page is made; and made again.
    fs::remove_file(&page).unwrap();
    for _ in 0..2 {
        run(arkstream().arg("report").arg(&out)).ok();
    }
    assert!(page_beside(&out).contains("without filestore, graph, chroma"));
}

#[test]
fn no_page_is_made_where_none_is_wanted() {
    let stack = Stack::shared();
    let url = stack.url(&stack.odoo);
    let out = scratch("page").join("bundle.zip");
    let mut command = rows_alone(&url, &out);
    let report = run(command.args(["--models", "n8n.menu.debug", "--no-report"]))
        .ok()
        .json();
    assert_eq!(report["report"], Value::Null);
    let names = crate::support::files_below(out.parent().unwrap());
    assert_eq!(names, ["bundle.zip", "bundle.zip.sha256"]);
}

#[test]
fn a_damaged_bundle_has_no_page_and_a_page_may_go_to_standard_output() {
    let small = small_bundle();
    let page = run(arkstream().arg("report").arg(small).args(["-o", "-"]))
        .ok()
        .stdout;
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"),
        "{page}"
    );
    let cut = scratch("page").join("cut.zip");
    let bytes = fs::read(small).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    run(arkstream().arg("report").arg(&cut)).expect_code(4);
    assert!(!cut.with_extension("zip.report.html").exists());
}
