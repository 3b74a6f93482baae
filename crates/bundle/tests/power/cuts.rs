//! The power fails after every single change of the disk.

use std::time::Instant;

use crate::{
    block_on,
    check::{Found, is_never_touched_once_named, is_whole, recover},
    disk::{Image, Op, SimDisk},
    loss::{Survival, power_cut},
    script::{Promises, World, backup},
    soak, try_all,
};

/// A run that went through, with everything that it did to the disk.
struct Run {
    world: World,
    promises: Promises,
    base: Image,
    log: Vec<Op>,
}

fn run_on(disk: &SimDisk) -> Run {
    let (world, mut promises) = (World::new(), Promises::default());
    block_on(backup(disk, &world, &mut promises)).unwrap();
    let (base, log) = disk.history();
    Run {
        world,
        promises,
        base,
        log,
    }
}

/// Every place to fail at, with several choices of what is left.
fn states(ops: usize, seeds: u64) -> Vec<(usize, Survival)> {
    let mut states = Vec::new();
    for at in 0..=ops {
        states.push((at, Survival::Nothing));
        states.push((at, Survival::Everything));
        let seeds = (0..seeds).map(|seed| (at, Survival::Some(seed << 32 | at as u64)));
        states.extend(seeds);
    }
    states
}

impl Run {
    fn cut_at(&self, (at, survival): (usize, Survival)) -> SimDisk {
        SimDisk::of(power_cut(&self.base, &self.log[..at], survival))
    }

    fn recover(&self, state: (usize, Survival)) -> Result<Found, String> {
        let disk = self.cut_at(state);
        block_on(recover(
            &disk,
            &self.world.contents,
            &self.promises,
            state.0,
        ))
    }
}

#[test]
fn the_power_fails_at_every_operation_of_a_backup() {
    let began = Instant::now();
    let disk = SimDisk::of(Image::empty());
    let run = run_on(&disk);
    is_whole(&disk, &run.world.contents).unwrap();
    is_never_touched_once_named(&run.base, &run.log).unwrap();
    let states = states(run.log.len(), soak(2, 200));
    let tried = states.len();
    let (found, broken) = try_all(states, |state| run.recover(*state));
    let count = |what| found.iter().filter(|found| **found == what).count();
    println!(
        "{} operations, {tried} crash states: {} continued, {} begun anew, {} complete, in {:.1?}",
        run.log.len(),
        count(Found::Continued),
        count(Found::Nothing),
        count(Found::Published),
        began.elapsed()
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    for what in [Found::Continued, Found::Nothing, Found::Published] {
        assert!(count(what) > 0, "no crash state was {what:?}");
    }
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let run = run_on(&SimDisk::that_lies(Image::empty()));
    let (_, broken) = try_all(states(run.log.len(), 1), |state| run.recover(*state));
    assert!(!broken.is_empty(), "it must be noticed");
}
