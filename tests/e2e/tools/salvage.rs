//! Bundles of the sample stack, damaged and salvaged: what was not hit comes back as it was, and what
//! was hit is told by every command that touches the new bundle.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{members, number, text};
use crate::support::{Bundle, Profile, Run, Stack, arkstream, run, scratch, sh};

/// A member of the shared bundle with rows.
const HIT: &str = "odoo_data/models/ai.message/part-00000.parquet";

fn salvage(bytes: &[u8], name: &str) -> (Run, PathBuf) {
    let folder = scratch(name);
    let damaged = folder.join("damaged.zip");
    std::fs::write(&damaged, bytes).expect("a file");
    let out = folder.join("out.zip");
    let mut command = arkstream();
    command.args(["salvage", "--json", "--progress", "none"]);
    (run(command.arg(&damaged).arg(&out)), out)
}

fn ark(words: &[&str], bundle: &Path) -> Run {
    run(arkstream().args(words).arg(bundle))
}

fn verify(bundle: &Path) -> Run {
    ark(&["verify", "--json", "--progress", "none"], bundle)
}

fn member<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let found = members(manifest).iter().find(|m| m["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in the manifest"))
}

/// Unpacks the new bundle and holds every file against the undamaged bundle's. Returns what of that is
/// missing.
fn compare(out: &Path, original: &Bundle) -> (Bundle, Vec<String>) {
    sh(out.parent().expect("a folder"), "unzip -tqq out.zip").ok();
    let found = Bundle::open(out.to_owned(), Value::Null, String::new());
    let described = ["manifest.json", "metadata.json"];
    let ours = |name: &str| name.starts_with("index/") || described.contains(&name);
    for name in found.members() {
        if ours(&name) || name.starts_with("salvaged/") {
            continue;
        }
        let read = |bundle: &Bundle| std::fs::read(bundle.dir.join(&name)).expect("a member");
        assert!(read(&found) == read(original), "{name} is not what it was");
    }
    let missing = original
        .members()
        .into_iter()
        .filter(|name| !ours(name) && !found.dir.join(name).exists());
    let missing = missing.collect();
    (found, missing)
}

#[test]
fn a_flipped_bit_costs_one_part_of_one_table_and_every_command_says_so() {
    let original = Bundle::shared(Profile::SamAi);
    let mut bytes = std::fs::read(&original.path).expect("the bundle");
    let manifest = original.json("manifest.json");
    let hit = member(&manifest, HIT);
    let rows = number(&hit["rows"]);
    bytes[number(&hit["chunks"][0]["offset"]) as usize + 100] ^= 0x10;
    // The manifest as well, so that the copies of the index have to do.
    let end = bytes.len();
    bytes[end - 20] ^= 1;
    let (run_of_it, out) = salvage(&bytes, "flipped");
    let report = run_of_it.expect_code(3).json();
    assert_eq!(report["known_from"], "index members", "{report:#}");
    let lost = report["lost"].as_array().expect("a list");
    assert_eq!(lost.len(), 1, "{lost:#?}");
    assert_eq!(
        (text(&lost[0]["member"]), number(&lost[0]["rows"])),
        (HIT, rows)
    );

    let (found, missing) = compare(&out, original);
    assert_eq!(missing, [HIT]);
    for folder in ["ai.conversation", "ai.memory.config"] {
        let folder = format!("odoo_data/models/{folder}");
        if original.dir.join(&folder).is_dir() {
            assert_eq!(found.rows(&folder), original.rows(&folder), "{folder}");
        }
    }
    let verdict = verify(&out).expect_code(3).json();
    assert_eq!(verdict["verdict"], "good", "{verdict:#}");
    let findings = verdict["findings"].to_string();
    assert!(findings.contains(HIT), "{findings}");
    let shown = ark(&["show"], &out).ok().stdout;
    assert!(
        shown.contains("left out (1)") && shown.contains(HIT),
        "{shown}"
    );
    let page = run(arkstream().arg("report").arg(&out).args(["-o", "-"]))
        .ok()
        .stdout;
    assert!(
        page.contains("1 member is lost") && page.contains(HIT),
        "{page}"
    );
    let mut command = arkstream();
    let compared = run(command
        .args(["diff", "--json"])
        .arg(&original.path)
        .arg(&out));
    let compared = compared.expect_code(3).json();
    let left_out = |table: &&Value| !table["left_out"].is_null();
    let tables = compared["tables"].as_array().expect("a list").iter();
    let left_out: Vec<_> = tables.filter(left_out).map(|t| text(&t["model"])).collect();
    assert_eq!(left_out, ["ai.message"]);

    let stack = Stack::shared();
    let url = stack.url(&stack.odoo);
    let restore = |components: &str| {
        let mut command = arkstream();
        command.args([
            "restore",
            "--dry-run",
            "--progress",
            "none",
            "--mode",
            "merge",
        ]);
        command.args(["--components", components, "--odoo-db", &url, "--state-dir"]);
        command
            .arg(scratch("state"))
            .arg("--filestore")
            .arg(scratch("filestore"));
        run(command.arg(&out))
    };
    let why = "salvaged from damaged.zip, which had lost";
    restore("models,filestore")
        .expect_code(4)
        .says(&[why, HIT, "--components filestore"]);
    restore("filestore").ok();
}

#[test]
fn where_only_the_directory_is_lost_nothing_is() {
    let original = Bundle::shared(Profile::SamAi);
    let mut bytes = std::fs::read(&original.path).expect("the bundle");
    bytes.truncate(bytes.len() - 5000);
    let (run_of_it, out) = salvage(&bytes, "directory");
    let report = run_of_it.ok().json();
    assert_eq!(report["lost"], Value::from(Vec::<Value>::new()));
    let (found, missing) = compare(&out, original);
    assert_eq!(missing, Vec::<String>::new());
    for key in ["tables", "generations", "graph", "chroma", "references"] {
        let of = |bundle: &Bundle| bundle.json("manifest.json")[key].clone();
        assert_eq!(of(&found), of(original), "{key}");
    }
    let metadata = |bundle: &Bundle| bundle.json("metadata.json");
    assert_eq!(metadata(&found), metadata(original));
    let verdict = verify(&out).ok().json();
    assert_eq!(verdict["verdict"], "good");
}

#[test]
fn a_bundle_that_was_cut_in_the_middle_gives_back_what_came_before() {
    let original = Bundle::shared(Profile::SamAi);
    let mut bytes = std::fs::read(&original.path).expect("the bundle");
    bytes.truncate(bytes.len() * 2 / 3);
    let cut = bytes.len() as u64;
    let (run_of_it, out) = salvage(&bytes, "middle");
    let report = run_of_it.expect_code(3).json();
    assert_eq!(report["described"], false);
    let (_, missing) = compare(&out, original);
    let manifest = original.json("manifest.json");
    for listed in members(&manifest) {
        let name = text(&listed["name"]);
        let end = number(&listed["data_offset"]) + number(&listed["stored_len"]);
        if missing.iter().any(|missing| missing == name) {
            assert!(end + 24 > cut, "{name} was before the cut");
        }
    }
    let verdict = verify(&out).expect_code(3).json();
    assert_eq!(verdict["verdict"], "good", "{verdict:#}");
    let damaged = out.with_file_name("damaged.zip");
    let told = verify(&damaged).expect_code(4);
    assert!(told.stdout.contains("damaged"));
    let told = ark(&["verify", "--progress", "none"], &damaged).expect_code(4);
    assert!(told.stdout.contains("arkstream salvage"), "{}", told.stdout);
    // Never over something.
    run(arkstream().arg("salvage").arg(&damaged).arg(&out)).expect_code(6);
}
