//! Golden bundles are read, or found damaged where they are.

use std::path::Path;

use serde_json::{Value, json};

use arkstream_bundle::BundleFile;
use arkstream_format::Member;
use arkstream_pipeline::{BundleReader as _, Cancel, FailureKind, Finding, Severity, Silent};
use arkstream_restorer::{VerifyOptions, verify};

use super::{Case, cases, committed, made_now, text};
use crate::support::{arkstream, run, scratch, sh};

/// A member's bytes.
pub(super) fn raw(bundle: &BundleFile, member: &Member) -> Result<Vec<u8>, Finding> {
    let mut bytes = Vec::new();
    for index in 0..member.chunks.len() {
        bytes.extend_from_slice(&bundle.read_chunk(member, index)?);
    }
    Ok(bytes)
}

/// BLAKE3, length and rows of every member.
pub(super) fn digests(bundle: &BundleFile) -> Value {
    let mut all = serde_json::Map::new();
    for member in &bundle.manifest().members {
        let bytes = raw(bundle, member).expect("good");
        all.insert(member.name.clone(), digest(&bytes, member));
    }
    Value::Object(all)
}

fn digest(bytes: &[u8], member: &Member) -> Value {
    json!({
        "blake3": blake3::hash(bytes).to_hex().as_str(), "bytes": bytes.len(), "rows": member.rows,
    })
}

fn hold(case: &Case) {
    let name = &case.name;
    let path = case.folder.join("bundle.zip");
    let opened = BundleFile::open(&path);
    if !case.says["opens"].is_null() {
        let failure = opened.expect_err(name);
        for word in case.words(&case.says["opens"]) {
            assert!(failure.to_string().contains(&word), "{name}: {failure}");
        }
        let expected = match case.says["exit_code"].as_u64() {
            Some(5) => FailureKind::Incompatible,
            _ => FailureKind::Damaged,
        };
        assert_eq!(failure.kind, expected, "{name}: {failure}");
        return;
    }
    let bundle = opened.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let damage = case.says["damage"].as_array().expect("a list");
    // What is not damaged has its contents.
    let members = case.says["members"].as_object().expect("an object");
    assert_eq!(members.len(), bundle.manifest().members.len(), "{name}");
    for member in &bundle.manifest().members {
        match raw(&bundle, member) {
            Ok(bytes) => assert_eq!(members[&member.name], digest(&bytes, member), "{name}"),
            Err(finding) => assert!(
                damage
                    .iter()
                    .any(|found| found["member"] == member.name.as_str()),
                "{name}: {finding}"
            ),
        }
    }
    let count = |value: &Value| value.as_u64().expect("a number") as usize;
    let manifest = bundle.manifest();
    assert_eq!(
        manifest.dead_ranges.len(),
        count(&case.says["dead_ranges"]),
        "{name}"
    );
    assert_eq!(
        manifest.generations.len(),
        count(&case.says["generations"]),
        "{name}"
    );
    // And what is, is found, alone.
    let mut findings = bundle.check_framing();
    let report = verify(
        &bundle,
        &mut [],
        &VerifyOptions::default(),
        &Silent,
        &Cancel::default(),
    );
    findings.extend(
        report.findings.into_iter().filter(|finding| {
            finding.severity == Severity::Damage && finding.place.chunk.is_some()
        }),
    );
    assert_eq!(findings.len(), damage.len(), "{name}: {findings:?}");
    for (finding, expected) in findings.iter().zip(damage) {
        assert_eq!(
            json!(finding.place.member),
            expected["member"],
            "{name}: {finding}"
        );
        assert_eq!(
            json!(finding.place.chunk),
            expected["chunk"],
            "{name}: {finding}"
        );
        assert!(
            finding.what.contains(text(&expected["words"])),
            "{name}: {finding}"
        );
    }
}

fn hold_all(folder: &Path) {
    let cases = cases(folder);
    let bundles: Vec<&Case> = cases.iter().filter(|case| case.is("bundle")).collect();
    assert!(bundles.len() > 10);
    for case in bundles {
        hold(case);
    }
}

#[test]
fn golden_bundles_are_read_or_found_damaged_as_recorded() {
    hold_all(committed());
}

/// What is committed was made by this generator: it must still be able to make it.
#[test]
fn what_todays_code_writes_is_read_or_found_damaged_in_the_same_way() {
    hold_all(made_now());
}

#[test]
fn the_program_verifies_golden_bundles_as_recorded() {
    for case in cases(committed()).iter().filter(|case| case.is("bundle")) {
        let path = case.folder.join("bundle.zip");
        let code = case.says["exit_code"].as_i64().expect("a number") as i32;
        let mut command = arkstream();
        command
            .args(["verify", "--json", "--progress", "none"])
            .arg(&path);
        let ended = run(&mut command).expect_code(code);
        for word in case.says["opens"].as_array().into_iter().flatten() {
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains(text(word)), "{}: {said}", case.name);
        }
    }
}

#[test]
fn the_program_shows_lists_unpacks_and_copies_every_complete_golden_bundle() {
    let cases = cases(committed());
    let complete = cases
        .iter()
        .filter(|case| case.name.starts_with("complete-"));
    for case in complete {
        let path = case.folder.join("bundle.zip");
        let ark = |arguments: &[&str]| run(arkstream().args(arguments).arg(&path));
        let shown = ark(&["show", "--json"]).ok().json();
        let generations = shown["generations"].as_array().expect("a list").len();
        assert_eq!(
            json!(generations),
            case.says["generations"],
            "{}",
            case.name
        );
        assert!(
            ark(&["show"]).ok().stdout.contains("ee/gone"),
            "{}",
            case.name
        );
        let listed = ark(&["ls", "--json"]).ok().json();
        let listed = listed["members"].as_array().expect("a list").clone();
        let members = case.says["members"].as_object().expect("an object");
        assert_eq!(listed.len(), members.len());
        let folder = scratch("golden");
        let out = folder.join("out");
        run(arkstream().arg("extract").arg(&path).arg(&out)).ok();
        for member in listed {
            let name = text(&member["name"]);
            let bytes = std::fs::read(out.join(name)).expect(name);
            let found = blake3::hash(&bytes).to_hex();
            assert_eq!(members[name]["blake3"], found.as_str(), "{name}");
        }
        sh(&folder, &format!("unzip -qt '{}'", path.display()));
        let copy = folder.join("copy.zip");
        run(arkstream().arg("copy").arg(&path).arg(&copy)).ok();
        sh(&folder, &format!("cmp '{}' copy.zip", path.display()));
    }
}

#[test]
fn an_unfinished_golden_copy_is_continued() {
    for case in cases(committed()).iter().filter(|case| case.is("copy")) {
        let folder = case.copied();
        let source = committed()
            .join(text(&case.says["source"]))
            .join("bundle.zip");
        let copy = folder.join("copy.zip");
        let mut command = arkstream();
        command
            .args(["copy", "--json", "--progress", "none"])
            .arg(&source)
            .arg(&copy);
        let report = run(&mut command).ok().json();
        // What the record vouches for is passed over, and read back at the end.
        assert_eq!(report["read_back"], true, "{report:#}");
        let kept = report["kept_bytes"].as_u64().expect("a number");
        assert!(
            kept >= case.says["written"].as_u64().expect("a number"),
            "{report:#}"
        );
        sh(
            &folder,
            &format!(
                "cmp '{}' copy.zip && test ! -e copy.zip.copy",
                source.display()
            ),
        );
    }
}
