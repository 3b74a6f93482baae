//! One file into one member, in pieces.
//!
//! Memory: one piece of [`PIECE`] bytes beside what the sink counts in the run's budget. The
//! piece takes no permit itself: the member being written may hold the whole budget until it is
//! finished, and the copy would wait for itself.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arkstream_format::{Component, Compression, member_names};
use arkstream_pipeline::{Event, Failure, FailureKind, MemberSpec, MemberWriter, Run};
use bytes::Bytes;

use crate::{
    directory::{self, Entry},
    hold::{self, Hold, HoldError},
};

/// Bytes read at once.
pub(crate) const PIECE: usize = 1 << 20;

/// Where bytes come from.
pub(crate) enum Origin<'a> {
    /// `chroma.sqlite3` through the lock's own descriptor.
    Database(&'a Hold),
    /// An ordinary file.
    File(Arc<File>),
}

/// The name of a file's member.
pub(crate) fn member_name(relative: &str) -> String {
    format!("{}{relative}", member_names::CHROMA_DIR)
}

/// A member whose bytes are all written and that is not finished yet.
pub(crate) struct Copied {
    pub(crate) writer: Box<dyn MemberWriter>,
    /// Whether the file ended before its size said so.
    pub(crate) cut: bool,
}

/// Why a copy stopped.
pub(crate) enum Stopped {
    /// The time of the hold is up; when exactly, its thread says.
    Expired,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The surroundings of a copy.
pub(crate) struct Reader<'a> {
    pub(crate) run: &'a Run,
    /// The Chroma directory.
    pub(crate) directory: &'a Path,
    /// The lock, while it has to outlive every piece.
    pub(crate) hold: Option<&'a Hold>,
    read: AtomicU64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(run: &'a Run, directory: &'a Path, hold: Option<&'a Hold>) -> Self {
        Self {
            run,
            directory,
            hold,
            read: AtomicU64::new(0),
        }
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Copies exactly as many bytes as `entry` says. Without `finish` the member is given up.
    pub(crate) async fn copy(
        &self,
        relative: &str,
        entry: &Entry,
        origin: Origin<'_>,
    ) -> Result<Copied, Stopped> {
        let mut writer = self.run.sink.begin(self.member(relative, entry)).await?;
        let path = self.directory.join(relative);
        let mut offset = 0;
        while offset < entry.identity.size {
            self.check()?;
            let mut piece = origin.piece(&path, offset).await?;
            let left = entry.identity.size - offset;
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            if piece.is_empty() {
                return Ok(Copied { writer, cut: true });
            }
            let bytes = piece.len() as u64;
            writer.write(piece).await?;
            offset += bytes;
            self.read.fetch_add(bytes, Ordering::Relaxed);
            self.run.tell(Event::Read {
                component: Component::Chroma,
                bytes,
            });
        }
        Ok(Copied { writer, cut: false })
    }

    /// Whether to go on.
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        self.run.cancel.check()?;
        if self.hold.is_some_and(Hold::is_expired) {
            return Err(Stopped::Expired);
        }
        Ok(())
    }

    fn member(&self, relative: &str, entry: &Entry) -> MemberSpec {
        MemberSpec {
            name: member_name(relative),
            component: Component::Chroma,
            compression: Compression::Deflate,
            modified_at: entry.modified_at,
            mode: entry.mode,
            budget: self.run.budget.clone(),
        }
    }
}

impl Origin<'_> {
    async fn piece(&self, path: &Path, offset: u64) -> Result<Bytes, Stopped> {
        match self {
            Self::Database(hold) => match hold.piece(offset).await {
                Ok(piece) => Ok(piece),
                Err(HoldError::Expired(_)) => Err(Stopped::Expired),
                Err(HoldError::Io(error)) => Err(directory::unreadable(path, error).into()),
                Err(other) => {
                    let attempted = format!("read {}", path.display());
                    Err(Failure::new(FailureKind::Source, attempted, other).into())
                }
            },
            Self::File(file) => {
                let file = Arc::clone(file);
                blocking(move || hold::read_piece(&file, offset))
                    .await?
                    .map_err(|error| directory::unreadable(path, error).into())
            }
        }
    }
}

/// Runs a blocking call beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, "read the Chroma directory", error))
}
