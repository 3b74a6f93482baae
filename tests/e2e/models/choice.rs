//! `--profile`, `--models`, `--exclude`, `--dry-run`.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::inventory::{odoo_only, odoo_only_command};
use super::{models_with, text};
use crate::support::{Bundle, Run, Stack, files_below, run, scratch, sh};

fn url() -> String {
    let stack = Stack::shared();
    stack.url(&stack.odoo)
}

fn refused(options: &[&str]) -> Run {
    let out = scratch("refused").join("bundle.zip");
    let run = run(&mut odoo_only_command(&url(), options, &out)).expect_code(2);
    assert_eq!(run.stdout, "");
    assert_eq!(files_below(out.parent().expect("a folder")), [""; 0]);
    run
}

fn exported(bundle: &Bundle) -> Vec<String> {
    models_with(bundle, &["exported", "empty"])
        .into_iter()
        .collect()
}

#[test]
fn models_narrow_the_profile_and_the_rest_is_accounted_for() {
    let bundle = odoo_only(&url(), &["--models", "ai.message,ai.conv*tag"]);
    assert_eq!(exported(&bundle), ["ai.conversation.tag", "ai.message"]);
    assert_eq!(bundle.model("canvas")["status"], "excluded");
    assert_eq!(bundle.model("canvas_pan_move")["status"], "absent");
    assert_eq!(bundle.report["models"], 2);
}

#[test]
fn an_old_name_chooses_the_renamed_model() {
    let bundle = odoo_only(&url(), &["--models", "connections"]);
    assert_eq!(exported(&bundle), ["workflow.connection"]);
}

#[test]
fn exclude_takes_away_and_nothing_else() {
    let bundle = odoo_only(&url(), &["--exclude", "ai.message,sam.*"]);
    let found = exported(&bundle);
    assert!(
        found
            .iter()
            .all(|model| model != "ai.message" && !model.starts_with("sam.")),
        "{found:?}"
    );
    assert!(found.contains(&"ai.conversation".to_owned()));
    assert_eq!(bundle.model("ai.message")["status"], "excluded");
    assert_eq!(bundle.model("sam.member")["status"], "excluded");
}

#[test]
fn a_glob_that_matches_nothing_is_refused_with_the_nearest_names() {
    refused(&["--models", "ai.mesage"]).says(&["ai.mesage", "did you mean", "`ai.message`"]);
    refused(&["--exclude", "ai.conversaton"]).says(&[
        "--exclude",
        "did you mean",
        "`ai.conversation`",
    ]);
    refused(&["--models", "zzz*"]).says(&["zzz*", "matches no model"]);
    refused(&["--models", "ai.[mes"]).says(&["no glob"]);
}

#[test]
fn a_profile_file_names_models_and_globs() {
    let folder = scratch("profile");
    let file = folder.join("ours.txt");
    std::fs::write(
        &file,
        "# ours\nai.message\n\ncanvas*   # with their history\n",
    )
    .expect("a file");
    let bundle = odoo_only(&url(), &["--profile", file.to_str().expect("UTF-8")]);
    assert_eq!(
        exported(&bundle),
        ["ai.message", "canvas", "canvas.history", "canvas.platform"]
    );
    assert!(text(&bundle.model("canvas")["reason"]).contains("ours.txt"));

    refused(&["--profile", "/does/not/exist"]).says(&["/does/not/exist", "sam_ai"]);
    std::fs::write(&file, "# nothing\n").expect("a file");
    refused(&["--profile", file.to_str().expect("UTF-8")]).says(&["names no model"]);
}

/// Names, sizes and times of everything below a folder.
fn state(folder: &Path) -> String {
    sh(folder, "find . -printf '%p %s %T@ %C@\\n' | sort").stdout
}

fn dry_run(options: &[&str]) -> Run {
    let stack = Stack::shared();
    let folder = scratch("dry-run");
    let before = [state(&stack.chroma), state(&stack.filestore)];
    let mut command = stack.backup_command(&folder.join("bundle.zip"));
    let run = run(command.arg("--dry-run").args(options)).ok();
    assert_eq!(files_below(&folder), [""; 0], "a dry run creates no file");
    assert_eq!([state(&stack.chroma), state(&stack.filestore)], before);
    run
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let run = dry_run(&[]);
    for words in [
        "bundle.zip",
        "models",
        "filestore",
        "graph",
        "chroma",
        "ai.message",
        "nothing was changed",
    ] {
        assert!(
            run.stdout.contains(words),
            "{words:?} is not in {}",
            run.stdout
        );
    }
}

#[test]
fn a_dry_run_as_json_is_one_object() {
    let plan = dry_run(&["--json"]).json();
    let components = plan["plan"].as_array().expect("a list");
    let names: BTreeSet<&str> = components
        .iter()
        .map(|component| text(&component["component"]))
        .collect();
    assert_eq!(names, ["models", "filestore", "graph", "chroma"].into());
    let models = components
        .iter()
        .find(|c| c["component"] == "models")
        .expect("models");
    let items: Vec<&Value> = models["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| &item["name"])
        .collect();
    assert!(
        items.contains(&&Value::from("odoo_data/models/ai.message")),
        "{items:?}"
    );
    assert!(text(&plan["bundle"]).ends_with("bundle.zip"));
}

#[test]
fn a_dry_run_refuses_what_a_backup_refuses() {
    refused(&["--dry-run", "--models", "ai.mesage"]).says(&["did you mean"]);
}
