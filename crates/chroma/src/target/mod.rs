//! Restores a Chroma directory.
//!
//! The bundle's files are staged beside the live directory, verified there, and made live by an
//! exchange of the two names; the former directory is kept. [`place`] has the names, [`siblings`]
//! and [`entries`] the two ways of switching, [`record`] what has to be remembered, [`busy`] why a
//! running Chroma is in the way.
//!
//! # What a crash leaves
//!
//! | Killed during | Live | The next look |
//! |---|---|---|
//! | staging | former | discards the staging, or stages what is missing |
//! | exchange | former or restored, one step | knows by inode which |
//! | two renames, or the entries of a mount | part of it | puts the former one back |
//! | undo | former, restored, or part of it | goes on, or puts the former one back |
//!
//! Memory: one chunk of 4 MiB, about 400 bytes a file, and what [`verify`](crate::verify()) takes.

mod busy;
mod check;
mod compare;
mod content;
mod durable;
mod entries;
mod members;
mod place;
mod record;
mod siblings;
mod stage;
mod switch;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use arkstream_format::{Component, TargetPlace};
use arkstream_pipeline::{
    Checked, Event, Failure, FailureKind, FolderClaim, Proof, Restoring, Standing, Target,
    TargetPlan,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use self::{durable::Moves, place::Paths, record::Record, switch::Switch};
use crate::copy::blocking;

/// How a directory is restored.
#[derive(Clone, Copy, Debug)]
pub struct ChromaTargetOptions {
    /// Switch the directory even though somebody holds it open.
    pub allow_busy: bool,
    /// The moment that names of this restore carry.
    pub now: DateTime<Utc>,
}

/// A Chroma directory to restore into.
#[derive(Clone, Debug)]
pub struct ChromaTarget {
    paths: Paths,
    options: ChromaTargetOptions,
    moves: Moves,
    /// What keeps other restores beside this directory out.
    claimed: Option<FolderClaim>,
}

impl ChromaTarget {
    /// A restore of the name `restore_id` into `directory`, which need not exist; the folder it
    /// lies in must. Links are resolved, and the names beside it are fixed now.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] when it is something else than a directory, or cannot be one.
    pub fn new(
        directory: PathBuf,
        restore_id: &str,
        options: ChromaTargetOptions,
    ) -> Result<Self, Failure> {
        Ok(Self {
            paths: Paths::choose(&directory, restore_id, options.now)?,
            options,
            moves: Moves::default(),
            claimed: None,
        })
    }

    /// A restore that another process began.
    ///
    /// # Errors
    /// When the place is another component's, or a mount point with nothing mounted on it.
    pub fn reopen(place: &TargetPlace, options: ChromaTargetOptions) -> Result<Self, Failure> {
        Ok(Self {
            paths: Paths::of(place)?,
            options,
            moves: Moves::default(),
            claimed: None,
        })
    }

    async fn switch<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Switch) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (paths, moves) = (self.paths.clone(), self.moves.clone());
        blocking(move || call(switch::of(&paths, moves).as_ref())).await?
    }

    async fn plan(&self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let (paths, moves) = (self.paths.clone(), self.moves.clone());
        let bundle = Arc::clone(&restoring.bundle);
        blocking(move || {
            let manifest = bundle.manifest();
            let files = members::wanted(manifest);
            let mut notes = Vec::new();
            if let Some(new) = &manifest.chroma {
                match content::tell(&paths.live) {
                    Ok(old) => {
                        let old = old.map(|told| told.summary);
                        let counts = old.map_or((0, 0), |old| (old.collections, old.embeddings));
                        notes.push(format!("collections: {} → {}", counts.0, new.collections));
                        notes.push(format!("embeddings: {} → {}", counts.1, new.embeddings));
                    }
                    Err(why) => notes.push(format!(
                        "collections: {}, embeddings: {}; what is there now cannot be read: {why}",
                        new.collections, new.embeddings
                    )),
                }
            }
            TargetPlan {
                files_added: files.len() as u64,
                file_bytes: files.iter().map(|file| file.member.raw_len).sum(),
                switch: switch::of(&paths, moves).describe(),
                notes,
                ..TargetPlan::default()
            }
        })
        .await
    }

    async fn check_busy(&self, restoring: &Restoring) -> Result<(), Failure> {
        let (live, allow) = (self.paths.live.clone(), self.options.allow_busy);
        let warnings = blocking(move || check::check_busy(&live, allow)).await??;
        for warning in warnings {
            restoring.tell(Event::Warning(warning));
        }
        Ok(())
    }
}

#[async_trait]
impl Target for ChromaTarget {
    fn component(&self) -> Component {
        Component::Chroma
    }

    fn place(&self) -> TargetPlace {
        self.paths.place()
    }

    async fn claim(&mut self) -> Result<(), Failure> {
        if self.claimed.is_none() {
            // The directory itself is exchanged for another one.
            let folder = self.paths.workplace().to_owned();
            self.claimed = Some(blocking(move || FolderClaim::take(&folder)).await??);
        }
        Ok(())
    }

    async fn check(&mut self, restoring: &Restoring) -> Checked {
        let (paths, allow) = (self.paths.clone(), self.options.allow_busy);
        let bundle = Arc::clone(&restoring.bundle);
        match blocking(move || check::check(&paths, bundle.manifest(), allow)).await {
            Ok(checked) => checked,
            Err(failure) => {
                let mut checked = Checked::default();
                checked.problem(failure);
                checked
            }
        }
    }

    async fn rehearse(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        self.plan(restoring).await
    }

    async fn stage(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        if self.switch(|switch| switch.standing()).await? == Standing::New {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("stage into {}", self.paths.staging.display()),
                "this restore is live already",
            )
            .help("undo it first, or start another restore"));
        }
        let wanted = members::wanted(restoring.bundle.manifest());
        if let Some(fault) = members::faults(&wanted).into_iter().next() {
            // Also for who skipped the check: nothing may be written outside the directory.
            let attempted = "stage the Chroma directory";
            return Err(Failure::new(FailureKind::Damaged, attempted, fault)
                .help("use another copy of the bundle"));
        }
        stage::load(restoring, &self.paths, &wanted).await
    }

    async fn verify(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let (paths, bundle) = (self.paths.clone(), Arc::clone(&restoring.bundle));
        blocking(move || {
            let wanted = members::wanted(bundle.manifest());
            let directory = &paths.staging;
            let (proofs, files) = compare::prove(directory, bundle.manifest(), &wanted)?;
            compare::demand(directory, &proofs)?;
            let content = match content::read(directory) {
                Ok(Some(content)) => content,
                Ok(None) => return Err(switch::not_staged(&paths)),
                Err(why) => {
                    let attempted = format!("read the database in {}", directory.display());
                    return Err(Failure::new(FailureKind::Damaged, attempted, why)
                        .help("use another copy of the bundle"));
                }
            };
            // SQLite may have left files of its own beside a database in WAL mode.
            stage::sweep(directory, &wanted)?;
            durable::sync_folder(directory)?;
            let staged = siblings::inode(directory)?.ok_or_else(|| switch::not_staged(&paths))?;
            let record = Record {
                staged,
                former: siblings::inode(&paths.live)?,
                content,
                files,
            };
            record.write(&paths.record())
        })
        .await?
    }

    async fn prepare(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        self.check_busy(restoring).await?;
        let paths = self.paths.clone();
        blocking(move || match Record::read(&paths.record())? {
            Some(_) => Ok(()),
            None => Err(switch::not_staged(&paths)),
        })
        .await??;
        self.plan(restoring).await
    }

    async fn commit(&mut self, _restoring: &Restoring) -> Result<(), Failure> {
        let paths = self.paths.clone();
        self.switch(move |switch| {
            let record = Record::read(&paths.record())?;
            switch.commit(record.ok_or_else(|| switch::not_staged(&paths))?)
        })
        .await
    }

    async fn prove(&mut self, restoring: &Restoring) -> Result<Vec<Proof>, Failure> {
        let (live, bundle) = (self.paths.live.clone(), Arc::clone(&restoring.bundle));
        blocking(move || {
            let wanted = members::wanted(bundle.manifest());
            let (proofs, _) = compare::prove(&live, bundle.manifest(), &wanted)?;
            Ok(proofs)
        })
        .await?
    }

    async fn standing(&mut self) -> Result<Standing, Failure> {
        self.switch(|switch| switch.standing()).await
    }

    async fn prepare_revert(&mut self, _force: bool) -> Result<Vec<String>, Failure> {
        let (paths, allow) = (self.paths.clone(), self.options.allow_busy);
        self.switch(move |switch| {
            let Some(record) = Record::read(&paths.record())? else {
                return Ok(Vec::new());
            };
            if switch.standing()? == Standing::Old {
                return Ok(Vec::new());
            }
            if paths.existed && !durable::exists(&paths.kept)? && !durable::exists(&paths.staging)?
            {
                return Err(switch::gone(&paths));
            }
            let mut lines = compare::changed(&paths.live, &record)?;
            // Where the inodes are those of the record, the live directory must be too.
            if paths.inside.is_none()
                && siblings::inode(&paths.live)? != Some(record.staged)
                && record.former.is_some()
                && siblings::inode(&paths.kept)? == record.former
            {
                lines.insert(
                    0,
                    "another directory has taken the place of the restored one".to_owned(),
                );
            }
            if !allow {
                for holder in busy::holders(&paths.live)?.holders {
                    lines.push(format!("the directory is in use: {holder}"));
                }
            }
            Ok(lines)
        })
        .await
    }

    async fn release(&mut self) {}

    async fn revert(&mut self) -> Result<(), Failure> {
        self.switch(|switch| switch.revert()).await
    }

    async fn announce(&mut self) -> Result<(), Failure> {
        // A Chroma that has the former directory open is refused before the switch.
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        self.switch(|switch| switch.discard()).await
    }

    async fn forget(&mut self, _live: Standing) -> Result<(), Failure> {
        self.switch(|switch| switch.forget()).await
    }
}
