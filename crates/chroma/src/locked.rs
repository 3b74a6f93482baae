//! The second pass: what is read while Chroma's writers are held, and right after.

use std::{collections::BTreeSet, path::Path, time::Duration};

use arkstream_format::{ChromaSummary, Component};
use arkstream_pipeline::{Event, Failure, FailureKind, MemberFacts, Run};

use crate::{
    DATABASE,
    copy::{Copied, Origin, Reader, Stopped, blocking},
    directory::{self, Entry, Listing},
    hold::{Hold, HoldError},
    source::{ChromaOptions, EXPIRED_HELP, empty_folder},
    summary::Described,
    taken::{Outcome, Taken},
};

/// How often a file that belongs to no segment is read before it is left out.
const ATTEMPTS: usize = 3;

const PICKLE: &str = "index_metadata.pickle";

/// The second pass over one directory.
pub(crate) struct Pass<'a> {
    pub(crate) run: &'a Run,
    pub(crate) directory: &'a Path,
    pub(crate) options: ChromaOptions,
    pub(crate) taken: &'a mut Taken,
    /// Files that were listed at any time of this run.
    pub(crate) seen: &'a mut BTreeSet<String>,
}

/// What the pass found out.
pub(crate) struct Streamed {
    pub(crate) summary: ChromaSummary,
    pub(crate) held: Duration,
}

/// Why the pass failed.
pub(crate) enum Failed {
    /// The lock.
    Lock(HoldError),
    /// Anything else.
    Other(Failure),
}

impl Pass<'_> {
    /// Reads the locked state, gives up the lock, then reads what belongs to no segment.
    pub(crate) async fn stream(mut self, hold: Hold) -> Result<Streamed, Failed> {
        let (described, listing, read) = match self.read_locked(&hold).await {
            Ok(read) => read,
            Err(failed) => {
                // Only the first failure counts; the lock is given up in any case.
                let _ = hold.end().await;
                return Err(failed);
            }
        };
        let held = hold
            .end()
            .await
            .map_err(|error| ran_out(error, self.directory, read))?;
        self.run.tell(Event::Note(format!(
            "Chroma's writers were held for {} ms while {read} bytes were read",
            held.as_millis()
        )));
        self.finish(&described, listing)
            .await
            .map_err(Failed::Other)?;
        Ok(Streamed {
            summary: described.summary,
            held,
        })
    }

    /// Everything that has to be read under the lock. Returns what the directory held at the end
    /// of it, and the number of bytes read.
    async fn read_locked(&mut self, hold: &Hold) -> Result<(Described, Listing, u64), Failed> {
        let reader = Reader::new(self.run, self.directory, Some(hold));
        let described = match hold.describe().await {
            Ok(described) => described,
            Err(error) if hold.is_expired() => return Err(ran_out(error, self.directory, 0)),
            Err(error) => return Err(Failed::Lock(error)),
        };
        let read = async {
            self.take_database(&reader, hold, described.has_wal).await?;
            self.take_segments(&reader, &described).await
        };
        match read.await {
            Ok(listing) => {
                let bytes = reader.bytes_read();
                Ok((described, listing, bytes))
            }
            Err(Stopped::Failed(failure)) => Err(Failed::Other(failure)),
            Err(Stopped::Expired) => {
                let held = HoldError::Expired(self.options.max_hold);
                Err(ran_out(held, self.directory, reader.bytes_read()))
            }
        }
    }

    async fn take_database(
        &mut self,
        reader: &Reader<'_>,
        hold: &Hold,
        has_wal: bool,
    ) -> Result<(), Stopped> {
        let before = hold.stat().await.map_err(|error| self.unlocked(error))?;
        self.taken
            .retract(self.run, DATABASE, "the database is read again")
            .await?;
        let Copied { writer, cut } = reader
            .copy(DATABASE, &before, Origin::Database(hold))
            .await?;
        let after = hold.stat().await.map_err(|error| self.unlocked(error))?;
        // In WAL mode a checkpoint may write to the file; what it writes is in the WAL, too.
        if cut || (!has_wal && before.identity != after.identity) {
            writer
                .abandon("the database changed while it was read")
                .await?;
            return Err(self.written_despite_lock(DATABASE).into());
        }
        let receipt = writer.finish(MemberFacts::default()).await?;
        self.taken.insert(DATABASE, &before, receipt);
        let wal = format!("{DATABASE}-wal");
        self.taken
            .retract(self.run, &wal, "the write-ahead log is read again")
            .await?;
        if has_wal && let Some(entry) = self.stat(&wal).await? {
            match self.taken.take(reader, &wal, &entry).await? {
                Outcome::Taken => {}
                Outcome::Moved => return Err(self.written_despite_lock(&wal).into()),
            }
        }
        Ok(())
    }

    /// Reads the folders of all segments until every one of them is in the bundle as it is.
    async fn take_segments(
        &mut self,
        reader: &Reader<'_>,
        described: &Described,
    ) -> Result<Listing, Stopped> {
        let is_segment = |path: &str| described.segments.contains_key(directory::group_of(path));
        loop {
            reader.check()?;
            let listing = self.list().await?;
            let reason = "the file was deleted after it was read";
            let kept = |path: &str| !is_segment(path) || listing.files.contains_key(path);
            self.taken.retract_unless(self.run, reason, kept).await?;
            let moved: Vec<_> = listing
                .groups()
                .into_iter()
                .filter(|group| described.segments.contains_key(*group))
                .filter(|group| !self.taken.has_group(group, &listing))
                .collect();
            if moved.is_empty() {
                return Ok(listing);
            }
            tokio::time::sleep(self.options.quiet).await;
            let later = self.list().await?;
            for group in moved {
                if later.is_settled(group, &listing, self.options.quiet) {
                    self.take_group(reader, group, &later).await?;
                }
            }
        }
    }

    /// Reads a folder, or as much of it as stays what was listed.
    async fn take_group(
        &mut self,
        reader: &Reader<'_>,
        group: &str,
        listing: &Listing,
    ) -> Result<(), Stopped> {
        for (path, entry) in listing.group(group) {
            if self.taken.take(reader, path, entry).await? == Outcome::Moved {
                break;
            }
        }
        Ok(())
    }

    /// What nobody has to wait for: the files of no segment, and the account of what is missing.
    async fn finish(&mut self, described: &Described, listing: Listing) -> Result<(), Failure> {
        self.check_segments(described, &listing)?;
        let reader = Reader::new(self.run, self.directory, None);
        for path in listing.files.keys() {
            if !described.segments.contains_key(directory::group_of(path)) {
                self.take_other(&reader, path).await?;
            }
        }
        let wal = format!("{DATABASE}-wal");
        let named =
            |path: &str| path == DATABASE || path == wal || listing.files.contains_key(path);
        self.taken
            .retract_unless(self.run, "the file was deleted before the lock", named)
            .await?;
        for path in &listing.empty_folders {
            self.run.tell(Event::Note(empty_folder(path)));
        }
        for (what, why) in &listing.left_out {
            self.run.omit(Component::Chroma, what, why);
        }
        Ok(())
    }

    /// Every segment whose vectors exist only in its folder must have it in the bundle.
    fn check_segments(&self, described: &Described, listing: &Listing) -> Result<(), Failure> {
        for (id, segment) in &described.segments {
            let pickle = format!("{id}/{PICKLE}");
            if !segment.persisted || listing.files.contains_key(&pickle) {
                continue;
            }
            let collection = &segment.collection;
            if self.seen.contains(&pickle) {
                let attempted = format!("read the vectors of Chroma's collection {collection}");
                let why =
                    format!("{pickle} was deleted meanwhile, though the database refers to it");
                return Err(Failure::new(FailureKind::Source, attempted, why).help(
                    "somebody deletes files in the Chroma directory, or the collection \
                     was being deleted: run the backup again",
                ));
            }
            self.run.omit(
                Component::Chroma,
                &pickle,
                format!(
                    "the database refers to it, but the directory does not have it: vectors \
                     of collection {collection} are lost already in the source"
                ),
            );
        }
        Ok(())
    }

    async fn take_other(&mut self, reader: &Reader<'_>, path: &str) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.stat(path).await? else {
                self.taken
                    .retract(self.run, path, "the file was deleted")
                    .await?;
                self.run.tell(Event::Note(format!(
                    "{path} was deleted before it could be read"
                )));
                return Ok(());
            };
            match self.taken.take(reader, path, &entry).await {
                Ok(Outcome::Taken) => return Ok(()),
                Ok(Outcome::Moved) => {}
                Err(Stopped::Failed(failure)) => return Err(failure),
                // There is no hold any more that could run out.
                Err(Stopped::Expired) => break,
            }
        }
        self.run
            .omit(Component::Chroma, path, "it changed each time it was read");
        Ok(())
    }

    async fn list(&mut self) -> Result<Listing, Failure> {
        let directory = self.directory.to_owned();
        let listing = blocking(move || directory::list(&directory)).await??;
        self.seen.extend(listing.files.keys().cloned());
        Ok(listing)
    }

    async fn stat(&self, relative: &str) -> Result<Option<Entry>, Failure> {
        let path = self.directory.join(relative);
        let look = |path: &Path| match std::fs::symlink_metadata(path)?.is_file() {
            true => Entry::at(path).map(Some),
            false => Ok(None),
        };
        blocking(move || match look(&path) {
            Ok(entry) => Ok(entry),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(directory::unreadable(&path, error)),
        })
        .await?
    }

    fn unlocked(&self, error: HoldError) -> Stopped {
        match error {
            HoldError::Expired(_) => Stopped::Expired,
            HoldError::Io(error) => {
                Stopped::Failed(directory::unreadable(&self.directory.join(DATABASE), error))
            }
            other => {
                let attempted = format!("read {}", self.directory.join(DATABASE).display());
                Stopped::Failed(Failure::new(FailureKind::Source, attempted, other))
            }
        }
    }

    fn written_despite_lock(&self, file: &str) -> Failure {
        let attempted = format!("read {}", self.directory.join(file).display());
        let why = "it was written to although SQLite's write lock was held";
        Failure::new(FailureKind::Source, attempted, why).help(
            "locks do not work here: run Arkstream on the machine that runs Chroma, on a \
             file system with working POSIX locks",
        )
    }
}

/// The hold ran out, or was lost.
fn ran_out(error: HoldError, directory: &Path, read: u64) -> Failed {
    let HoldError::Expired(held) = error else {
        return Failed::Lock(error);
    };
    let attempted = format!("read {} while its writers were held", directory.display());
    let why = format!(
        "{read} bytes were read in {:.1} s, which is as long as writers may be held, and more \
         was to be read",
        held.as_secs_f64()
    );
    Failed::Other(Failure::new(FailureKind::Source, attempted, why).help(EXPIRED_HELP))
}
