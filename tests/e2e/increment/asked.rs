//! What the user says about the older bundle, and what is said to them.

use std::path::Path;

use super::{few, new_out};
use crate::{
    failures::running::Running,
    support::{arkstream, run, scratch},
};

#[test]
fn what_is_no_finished_bundle_is_refused_with_a_reason() {
    let folder = scratch("asked");
    let first = folder.join("first.zip");
    run(&mut few(&first)).ok();
    let out = new_out();
    let with = |base: &Path| {
        let mut command = few(&out);
        command.arg("--base").arg(base);
        command
    };
    let missing = folder.join("missing.zip");
    run(&mut with(&missing)).expect_code(7).says(&[
        "could not build upon the older bundle",
        "missing.zip",
        "choose another --base",
    ]);
    let other = folder.join("other.zip");
    std::fs::write(&other, b"PK no bundle").unwrap();
    run(&mut with(&other))
        .expect_code(4)
        .says(&["no bundle", "choose another --base"]);
    let mut running = Running::start(few(&folder.join("torn.zip")).arg("--odoo-dump"));
    let partial = folder.join("torn.zip.partial");
    running.until("it has begun", |_| {
        std::fs::metadata(&partial).is_ok_and(|file| file.len() > 0)
    });
    running.signal("KILL");
    running.end(std::time::Duration::from_secs(30));
    for base in [&partial, &folder.join("torn.zip")] {
        run(&mut with(base))
            .expect_code(6)
            .says(&["what an interrupted backup left", "run that backup again"]);
    }
    run(few(&first).arg("--base").arg(&first))
        .expect_code(6)
        .says(&["it is the output itself", "choose another --out"]);
    assert!(!out.exists());
}

#[test]
fn a_dry_run_and_a_report_name_the_older_bundle_and_show_tells_what_came_from_it() {
    let folder = scratch("asked");
    // The first of a series: there is nothing yet.
    let dry = run(few(&folder).arg("--dry-run").arg("--base").arg(&folder)).ok();
    let said = &dry.stdout;
    assert!(said.contains("there is no older bundle in"), "{said}");
    let said = run(few(&folder).arg("--base").arg(&folder)).ok().stdout;
    assert!(!said.contains("copied out of"), "{said}");
    let first = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "zip"))
        .expect("the first bundle");

    let dry = run(few(&new_out()).arg("--dry-run").arg("--base").arg(&folder)).ok();
    let named = format!("based on {}", first.display());
    assert!(dry.stdout.contains(&named), "{}", dry.stdout);
    let mut command = few(&new_out());
    let dry = run(command.args(["--dry-run", "--json", "--base"]).arg(&first)).ok();
    let base = &dry.json()["base"];
    assert_eq!(base["bundle"], first.display().to_string());
    assert!(base["members"].as_u64() > Some(5), "{base:#}");

    let out = new_out();
    let ended = run(few(&out).arg("--base").arg(&first)).ok();
    let line = format!(
        "copied out of {}",
        first.file_name().unwrap().to_str().unwrap()
    );
    assert!(ended.stdout.contains(&line), "{}", ended.stdout);
    let shown = run(arkstream().arg("show").arg(&out)).ok();
    assert!(shown.stdout.contains(&line), "{}", shown.stdout);
    assert!(shown.stdout.contains("  models: "), "{}", shown.stdout);
    let json = run(arkstream().args(["show", "--json"]).arg(&out))
        .ok()
        .json();
    let base = &json["bases"][0];
    let copied = &base["copied"]["models"];
    assert!(copied["members"].as_u64() > Some(5), "{base:#}");
    assert!(copied["bytes"].as_u64() > Some(1000), "{base:#}");
    let older = run(arkstream().args(["show", "--json"]).arg(&first))
        .ok()
        .json();
    assert_eq!(base["run_id"], older["run_id"]);
    assert_eq!(older["bases"].as_array().map(Vec::len), Some(0));
}
