//! Small files: written atomically, removed, and the records of restores.

use std::{
    io,
    path::{Path, PathBuf},
};

use arkstream_bundle::{Disk as _, LedgerFolder, records_on};
use arkstream_format::{Digest, RestorePhase, RestoreRecord, RunId};
use arkstream_pipeline::Failure;

use crate::{
    common::moment,
    disk::{Fault, Image, Op, ROOT, SimDisk},
    loss::{Survival, power_cut},
    soak,
};

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// Every place at which the power may fail, with several choices of what is left.
fn cuts(base: &Image, log: &[Op], mut check: impl FnMut(&SimDisk, usize)) -> usize {
    let mut tried = 0;
    for at in 0..=log.len() {
        let seeds = (0..soak(30, 300)).map(|seed| Survival::Some(seed << 32 | at as u64));
        for survival in seeds.chain([Survival::Nothing, Survival::Everything]) {
            let image = power_cut(base, &log[..at], survival);
            check(&SimDisk::of(image), at);
            tried += 1;
        }
    }
    tried
}

/// Does something on a disk that fails at one call after the other, then again on the same disk when
/// it does not fail any more. What was done then must be durable.
fn again_after_faults<E>(
    base: &Image,
    act: impl Fn(&SimDisk) -> Result<(), E>,
    check: impl Fn(&SimDisk),
) {
    let sound = SimDisk::of(base.clone());
    assert!(act(&sound).is_ok());
    let calls = sound.calls().len();
    assert!(calls > 0);
    for at in 1..=calls {
        for full in [false, true] {
            let lasting = false;
            let disk = SimDisk::that_fails(base.clone(), Fault { at, full, lasting });
            let _ = act(&disk);
            disk.repair();
            assert!(act(&disk).is_ok(), "call {at}");
            let (base, log) = disk.history();
            for survival in [Survival::Nothing, Survival::Everything, Survival::Some(1)] {
                check(&SimDisk::of(power_cut(&base, &log, survival)));
            }
        }
    }
}

fn with_file(name: &str, content: &[u8]) -> Image {
    let disk = SimDisk::of(Image::empty());
    disk.write_atomically(&path(name), content).unwrap();
    let (base, log) = disk.history();
    power_cut(&base, &log, Survival::Nothing)
}

#[test]
fn a_file_that_is_written_atomically_is_the_old_one_or_the_new_one() {
    let (old, new) = ([1; 3000], [2; 2000]);
    let base = with_file("record", &old);
    let disk = SimDisk::of(base.clone());
    disk.write_atomically(&path("record"), &new).unwrap();
    let (_, log) = disk.history();
    let (mut olds, mut news) = (0, 0);
    let tried = cuts(&base, &log, |disk, at| {
        let now = disk.now();
        match now.file(&path("record")) {
            Some(found) if found == old && at < log.len() => olds += 1,
            Some(found) if found == new => news += 1,
            found => panic!("after {at} of {}: {found:?}", log.len()),
        }
        // What was left behind is not in the way.
        disk.write_atomically(&path("record"), b"newer").unwrap();
        assert_eq!(disk.now().file(&path("record")), Some(&b"newer"[..]));
    });
    assert!(olds > 0 && news > 0);
    println!("{} operations, {tried} states", log.len());
    again_after_faults(
        &base,
        |disk| disk.write_atomically(&path("record"), &new),
        |disk| assert_eq!(disk.now().file(&path("record")), Some(&new[..])),
    );
}

#[test]
fn a_file_that_was_removed_does_not_come_back() {
    let bundle = with_file("old.zip", &[1; 3000]);
    let remove = |disk: &SimDisk| -> io::Result<()> {
        disk.remove(&path("old.zip"))?;
        disk.remove(&path("old.zip.sha256"))
    };
    let disk = SimDisk::of(bundle);
    disk.write_atomically(&path("old.zip.sha256"), b"sum")
        .unwrap();
    let base = disk.now();
    let disk = SimDisk::of(base.clone());
    remove(&disk).unwrap();
    let (_, log) = disk.history();
    let tried = cuts(&base, &log, |disk, at| {
        let now = disk.now();
        let bundle = now.file(&path("old.zip"));
        let sum = now.file(&path("old.zip.sha256"));
        assert!(bundle.is_none_or(|bundle| bundle == [1; 3000]));
        assert!(bundle.is_none() || sum.is_some(), "the sum goes last");
        assert!(at < log.len() || sum.is_none());
    });
    println!("{} operations, {tried} states", log.len());
    again_after_faults(&base, remove, |disk| {
        let now = disk.now();
        assert_eq!(now.file(&path("old.zip")), None);
        assert_eq!(now.file(&path("old.zip.sha256")), None);
    });
}

fn record(id: &str, phase: RestorePhase) -> RestoreRecord {
    RestoreRecord {
        version: RestoreRecord::VERSION,
        restore_id: id.to_owned(),
        bundle: "b.zip".to_owned(),
        bundle_run_id: RunId("0".repeat(32)),
        bundle_manifest: Digest::of(&[]),
        started_at: moment(),
        updated_at: moment(),
        phase,
        targets: Vec::new(),
    }
}

/// Keeps two records, one of them in two phases.
fn keep_records(disk: &SimDisk, mut saved: impl FnMut(usize)) -> Result<(), Failure> {
    let ledger = LedgerFolder::open_on(disk.port(), &path("state/arkstream"))?;
    for (id, phase) in [
        ("one", RestorePhase::Staging),
        ("one", RestorePhase::Live),
        ("two", RestorePhase::Staging),
    ] {
        ledger.save(&record(id, phase))?;
        saved(disk.ops());
    }
    Ok(())
}

#[test]
fn a_record_that_was_kept_outlives_a_power_cut() {
    let disk = SimDisk::of(Image::empty());
    let mut saved = Vec::new();
    keep_records(&disk, |ops| saved.push(ops)).unwrap();
    let (base, log) = disk.history();
    let folder = path("state/arkstream");
    let phases = |disk: &SimDisk| -> Vec<_> {
        let found = records_on(disk, &folder).unwrap().into_iter();
        let found = found.map(|record| record.unwrap());
        found
            .map(|record| (record.restore_id, record.phase))
            .collect()
    };
    let tried = cuts(&base, &log, |disk, at| {
        let found = phases(disk);
        let of = |id| {
            found
                .iter()
                .find(|(found, _)| found == id)
                .map(|(_, phase)| *phase)
        };
        let kept = saved.iter().filter(|ops| **ops <= at).count();
        assert!(kept < 1 || of("one").is_some(), "after {at}: {found:?}");
        assert!(
            kept < 2 || of("one") == Some(RestorePhase::Live),
            "{found:?}"
        );
        assert!(kept < 3 || of("two").is_some(), "{found:?}");
        keep_records(disk, |_| {}).unwrap();
    });
    println!("{} operations, {tried} states", log.len());
    again_after_faults(
        &base,
        |disk| keep_records(disk, |_| {}),
        |disk| {
            let expected = [("one", RestorePhase::Live), ("two", RestorePhase::Staging)];
            let expected = expected.map(|(id, phase)| (id.to_owned(), phase));
            assert_eq!(phases(disk), expected);
        },
    );
}
