//! Every named point of a copy: reached, and survived.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use super::{beside, bundle, copy, is_identical, len};
use crate::{
    failures::{namespace::in_namespace, running::Running},
    support::{faults, run, scratch, soak},
};

/// Leaves an unfinished copy that is longer than its source, and an older bundle under the final name.
fn world() -> std::path::PathBuf {
    let to = scratch("faults").join("copy.zip");
    std::fs::copy(bundle(1), &to).expect("a copy");
    let mut torn = std::fs::read(bundle(0)).expect("a bundle");
    torn.truncate(9 << 20);
    torn.resize(torn.len() * 5, 0);
    std::fs::write(beside(&to, ".partial"), torn).expect("a torn copy");
    to
}

fn replacing(to: &Path) -> Command {
    let mut command = copy(bundle(0), to);
    command.arg("--replace");
    command
}

#[test]
fn a_copy_reaches_every_point_that_is_listed() {
    let mut reached = BTreeSet::new();
    let to = scratch("faults").join("copy.zip");
    for mut command in [copy(bundle(0), &to), replacing(&world())] {
        let trace = faults::traced(&mut command);
        run(&mut command).ok();
        reached.extend(faults::reached(&trace).into_keys());
    }
    let listed: BTreeSet<String> = faults::points("copy").into_iter().collect();
    assert_eq!(reached, listed);
}

#[test]
fn a_step_that_fails_is_told_and_the_next_run_ends_identical() {
    for (number, point) in faults::points("copy").iter().enumerate() {
        for (action, code) in [("enospc", 8), ("eio", 6), ("kill", 0)] {
            if soak(number % 3 != 0, false) {
                continue;
            }
            let to = world();
            let mut command = replacing(&to);
            faults::at(&mut command, point, 1, action);
            let ended = Running::start(&mut command).end(Duration::from_secs(60));
            let whole = std::fs::read(&to).expect("the name is never empty");
            let old = std::fs::read(bundle(1)).expect("a bundle");
            let new = std::fs::read(bundle(0)).expect("a bundle");
            assert!(whole == old || whole == new, "{point}:{action}");
            match action {
                "kill" => assert_eq!(ended.signal, Some(9), "{point}: {ended:?}"),
                // The record that stays behind is only a warning.
                _ if point == "journal.remove" => assert_eq!(ended.code, Some(0), "{ended:?}"),
                _ => {
                    assert_eq!(ended.code, Some(code), "{point}:{action}: {ended:?}");
                    assert!(
                        ended.stderr.contains("run the same command again"),
                        "{ended:?}"
                    );
                }
            }
            run(&mut replacing(&to)).ok();
            is_identical(bundle(0), &to);
        }
    }
}

#[test]
fn a_full_disk_is_told_and_the_copy_goes_on_when_there_is_space() {
    for round in 0..soak(2, 20) {
        // From nearly nothing up to nearly all of it.
        let kib = 500 + 7_919 * round % (len(bundle(0)) / 1024 - 1000);
        let (folder, kept) = (scratch("small"), scratch("kept"));
        let command = copy(bundle(0), &folder.join("copy.zip"));
        let script = format!(
            "mount -t tmpfs -o size={kib}k none '{0}' || exit 99\n\
             \"$@\" >/dev/null\ncode=$?\n[ $code = 8 ] || exit $code\n\
             ls '{0}' >'{1}/left'\nmount -o remount,size=1g '{0}'\n\
             \"$@\"\ncode=$?\ncp '{0}'/copy.zip* '{1}'\nexit $code",
            folder.display(),
            kept.display()
        );
        let ended = run(&mut in_namespace(&script, &command)).ok().says(&[
            "No space left",
            "free some space there",
            "to continue",
        ]);
        assert!(!ended.stderr.contains("--out"), "{}", ended.stderr);
        let left = std::fs::read_to_string(kept.join("left")).expect("a list");
        assert!(!left.lines().any(|name| name == "copy.zip"), "{left}");
        is_identical(bundle(0), &kept.join("copy.zip"));
    }
}
