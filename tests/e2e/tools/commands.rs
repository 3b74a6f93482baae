//! `arkstream ls`, `show`, `cat`, `extract`, `verify` on a good bundle.

use std::path::Path;

use serde_json::Value;

use super::{members, number, text};
use crate::support::{Bundle, Profile, Run, arkstream, files_below, python, run, scratch, sh};

fn ark(arguments: &[&str]) -> Run {
    run(arkstream().args(arguments))
}

fn path(bundle: &Bundle) -> &str {
    bundle.path.to_str().expect("UTF-8")
}

#[test]
fn ls_agrees_with_the_zip_directory() {
    let bundle = Bundle::shared(Profile::SamAi);
    let listed = ark(&["ls", path(bundle), "--json"]).ok().json();
    let script = "import json, sys, zipfile
infos = zipfile.ZipFile(sys.argv[1]).infolist()
print(json.dumps([[i.filename, i.file_size, i.compress_size, '%08x' % i.CRC] for i in infos if i.filename != 'manifest.json']))";
    let zip = run(python().args(["-c", script]).arg(&bundle.path))
        .ok()
        .json();
    let ours: Vec<Value> = members(&listed)
        .iter()
        .map(|m| {
            Value::from(vec![
                m["name"].clone(),
                m["raw_bytes"].clone(),
                m["stored_bytes"].clone(),
                m["crc32"].clone(),
            ])
        })
        .collect();
    assert_eq!(Value::from(ours), zip);
    let size = std::fs::metadata(&bundle.path).expect("the bundle").len();
    assert_eq!(listed["file_bytes"], size);
    let message = members(&listed)
        .iter()
        .find(|m| m["name"] == "odoo_data/models/ai.message/part-00000.parquet");
    assert_eq!(
        message.expect("listed")["rows"],
        bundle.model("ai.message")["rows"]
    );

    let table = ark(&["ls", path(bundle)]).ok().stdout;
    for member in members(&listed) {
        let name = text(&member["name"]);
        let line = table
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {table}"));
        if let Some(rows) = member["rows"].as_u64() {
            assert_eq!(
                line.split_whitespace().next(),
                Some(&*rows.to_string()),
                "{line}"
            );
        }
    }
    assert!(
        table.contains(&format!("{} members", bundle.members().len())),
        "{table}"
    );
}

#[test]
fn show_tells_what_the_bundle_says_of_itself() {
    let bundle = Bundle::shared(Profile::SamAi);
    let manifest = bundle.json("manifest.json");
    let shown = ark(&["show", path(bundle), "--json"]).ok().json();
    assert_eq!(shown["metadata"], bundle.json("metadata.json"));
    for key in [
        "run_id",
        "generations",
        "components",
        "omissions",
        "references",
        "chroma",
        "graph",
        "format_version",
    ] {
        assert_eq!(shown[key], manifest[key], "{key}");
    }
    let words = ark(&["show", path(bundle)]).ok().stdout;
    let generation = format!("skew {} ms", manifest["generations"][0]["barrier_skew_ms"]);
    for expected in [
        "complete, success",
        "18.0",
        "odoo_e2e",
        "sam_graph",
        &generation,
        "nothing was left out",
        "filestore",
    ] {
        assert!(words.contains(expected), "{expected:?} is not in {words}");
    }
    // Values of the database are no commands to the terminal.
    assert!(
        !words.chars().any(|c| c.is_control() && c != '\n'),
        "{words:?}"
    );
}

#[test]
fn cat_gives_the_bytes_that_unzip_gives() {
    for bundle in [Bundle::shared(Profile::SamAi), super::large_bundle()] {
        let manifest = bundle.json("manifest.json");
        let mut wanted: Vec<&str> = vec!["manifest.json"];
        for component in manifest["components"]
            .as_object()
            .expect("an object")
            .keys()
        {
            let of_it = members(&manifest)
                .iter()
                .filter(|m| m["component"] == **component);
            wanted.push(text(
                &of_it.max_by_key(|m| number(&m["raw_len"])).expect("one")["name"],
            ));
        }
        let empty = members(&manifest).iter().find(|m| m["raw_len"] == 0);
        wanted.extend(empty.map(|m| text(&m["name"])));
        for member in wanted {
            let program = env!("CARGO_BIN_EXE_arkstream");
            sh(
                &bundle.dir,
                &format!(
                    "'{program}' cat '{}' '{member}' | cmp - '{member}'",
                    path(bundle)
                ),
            );
        }
    }
}

#[test]
fn cat_refuses_what_is_no_member_and_suggests() {
    let bundle = Bundle::shared(Profile::SamAi);
    let refused = |member: &str| {
        let run = ark(&["cat", path(bundle), member]).expect_code(2);
        assert_eq!(run.stdout, "");
        run
    };
    refused("ai.message").says(&[
        "ai.message",
        "did you mean",
        "odoo_data/models/ai.message/part-00000.parquet",
    ]);
    refused("odoo_data/models/ai.message").says(&["did you mean"]);
    refused("metdata.json").says(&["did you mean metadata.json"]);
    refused("manifst.json").says(&["did you mean manifest.json"]);
    refused("no such thing").says(&["no such thing", "arkstream ls"]);
}

/// A reader who has seen enough is no error.
#[test]
fn cat_into_a_closed_pipe_says_nothing() {
    let bundle = super::large_bundle();
    let manifest = bundle.json("manifest.json");
    let large = members(&manifest)
        .iter()
        .max_by_key(|m| number(&m["raw_len"]))
        .expect("a member");
    let program = env!("CARGO_BIN_EXE_arkstream");
    let line = format!(
        "'{program}' cat '{}' '{}' | head -c 10 | wc -c",
        path(bundle),
        text(&large["name"])
    );
    let run = sh(&bundle.dir, &line);
    assert_eq!(run.stdout.trim(), "10");
    assert_eq!(run.stderr, "");
}

#[test]
fn extract_gives_what_unzip_gives() {
    for bundle in [Bundle::shared(Profile::SamAi), super::large_bundle()] {
        let folder = scratch("extracted");
        let target = folder.join("new");
        ark(&["extract", path(bundle), target.to_str().expect("UTF-8")]).ok();
        sh(&folder, &format!("diff -r new '{}'", bundle.dir.display()));
        // Modes and times too, to the second.
        let list = "find . -type f -printf '%P %m %Ts\\n' | grep -v manifest.json | sort";
        assert_eq!(sh(&target, list).stdout, sh(&bundle.dir, list).stdout);
    }
}

#[test]
fn extract_takes_single_members_and_folders() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("some");
    let target = folder.to_str().expect("UTF-8");
    ark(&[
        "extract",
        path(bundle),
        target,
        "metadata.json",
        "odoo_data/models/ai.message/",
        "manifest.json",
    ])
    .ok();
    let expected = [
        "manifest.json",
        "metadata.json",
        "odoo_data/models/ai.message/part-00000.parquet",
    ];
    assert_eq!(files_below(&folder), expected);
    let again = scratch("some-again");
    let again = again.to_str().expect("UTF-8");
    let told = ark(&["extract", path(bundle), again, "metadata.json", "--json"])
        .ok()
        .json();
    let size = std::fs::metadata(folder.join("metadata.json")).expect("a file");
    assert_eq!(
        told,
        serde_json::json!({ "dir": again, "members": 1, "bytes": size.len() })
    );
    ark(&["extract", path(bundle), target, "no.such.member"])
        .expect_code(2)
        .says(&["no.such.member"]);
}

/// What became of a restore, as `restores --json` lists it.
#[test]
fn undo_and_forget_end_with_the_record() {
    let folder = scratch("undone");
    let bundle = Bundle::shared(Profile::SamAi);
    let ark = |words: &[&str]| {
        let mut command = arkstream();
        command.args(words).arg("--state-dir");
        run(command.arg(folder.join("state")).arg("--json"))
    };
    for (ending, phase) in [("undo", "reverted"), ("forget", "forgotten")] {
        let target = folder.join("chroma");
        ark(&[
            "restore",
            path(bundle),
            "--yes",
            "--progress=none",
            "--components=chroma",
            "--chroma",
            target.to_str().expect("UTF-8"),
            "--report",
            folder.join("report.md").to_str().expect("UTF-8"),
        ])
        .ok();
        let kept = ark(&["restores"]).ok().json();
        let id = text(&kept[0]["restore_id"]);
        let ended = ark(&[ending, id]).ok().json();
        assert_eq!(ended["restore_id"], id);
        assert_eq!(ended["phase"], phase);
        let all = ark(&["restores", "--all"]).ok().json();
        let listed = all.as_array().expect("a list").iter();
        assert!(listed.into_iter().any(|record| *record == ended), "{all:#}");
        assert_eq!(target.exists(), ending == "forget");
    }
}

#[test]
fn extract_overwrites_nothing() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("occupied");
    std::fs::write(folder.join("metadata.json"), "mine").expect("a file");
    let target = folder.to_str().expect("UTF-8");
    ark(&["extract", path(bundle), target, "metadata.json"])
        .expect_code(6)
        .says(&["metadata.json", "empty folder"]);
    assert_eq!(
        std::fs::read_to_string(folder.join("metadata.json")).expect("a file"),
        "mine"
    );
    assert_eq!(files_below(&folder), ["metadata.json"]);
}

#[test]
fn verify_proves_a_good_bundle() {
    for bundle in [
        Bundle::shared(Profile::SamAi),
        Bundle::shared(Profile::All),
        super::large_bundle(),
    ] {
        let report = ark(&["verify", path(bundle), "--json", "--progress", "none"])
            .ok()
            .json();
        assert_eq!(report["verdict"], "good", "{report:#}");
        assert!(
            report["duration_seconds"].as_f64() > Some(0.0),
            "{report:#}"
        );
        assert_eq!(report["damaged_members"], Value::from(Vec::<Value>::new()));
        let manifest = bundle.json("manifest.json");
        assert_eq!(
            number(&report["good_members"]),
            members(&manifest).len() as u64
        );
        let chunks: usize = members(&manifest)
            .iter()
            .map(|m| m["chunks"].as_array().expect("a list").len())
            .sum();
        assert_eq!(number(&report["chunks"]), chunks as u64);
        let checks: Vec<&str> = report["checks"]
            .as_array()
            .expect("a list")
            .iter()
            .map(text)
            .collect();
        assert_eq!(checks, ["metadata", "rows", "dumps", "chroma"]);
        let words = ark(&["verify", path(bundle), "--progress", "none"])
            .ok()
            .stdout;
        assert!(words.contains("good: all"), "{words}");
    }
}

/// A foreign key that leads out of the bundle is told, and is no damage.
#[test]
fn verify_tells_of_foreign_keys_that_lead_out_of_the_bundle() {
    let bundle = Bundle::shared(Profile::SamAi);
    let report = ark(&["verify", path(bundle), "--json", "--progress", "none"])
        .ok()
        .json();
    let rows = bundle.rows("odoo_data/support/mail_message");
    let here = |id: &Value| rows.iter().any(|row| row["id"] == *id);
    let missing = rows
        .iter()
        .filter(|row| !row["parent_id"].is_null() && !here(&row["parent_id"]))
        .count();
    assert!(
        missing > 0,
        "the sample has answers to messages of other models"
    );
    let notes: Vec<&str> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| text(&f["what"]))
        .collect();
    let note = notes
        .iter()
        .find(|note| note.contains("mail_message.parent_id"))
        .expect("a note");
    assert!(note.contains(&format!("{missing} rows")), "{note}");
}

#[test]
fn a_sample_is_verified_without_reading_everything() {
    let bundle = Bundle::shared(Profile::SamAi);
    let report = ark(&[
        "verify",
        path(bundle),
        "--sample",
        "20%",
        "--json",
        "--progress",
        "none",
    ])
    .ok()
    .json();
    let chunks = number(&report["chunks"]);
    assert!(chunks > 0 && chunks < 120, "{chunks} of some 190");
    assert_eq!(report["verdict"], "good");
}

#[test]
fn what_is_no_bundle_is_named_so() {
    let folder = scratch("no-bundle");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    sh(
        Path::new(&folder),
        "echo text > in.txt && zip -q plain.zip in.txt",
    );
    let plain = folder.join("plain.zip").to_str().expect("UTF-8").to_owned();
    for path in [
        file("empty.zip", b""),
        file("text.zip", b"this is no ZIP file at all"),
        plain,
    ] {
        let run = ark(&["verify", &path]).expect_code(4);
        assert!(run.stdout.contains("DAMAGED"), "{}", run.stdout);
        for command in ["ls", "show"] {
            ark(&[command, &path])
                .expect_code(4)
                .says(&["error: could not"]);
        }
    }
    ark(&["verify", "/does/not/exist.zip"])
        .expect_code(7)
        .says(&["/does/not/exist.zip"]);
    ark(&["verify", folder.to_str().expect("UTF-8")]).expect_code(7);
}
