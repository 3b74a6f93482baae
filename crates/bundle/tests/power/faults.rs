//! The disk is full, or fails, at every single call.

use std::time::Instant;

use arkstream_pipeline::FailureKind;

use crate::{
    block_on,
    check::{is_whole, recover},
    common::Random,
    disk::{Call, Fault, Image, SimDisk},
    loss::{Survival, power_cut},
    script::{CONTINUE, Promises, World, backup},
    soak, try_all,
};

/// Every call of a backup, failing in every way in which it can.
fn faults(calls: &[Call]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        for (full, lasting) in [(true, false), (true, true), (false, false), (false, true)] {
            if !full || *call == Call::Grow {
                faults.push(Fault {
                    at: index + 1,
                    full,
                    lasting,
                });
            }
        }
    }
    faults
}

/// Whether the failure was told.
fn fail(fault: Fault) -> Result<bool, String> {
    let disk = SimDisk::that_fails(Image::empty(), fault);
    let (world, mut promises) = (World::new(), Promises::default());
    let outcome = block_on(backup(&disk, &world, CONTINUE, &mut promises));
    disk.repair();
    let told = match outcome {
        // What fails after the bundle has its name does not take it away.
        Ok(_) => is_whole(&disk, &world.contents).map(|()| false)?,
        Err(failure) => {
            let expected = match fault.full {
                true => FailureKind::NoSpace,
                false => FailureKind::Refused,
            };
            if failure.kind != expected {
                return Err(format!("told as {:?}: {failure}", failure.kind));
            }
            true
        }
    };
    let ops = disk.ops();
    let stay = promises.that_stay(ops, &world.contents);
    let (base, log) = disk.history();
    // The power fails too.
    for survival in [Survival::Nothing, Survival::Some(fault.at as u64)] {
        let disk = SimDisk::of(power_cut(&base, &log, survival));
        block_on(recover(&disk, &world.contents, &promises, ops))
            .map_err(|why| format!("and a power cut ({survival:?}): {why}"))?;
    }
    // The machine runs on, and the next run with it; the power fails while it runs, or behind it.
    block_on(recover(&disk, &world.contents, &promises, ops))?;
    let (base, log) = disk.history();
    let mut random = Random::new(fault.at as u64);
    let mut places = vec![log.len()];
    let some = soak(1, 8);
    places.extend((0..some).map(|_| ops + random.below((log.len() - ops) as u64 + 1) as usize));
    for at in places {
        for survival in [Survival::Nothing, Survival::Some(at as u64)] {
            let disk = SimDisk::of(power_cut(&base, &log[..at], survival));
            block_on(recover(&disk, &world.contents, &stay, ops))
                .map_err(|why| format!("and a power cut at {at} ({survival:?}): {why}"))?;
        }
    }
    Ok(told)
}

#[test]
fn the_disk_fails_at_every_call_of_a_backup() {
    let began = Instant::now();
    let disk = SimDisk::of(Image::empty());
    let (world, mut promises) = (World::new(), Promises::default());
    block_on(backup(&disk, &world, CONTINUE, &mut promises)).unwrap();
    let calls = disk.calls();
    let mut faults = faults(&calls);
    let mut random = Random::new(3);
    faults.retain(|_| soak(random.below(10) == 0, true));
    let tried = faults.len();
    let (told, broken) = try_all(faults, |fault| fail(*fault));
    println!(
        "{} calls, {tried} faults, {} told, in {:.1?}",
        calls.len(),
        told.iter().filter(|told| **told).count(),
        began.elapsed()
    );
    let some = &broken[..broken.len().min(20)];
    assert!(
        broken.is_empty(),
        "{} broken:\n{}",
        broken.len(),
        some.join("\n")
    );
    assert!(told.contains(&true), "a failure is told");
}
