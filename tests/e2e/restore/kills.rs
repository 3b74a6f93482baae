//! Killed at every named point, at random ones, and by the death of the server: a restore goes on with
//! what it had loaded, and ends as one that nobody disturbed.

use std::{process::Command, time::Duration};

use serde_json::Value;

use super::{
    stage::{Place, bundle, source},
    whole::{State, assert_tidy, with_former_stores},
};
use crate::{
    failures::running::Running,
    support::{Random, Stack, arkstream, faults, run, seeds, soak},
};

fn restore(place: &Place) -> Command {
    let mut command = place.everything(bundle());
    command.args(["--mode", "replace", "--jobs", "2", "--json"]);
    command
}

fn former() -> Place {
    let place = Place::copy();
    with_former_stores(&place);
    place
}

/// Parts of rows that are staged, by the checkpoints in the database.
fn checkpoints(place: &Place) -> u64 {
    let sql =
        "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname ~ '^arkstream_[0-9a-z]{16}$'";
    let schemas = place.sql(sql);
    let counts = schemas.lines().map(|schema| {
        let there = place.sql(&format!("SELECT to_regclass('{schema}.parts') IS NOT NULL"));
        if there != "t" {
            return 0;
        }
        let count = place.sql(&format!("SELECT count(*) FROM {schema}.parts"));
        count.parse::<u64>().expect("a number")
    });
    counts.sum()
}

/// Runs with a fault. Returns whether the process was killed by it.
fn interrupted(place: &Place, point: &str, hit: u64) -> bool {
    let mut command = restore(place);
    faults::at(&mut command, point, hit, "kill");
    let ended = Running::start(&mut command).end(Duration::from_secs(120));
    let killed = ended.signal == Some(9);
    assert!(
        killed || matches!(ended.code, Some(0 | 3)),
        "{point}:{hit}: {ended:?}"
    );
    killed
}

/// Restores to the end. What was staged at the kill is not loaded again.
fn finish(place: &Place, what: &str) -> Value {
    let staged = checkpoints(place);
    let ended = run(&mut restore(place));
    assert!(matches!(ended.code, Some(0 | 3)), "{what}: {ended:?}");
    let report = ended.json();
    assert_eq!(report["proof"]["holds"], true, "{what}: {report:#}");
    // A restore whose stores were all switched is complete; what follows is another one.
    if !report["resumed"].is_null() {
        let kept = report["resumed"]["kept_members"]
            .as_u64()
            .expect("a number");
        assert!(
            kept >= staged,
            "{what}: {staged} parts were staged, {kept} members kept"
        );
    } else {
        assert!(
            staged == 0 || ended.stderr.contains("it is complete"),
            "{what}: {ended:?}"
        );
    }
    report
}

/// What an undisturbed restore leaves.
fn expected() -> State {
    let place = former();
    run(&mut restore(&place));
    State::of(&place)
}

fn assert_same(place: &Place, expected: &State, what: &str) {
    assert_eq!(State::of(place).same(expected), [true; 4], "{what}");
    assert_tidy(place);
}

#[test]
fn killed_at_every_point_a_restore_goes_on_with_what_it_had_loaded() {
    let expected = expected();
    let place = former();
    let mut command = restore(&place);
    let trace = faults::traced(&mut command);
    run(&mut command);
    let usual = faults::reached(&trace);
    let seed = std::env::var("ARKSTREAM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut random = Random(seed.unwrap_or(20_261_128));
    for point in faults::points("restore") {
        let Some(times) = usual.get(&point) else {
            // A point of an undo.
            continue;
        };
        let alone = std::env::var("ARKSTREAM_POINT").ok();
        if soak(random.below(4) != 0, false) || alone.is_some_and(|alone| alone != point) {
            continue;
        }
        let mut hits = vec![1, times.div_ceil(2), *times];
        hits.dedup();
        let one = hits[random.below(hits.len() as u64) as usize];
        for hit in soak(vec![one], hits) {
            let what = format!("{point}:{hit}");
            let place = former();
            let killed = interrupted(&place, &point, hit);
            assert!(killed || hit > 1, "{what} was not reached");
            for _ in 0..random.below(soak(2, 5)) {
                let again = 1 + random.below(60);
                println!("{what}, and again at *:{again}");
                interrupted(&place, "*", again);
            }
            finish(&place, &what);
            assert_same(&place, &expected, &what);
            println!("{what}: whole");
        }
    }
}

#[test]
fn an_undo_that_was_killed_at_any_point_is_gone_on_with() {
    let place = former();
    let before = State::of(&place);
    run(&mut restore(&place));
    let mut command = place.after("undo");
    let trace = faults::traced(&mut command);
    run(&mut command).ok();
    let usual = faults::reached(&trace);
    assert!(
        usual.contains_key("undo.begun") && usual.contains_key("target.revert"),
        "{usual:?}"
    );
    let mut random = Random(7);
    for (point, times) in usual {
        if soak(random.below(3) != 0 && point != "target.revert", false) {
            continue;
        }
        let hit = 1 + random.below(times);
        let what = format!("{point}:{hit}");
        let place = former();
        run(&mut restore(&place));
        let kept = place.kept();
        let mut command = place.after("undo");
        faults::at(&mut command, &point, hit, "kill");
        let ended = Running::start(&mut command).end(Duration::from_secs(120));
        assert_eq!(ended.signal, Some(9), "{what}: {ended:?}");
        let left = place.restores();
        if left.as_array().is_some_and(|left| !left.is_empty()) {
            let mut again = arkstream();
            again.args(["undo", &kept, "--state-dir"]).arg(&place.state);
            again.env("PGPASSWORD", Stack::OWNER_PASSWORD);
            run(&mut again).ok();
        }
        let mut after = State::of(&place);
        // Files that attachments refer to stay.
        after.files.clone_from(&before.files);
        assert_eq!(after.same(&before), [true; 4], "{what}");
        assert_tidy(&place);
    }
}

#[test]
fn killed_at_random_times_a_restore_ends_as_if_nothing_had_been() {
    let expected = expected();
    for seed in seeds(soak(2, 300)) {
        let mut random = Random(seed);
        let place = former();
        for _ in 0..1 + random.below(5) {
            let mut running = Running::start(&mut restore(&place));
            std::thread::sleep(Duration::from_millis(random.below(4500)));
            if running.has_ended() {
                break;
            }
            running.signal("KILL");
            running.end(Duration::from_secs(30));
        }
        let what = format!("seed {seed}");
        finish(&place, &what);
        assert_same(&place, &expected, &what);
        println!("{what}: whole");
    }
}

#[test]
fn what_another_bundle_or_another_target_had_staged_is_never_used() {
    let (place, other) = (former(), former());
    assert!(interrupted(&place, "staged", 1));
    assert!(checkpoints(&place) > 10);
    // The same bundle, but fresh.
    let mut fresh = restore(&place);
    let report = run(fresh.arg("--fresh")).json();
    assert_eq!(report["resumed"], Value::Null);
    // Another target, with the records of the first.
    assert!(interrupted(&place, "staged", 1));
    let mut elsewhere = restore(&other);
    elsewhere.env("ARKSTREAM_STATE_DIR", &place.state);
    let said = run(&mut elsewhere);
    assert!(matches!(said.code, Some(0 | 3)), "{said:?}");
    // Another bundle of the same stack.
    let second = crate::support::scratch("restore-bundle").join("bundle.zip");
    run(&mut source().backup_command(&second)).ok();
    let mut command = place.everything(&second);
    let ended = run(command.args(["--mode", "replace", "--json"]));
    assert_eq!(ended.json()["resumed"], Value::Null);
    assert_tidy(&place);
}

#[test]
fn after_the_death_of_the_server_the_restore_goes_on() {
    let stack = Stack::new(crate::support::StackOptions {
        graph: false,
        chroma: false,
        ..Default::default()
    });
    let dir = crate::support::scratch("restore-dead-server");
    let bundle = dir.join("bundle.zip");
    run(&mut stack.backup_command(&bundle)).ok();
    let owner = stack
        .server
        .tcp_url(&stack.odoo, stack.owner(), Stack::OWNER_PASSWORD);
    let points = [
        "part.begin",
        "part.copied",
        "part.committed",
        "staged",
        "rows.locked",
        "rows.applied",
        "prepared",
        "rows.committed",
    ];
    let mut random = Random(3);
    for point in points {
        if soak(random.below(3) != 0, false) {
            continue;
        }
        stack.ask("UPDATE ai_message SET content = 'former' WHERE id % 2 = 0");
        let former = "SELECT count(*) FROM ai_message WHERE content = 'former'";
        assert_ne!(stack.ask(former), "0");
        let restore = || {
            let mut command = arkstream();
            command.arg("restore").arg(&bundle).args([
                "--yes",
                "--progress",
                "none",
                "--mode",
                "replace",
                "--json",
            ]);
            command.args(["--components", "models", "--odoo-db", &owner]);
            command.arg("--state-dir").arg(dir.join("state"));
            command
        };
        let mut command = restore();
        let hit = if point.starts_with("part") {
            1 + random.below(60)
        } else {
            1
        };
        faults::at(&mut command, point, hit, "stop");
        let mut running = Running::start(&mut command);
        running.until("it stands at the point", |running| running.is_stopped());
        stack.server.kill_9().expect("kills");
        stack.server.start_again().expect("starts");
        running.signal("CONT");
        let ended = running.end(Duration::from_secs(60));
        match ended.code {
            // The point stands behind the last word with the server.
            Some(0 | 3) => {}
            Some(7) => {
                let report = run(&mut restore());
                assert!(
                    matches!(report.code, Some(0 | 3)),
                    "{point}:{hit}: {report:?}"
                );
                assert_eq!(report.json()["proof"]["holds"], true, "{report:?}");
            }
            _ => panic!("{point}:{hit}: {ended:?}"),
        }
        assert_eq!(stack.ask(former), "0", "{point}:{hit}");
        let schemas = stack
            .ask("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^arkstream_[0-9a-z]{16}$'");
        assert_eq!(schemas, "0", "{point}:{hit}");
    }
}
