//! What `verify` and its companions say of files that are no bundle, or not one of ours.

use std::path::{Path, PathBuf};

use super::{has_advice, new_out, small_backup};
use crate::support::{arkstream, run, scratch, sh};

const READERS: [&str; 3] = ["verify", "ls", "show"];

fn bundle() -> PathBuf {
    let out = new_out();
    run(&mut small_backup(&out)).ok();
    out
}

#[track_caller]
fn verdict(command: &str, path: &Path, code: i32) -> crate::support::Run {
    run(arkstream().arg(command).arg(path)).expect_code(code)
}

#[test]
fn a_file_that_is_not_there() {
    let missing = scratch("bundles").join("missing.zip");
    for command in READERS {
        let ended = verdict(command, &missing, 7);
        assert!(
            ended.stderr.contains("missing.zip: No such file"),
            "{}",
            ended.stderr
        );
        assert!(ended.stdout.is_empty(), "{}", ended.stdout);
    }
    assert!(
        verdict("verify", missing.parent().unwrap(), 7)
            .stderr
            .contains("not a file")
    );
}

#[test]
fn files_that_are_no_bundle() {
    let folder = scratch("bundles");
    std::fs::write(folder.join("empty.zip"), "").unwrap();
    std::fs::write(folder.join("text.zip"), "no bundle at all ".repeat(1000)).unwrap();
    std::fs::write(folder.join("zeros.zip"), vec![0; 1 << 20]).unwrap();
    sh(&folder, "echo hello > member && zip -q foreign.zip member");
    for name in ["empty.zip", "text.zip", "zeros.zip", "foreign.zip"] {
        let ended = verdict("verify", &folder.join(name), 4);
        assert!(
            ended
                .stdout
                .starts_with("DAMAGED: could not open the bundle"),
            "{}",
            ended.stdout
        );
        assert!(
            ended.stdout.contains("no bundle"),
            "{name}: {}",
            ended.stdout
        );
        for command in ["ls", "show"] {
            let ended = verdict(command, &folder.join(name), 4);
            assert!(
                ended.stderr.contains("no bundle"),
                "{name}: {}",
                ended.stderr
            );
            has_advice(&ended.stderr, "arkstream verify");
        }
    }
    let foreign = verdict("verify", &folder.join("foreign.zip"), 4);
    assert!(
        foreign.stdout.contains("1 of 1 entries are good"),
        "{}",
        foreign.stdout
    );
    let json = run(arkstream()
        .args(["verify", "--json"])
        .arg(folder.join("text.zip")));
    assert_eq!(json.expect_code(4).json()["verdict"], "damaged");
}

#[test]
fn a_bundle_that_was_cut_off() {
    let path = bundle();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let ended = verdict("verify", &path, 4);
    assert!(ended.stdout.contains("cut off"), "{}", ended.stdout);
}

#[test]
fn a_comment_that_disagrees_with_the_manifest_is_damage_not_a_newer_format() {
    let path = bundle();
    let mut bytes = std::fs::read(&path).unwrap();
    let mark = b"Arkstream bundle, format ";
    let at = bytes
        .windows(mark.len())
        .rposition(|window| window == mark)
        .expect("the comment");
    let version = at + mark.len();
    assert_eq!(bytes[version], b'1');
    bytes[version] = b'9';
    std::fs::write(&path, bytes).unwrap();
    for command in READERS {
        let ended = verdict(command, &path, 4);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("the comment is damaged"), "{said}");
    }
}

#[test]
fn extracting_never_overwrites() {
    let path = bundle();
    let dir = scratch("extracted");
    std::fs::write(dir.join("metadata.json"), "mine").unwrap();
    let ended = run(arkstream().arg("extract").arg(&path).arg(&dir)).expect_code(6);
    assert!(ended.stderr.contains("metadata.json"), "{}", ended.stderr);
    assert_eq!(std::fs::read(dir.join("metadata.json")).unwrap(), b"mine");
}

#[test]
fn a_member_that_does_not_exist_is_answered_with_the_nearest() {
    let path = bundle();
    let ended = run(arkstream().arg("cat").arg(&path).arg("metadata")).expect_code(2);
    has_advice(&ended.stderr, "did you mean metadata.json?");
}
