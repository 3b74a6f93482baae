//! What `arkstream copy` says, refuses and counts.

use std::time::Duration;

use super::{beside, bundle, copy, is_identical, len, number};
use crate::{
    failures::running::Running,
    support::{Bundle, Profile, arkstream, faults, files_below, run, scratch},
};

#[test]
fn onto_an_older_bundle_a_tenth_is_transferred_at_most() {
    let all = len(bundle(0));
    let few = |report: &serde_json::Value| {
        let transferred = number(report, "transferred_bytes");
        println!("{transferred} of {all} bytes are transferred");
        assert!(transferred * 10 <= all, "{report:#}");
        assert_eq!(transferred + number(report, "reused_bytes"), all);
    };
    // Beside it, in a folder, and under its name.
    let folder = scratch("older");
    std::fs::copy(bundle(1), folder.join("older.zip")).expect("a copy");
    let to = folder.join("newer.zip");
    for have in [folder.join("older.zip"), folder.clone()] {
        let report = run(copy(bundle(0), &to).arg("--have").arg(have))
            .ok()
            .json();
        few(&report);
        is_identical(bundle(0), &to);
        std::fs::remove_file(&to).expect("ours");
    }
    std::fs::rename(folder.join("older.zip"), &to).expect("ours");
    run(&mut copy(bundle(0), &to))
        .expect_code(6)
        .says(&["another bundle stands there", "--replace"]);
    let report = run(copy(bundle(0), &to).arg("--replace")).ok().json();
    few(&report);
    assert_eq!(report["replaced"], true);
    is_identical(bundle(0), &to);
}

#[test]
fn a_copy_tells_what_it_did() {
    let folder = scratch("told");
    let report = run(copy(bundle(0), &folder).arg("--verify")).ok().json();
    let to = folder.join("bundle-0.zip");
    is_identical(bundle(0), &to);
    assert_eq!(report["copy"], to.to_str().expect("UTF-8"));
    assert_eq!(number(&report, "bytes"), len(&to));
    assert_eq!(number(&report, "transferred_bytes"), len(&to));
    assert_eq!(report["read_back"], true);
    assert_eq!(report["mended_bytes"], 0);
    // One chunk at a time, however long the bundle is.
    let peak = number(&report, "peak_memory_bytes");
    println!("peak memory {peak}");
    assert!(peak < 40 << 20, "{peak} bytes for a bundle of {}", len(&to));
    run(arkstream().args(["ls", "--json"]).arg(&to)).ok();
    // For people; and the second time.
    let words = run(arkstream().arg("copy").arg(bundle(0)).arg(&folder)).ok();
    assert!(
        words.stdout.contains("were there already"),
        "{}",
        words.stdout
    );
    let other = folder.join("other.zip");
    let words = run(arkstream().arg("copy").arg(bundle(0)).arg(&other)).ok();
    assert!(words.stdout.contains("transferred"), "{}", words.stdout);
    assert!(words.stderr.contains("chroma: done"), "{}", words.stderr);
    is_identical(bundle(0), &other);
}

#[test]
fn a_copy_of_a_real_backup_is_proven_by_verify() {
    let source = &Bundle::shared(Profile::SamAi).path;
    let to = scratch("real").join("copy.zip");
    run(&mut copy(source, &to)).ok();
    is_identical(source, &to);
    run(arkstream().args(["verify", "--progress", "none"]).arg(&to)).ok();
}

#[test]
fn a_second_process_is_refused_at_once() {
    let to = scratch("two").join("copy.zip");
    let mut first = copy(bundle(0), &to);
    faults::at(&mut first, "bundle.write", 3, "stop");
    let mut running = Running::start(&mut first);
    running.until("it is stopped", Running::is_stopped);
    let refused = |source| {
        run(&mut copy(source, &to))
            .expect_code(6)
            .says(&["another run is writing it at this moment"]);
        len(&beside(&to, ".partial"))
    };
    // By then every thread of the first one has come to its stop.
    let before = refused(bundle(0));
    assert!(before > 0);
    assert_eq!(refused(bundle(1)), before);
    running.signal("CONT");
    assert_eq!(running.end(Duration::from_secs(180)).code, Some(0));
    is_identical(bundle(0), &to);
}

#[test]
fn an_interrupt_ends_the_copy_with_130_and_keeps_it() {
    for signal in ["INT", "TERM"] {
        let to = scratch("interrupted").join("copy.zip");
        let mut command = copy(bundle(0), &to);
        faults::at(&mut command, "bundle.write", 2, "stop");
        let mut running = Running::start(&mut command);
        running.until("it is stopped", Running::is_stopped);
        running.signal(signal);
        running.signal("CONT");
        let ended = running.end(Duration::from_secs(60));
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert!(ended.stderr.contains("to continue"), "{ended:?}");
        assert!(!to.exists() && beside(&to, ".partial").exists());
        assert!(beside(&to, ".copy").exists(), "where to go on is recorded");
        let report = run(&mut copy(bundle(0), &to)).ok().json();
        assert!(number(&report, "kept_bytes") >= 4 << 20, "{report:#}");
        assert_eq!(report["read_back"], true);
        is_identical(bundle(0), &to);
    }
}

#[test]
fn a_folder_without_a_bundle_is_no_success() {
    let (from, to) = (scratch("from"), scratch("to"));
    std::fs::write(from.join("notes.txt"), "no bundle").expect("a file");
    let ended = run(&mut copy(&from, &to)).expect_code(6);
    ended.says(&["*.zip"]);
}

#[test]
fn a_folder_is_copied_with_its_names_and_one_failure_does_not_stop_the_rest() {
    let (from, to) = (scratch("from"), scratch("to"));
    for variant in 0..3 {
        let name = format!("night-{variant}.zip");
        std::fs::copy(bundle(variant), from.join(&name)).expect("a copy");
    }
    std::fs::write(from.join("notes.txt"), "no bundle").expect("a file");
    let damaged = from.join("night-1.zip");
    let mut bytes = std::fs::read(&damaged).expect("a bundle");
    // In the part that no other night has: of the rest, the first one's copy would supply it.
    bytes[22_500_000] ^= 1;
    std::fs::write(&damaged, &bytes).expect("ours");
    let ended = run(copy(&from, &to).arg("--have").arg(&to))
        .expect_code(4)
        .says(&[
            "night-1.zip",
            "models/part-00001.parquet",
            "chunk 0",
            "bytes ",
        ]);
    let report = ended.json();
    let listed = |key: &str| report[key].as_array().expect("a list").len();
    assert_eq!((listed("copies"), listed("failed")), (2, 1), "{report:#}");
    assert_eq!(report["failed"][0]["exit_code"], 4);
    assert_eq!(
        report["failed"][0]["source"],
        damaged.to_str().expect("UTF-8")
    );
    // The second night is like the first, but for one part.
    assert!(number(&report["copies"][1], "transferred_bytes") * 10 < len(bundle(2)));
    for variant in [0, 2] {
        is_identical(bundle(variant), &to.join(format!("night-{variant}.zip")));
    }
    assert!(!to.join("night-1.zip").exists());

    bytes[22_500_000] ^= 1;
    std::fs::write(&damaged, &bytes).expect("ours");
    let report = run(&mut copy(&from, &to)).ok().json();
    let there = |index: usize| report["copies"][index]["already_there"].clone();
    assert_eq!(
        [there(0), there(1), there(2)],
        [true, false, true],
        "{report:#}"
    );
    is_identical(bundle(1), &to.join("night-1.zip"));
    let names: Vec<String> = (0..3)
        .flat_map(|n| [format!("night-{n}.zip"), format!("night-{n}.zip.sha256")])
        .collect();
    assert_eq!(files_below(&to), names);
    let words = run(arkstream().arg("copy").arg(&from).arg(&to)).ok().stdout;
    assert!(words.contains("3 bundles"), "{words}");
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let folder = scratch("refused");
    let to = folder.join("copy.zip");
    run(&mut copy(&folder.join("nothing.zip"), &to))
        .expect_code(7)
        .says(&["nothing.zip"]);
    std::fs::write(folder.join("plain.zip"), "no ZIP at all").expect("a file");
    run(&mut copy(&folder.join("plain.zip"), &to))
        .expect_code(4)
        .says(&["plain.zip", "no bundle"]);
    run(&mut copy(bundle(0), &folder.join("no/folder/copy.zip")))
        .expect_code(6)
        .says(&["folder that exists"]);
    run(&mut copy(bundle(0), &folder.join("no-folder/")))
        .expect_code(6)
        .says(&["folder that exists"]);
    run(&mut copy(&folder, &folder.join("nowhere")))
        .expect_code(6)
        .says(&["is no folder"]);
    run(&mut copy(bundle(0), bundle(0)))
        .expect_code(6)
        .says(&["the same file"]);
    run(copy(bundle(0), &to)
        .arg("--have")
        .arg(folder.join("gone.zip")))
    .expect_code(7)
    .says(&["gone.zip"]);
    std::fs::write(&to, "mine").expect("a file");
    run(copy(bundle(0), &to).arg("--replace"))
        .expect_code(6)
        .says(&["no finished bundle"]);
    assert_eq!(std::fs::read_to_string(&to).expect("a file"), "mine");
}
