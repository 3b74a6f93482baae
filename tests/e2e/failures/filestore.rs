//! Files of the filestore that are missing or wrong: the bundle is finished without them, and
//! says so wherever somebody may look.

use std::path::PathBuf;

use super::{FEW_MODELS, backup, fails, new_out, set_mode};
use crate::support::{Bundle, Stack, arkstream, files_below, run, scratch, sh};

/// A copy of the filestore, for tests that damage it.
fn copy_of_filestore() -> PathBuf {
    let folder = scratch("filestore");
    sh(
        &folder,
        &format!("cp -a '{}/.' .", Stack::shared().filestore.display()),
    );
    folder
}

/// A file that belongs to attachments of exported models.
fn referenced_file() -> String {
    let sql = "SELECT min(store_fname) FROM ir_attachment \
        WHERE res_model = 'ai.conversation' AND store_fname IS NOT NULL";
    let name = Stack::shared().ask(sql);
    assert!(name.contains('/'), "{name}");
    name
}

#[test]
fn a_filestore_that_is_not_there_is_named() {
    let (out, stack) = (new_out(), Stack::shared());
    let missing = stack.dir.join("no-such-filestore").display().to_string();
    let mut command = backup(&stack.url(&stack.odoo), &out, &["--filestore", &missing]);
    fails(
        &mut command,
        &out,
        7,
        &[&missing, "No such file"],
        "--filestore",
    );
}

#[test]
fn a_filestore_that_nobody_named_is_looked_for_where_odoo_keeps_it() {
    let (out, stack) = (new_out(), Stack::shared());
    let mut command = arkstream();
    command.args([
        "backup",
        "--no-graph",
        "--no-chroma",
        "--odoo-db",
        &stack.url(&stack.odoo),
    ]);
    command.arg("--out").arg(&out);
    let words = [
        "find the filestore of odoo_e2e",
        ".local/share/Odoo/filestore/odoo_e2e",
    ];
    fails(&mut command, &out, 2, &words, "--no-filestore");
}

#[test]
fn a_missing_file_is_left_out_and_said_everywhere() {
    let (filestore, name) = (copy_of_filestore(), referenced_file());
    std::fs::remove_file(filestore.join(&name)).unwrap();
    is_told_everywhere(filestore, &name, None);
}

#[test]
fn a_file_with_wrong_content_is_taken_as_it_is_and_that_is_said_everywhere() {
    let (filestore, name) = (copy_of_filestore(), referenced_file());
    let content = std::fs::read(filestore.join(&name)).unwrap();
    // Of equal length: only its SHA-1 tells.
    let wrong: Vec<u8> = content.iter().map(|byte| byte ^ 1).collect();
    std::fs::write(filestore.join(&name), &wrong).unwrap();
    is_told_everywhere(filestore, &name, Some(wrong));
}

/// Standard output, manifest, metadata, instructions, log and `show` name the file; the bundle
/// holds `content` in its place, and everything else.
#[track_caller]
fn is_told_everywhere(filestore: PathBuf, name: &str, content: Option<Vec<u8>>) {
    let stack = Stack::shared();
    let filestore = filestore.display().to_string();
    let url = stack.url(&stack.odoo);
    let sources = ["--filestore", &filestore, "--models", "ai.conversation"];

    let text = run(&mut backup(&url, &new_out(), &sources)).expect_code(3);
    assert!(text.stdout.contains("left out (1):"), "{}", text.stdout);
    assert!(text.stdout.contains(name), "{}", text.stdout);

    let out = new_out();
    let json = run(backup(&url, &out, &sources).arg("--json")).expect_code(3);
    let report = json.json();
    let omissions = report["omissions"].as_array().expect("a list").clone();
    assert_eq!(omissions.len(), 1, "{report}");
    assert_eq!(omissions[0]["component"], "filestore");
    assert!(
        omissions[0]["what"].as_str().unwrap().contains(name),
        "{report}"
    );
    assert!(!omissions[0]["reason"].as_str().unwrap().is_empty());

    let bundle = Bundle::open(out.clone(), report, json.stderr);
    assert_eq!(
        bundle.json("manifest.json")["omissions"].as_array(),
        Some(&omissions)
    );
    let metadata = bundle.json("metadata.json");
    assert_eq!(metadata["export_status"], "partial");
    let errors = metadata["export_errors"].as_array().unwrap();
    assert!(
        errors.len() == 1 && errors[0].as_str().unwrap().contains(name),
        "{errors:?}"
    );
    for member in ["restore_instructions.md", "logs/export_log.txt"] {
        let text = std::fs::read_to_string(bundle.dir.join(member)).unwrap();
        assert!(text.contains(name), "{member} does not name it:\n{text}");
    }
    let shown = run(arkstream().arg("show").arg(&out)).ok().stdout;
    assert!(
        shown.contains("left out (1)") && shown.contains(name),
        "{shown}"
    );
    run(arkstream().arg("verify").arg(&out)).ok();

    let files = bundle.dir.join("odoo_data/filestore");
    assert_eq!(std::fs::read(files.join(name)).ok(), content);
    let missing = usize::from(content.is_none());
    let complete = new_out();
    let shared = stack.filestore.display().to_string();
    run(&mut backup(
        &url,
        &complete,
        &["--filestore", &shared, "--models", "ai.conversation"],
    ))
    .ok();
    let whole = Bundle::open(complete, serde_json::Value::Null, String::new());
    let expected = files_below(&whole.dir.join("odoo_data/filestore")).len();
    assert_eq!(files_below(&files).len() + missing, expected);
}

#[test]
fn a_filestore_without_any_permission_is_no_empty_one() {
    let (out, stack) = (new_out(), Stack::shared());
    let filestore = copy_of_filestore();
    set_mode(&filestore, 0);
    set_mode(out.parent().unwrap(), 0o777);
    let name = filestore.display().to_string();
    let command = backup(&stack.url(&stack.odoo), &out, &["--filestore", &name]);
    let mut command = super::chroma::as_nobody(&command);
    fails(
        command.args(FEW_MODELS),
        &out,
        7,
        &[&name, "ermission denied"],
        "",
    );
    set_mode(&filestore, 0o755);
}
