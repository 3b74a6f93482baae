//! Where the bundle is to go: taken, locked, left over, forbidden, full.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    FEW_MODELS, backup, fails, has_advice, is_not_published, keeps_secrets,
    namespace::in_namespace,
    new_out,
    pg_dump::fake_pg_dump,
    running::{Ended, Running, SOON},
    set_mode, small_backup,
};
use crate::support::{Stack, files_below, run, scratch};

/// A backup that goes on until it is told to end: its `pg_dump` sleeps.
pub(super) fn endless_backup(database: &str, out: &Path) -> Running {
    let sleeping = fake_pg_dump(
        "99.1",
        "echo '-- PostgreSQL database dump'; exec sleep 1000",
    );
    let mut command = backup(&Stack::shared().url(database), out, &FEW_MODELS);
    command.arg("--odoo-dump").arg("--pg-path").arg(sleeping);
    let mut running = Running::start(&mut command);
    running.until("pg_dump sleeps", |running| {
        running
            .children()
            .iter()
            .any(|pid| command_line(*pid).starts_with("sleep"))
    });
    running
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn a_finished_bundle_is_never_overwritten() {
    let out = new_out();
    std::fs::write(&out, "somebody's only backup").unwrap();
    for extra in [&[][..], &["--fresh"]] {
        let ended = run(small_backup(&out).args(extra)).expect_code(6);
        assert!(
            ended.stderr.contains("it exists already"),
            "{}",
            ended.stderr
        );
        has_advice(&ended.stderr, "choose another --out");
        keeps_secrets(&ended.stdout, &ended.stderr);
        assert_eq!(std::fs::read(&out).unwrap(), b"somebody's only backup");
        assert_eq!(files_below(out.parent().unwrap()), ["bundle.zip"]);
    }
}

#[test]
fn a_second_run_to_the_same_output_is_refused_and_the_first_goes_on() {
    let (out, database) = (new_out(), Stack::shared().fresh_database());
    let first = endless_backup(&database, &out);
    let partial = out.with_extension("zip.partial");
    // Stopped as well as running: the lock is the kernel's, not a matter of being alive.
    for stopped in [false, true] {
        if stopped {
            first.signal("STOP");
        }
        let before = std::fs::metadata(&partial).unwrap().len();
        for extra in [&[][..], &["--fresh"]] {
            let mut command = small_backup(&out);
            let words = ["another run is writing it"];
            fails(command.args(extra), &out, 6, &words, "wait for it to end");
        }
        assert_eq!(
            std::fs::metadata(&partial).unwrap().len(),
            before,
            "the first run's file"
        );
    }
    first.signal("CONT");
    first.signal("INT");
    assert_eq!(first.end(SOON).code, Some(130));
}

#[test]
fn what_an_interrupted_run_left_is_kept_and_fresh_discards_it() {
    let (out, database) = (new_out(), Stack::shared().fresh_database());
    let first = endless_backup(&database, &out);
    first.signal("INT");
    let ended: Ended = first.end(SOON);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let left = files_below(out.parent().unwrap());
    assert_eq!(left, ["bundle.zip.journal", "bundle.zip.partial"]);

    run(small_backup(&out).arg("--fresh")).ok();
    assert_eq!(
        files_below(out.parent().unwrap()),
        ["bundle.zip", "bundle.zip.report.html", "bundle.zip.sha256"]
    );
    run(crate::support::arkstream().arg("verify").arg(&out)).ok();
}

#[test]
fn a_folder_gets_the_default_name_and_a_missing_one_is_refused() {
    let folder = scratch("out");
    let report = run(small_backup(&folder).arg("--json")).ok().json();
    let path = report["bundle"].as_str().unwrap().to_owned();
    let name = Path::new(&path)
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let pattern = name.replace(|c: char| c.is_ascii_digit(), "9");
    assert_eq!(pattern, "sam_ai_complete_backup_99999999_999999.zip");
    assert!(folder.join(name).is_file());

    let out = scratch("out").join("missing/bundle.zip");
    fails(
        &mut small_backup(&out),
        &out,
        6,
        &["missing/bundle.zip", "No such file"],
        "",
    );
}

#[test]
fn a_bundle_is_private() {
    let out = new_out();
    run(&mut small_backup(&out)).ok();
    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Runs on a file system of so many KiB. Returns what lay there afterwards.
fn on_a_small_disk(kib: u64) -> (crate::support::Run, Vec<String>) {
    let folder = scratch("disk");
    let out = folder.join("bundle.zip");
    let script = format!(
        "mount -t tmpfs -o size={kib}k none '{0}' || exit 99\n\"$@\" >/dev/null\ncode=$?\nls -A '{0}'\nexit $code",
        folder.display()
    );
    let ended = run(&mut in_namespace(&script, &small_backup(&out)));
    let left = ended.stdout.lines().map(str::to_owned).collect();
    (ended, left)
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let (ended, left) = on_a_small_disk(64);
    let ended = ended.expect_code(8).says(&["No space left on device"]);
    has_advice(&ended.stderr, "free some space");
    keeps_secrets(&ended.stdout, &ended.stderr);
    assert!(
        left.iter()
            .all(|name| name.ends_with(".partial") || name.ends_with(".journal")),
        "{left:?}"
    );
}

/// Wherever the disk becomes full, up to the last byte of the checksum file: either the whole
/// bundle is there and the run succeeded, or nothing is under the final name.
#[test]
fn a_disk_that_fills_up_at_any_moment_leaves_nothing_under_the_final_name() {
    let out = new_out();
    run(&mut small_backup(&out)).ok();
    let pages = std::fs::metadata(&out).unwrap().len() / 4096;
    let fits = |pages: u64| {
        let (ended, left) = on_a_small_disk(pages * 4);
        let published = left.iter().any(|name| name == "bundle.zip");
        let stderr = &ended.stderr;
        match ended.code {
            Some(0) => assert!(published, "{pages} pages: {left:?}"),
            // Of a page that does not fit, nothing is left but what is said.
            Some(3) => {
                assert_eq!(left, ["bundle.zip", "bundle.zip.sha256"], "{pages} pages");
                assert!(stderr.contains("left out: the report"), "{stderr}");
            }
            Some(8) => assert!(!published, "{pages} pages: {left:?}\n{stderr}"),
            code => panic!("{pages} pages: exit {code:?}, {left:?}\n{stderr}"),
        }
        published
    };
    // Between the bundle alone, and bundle, journal and checksum together.
    let (mut too_few, mut enough) = (pages / 2, pages + 64);
    assert!(!fits(too_few) && fits(enough));
    while enough - too_few > 1 {
        let middle = (too_few + enough) / 2;
        match fits(middle) {
            true => enough = middle,
            false => too_few = middle,
        }
    }
    for fewer in 1..=3 {
        fits(enough - fewer);
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    let folder = scratch("locked");
    let out = folder.join("bundle.zip");
    let mut command = super::chroma::as_nobody(&small_backup(&out));
    set_mode(&folder, 0o555);
    let ended = fails(
        &mut command,
        &out,
        6,
        &["Permission denied", "bundle.zip"],
        "",
    );
    assert!(ended.stdout.is_empty());
    set_mode(&folder, 0o755);
    is_not_published(&out);
}
