//! The files that are in the bundle, each with the state it was read in.
//!
//! A file counts as taken only if it looked the same before and after it was read. A file that
//! is taken again first retracts the member it had, so that no name stands twice in the bundle.
//!
//! Memory: about 300 bytes a file.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_format::{Component, Proof, member_names};
use arkstream_pipeline::{
    Event, Failure, MemberFacts, PendingReceipt, Run,
    os::{self, FileState},
};

use crate::{
    copy::{Copied, Origin, Reader, Stopped, blocking, member_name},
    directory::{self, Entry, Listing},
};

/// What became of a file that was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the bundle in the state that was listed.
    Taken,
    /// It changed or vanished; nothing of it is in the bundle.
    Moved,
}

/// Files that are in the bundle, by path relative to the Chroma directory.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    files: BTreeMap<String, TakenFile>,
}

#[derive(Debug)]
struct TakenFile {
    identity: FileState,
    /// Absent where the member of an interrupted run is kept.
    receipt: Option<PendingReceipt>,
}

impl Taken {
    /// Whether the file is taken in this very state.
    pub(crate) fn has(&self, relative: &str, entry: &Entry) -> bool {
        self.files
            .get(relative)
            .is_some_and(|taken| taken.identity == entry.identity)
    }

    /// Whether exactly the files of a group are taken, all in the listed state.
    pub(crate) fn has_group(&self, group: &str, listing: &Listing) -> bool {
        let taken = self
            .files
            .keys()
            .filter(|path| directory::group_of(path) == group)
            .count();
        listing.group(group).count() == taken
            && listing
                .group(group)
                .all(|(path, entry)| self.has(path, entry))
    }

    /// Reads a file into the bundle unless it is taken already.
    pub(crate) async fn take(
        &mut self,
        reader: &Reader<'_>,
        relative: &str,
        entry: &Entry,
    ) -> Result<Outcome, Stopped> {
        if self.has(relative, entry) {
            return Ok(Outcome::Taken);
        }
        self.retract(reader.run, relative, "the file changed after it was read")
            .await?;
        let proof = entry.proof();
        let path = reader.directory.join(relative);
        let Some(file) = open_as(&path, entry).await? else {
            return Ok(Outcome::Moved);
        };
        let origin = Origin::File(Arc::clone(&file));
        let Copied { writer, cut } = reader.copy(relative, entry, origin).await?;
        if cut || !still_is(&path, &file, entry).await? {
            writer.abandon("the file changed while it was read").await?;
            return Ok(Outcome::Moved);
        }
        let facts = MemberFacts {
            rows: None,
            proof: proof.map(Proof::File),
        };
        self.insert(relative, entry, writer.finish(facts).await?);
        Ok(Outcome::Taken)
    }

    /// Keeps what an older bundle holds, or an interrupted run or a generation of this run that was
    /// given up took, where the listed files are in the state it read them in. Whether they still are
    /// is compared again under the lock, as for all others.
    pub(crate) async fn keep(&mut self, run: &Run, listing: &Listing) -> Result<(), Failure> {
        for member in run.sink.earlier(Component::Chroma).await? {
            let Some(relative) = member.name.strip_prefix(member_names::CHROMA_DIR) else {
                continue;
            };
            // What a generation of this run took is not in the bundle any more unless it is kept.
            self.files.remove(relative);
            let Some((relative, entry)) = listing.files.get_key_value(relative) else {
                continue;
            };
            let (Some(Proof::File(then)), Some(now)) = (&member.proof, entry.proof()) else {
                continue;
            };
            let why = if !then.holds_for(&now) {
                "the file changed, or had just changed when it was read"
            } else if let Some(member) = run.sink.keep(&member.name, None).await? {
                run.kept(&member);
                let kept = TakenFile {
                    identity: entry.identity,
                    receipt: None,
                };
                self.files.insert(relative.clone(), kept);
                continue;
            } else {
                "it is damaged in the older bundle"
            };
            run.redo(Component::Chroma, &member.name, why);
        }
        Ok(())
    }

    /// Notes a member that was finished elsewhere.
    pub(crate) fn insert(&mut self, relative: &str, entry: &Entry, receipt: PendingReceipt) {
        let identity = entry.identity;
        let receipt = Some(receipt);
        self.files
            .insert(relative.to_owned(), TakenFile { identity, receipt });
    }

    /// Takes a member back if there is one.
    pub(crate) async fn retract(
        &mut self,
        run: &Run,
        relative: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        if self.files.remove(relative).is_some() {
            run.sink.retract(&member_name(relative), reason).await?;
        }
        Ok(())
    }

    /// Takes back the members of all files that `wanted` does not name.
    pub(crate) async fn retract_unless(
        &mut self,
        run: &Run,
        reason: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        let gone: Vec<_> = self
            .files
            .keys()
            .filter(|path| !wanted(path))
            .cloned()
            .collect();
        for relative in gone {
            self.retract(run, &relative, reason).await?;
        }
        Ok(())
    }

    /// Waits until every member is durable and tells the observer.
    pub(crate) async fn settle(&mut self, run: &Run) -> Result<(), Failure> {
        run.sink.sync().await?;
        for taken in std::mem::take(&mut self.files).into_values() {
            let Some(receipt) = taken.receipt else {
                continue;
            };
            let member = receipt.wait().await?.member;
            run.tell(Event::Member {
                component: Component::Chroma,
                name: member.name,
                rows: 0,
                raw_bytes: member.raw_len,
                stored_bytes: member.stored_len,
            });
        }
        Ok(())
    }
}

/// Opens a file if it still is what was listed.
async fn open_as(path: &Path, entry: &Entry) -> Result<Option<Arc<File>>, Failure> {
    let (path, listed) = (PathBuf::from(path), entry.identity);
    blocking(move || {
        let opened = os::open_to_read(&path).and_then(|file| {
            let found = os::state_of(&file)?;
            Ok((found == listed).then(|| Arc::new(file)))
        });
        unless_gone(&path, opened)
    })
    .await?
    .map(Option::flatten)
}

/// Whether neither the open file nor the file of that name changed.
async fn still_is(path: &Path, file: &Arc<File>, entry: &Entry) -> Result<bool, Failure> {
    let (path, file, listed) = (PathBuf::from(path), Arc::clone(file), entry.identity);
    blocking(move || {
        let opened = os::state_of(&file).map_err(|error| directory::unreadable(&path, error))?;
        let named = unless_gone(&path, Entry::at(&path))?;
        Ok(opened == listed && named.is_some_and(|named| named.identity == listed))
    })
    .await?
}

fn unless_gone<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(directory::unreadable(path, error)),
    }
}
