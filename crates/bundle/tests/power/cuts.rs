//! The power fails after every single change of the disk.

use std::time::Instant;

use arkstream_bundle::{Disk as _, Leftover};
use arkstream_pipeline::FailureKind;

use crate::{
    block_on,
    check::{Found, is_never_touched_once_named, is_whole, recover},
    common::Random,
    disk::{Image, Lie, Op, SimDisk},
    loss::{Survival, power_cut},
    script::{CONTINUE, Promises, World, backup, finish, open, paths},
    soak, try_all,
};

/// A run that went through, with everything that it did to the disk.
struct Run {
    world: World,
    promises: Promises,
    base: Image,
    log: Vec<Op>,
}

impl Run {
    fn on(disk: &SimDisk, leftover: Leftover) -> Self {
        let (world, mut promises) = (World::new(), Promises::default());
        block_on(backup(disk, &world, leftover, &mut promises)).unwrap();
        let (base, log) = disk.history();
        Self {
            world,
            promises,
            base,
            log,
        }
    }

    /// The disk after its end at that place.
    fn ended_at(&self, (at, end): (usize, End)) -> SimDisk {
        let log = &self.log[..at];
        match end {
            End::Kill => SimDisk::replayed(self.base.clone(), log),
            End::Cut(survival) => SimDisk::of(power_cut(&self.base, log, survival)),
        }
    }

    fn recover(&self, state: (usize, End)) -> Result<Found, String> {
        let disk = self.ended_at(state);
        let World { contents, .. } = &self.world;
        block_on(recover(&disk, contents, &self.promises, state.0))
    }
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process is killed, and the machine runs on.
    Kill,
    /// The power fails.
    Cut(Survival),
}

/// Every place to end at, with several choices of what is left.
fn states(places: impl IntoIterator<Item = usize>, seeds: u64) -> Vec<(usize, End)> {
    let mut states = Vec::new();
    for at in places {
        states.push((at, End::Kill));
        states.push((at, End::Cut(Survival::Nothing)));
        states.push((at, End::Cut(Survival::Everything)));
        let some = |seed: u64| (at, End::Cut(Survival::Some(seed << 32 | at as u64)));
        states.extend((0..seeds).map(some));
    }
    states
}

/// Tells how many states were tried, and what was found; fails if a promise was broken.
fn tell(what: &str, began: Instant, (found, broken): (Vec<Found>, Vec<String>)) {
    let count = |what| found.iter().filter(|found| **found == what).count();
    println!(
        "{what}: {} states: {} continued, {} begun anew, {} complete, in {:.1?}",
        found.len() + broken.len(),
        count(Found::Continued),
        count(Found::Nothing),
        count(Found::Published),
        began.elapsed()
    );
    let some = &broken[..broken.len().min(20)];
    assert!(
        broken.is_empty(),
        "{} broken:\n{}",
        broken.len(),
        some.join("\n")
    );
    for what in [Found::Continued, Found::Published] {
        assert!(count(what) > 0, "no state was {what:?}");
    }
}

#[test]
fn the_power_fails_at_every_operation_of_a_backup() {
    let began = Instant::now();
    let disk = SimDisk::of(Image::empty());
    let run = Run::on(&disk, CONTINUE);
    is_whole(&disk, &run.world.contents).unwrap();
    is_never_touched_once_named(&run.base, &run.log).unwrap();
    let states = states(0..=run.log.len(), soak(1, 40));
    let outcome = try_all(states, |state| run.recover(*state));
    tell(&format!("{} operations", run.log.len()), began, outcome);
}

#[test]
fn the_power_fails_at_every_operation_of_a_resume() {
    let began = Instant::now();
    let first = Run::on(&SimDisk::of(Image::empty()), CONTINUE);
    let contents = &first.world.contents;
    let mut random = Random::new(1);
    let mut ends = states(0..=first.log.len(), 1);
    ends.retain(|_| soak(random.below(24) == 0, true));
    let mut resumes = Vec::new();
    for end in ends {
        let disk = first.ended_at(end);
        block_on(recover(&disk, contents, &first.promises, end.0)).unwrap();
        let begun = match end.1 {
            End::Kill => end.0,
            End::Cut(_) => 0,
        };
        let (base, log) = disk.history();
        let promises = first.promises.that_stay(end.0, contents);
        let run = Run {
            world: World::new(),
            promises,
            base,
            log,
        };
        let mut ends = states(begun..=run.log.len(), 1);
        ends.retain(|(_, again)| {
            let twice = End::Cut(Survival::Everything);
            ![End::Kill, twice].contains(again) && soak(random.below(6) == 0, true)
        });
        resumes.push((end, run, ends));
    }
    let of = |(index, (_, _, ends)): (usize, &(_, _, Vec<_>))| {
        ends.iter()
            .map(move |end| (index, *end))
            .collect::<Vec<_>>()
    };
    let states: Vec<_> = resumes.iter().enumerate().flat_map(of).collect();
    let what = format!("{} resumes", resumes.len());
    let outcome = try_all(states, |(index, end)| {
        let (before, run, _) = &resumes[*index];
        run.recover(*end)
            .map_err(|why| format!("after {before:?}: {why}"))
    });
    tell(&what, began, outcome);
}

#[test]
fn the_power_fails_while_an_unfinished_bundle_is_discarded() {
    let began = Instant::now();
    let first = Run::on(&SimDisk::of(Image::empty()), CONTINUE);
    let middle = first.log.len() / 2;
    let base = power_cut(&first.base, &first.log[..middle], Survival::Everything);
    let mut run = Run::on(&SimDisk::of(base), Leftover::Discard);
    // What was there was to be discarded.
    run.promises = Promises::default();
    let end = soak(16, run.log.len());
    let states = states((0..=end).chain([run.log.len()]), soak(4, 10));
    let outcome = try_all(states, |state| run.recover(*state));
    tell(&format!("{end} operations of --fresh"), began, outcome);
}

#[test]
fn a_bundle_that_somebody_else_puts_there_meanwhile_stays_as_it_is() {
    let disk = SimDisk::of(Image::empty());
    let (theirs, contents) = (paths(), World::new().contents);
    block_on(async {
        let (writer, _) = open(&disk, CONTINUE).await.unwrap();
        let other = theirs.bundle.with_file_name("theirs");
        disk.write_atomically(&other, b"theirs").unwrap();
        disk.rename(&other, &theirs.bundle).unwrap();
        disk.write_atomically(&theirs.sha256, b"its sum").unwrap();
        let refused = finish(writer, &contents).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
    });
    let now = disk.now();
    assert_eq!(now.file(&theirs.bundle), Some(&b"theirs"[..]));
    assert_eq!(now.file(&theirs.sha256), Some(&b"its sum"[..]));
    // Once it is gone, nothing was lost.
    disk.remove(&theirs.bundle).unwrap();
    let disk = SimDisk::of(disk.now());
    let found = block_on(recover(&disk, &contents, &Promises::default(), 0));
    assert_eq!(found, Ok(Found::Continued));
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    for about in [Lie::Bytes, Lie::Names] {
        let run = Run::on(&SimDisk::that_lies(Image::empty(), about), CONTINUE);
        let cut = |at| (at, End::Cut(Survival::Nothing));
        let states = (0..=run.log.len()).map(cut).collect();
        let (_, broken) = try_all(states, |state| run.recover(*state));
        println!("{about:?}: found out {} times", broken.len());
        assert!(!broken.is_empty(), "{about:?} must be noticed");
    }
}
