//! The switch of a directory that can be renamed.
//!
//! ```text
//!            live     staging   kept
//! staged     former   new       –
//!            new      former    –        after the exchange, one step
//! switched   new      –         former
//! ```
//!
//! The way back is the same with the sides changed. Where the file system cannot exchange two
//! names there are two renames, and between them no directory is live; whoever looks next puts the
//! former one back. Inodes of the record tell the sides apart, in whatever order the names were
//! left. Where all inodes are others (the data was copied to another disk) the names decide.
//!
//! A directory that is neither side (somebody put it there since) is never removed.

use std::{io, path::Path};

use arkstream_pipeline::{Failure, FailureKind, Standing, os};

use super::{
    durable::{self, Moves, beside, exists, parent_of, sync_folder},
    place::Paths,
    record::Record,
    switch::{Switch, gone, not_staged},
};

/// The names of one restore beside each other.
pub(super) struct Siblings {
    pub(super) paths: Paths,
    pub(super) moves: Moves,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Former,
    Staged,
    Foreign,
}

/// What stands under each name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sides {
    live: Option<Side>,
    staging: Option<Side>,
    kept: Option<Side>,
}

impl Sides {
    fn has(self, side: Side) -> bool {
        [self.live, self.staging, self.kept].contains(&Some(side))
    }

    /// Gives a side that no inode is of to the name where it must be.
    fn settle(mut self, existed: bool) -> Self {
        let foreign = Some(Side::Foreign);
        if existed && !self.has(Side::Former) {
            if self.kept == foreign {
                self.kept = Some(Side::Former);
            } else if self.live == foreign && self.staging.is_some() {
                self.live = Some(Side::Former);
            }
        }
        if !self.has(Side::Staged) {
            if self.staging == foreign {
                self.staging = Some(Side::Staged);
            } else if self.live == foreign {
                self.live = Some(Side::Staged);
            }
        }
        self
    }
}

impl Siblings {
    fn sides(&self, record: &Record) -> Result<Sides, Failure> {
        let side = |path: &Path| {
            Ok::<_, Failure>(inode(path)?.map(|inode| {
                if inode == record.staged {
                    Side::Staged
                } else if Some(inode) == record.former {
                    Side::Former
                } else {
                    Side::Foreign
                }
            }))
        };
        let sides = Sides {
            live: side(&self.paths.live)?,
            staging: side(&self.paths.staging)?,
            kept: side(&self.paths.kept)?,
        };
        Ok(sides.settle(self.paths.existed))
    }

    fn record(&self) -> Result<Option<Record>, Failure> {
        let record = Record::read(&self.paths.record())?;
        if record.is_none() && exists(&self.paths.kept)? {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("see what is live at {}", self.paths.live.display()),
                format!(
                    "there is a former directory {}, but the file {} that says so is gone",
                    self.paths.kept.display(),
                    self.paths.record().display()
                ),
            )
            .help(
                "rename the directories by hand as you want them; Arkstream needs neither of them",
            ));
        }
        Ok(record)
    }

    /// Makes one side live, and gives the other its own name.
    fn bring(&self, wanted: Side, record: &Record) -> Result<(), Failure> {
        let Paths {
            live,
            staging,
            kept,
            ..
        } = &self.paths;
        let sides = self.sides(record)?;
        if sides.live != Some(wanted) {
            let from = match wanted {
                side if sides.kept == Some(side) => kept,
                side if sides.staging == Some(side) => staging,
                Side::Former => return Err(gone(&self.paths)),
                _ => return Err(not_staged(&self.paths)),
            };
            if sides.live.is_none() {
                self.moves.rename(from, live)?;
            } else if !self.moves.exchange(live, from)? {
                let foreign = beside(staging, ".aside");
                let aside = match (wanted, sides.staging, sides.kept) {
                    (Side::Staged, _, None) => kept,
                    (_, None, _) => staging,
                    (_, _, None) => kept,
                    _ => &foreign,
                };
                self.moves.rename(live, aside)?;
                sync_folder(parent_of(live))?;
                self.moves.rename(from, live)?;
            }
            sync_folder(parent_of(live))?;
        }
        let sides = self.sides(record)?;
        match (sides.staging, sides.kept) {
            (Some(Side::Former), None) => self.moves.rename(staging, kept)?,
            (None, Some(Side::Staged | Side::Foreign)) => self.moves.rename(kept, staging)?,
            _ => return Ok(()),
        }
        sync_folder(parent_of(live))
    }

    /// The live directory goes back to staging, because there was none before.
    fn take_away(&self, record: &Record) -> Result<(), Failure> {
        let sides = self.sides(record)?;
        if sides.live == Some(Side::Staged) && sides.staging.is_none() {
            self.moves.rename(&self.paths.live, &self.paths.staging)?;
            sync_folder(parent_of(&self.paths.live))?;
        }
        Ok(())
    }

    fn remove_record(&self) -> Result<(), Failure> {
        durable::remove(&beside(&self.paths.record(), ".tmp"))?;
        durable::remove(&self.paths.record())?;
        sync_folder(self.paths.workplace())
    }
}

impl Switch for Siblings {
    fn standing(&self) -> Result<Standing, Failure> {
        let Some(record) = self.record()? else {
            return Ok(Standing::Old);
        };
        let sides = self.sides(&record)?;
        let half_way =
            self.paths.existed && sides.staging == Some(Side::Staged) && sides.has(Side::Former);
        if half_way && sides.live != Some(Side::Former) {
            self.bring(Side::Former, &record)?;
            return Ok(Standing::Old);
        }
        if sides.live == Some(Side::Former) || sides.staging == Some(Side::Staged) {
            Ok(Standing::Old)
        } else {
            Ok(Standing::New)
        }
    }

    fn commit(&self, mut record: Record) -> Result<(), Failure> {
        let Paths { live, existed, .. } = &self.paths;
        let sides = self.sides(&record)?;
        if *existed && sides.live == Some(Side::Former) {
            // Somebody may have put another directory in its place since it was recorded.
            let found = inode(live)?;
            if record.former != found {
                record.former = found;
                record.write(&self.paths.record())?;
            }
        }
        if !existed && sides.live == Some(Side::Foreign) {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("make the restored {} live", live.display()),
                "a directory of that name appeared since the restore began",
            )
            .help("move it away, or start the restore again to have it kept"));
        }
        self.bring(Side::Staged, &record)
    }

    fn revert(&self) -> Result<(), Failure> {
        let Some(record) = self.record()? else {
            return Ok(());
        };
        if self.paths.existed {
            self.bring(Side::Former, &record)
        } else {
            self.take_away(&record)
        }
    }

    fn discard(&self) -> Result<(), Failure> {
        if self.standing()? == Standing::New {
            return match self.record()? {
                Some(record) if self.paths.existed => {
                    let sides = self.sides(&record)?;
                    if sides.staging == Some(Side::Former) {
                        self.bring(Side::Staged, &record)?;
                    }
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        if let Some(record) = self.record()?
            && self.sides(&record)?.live == Some(Side::Former)
        {
            // A way back that was cut short left the staged directory under the kept name.
            self.bring(Side::Former, &record)?;
        }
        durable::remove(&self.paths.staging)?;
        self.remove_record()
    }

    fn forget(&self) -> Result<(), Failure> {
        if self.standing()? == Standing::New
            && let Some(record) = self.record()?
        {
            if self.paths.existed {
                self.discard()?;
                if self.sides(&record)?.kept == Some(Side::Former) {
                    let forgotten = self.paths.forgotten();
                    durable::remove(&forgotten)?;
                    self.moves.rename(&self.paths.kept, &forgotten)?;
                    sync_folder(self.paths.workplace())?;
                }
            }
            durable::remove(&self.paths.forgotten())?;
            return self.remove_record();
        }
        durable::remove(&self.paths.forgotten())
    }

    fn describe(&self) -> Vec<String> {
        let Paths {
            live,
            staging,
            kept,
            existed,
            ..
        } = &self.paths;
        if *existed {
            vec![
                format!("exchange {} and {}", live.display(), staging.display()),
                format!("keep the former directory as {}", kept.display()),
            ]
        } else {
            vec![format!(
                "rename {} to {}",
                staging.display(),
                live.display()
            )]
        }
    }
}

/// The inode under a name, whatever it is.
pub(super) fn inode(path: &Path) -> Result<Option<u64>, Failure> {
    match os::id_of_name(path) {
        Ok(id) => Ok(Some(id.inode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(durable::refused(
            format!("look at {}", path.display()),
            error,
        )),
    }
}
