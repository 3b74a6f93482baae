//! `FilestoreTarget`: files that attachments refer to, added to a live filestore.
//!
//! The filestore is content-addressed and shared with every other model, so it is never swapped:
//! files that are missing are added, none is overwritten. A file's name is the SHA-1 of its
//! content, which is checked before it gets that name.
//!
//! ```text
//! stage    <filestore>/.arkstream_<id>/ab/ab12…      written, synced, SHA-1 checked
//! prepare  <state>/<id>.filestore-added              the list, synced before the first file moves
//!          <filestore>/ab/ab12…                      moved there, never over another file
//! revert   files of the list that no attachment refers to any more are removed
//! ```
//!
//! Added files change nothing that is live before a row refers to them. Peak memory: one chunk,
//! and the names of the bundle's files.

mod place;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arkstream_format::{Component, Member, TargetPlace, member_names};
use arkstream_pipeline::{
    Checked, Event, Failure, FailureKind, FolderClaim, Proof, Restoring, Standing, Target,
    TargetPlan,
};
use arkstream_postgres::{ConnectSpec, Session, failure_of};
use async_trait::async_trait;

use place::{Found, Owner};

/// Names that are asked for at once.
const BATCH: usize = 1000;

/// Where a filestore's list and its attachments are.
#[derive(Clone, Debug)]
pub struct FilestoreTargetOptions {
    /// The folder for the list of added files.
    pub state_dir: PathBuf,
    /// The Odoo database whose attachments refer to the files; without it an undo removes nothing.
    pub connection: Option<ConnectSpec>,
}

/// A live filestore.
pub struct FilestoreTarget {
    dir: PathBuf,
    staging: PathBuf,
    list: PathBuf,
    connection: Option<ConnectSpec>,
    /// What keeps other restores of this filestore out.
    claimed: Option<FolderClaim>,
    /// Whether files are in their places that were not committed.
    prepared: bool,
}

/// A file of the bundle.
struct File<'a> {
    member: &'a Member,
    /// `ab/ab12…`
    name: &'a str,
}

impl FilestoreTarget {
    /// The filestore in `directory` (the folder with the two-digit subfolders). Its place and that of
    /// the list are fixed now, whatever the working directory of a later undo.
    ///
    /// # Errors
    /// [`FailureKind::Refused`] for a path that is not UTF-8, which the record of a restore must be.
    pub fn new(
        directory: PathBuf,
        restore_id: &str,
        options: FilestoreTargetOptions,
    ) -> Result<Self, Failure> {
        let dir = place::fixed(&directory)?;
        Ok(Self {
            staging: dir.join(format!(".arkstream_{restore_id}")),
            list: place::fixed(&options.state_dir)?.join(format!("{restore_id}.filestore-added")),
            dir,
            connection: options.connection,
            claimed: None,
            prepared: false,
        })
    }

    /// A target that another process left behind.
    ///
    /// # Errors
    /// When the place is not one of a filestore.
    pub fn reopen(
        place: &TargetPlace,
        restore_id: &str,
        connection: Option<ConnectSpec>,
    ) -> Result<Self, Failure> {
        match place {
            TargetPlace::Filestore {
                directory,
                added_list,
                ..
            } => {
                let dir = PathBuf::from(directory);
                Ok(Self {
                    staging: dir.join(format!(".arkstream_{restore_id}")),
                    list: PathBuf::from(added_list),
                    dir,
                    connection,
                    claimed: None,
                    prepared: false,
                })
            }
            _ => Err(Failure::new(
                FailureKind::Internal,
                "find the filestore of a restore",
                "the record speaks of something else",
            )),
        }
    }

    /// Which files of the bundle are not there yet.
    fn missing<'a>(&self, restoring: &'a Restoring) -> Result<(Vec<File<'a>>, u64), Failure> {
        let mut missing = Vec::new();
        let mut present = 0;
        for file in files(restoring) {
            match place::look(&self.dir, file.name, file.member.raw_len)? {
                Found::Nothing => missing.push(file),
                Found::Same => present += 1,
                Found::Other(why) => {
                    return Err(Failure::new(
                        FailureKind::Refused,
                        format!("restore the file {}", file.name),
                        why,
                    )
                    .help("the live file is damaged: move it away, then run again"));
                }
            }
        }
        Ok((missing, present))
    }

    fn plan_of(&self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let (missing, present) = self.missing(restoring)?;
        Ok(TargetPlan {
            files_added: missing.len() as u64,
            files_present: present,
            file_bytes: missing.iter().map(|file| file.member.raw_len).sum(),
            switch: vec![format!(
                "missing files are added to {}; none is overwritten or removed",
                self.dir.display()
            )],
            ..TargetPlan::default()
        })
    }

    fn added(&self) -> Result<Vec<String>, Failure> {
        match fs::read_to_string(&self.list) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Failure::io(
                FailureKind::Refused,
                format!("read the list {}", self.list.display()),
                error,
            )),
        }
    }

    /// Names that attachments refer to, of those given.
    async fn referred(&self, names: &[String]) -> Result<BTreeSet<String>, Failure> {
        let Some(spec) = &self.connection else {
            // Nobody can say, so nothing counts as unused.
            return Ok(names.iter().cloned().collect());
        };
        let session = Session::connect(spec, "arkstream restore files").await?;
        let mut referred = BTreeSet::new();
        for batch in names.chunks(BATCH) {
            let rows = session
                .client()
                .query(
                    "SELECT DISTINCT a.store_fname::pg_catalog.text FROM public.ir_attachment a \
                     WHERE a.store_fname = ANY ($1)",
                    &[&batch],
                )
                .await
                .map_err(|error| failure_of("ask which files are referred to", &error))?;
            referred.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        Ok(referred)
    }
}

/// The bundle's files with a name that the filestore can have.
fn files(restoring: &Restoring) -> impl Iterator<Item = File<'_>> {
    restoring
        .bundle
        .manifest()
        .members
        .iter()
        .filter(|member| member.component == Component::Filestore)
        .filter_map(|member| {
            let name = member.name.strip_prefix(member_names::FILESTORE_DIR)?;
            Some(File { member, name })
        })
}

#[async_trait]
impl Target for FilestoreTarget {
    fn component(&self) -> Component {
        Component::Filestore
    }

    fn place(&self) -> TargetPlace {
        TargetPlace::Filestore {
            directory: self.dir.display().to_string(),
            added_list: self.list.display().to_string(),
            connection: self.connection.as_ref().map(ConnectSpec::without_password),
        }
    }

    async fn claim(&mut self) -> Result<(), Failure> {
        if self.claimed.is_none() {
            self.claimed = Some(FolderClaim::take(&self.dir)?);
        }
        Ok(())
    }

    async fn check(&mut self, restoring: &Restoring) -> Checked {
        let mut checked = Checked::default();
        for file in files(restoring) {
            if !place::is_file_name(file.name) {
                checked.incompatible(
                    format!("restore the file {}", file.name),
                    "this is no name that a filestore gives",
                    "the bundle was not written by Arkstream, or is damaged",
                );
                return checked;
            }
        }
        if let Err(failure) = place::check_folder(&self.dir) {
            checked.problem(failure);
            return checked;
        }
        let mut bytes = 0;
        for file in files(restoring) {
            match place::look(&self.dir, file.name, file.member.raw_len) {
                Ok(Found::Nothing) => {
                    let staged = fs::metadata(path(&self.staging, file.name));
                    let there = staged.map_or(0, |staged| staged.len());
                    bytes += file.member.raw_len.saturating_sub(there);
                }
                Ok(Found::Same) => {}
                Ok(Found::Other(why)) => checked.problem(
                    Failure::new(
                        FailureKind::Refused,
                        format!("restore the file {}", file.name),
                        why,
                    )
                    .help("the live file is damaged: move it away, then run again"),
                ),
                Err(failure) => checked.problem(failure),
            }
        }
        if let Err(failure) = place::check_space(&self.dir, bytes) {
            checked.problem(failure);
        }
        checked
    }

    async fn rehearse(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        self.plan_of(restoring)
    }

    async fn stage(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let (missing, _) = self.missing(restoring)?;
        let owner = Owner::of(&self.dir)?;
        place::create_folder(&self.staging, &owner)?;
        // The folder may not have been there when it was claimed.
        let folder = FolderClaim::take(&self.dir)?;
        self.claimed = Some(folder);
        for file in missing {
            restoring.cancel.check()?;
            let _permit = restoring
                .budget
                .take(file.member.raw_len.min(arkstream_format::CHUNK_SIZE as u64))
                .await;
            let (bundle, member) = (restoring.bundle.clone(), file.member.clone());
            let (staging, name, owner) =
                (self.staging.clone(), file.name.to_owned(), owner.clone());
            let was_there = tokio::task::spawn_blocking(move || {
                place::write(bundle.as_ref(), &member, &staging, &name, &owner)
            })
            .await
            .map_err(|error| Failure::new(FailureKind::Internal, "stage files", error))??;
            if was_there {
                restoring.keep(file.member);
                continue;
            }
            restoring.tell(Event::Member {
                component: Component::Filestore,
                name: file.member.name.clone(),
                rows: 0,
                raw_bytes: file.member.raw_len,
                stored_bytes: file.member.stored_len,
            });
        }
        Ok(())
    }

    async fn verify(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let (missing, _) = self.missing(restoring)?;
        for file in missing {
            match place::look(&self.staging, file.name, file.member.raw_len)? {
                Found::Same => {}
                Found::Nothing | Found::Other(_) => {
                    return Err(Failure::new(
                        FailureKind::Internal,
                        format!("stage the file {}", file.name),
                        "it is not staged as the bundle has it",
                    ));
                }
            }
        }
        Ok(())
    }

    async fn prepare(&mut self, restoring: &Restoring) -> Result<TargetPlan, Failure> {
        let plan = self.plan_of(restoring)?;
        let (missing, _) = self.missing(restoring)?;
        let names: Vec<&str> = missing.iter().map(|file| file.name).collect();
        self.prepared = true;
        place::write_list(&self.list, &names)?;
        let owner = Owner::of(&self.dir)?;
        for name in names {
            place::put(&self.staging, &self.dir, name, &owner)?;
        }
        Ok(plan)
    }

    async fn commit(&mut self, _restoring: &Restoring) -> Result<(), Failure> {
        place::sync(&self.dir, &self.added()?)?;
        self.prepared = false;
        Ok(())
    }

    async fn prove(&mut self, restoring: &Restoring) -> Result<Vec<Proof>, Failure> {
        let (mut expected, mut found) = ((0, 0), (0, 0));
        for file in files(restoring) {
            restoring.cancel.check()?;
            expected = (expected.0 + 1, expected.1 + file.member.raw_len);
            let live = place::look_closely(&self.dir, file.name, file.member.raw_len)?;
            if matches!(live, Found::Same) {
                found = (found.0 + 1, found.1 + file.member.raw_len);
            }
        }
        let text = |(files, bytes): (u64, u64)| format!("{files} files, {bytes} bytes");
        Ok(vec![Proof::new(
            "files of the filestore by SHA-1",
            text(expected),
            text(found),
        )])
    }

    async fn standing(&mut self) -> Result<Standing, Failure> {
        // Files that nothing refers to are no change of what is live, so a torn prepare is old.
        let added = self.added()?;
        let list = self.list.exists();
        let whole = added.iter().all(|name| self.dir.join(name).exists());
        Ok(if list && whole {
            Standing::New
        } else {
            Standing::Old
        })
    }

    async fn prepare_revert(&mut self, _force: bool) -> Result<Vec<String>, Failure> {
        // Files are shared: those that something refers to stay. Who can say so must be there.
        if let Some(spec) = &self.connection {
            Session::connect(spec, "arkstream restore files").await?;
        }
        Ok(Vec::new())
    }

    async fn release(&mut self) {
        // What cannot be taken back now stays on the list, and is no change that anybody sees.
        if std::mem::take(&mut self.prepared) {
            let _ = self.revert().await;
        }
    }

    async fn revert(&mut self) -> Result<(), Failure> {
        let added = self.added()?;
        let referred = self.referred(&added).await?;
        let unused: Vec<&String> = added
            .iter()
            .filter(|name| place::is_file_name(name) && !referred.contains(*name))
            .collect();
        for name in unused {
            place::remove(&self.dir.join(name))?;
        }
        place::remove(&self.list)
    }

    async fn announce(&mut self) -> Result<(), Failure> {
        // Files without a row that refers to them are of no concern to anybody.
        Ok(())
    }

    async fn discard(&mut self) -> Result<(), Failure> {
        place::remove_folder(&self.staging)
    }

    async fn forget(&mut self, _live: Standing) -> Result<(), Failure> {
        place::remove(&self.list)
    }
}

/// The folder that a file name leads to.
fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}
