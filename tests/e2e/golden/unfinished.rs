//! Golden unfinished bundles are continued, or refused, as recorded.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use arkstream_bundle::{Beginning, BundleFile, BundleWriter, Leftover, OutputPaths, Resumed};
use arkstream_format::{Component, RunId};
use arkstream_pipeline::{BundleReader as _, BundleSink as _, Failure, FailureKind, Sink as _};

use super::{
    Case,
    bundles::digests,
    cases, committed,
    contents::{generation, moment, plain_manifest, run_id},
    made_now, make, no_wait, text,
};
use crate::{
    failures::backup,
    support::{Stack, run, runtime, scratch},
};

fn open(folder: &Path, plan: &Value) -> Result<(BundleWriter, Option<Resumed>), Failure> {
    let paths = OutputPaths::new(&folder.join("bundle.zip"));
    let beginning = Beginning {
        run_id: RunId(run_id(9)),
        plan: serde_json::from_value(plan.clone()).expect("a plan"),
        at: moment(),
    };
    let leftover = Leftover::Continue {
        recheck: false,
        insist: true,
    };
    BundleWriter::open(paths, beginning, leftover, no_wait())
}

/// Continues a copy of what lies in a folder, with the dump as the generator has it, and tells what was
/// found and what became of it.
pub(super) fn resume(folder: &Path) -> Value {
    let streamed = json!({
        "name": make::DUMP, "line": super::contents::LINE, "times": super::contents::LINES
    });
    let to = scratch("resume");
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
    let plan = serde_json::to_value(make::plan()).expect("JSON");
    continued(&to, &plan, &streamed)
}

fn continued(folder: &Path, plan: &Value, streamed: &Value) -> Value {
    let (writer, resumed) = open(folder, plan).expect("it is continued");
    let resumed = resumed.expect("something is there");
    let writer = Arc::new(writer);
    let (earlier, published) = runtime().block_on(async {
        writer
            .begin_generation(generation(9))
            .await
            .expect("a barrier");
        let mut earlier = serde_json::Map::new();
        for component in Component::ALL {
            for member in writer.earlier(component).await.expect("members") {
                earlier.insert(member.name.clone(), json!(member.digest));
                // The dump is made again, and compared.
                if member.name != text(&streamed["name"]) {
                    writer.keep(&member.name, None).await.expect("kept");
                }
            }
        }
        let times = streamed["times"].as_u64().expect("a number") as usize;
        let bytes = Bytes::from(text(&streamed["line"]).repeat(times));
        make::stream(&writer, text(&streamed["name"]), Component::OdooDump, bytes).await;
        let manifest = plain_manifest(arkstream_format::FORMAT_VERSION);
        (earlier, writer.publish(manifest).await.expect("a bundle"))
    });
    let bundle = BundleFile::open(&published.path).expect("it opens");
    assert_eq!(bundle.check_framing(), []);
    let sum = std::process::Command::new("sha256sum")
        .args(["--strict", "--status", "-c", "bundle.zip.sha256"])
        .current_dir(folder)
        .status();
    assert!(sum.expect("sha256sum").success());
    let mut finished = digests(&bundle);
    if let Some(members) = finished.as_object_mut() {
        // Offsets stand in them, and those follow from the encoder.
        members.retain(|name, _| !name.starts_with("index/"));
    }
    json!({
        "begun_at": resumed.begun_at,
        "generations": resumed.generations.len(),
        "members": resumed.members,
        "bytes": resumed.bytes,
        "cut_off": resumed.cut_off,
        "torn": resumed.torn,
        "damaged": resumed.damaged,
        "earlier": earlier,
        "kept": {"members": published.kept.members, "bytes": published.kept.bytes},
        "finished": finished,
    })
}

fn hold(case: &Case) {
    let folder = case.copied();
    let plan = &case.says["plan"];
    if !case.says["refuse"].is_null() {
        let before = contents_of(&folder);
        let failure = open(&folder, plan).map(drop).expect_err(&case.name);
        assert_eq!(
            failure.kind,
            FailureKind::Refused,
            "{}: {failure}",
            case.name
        );
        for word in case.words(&case.says["refuse"]) {
            assert!(failure.why().contains(&word), "{}: {failure}", case.name);
        }
        assert!(
            contents_of(&folder) == before,
            "{}: it was changed",
            case.name
        );
        return;
    }
    let found = continued(&folder, plan, &case.says["streamed"]);
    assert_eq!(found, case.says["resume"], "{}", case.name);
}

fn contents_of(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut all: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(&path).expect("a file")))
        .collect();
    all.sort();
    // A run that is refused may open the unfinished bundle, and create it empty.
    all.retain(|(_, bytes)| !bytes.is_empty());
    all
}

fn hold_all(folder: &Path) {
    let cases = cases(folder);
    let unfinished: Vec<&Case> = cases.iter().filter(|case| case.is("unfinished")).collect();
    assert!(unfinished.len() > 10);
    for case in unfinished {
        hold(case);
    }
}

#[test]
fn golden_unfinished_bundles_are_continued_or_refused_as_recorded() {
    hold_all(committed());
}

#[test]
fn what_todays_code_leaves_is_continued_or_refused_in_the_same_way() {
    hold_all(made_now());
}

/// The program on unfinished bundles that it must leave alone.
#[test]
fn a_backup_refuses_golden_unfinished_bundles_that_are_not_its_own() {
    let stack = Stack::shared();
    let url = stack.url(&stack.odoo);
    for case in cases(committed()) {
        let words = match case.name.as_str() {
            "torn-in-a-chunk" => vec!["for something else".to_owned()],
            "journal-major-2" | "journal-unknown-record" | "journal-stays" => {
                case.words(&case.says["refuse"])
            }
            _ => continue,
        };
        let folder = case.copied();
        let before = contents_of(&folder);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(&mut backup(
            &url,
            &folder.join("bundle.zip"),
            &["--models", "ai.conversation.tag"],
        ))
        .expect_code(6)
        .says(&words);
        assert!(
            contents_of(&folder) == before,
            "{}: it was changed",
            case.name
        );
    }
}
