//! Kills at every step of a switch: afterwards the directory is entirely old or entirely new, and
//! whatever comes next works.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use arkstream_format::Digest;
use arkstream_pipeline::{FailureKind, Standing};
use tempfile::TempDir;

use super::{
    content::Content,
    durable::Moves,
    place::Paths,
    record::Record,
    siblings::inode,
    switch::{self, Switch},
};
use crate::DATABASE;

/// The ways of switching.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Exchange,
    TwoRenames,
    Entries,
    /// Nothing was there before.
    First,
}

const WAYS: [Way; 4] = [Way::Exchange, Way::TwoRenames, Way::Entries, Way::First];

struct Stage {
    root: TempDir,
    way: Way,
}

type Files = BTreeMap<PathBuf, String>;

impl Stage {
    fn new(way: Way) -> Self {
        let stage = Self {
            root: tempfile::tempdir().unwrap(),
            way,
        };
        let paths = stage.paths();
        if paths.existed {
            fill(&paths.live, &old());
        }
        fill(&paths.staging, &new());
        let record = Record {
            staged: inode(&paths.staging).unwrap().unwrap(),
            former: inode(&paths.live).unwrap(),
            content: Content {
                collections: 0,
                embeddings: 0,
                queued: 0,
                last: 0,
                digest: Digest::of(b""),
            },
            files: BTreeMap::new(),
        };
        record.write(&paths.record()).unwrap();
        stage
    }

    fn paths(&self) -> Paths {
        let live = self.root.path().join("chroma");
        let inside = live.join(".arkstream_0123456789abcdef");
        match self.way {
            Way::Entries => Paths {
                staging: inside.join("new"),
                kept: inside.join("chroma_backup"),
                inside: Some(inside),
                existed: true,
                live,
            },
            way => Paths {
                staging: self.root.path().join("chroma.arkstream_0123456789abcdef"),
                kept: self.root.path().join("chroma_backup"),
                inside: None,
                existed: way != Way::First,
                live,
            },
        }
    }

    /// As another process would find it.
    fn switch(&self) -> Box<dyn Switch> {
        let moves = match self.way {
            Way::TwoRenames => Moves::without_exchange(),
            _ => Moves::default(),
        };
        switch::of(&self.paths(), moves)
    }

    fn killed_after(&self, steps: u32) -> Box<dyn Switch> {
        let exchange = self.way != Way::TwoRenames;
        switch::of(&self.paths(), Moves::killed_after(steps, exchange))
    }

    fn commit(&self, switch: &dyn Switch) -> Result<(), arkstream_pipeline::Failure> {
        switch.commit(Record::read(&self.paths().record()).unwrap().unwrap())
    }

    fn live(&self) -> Files {
        files(&self.paths().live)
    }

    fn former(&self) -> Files {
        if self.way == Way::First {
            Files::new()
        } else {
            old()
        }
    }

    /// Everything beside the live content.
    fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in [self.root.path().to_owned(), self.paths().live] {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let name = PathBuf::from(entry.unwrap().file_name());
                if name.to_str().unwrap().contains("arkstream")
                    || name.to_str().unwrap().contains("backup")
                {
                    found.push(name);
                }
            }
        }
        found
    }
}

fn old() -> Files {
    [
        (DATABASE, "old"),
        ("chroma.sqlite3-journal", "old"),
        ("only-old/header.bin", "old"),
        ("both/header.bin", "old"),
    ]
    .map(|(path, text)| (path.into(), text.into()))
    .into()
}

fn new() -> Files {
    [
        (DATABASE, "new"),
        ("both/header.bin", "new"),
        ("only-new/header.bin", "new"),
    ]
    .map(|(path, text)| (path.into(), text.into()))
    .into()
}

fn fill(directory: &Path, files: &Files) {
    fs::create_dir_all(directory).unwrap();
    for (path, text) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn files(directory: &Path) -> Files {
    let Ok(found) = super::members::tree(directory) else {
        return Files::new();
    };
    let paths = found.files.into_keys();
    paths
        .map(|path| {
            let text = fs::read_to_string(directory.join(&path)).unwrap();
            (path.into(), text)
        })
        .collect()
}

/// Looks, and holds what it hears against what is there.
fn look(stage: &Stage, when: &str) -> Standing {
    let standing = stage.switch().standing().unwrap();
    let expected = match standing {
        Standing::Old => stage.former(),
        Standing::New => new(),
    };
    assert_eq!(stage.live(), expected, "{:?} {when}", stage.way);
    standing
}

/// Calls `act` with more and more steps until nothing kills it any more.
fn at_every_step(way: Way, mut act: impl FnMut(&Stage, u32) -> bool) {
    for steps in 0.. {
        assert!(steps < 40, "{way:?} never ends");
        if act(&Stage::new(way), steps) {
            assert!(steps > 0, "{way:?} moves nothing");
            return;
        }
    }
}

#[test]
fn a_commit_that_is_killed_leaves_all_or_nothing_and_can_be_finished() {
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            let done = stage.commit(stage.killed_after(steps).as_ref()).is_ok();
            look(stage, &format!("killed after {steps}"));
            stage.commit(stage.switch().as_ref()).unwrap();
            assert_eq!(look(stage, "finished"), Standing::New);
            stage.switch().revert().unwrap();
            assert_eq!(look(stage, "reverted"), Standing::Old);
            done
        });
    }
}

#[test]
fn a_commit_that_is_killed_can_be_finished_without_looking() {
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            let done = stage.commit(stage.killed_after(steps).as_ref()).is_ok();
            stage.commit(stage.switch().as_ref()).unwrap();
            assert_eq!(look(stage, "finished"), Standing::New);
            stage.switch().revert().unwrap();
            assert_eq!(look(stage, "reverted"), Standing::Old);
            done
        });
    }
}

#[test]
fn a_commit_that_is_killed_can_be_reverted_without_looking() {
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            let done = stage.commit(stage.killed_after(steps).as_ref()).is_ok();
            for time in ["once", "twice"] {
                stage.switch().revert().unwrap();
                assert_eq!(stage.live(), stage.former(), "{way:?} {steps} {time}");
            }
            stage.switch().discard().unwrap();
            stage.switch().discard().unwrap();
            stage.switch().forget().unwrap();
            assert_eq!(look(stage, "discarded"), Standing::Old);
            assert_eq!(stage.leftovers(), Vec::<PathBuf>::new(), "{way:?} {steps}");
            done
        });
    }
}

#[test]
fn a_commit_that_is_killed_can_be_discarded_without_losing_either_side() {
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            let done = stage.commit(stage.killed_after(steps).as_ref()).is_ok();
            stage.switch().discard().unwrap();
            if look(stage, "discarded") == Standing::New {
                stage.switch().revert().unwrap();
                assert_eq!(look(stage, "reverted"), Standing::Old);
            }
            done
        });
    }
}

#[test]
fn a_revert_that_is_killed_leaves_all_or_nothing_and_can_be_finished() {
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            stage.commit(stage.switch().as_ref()).unwrap();
            let done = stage.killed_after(steps).revert().is_ok();
            look(stage, &format!("killed after {steps}"));
            stage.switch().revert().unwrap();
            assert_eq!(look(stage, "reverted"), Standing::Old);
            stage.switch().discard().unwrap();
            assert_eq!(stage.leftovers(), Vec::<PathBuf>::new(), "{way:?} {steps}");
            done
        });
    }
}

#[test]
fn a_revert_that_is_killed_can_be_discarded() {
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            stage.commit(stage.switch().as_ref()).unwrap();
            let done = stage.killed_after(steps).revert().is_ok();
            stage.switch().revert().unwrap();
            stage.switch().discard().unwrap();
            assert_eq!(stage.live(), stage.former());
            assert_eq!(stage.leftovers(), Vec::<PathBuf>::new(), "{way:?} {steps}");
            done
        });
    }
}

#[test]
fn where_names_can_be_exchanged_there_is_always_a_live_directory() {
    at_every_step(Way::Exchange, |stage, steps| {
        let there = || {
            let live = stage.live();
            live == old() || live == new()
        };
        let committed = stage.commit(stage.killed_after(steps).as_ref()).is_ok();
        assert!(there(), "commit killed after {steps}");
        stage.commit(stage.switch().as_ref()).unwrap();
        let reverted = stage.killed_after(steps).revert().is_ok();
        assert!(there(), "revert killed after {steps}");
        committed && reverted
    });
}

#[test]
fn forgetting_leaves_only_what_is_live() {
    for way in WAYS {
        let stage = Stage::new(way);
        stage.commit(stage.switch().as_ref()).unwrap();
        stage.switch().discard().unwrap();
        assert_eq!(look(&stage, "committed"), Standing::New);
        for _ in 0..2 {
            stage.switch().forget().unwrap();
            assert_eq!(stage.live(), new());
            assert_eq!(stage.leftovers(), Vec::<PathBuf>::new(), "{way:?}");
        }
    }
}

#[test]
fn the_former_state_is_not_forgotten_while_it_is_live() {
    for way in WAYS {
        let stage = Stage::new(way);
        stage.switch().forget().unwrap();
        assert_eq!(stage.live(), stage.former(), "{way:?}");
        stage.commit(stage.switch().as_ref()).unwrap();
        assert_eq!(look(&stage, "committed"), Standing::New);
    }
}

#[test]
fn what_chroma_made_since_goes_away_with_what_was_restored() {
    let later: Files = [
        ("later/header.bin", "later"),
        ("chroma.sqlite3-wal", "later"),
    ]
    .map(|(path, text)| (path.into(), text.into()))
    .into();
    for way in WAYS {
        at_every_step(way, |stage, steps| {
            stage.commit(stage.switch().as_ref()).unwrap();
            fill(&stage.paths().live, &later);
            let done = stage.killed_after(steps).revert().is_ok();
            if stage.switch().standing().unwrap() == Standing::New {
                let mut all = new();
                all.extend(later.clone());
                assert_eq!(stage.live(), all, "{way:?} {steps}");
            }
            stage.switch().revert().unwrap();
            assert_eq!(stage.live(), stage.former(), "{way:?} {steps}");
            done
        });
    }
}

#[test]
fn a_copy_on_another_disk_is_told_by_its_names() {
    for way in [Way::Exchange, Way::TwoRenames] {
        let stage = Stage::new(way);
        stage.commit(stage.switch().as_ref()).unwrap();
        let record = stage.paths().record();
        let mut elsewhere = Record::read(&record).unwrap().unwrap();
        (elsewhere.staged, elsewhere.former) = (1, Some(2));
        elsewhere.write(&record).unwrap();
        assert_eq!(look(&stage, "copied"), Standing::New);
        stage.switch().revert().unwrap();
        assert_eq!(stage.live(), old());
    }
}

#[test]
fn a_directory_that_somebody_replaced_before_the_switch_is_what_is_kept() {
    let stage = Stage::new(Way::Exchange);
    let live = stage.paths().live;
    fs::rename(&live, stage.root.path().join("moved")).unwrap();
    let other: Files = [(DATABASE.into(), "other".into())].into();
    fill(&live, &other);
    stage.commit(stage.switch().as_ref()).unwrap();
    assert_eq!(stage.live(), new());
    assert_eq!(files(&stage.paths().kept), other);
    stage.switch().revert().unwrap();
    assert_eq!(stage.live(), other);
}

#[test]
fn a_directory_that_appears_meanwhile_is_not_replaced() {
    let stage = Stage::new(Way::First);
    fill(&stage.paths().live, &old());
    let failure = stage.commit(stage.switch().as_ref()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    stage.switch().revert().unwrap();
    stage.switch().discard().unwrap();
    assert_eq!(stage.live(), old());
}

#[test]
fn a_former_state_that_is_gone_is_said_and_nothing_is_moved() {
    for way in [Way::Exchange, Way::Entries] {
        let stage = Stage::new(way);
        stage.commit(stage.switch().as_ref()).unwrap();
        fs::remove_dir_all(stage.paths().kept).unwrap();
        let failure = stage.switch().revert().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert_eq!(stage.live(), new(), "{way:?}");
    }
}

#[test]
fn without_its_record_a_kept_directory_is_never_guessed_at() {
    let stage = Stage::new(Way::Exchange);
    stage.commit(stage.switch().as_ref()).unwrap();
    fs::remove_file(stage.paths().record()).unwrap();
    assert!(stage.switch().standing().is_err());
    assert!(stage.switch().revert().is_err());
    assert_eq!(stage.live(), new());
}
