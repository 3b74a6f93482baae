//! SIGKILL at any moment: the next run goes on, and a bundle that has the name is always whole.

use std::{path::Path, thread, time::Duration};

use super::{beside, bundle, copy, is_identical, len, number, random};
use crate::{
    failures::running::Running,
    support::{faults, run, scratch, seeds, soak},
};

/// What a kill may cost: the piece that was being fetched, and what waited to be written.
const LOST: u64 = (4 << 20) + (1 << 20);

/// How often an undisturbed copy reaches any point.
fn usual_hits() -> u64 {
    static HITS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *HITS.get_or_init(|| {
        let mut command = copy(bundle(0), &scratch("copy").join("copy.zip"));
        let trace = faults::traced(&mut command);
        run(&mut command).ok();
        faults::reached(&trace).values().sum()
    })
}

/// The final name stands for nothing, for the older bundle, or for the whole new one.
#[track_caller]
fn is_old_or_new(to: &Path, older: Option<&Path>, source: &Path) {
    let found = std::fs::read(to).ok();
    let is = |path: &Path| found.as_deref() == Some(&*std::fs::read(path).expect("a bundle"));
    match older {
        None => assert!(
            found.is_none() || is(source),
            "neither nothing nor the copy"
        ),
        Some(older) => assert!(
            is(older) || is(source),
            "neither the old nor the new bundle"
        ),
    }
}

#[test]
fn killed_at_random_points_a_copy_goes_on_and_is_identical() {
    let source = bundle(0);
    let all = len(source);
    for seed in seeds(soak(4, 50)) {
        let mut random = random(seed);
        let to = scratch("killed").join("copy.zip");
        let older = (random.below(3) == 0).then(|| bundle(1));
        if let Some(older) = older {
            std::fs::copy(older, &to).expect("a copy");
        }
        let command = || {
            let mut command = copy(source, &to);
            command.args(older.map(|_| "--replace"));
            command
        };
        let (mut kills, mut points) = (0, Vec::new());
        for _ in 0..1 + random.below(4) {
            let mut killed = command();
            let hit = 1 + random.below(usual_hits());
            let by_time = random.below(3) == 0;
            if !by_time {
                faults::at(&mut killed, "*", hit, "kill");
            }
            let mut running = Running::start(&mut killed);
            if by_time {
                thread::sleep(Duration::from_millis(random.below(400)));
                if !running.has_ended() {
                    running.signal("KILL");
                }
            }
            let ended = running.end(Duration::from_secs(120));
            is_old_or_new(&to, older, source);
            if ended.signal != Some(9) {
                assert_eq!(ended.code, Some(0), "seed {seed}: {ended:?}");
                break;
            }
            kills += 1;
            points.push(if by_time { 0 } else { hit });
        }
        let there = len(&beside(&to, ".partial"));
        let report = run(&mut command()).ok().json();
        is_identical(source, &to);
        let transferred = number(&report, "transferred_bytes");
        println!(
            "seed {seed}: {kills} kills at {points:?}, {there} bytes there, {transferred} transferred"
        );
        if report["already_there"] == false {
            assert!(
                transferred <= all - there.min(all) + LOST,
                "seed {seed}: {there} of {all} bytes were there: {report:#}"
            );
        }
        assert_eq!(
            transferred + number(&report, "reused_bytes") + number(&report, "kept_bytes"),
            all,
            "{report:#}"
        );
    }
}

/// However often it is killed, each run gets further: nothing is begun anew.
#[test]
fn a_copy_that_is_killed_again_and_again_gets_to_its_end() {
    let source = bundle(0);
    let to = scratch("killed").join("copy.zip");
    let mut before = 0;
    let mut rounds = 0;
    while !to.exists() {
        let mut command = copy(source, &to);
        // Two writes a run.
        faults::at(&mut command, "bundle.write", 3, "kill");
        let ended = Running::start(&mut command).end(Duration::from_secs(60));
        let there = len(&beside(&to, ".partial"));
        if ended.signal == Some(9) {
            assert!(there > before, "nothing was gained: {there} bytes");
        } else {
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        before = there;
        rounds += 1;
        assert!(rounds < 30);
    }
    assert!(rounds > 4, "{rounds}");
    is_identical(source, &to);
}
