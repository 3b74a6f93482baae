//! SIGKILL, full disks and I/O errors at every named point of a backup, while rows and vectors change.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use arkstream_sample::Traffic;
use chrono::DateTime;

use super::verified;
use crate::{
    failures::running::Running,
    support::{
        Bundle, ChromaWriter, Random, Stack, faults, python, run, runtime, scratch, soak,
        support_file,
    },
    values::compare,
};

/// A database and a Chroma directory that are written to.
struct World {
    database: String,
    chroma: std::path::PathBuf,
    vectors: ChromaWriter,
}

impl World {
    fn new() -> Self {
        let chroma = scratch("faults").join("chroma_data");
        Self {
            database: Stack::shared().fresh_database(),
            vectors: ChromaWriter::start(&chroma),
            chroma,
        }
    }

    fn backup(&self, out: &Path) -> Command {
        let stack = Stack::shared();
        let mut command = stack.backup_from(&stack.url(&self.database), &self.chroma, out);
        command.args(["--chroma-max-hold", "30s"]);
        command
    }

    /// Runs with a fault while the rows change. Returns whether the process was killed by it.
    fn interrupted(&self, out: &Path, point: &str, hit: u64, seed: u64) -> bool {
        let traffic = runtime()
            .block_on(Traffic::start(&Stack::shared().url(&self.database), seed))
            .expect("writes");
        let mut command = self.backup(out);
        faults::at(&mut command, point, hit, "kill");
        let ended = Running::start(&mut command).end(Duration::from_secs(120));
        let report = runtime()
            .block_on(traffic.stop())
            .expect("the connection lives");
        assert_eq!(report.failed, 0, "{report:?}");
        let killed = ended.signal == Some(9);
        assert!(killed || ended.code == Some(0), "{point}:{hit}: {ended:?}");
        killed
    }

    /// Continues to the end, and holds everything against the stores.
    fn finish(&self, out: &Path, what: &str) {
        if out.exists() {
            // Killed when the bundle had its name already.
            run(crate::support::arkstream()
                .args(["verify", "--progress", "none"])
                .arg(out))
            .ok();
            run(&mut self.backup(out))
                .expect_code(6)
                .says(&["it exists already"]);
            return;
        }
        let ended = run(self.backup(out).arg("--json")).ok();
        let bundle = verified(out, &ended);
        let found = compare(&bundle, &self.database);
        assert_eq!(found["difference_count"], 0, "{what}: {found:#}");
        self.check_vectors(&bundle, what);
    }

    /// Every write that was acknowledged before the last barrier is in the copy, and none in part.
    fn check_vectors(&self, bundle: &Bundle, what: &str) {
        let manifest = bundle.json("manifest.json");
        let generations = manifest["generations"].as_array().expect("a list");
        let at = generations.last().expect("one")["taken_at"].as_str();
        let at = DateTime::parse_from_rfc3339(at.expect("a time")).expect("RFC 3339");
        let mut check = python();
        check
            .arg(support_file("chroma/check.py"))
            .arg(bundle.dir.join("databases/chroma_data"))
            .arg("--log")
            .arg(self.vectors.log())
            .arg("--until")
            .arg(at.timestamp_nanos_opt().expect("this century").to_string());
        let said = run(&mut check);
        assert_eq!(said.code, Some(0), "{what}: {said:?}");
    }
}

/// How often a backup reaches each point.
fn usual(world: &World) -> BTreeMap<String, u64> {
    let out = scratch("faults").join("bundle.zip");
    let mut command = world.backup(&out);
    let trace = faults::traced(&mut command);
    run(&mut command).ok();
    faults::reached(&trace)
}

/// Hits of a point: all three in a soak, one of them otherwise.
fn hits(times: u64, random: &mut Random) -> Vec<u64> {
    let mut all = vec![1, times.div_ceil(2), times];
    all.dedup();
    let one = all[random.below(all.len() as u64) as usize];
    soak(vec![one], all)
}

#[test]
fn killed_at_every_point_while_everything_changes_the_bundle_is_whole() {
    let world = World::new();
    let usual = usual(&world);
    let points = faults::points("backup");
    let mut random = Random(20_261_128);
    let mut rounds = Vec::new();
    for point in &points {
        match usual.get(point) {
            Some(times) => {
                let hits = hits(*times, &mut random);
                rounds.extend(hits.into_iter().map(|hit| (point.clone(), hit, false)));
            }
            // Reached by a run that continues.
            None => rounds.push((point.clone(), 1, true)),
        }
    }
    // A third of the points, another one for each day of a week of changes, is enough every time.
    if soak(true, false) {
        rounds.retain(|(_, _, resumes)| *resumes || random.below(3) == 0);
    }
    assert!(rounds.len() >= 3, "{rounds:?}");
    for (number, (point, hit, resumes)) in rounds.iter().enumerate() {
        let what = format!("{point}:{hit}");
        let out = scratch("faults").join("bundle.zip");
        if *resumes {
            assert!(world.interrupted(&out, "bundle.sync", 2, number as u64));
        }
        let killed = world.interrupted(&out, point, *hit, number as u64);
        // The last hit of a point that workers reach in their own order may not be reached again.
        assert!(killed || *hit > 1, "{what} was not reached");
        for _ in 0..random.below(soak(2, 5)) {
            if !out.exists() {
                world.interrupted(&out, "*", 1 + random.below(40), number as u64);
            }
        }
        world.finish(&out, &what);
        println!("{what}: whole");
    }
}

#[test]
fn a_step_that_fails_is_told_and_a_later_run_goes_on() {
    let world = World::new();
    let usual = usual(&world);
    let mut random = Random(4);
    let points = faults::points("backup");
    let chosen: Vec<&String> = points
        .iter()
        .filter(|point| usual.contains_key(*point))
        .collect();
    for (number, point) in chosen.iter().enumerate() {
        if soak(number % 4 != 1, false) {
            continue;
        }
        for (action, code) in [("enospc", 8), ("eio", 0)] {
            let out = scratch("faults").join("bundle.zip");
            let hit = 1 + random.below(usual[*point]);
            let mut command = world.backup(&out);
            faults::at(&mut command, point, hit, action);
            let ended = run(&mut command);
            // The journal may stay behind a bundle that is there.
            let published = out.exists();
            let expected = match (published, ended.code) {
                (true, Some(0)) => true,
                // The page beside it is written as a record is.
                (true, Some(3)) if ended.stderr.contains("left out: the report") => true,
                (true, _) => point.as_str() == "folder.sync",
                (false, Some(found)) => found == code || (code == 0 && found != 0),
                (false, None) => false,
            };
            assert!(expected, "{point}:{hit}:{action}: {ended:?}");
            assert!(!ended.stderr.contains("panicked"), "{ended:?}");
            world.finish(&out, point);
        }
    }
}
