//! Copies files into the bundle, and checks each against its name on the way.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkstream_format::{Component, Compression, FileProof, Proof, member_names};
use arkstream_pipeline::{
    Budget, Event, Failure, FailureKind, MemberFacts, MemberSpec, PendingReceipt, Run, file_proof,
    os,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha1::{Digest, Sha1};
use tokio::sync::{Mutex, mpsc};

use super::name::{is_inside, path_of, promised};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Members that may wait for their receipt before a sync is asked for.
const PENDING: usize = 256;

/// What an interrupted run finished or an older bundle holds, by member name.
pub(super) type EarlierFiles = HashMap<String, FileProof>;

/// One worker.
pub(super) struct Copier {
    run: Run,
    dir: PathBuf,
    budget: Budget,
    earlier: Arc<EarlierFiles>,
    pending: VecDeque<PendingReceipt>,
    taken: u64,
}

/// An open file with what is known of it.
struct Open {
    file: File,
    modified_at: DateTime<Utc>,
    mode: u32,
    proof: Option<FileProof>,
    hasher: Sha1,
}

impl Copier {
    pub(super) fn new(run: Run, dir: PathBuf, budget: Budget, earlier: Arc<EarlierFiles>) -> Self {
        Self {
            run,
            dir,
            budget,
            earlier,
            pending: VecDeque::new(),
            taken: 0,
        }
    }

    /// Works until the queue is closed; returns how many files were taken. A failure closes the
    /// queue for all.
    pub(super) async fn work(
        mut self,
        queue: Arc<Mutex<mpsc::Receiver<String>>>,
    ) -> Result<u64, Failure> {
        let outcome = self.work_off(&queue).await;
        if outcome.is_err() {
            queue.lock().await.close();
        }
        outcome
    }

    async fn work_off(&mut self, queue: &Mutex<mpsc::Receiver<String>>) -> Result<u64, Failure> {
        loop {
            let next = queue.lock().await.recv().await;
            let Some(name) = next else {
                break;
            };
            self.run.cancel.check()?;
            self.copy(&name).await?;
            if self.pending.len() >= PENDING {
                self.settle().await?;
            }
        }
        self.settle().await?;
        Ok(self.taken)
    }

    async fn copy(&mut self, name: &str) -> Result<(), Failure> {
        let Some(path) = path_of(&self.dir, name) else {
            self.omit(
                name,
                "the name leads out of the filestore, so it was refused",
            );
            return Ok(());
        };
        let open = {
            let (dir, path) = (self.dir.clone(), path.clone());
            blocking(move || open(&dir, &path)).await?
        };
        let mut open = match open {
            Ok(Some(open)) => open,
            Ok(None) => {
                self.omit(
                    name,
                    "it is no file, or a link that leads out of the filestore",
                );
                return Ok(());
            }
            Err(error) => return self.judge(name, &path, error),
        };
        let spec = self.member(name, &open);
        if let Some(then) = self.earlier.get(&spec.name) {
            let unchanged = open.proof.as_ref().is_some_and(|now| then.holds_for(now));
            if unchanged && let Some(member) = self.run.sink.keep(&spec.name, None).await? {
                self.run.kept(&member);
                self.taken += 1;
                return Ok(());
            }
            let why = match unchanged {
                true => "it is damaged in the older bundle",
                false => "the file changed, or had just changed when it was read",
            };
            self.run.redo(Component::Filestore, &spec.name, why);
        }
        let first;
        (open, first) = self.piece(open, &path).await?;
        let matches_its_name;
        let pending = if first.len() < PIECE {
            // All of it, and it is counted until it is in the file.
            let _permit = self.budget.take(first.len() as u64).await;
            let (facts, sound) = facts(name, &open);
            matches_its_name = sound;
            self.run.sink.put(spec, first, facts).await?
        } else {
            let mut writer = self.run.sink.begin(spec).await?;
            let mut piece = first;
            while !piece.is_empty() {
                writer.write(piece).await?;
                (open, piece) = self.piece(open, &path).await?;
            }
            let (facts, sound) = facts(name, &open);
            matches_its_name = sound;
            writer.finish(facts).await?
        };
        self.pending.push_back(pending);
        self.taken += 1;
        if !matches_its_name {
            self.omit(
                name,
                "content does not match its name; the file was taken as it is",
            );
        }
        Ok(())
    }

    /// The next bytes of a file; none at its end.
    async fn piece(&self, mut open: Open, path: &Path) -> Result<(Open, Bytes), Failure> {
        self.run.cancel.check()?;
        let (open, piece) = blocking(move || {
            let piece = read_piece(&mut open);
            (open, piece)
        })
        .await?;
        let piece = piece.map_err(|error| {
            Failure::io(
                FailureKind::Source,
                format!("read {}", path.display()),
                error,
            )
        })?;
        self.run.tell(Event::Read {
            component: Component::Filestore,
            bytes: piece.len() as u64,
        });
        Ok((open, piece))
    }

    /// A file that cannot be opened: gone or not readable, it is left out; a folder that cannot be
    /// entered would leave out too much.
    fn judge(&self, name: &str, path: &Path, error: io::Error) -> Result<(), Failure> {
        match error.kind() {
            io::ErrorKind::NotFound => {
                self.omit(
                    name,
                    "an attachment names it, but the filestore does not have it",
                );
                Ok(())
            }
            io::ErrorKind::InvalidFilename | io::ErrorKind::NotADirectory => {
                self.omit(
                    name,
                    "an attachment names it, but no file can have that name",
                );
                Ok(())
            }
            io::ErrorKind::PermissionDenied if path.symlink_metadata().is_ok() => {
                self.omit(name, "it may not be read; run as the user of Odoo");
                Ok(())
            }
            _ => Err(Failure::io(
                FailureKind::Source,
                format!("read {}", path.display()),
                error,
            )
            .help("run as a user who may read the whole filestore, such as the user of Odoo")),
        }
    }

    fn omit(&self, name: &str, reason: &str) {
        self.run.omit(Component::Filestore, name, reason);
    }

    fn member(&self, name: &str, open: &Open) -> MemberSpec {
        MemberSpec {
            name: format!("{}{name}", member_names::FILESTORE_DIR),
            component: Component::Filestore,
            compression: Compression::Deflate,
            modified_at: open.modified_at,
            mode: open.mode,
            budget: self.budget.clone(),
        }
    }

    /// Waits until the members are durable and tells the observer.
    async fn settle(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.run.sink.sync().await?;
        for receipt in self.pending.drain(..) {
            let member = receipt.wait().await?.member;
            self.run.tell(Event::Member {
                component: Component::Filestore,
                name: member.name,
                rows: 0,
                raw_bytes: member.raw_len,
                stored_bytes: member.stored_len,
            });
        }
        Ok(())
    }
}

/// What is known of a file that is read, and whether its content is what its name promises. A file of
/// which that is not so is told about by every run, so it is read by every run.
fn facts(name: &str, open: &Open) -> (MemberFacts, bool) {
    let found = hex(&open.hasher.clone().finalize());
    let sound = promised(name).is_none_or(|promised| promised == found);
    let proof = open.proof.clone().filter(|_| sound).map(Proof::File);
    (MemberFacts { rows: None, proof }, sound)
}

/// Opens a file below the filestore; `None` where it is not a file, or not below.
fn open(dir: &Path, path: &Path) -> io::Result<Option<Open>> {
    if !is_inside(dir, path)? {
        return Ok(None);
    }
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !path.metadata()?.is_file() {
        return Ok(None);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok(Some(Open {
        modified_at: metadata.modified().map(DateTime::from).unwrap_or_default(),
        mode: os::mode(&metadata),
        proof: file_proof(&os::state_of(&file)?),
        hasher: Sha1::new(),
        file,
    }))
}

/// The next bytes; none at the end.
fn read_piece(open: &mut Open) -> io::Result<Bytes> {
    let mut piece = Vec::new();
    (&mut open.file)
        .take(PIECE as u64)
        .read_to_end(&mut piece)?;
    open.hasher.update(&piece);
    Ok(Bytes::from(piece))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, "read the filestore", error))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
}
