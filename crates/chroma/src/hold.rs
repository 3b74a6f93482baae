//! Chroma's writers, held for a bounded time.
//!
//! One thread of the operating system owns everything that the lock hangs on, so that the order
//! cannot be broken from outside: the claim, then a raw descriptor of `chroma.sqlite3`, then an
//! SQLite connection with `BEGIN IMMEDIATE` and one dummy SELECT (which rolls back a hot journal);
//! at the end `ROLLBACK`, the connection closed, **then** the raw descriptor, then the claim.
//! `IMMEDIATE` makes writers wait and leaves readers alone.
//!
//! The bound is hard: when the time is up the thread gives up the lock by itself, however slow the
//! reader is, and every later request is answered with [`HoldError::Expired`]. Dropping a [`Hold`]
//! gives up the lock as well.
//!
//! Memory: one piece of at most [`PIECE`] bytes at a time.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use arkstream_pipeline::os;
use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::{
    claim::Claim,
    copy::PIECE,
    directory::Entry,
    summary::{self, Described},
};

/// SQLite waits this long at a time; between the waits the thread looks whether it is still wanted.
const BUSY_SLICE: Duration = Duration::from_millis(200);

/// Why the lock could not be taken or kept.
#[derive(Debug, Error)]
pub(crate) enum HoldError {
    /// Another writer kept the lock for the whole wait.
    #[error("the database was busy for {} s: another process is writing to it", .0.as_secs_f32())]
    Busy(Duration),
    /// Something else in this process is reading the file.
    #[error("another part of this process is reading the database")]
    Claimed,
    /// The file under that name is another one than a moment ago.
    #[error("the database file was replaced while it was opened")]
    Replaced,
    /// The lock was held as long as it may be.
    #[error("Chroma's writers were held for {} s, which is as long as allowed", .0.as_secs_f32())]
    Expired(Duration),
    /// SQLite failed.
    #[error("SQLite says: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The thread is gone, which only a defect can cause.
    #[error("the thread that holds the lock ended unexpectedly")]
    Gone,
}

/// A day: far beyond any use, and safe to add to a point in time.
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

type Answer<T> = oneshot::Sender<Result<T, HoldError>>;

enum Request {
    Describe(Answer<Described>),
    Stat(Answer<Entry>),
    Piece { offset: u64, answer: Answer<Bytes> },
    End(Answer<Duration>),
}

/// The lock, held by its thread.
pub(crate) struct Hold {
    requests: mpsc::Sender<Request>,
    ended: oneshot::Receiver<()>,
    deadline: Instant,
    interrupt: rusqlite::InterruptHandle,
}

impl Hold {
    /// Takes the lock, waiting at most `wait`, to be held at most `max_hold`.
    pub(crate) async fn take(
        database: PathBuf,
        wait: Duration,
        max_hold: Duration,
    ) -> Result<Self, HoldError> {
        let (ready, locked) = oneshot::channel();
        let (requests, inbox) = mpsc::channel();
        let (alive, ended) = oneshot::channel();
        thread::Builder::new()
            .name("chroma-lock".into())
            .spawn(move || {
                hold(&database, wait, max_hold, ready, &inbox);
                drop(alive);
            })?;
        let (deadline, interrupt) = locked.await.map_err(|_| HoldError::Gone)??;
        Ok(Self {
            requests,
            ended,
            deadline,
            interrupt,
        })
    }

    /// Reads what SQLite says about the locked state.
    pub(crate) async fn describe(&self) -> Result<Described, HoldError> {
        let answer = self.ask(Request::Describe);
        let left = self.deadline.saturating_duration_since(Instant::now());
        tokio::pin!(answer);
        match tokio::time::timeout(left, &mut answer).await {
            Ok(described) => described,
            Err(_) => {
                self.interrupt.interrupt();
                answer.await
            }
        }
    }

    /// The state of `chroma.sqlite3`, from the raw descriptor.
    pub(crate) async fn stat(&self) -> Result<Entry, HoldError> {
        self.ask(Request::Stat).await
    }

    /// At most [`PIECE`] bytes of `chroma.sqlite3`, from the raw descriptor.
    pub(crate) async fn piece(&self, offset: u64) -> Result<Bytes, HoldError> {
        self.ask(|answer| Request::Piece { offset, answer }).await
    }

    /// Whether the time is up.
    pub(crate) fn is_expired(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Gives up the lock. Succeeds with the time it was held only if it was held until now: then
    /// everything that was read belongs to the locked state.
    pub(crate) async fn end(self) -> Result<Duration, HoldError> {
        let held = self.ask(Request::End).await;
        // The thread ends once nobody can ask it any more; then the descriptors are closed, too.
        let Self {
            requests, ended, ..
        } = self;
        drop(requests);
        let _ = ended.await;
        held
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, HoldError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(request(answer))
            .map_err(|_| HoldError::Gone)?;
        answered.await.map_err(|_| HoldError::Gone)?
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Everything that the lock hangs on. The order of the fields is the order of closing.
struct Locked {
    connection: Connection,
    raw: File,
    _claim: Claim,
    since: Instant,
}

type Ready = oneshot::Sender<Result<(Instant, rusqlite::InterruptHandle), HoldError>>;

/// The thread.
fn hold(
    database: &Path,
    wait: Duration,
    max_hold: Duration,
    ready: Ready,
    inbox: &mpsc::Receiver<Request>,
) {
    let locked = match Locked::take(database, wait, || ready.is_closed()) {
        Ok(locked) => locked,
        Err(error) => {
            // Nobody listens only if the backup was given up meanwhile.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let deadline = locked.since + max_hold.min(LONGEST_HOLD);
    let handle = locked.connection.get_interrupt_handle();
    if ready.send(Ok((deadline, handle))).is_err() {
        locked.release();
        return;
    }
    let ending = serve(&locked, deadline, inbox);
    let held = locked.release();
    match ending {
        Ending::Asked(answer) => {
            let _ = answer.send(Ok(held));
        }
        Ending::Dropped => {}
        Ending::Expired => {
            tracing::warn!(
                held_ms = held.as_millis(),
                "the hold on Chroma's writers ran out"
            );
            while let Ok(request) = inbox.recv() {
                request.refuse(held);
            }
        }
    }
}

enum Ending {
    Asked(Answer<Duration>),
    Dropped,
    Expired,
}

fn serve(locked: &Locked, deadline: Instant, inbox: &mpsc::Receiver<Request>) -> Ending {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A request that is there already would win against a time that is up.
        if left.is_zero() {
            return Ending::Expired;
        }
        // A request whose answer nobody awaits any more is no failure.
        match inbox.recv_timeout(left) {
            Ok(Request::Describe(answer)) => {
                let _ = answer.send(summary::describe(&locked.connection).map_err(Into::into));
            }
            Ok(Request::Stat(answer)) => {
                let _ = answer.send(Entry::of(&locked.raw).map_err(Into::into));
            }
            Ok(Request::Piece { offset, answer }) => {
                let _ = answer.send(read_piece(&locked.raw, offset).map_err(Into::into));
            }
            Ok(Request::End(answer)) => return Ending::Asked(answer),
            Err(mpsc::RecvTimeoutError::Timeout) => return Ending::Expired,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ending::Dropped,
        }
    }
}

/// At most [`PIECE`] bytes from `offset`; empty at the end of the file.
pub(crate) fn read_piece(file: &File, offset: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; PIECE];
    let mut filled = 0;
    while filled < piece.len() {
        let rest = piece.get_mut(filled..).unwrap_or_default();
        match os::read_at(file, rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece.into())
}

impl Locked {
    fn take(
        database: &Path,
        wait: Duration,
        unwanted: impl Fn() -> bool,
    ) -> Result<Self, HoldError> {
        let since = Instant::now();
        let claim = Claim::take(database, wait, &unwanted)?.ok_or(HoldError::Claimed)?;
        let raw = os::open_to_read(database)?;
        if !claim.is_on(&raw)? {
            return Err(HoldError::Replaced);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags)?;
        // The last connection to close would move the WAL into the database; it is not ours to move.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(BUSY_SLICE.min(wait))?;
        loop {
            match connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => break,
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    if unwanted() || since.elapsed() >= wait {
                        return Err(HoldError::Busy(since.elapsed()));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let since = Instant::now();
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(Self {
            connection,
            raw,
            _claim: claim,
            since,
        })
    }

    /// Gives everything up, in order.
    fn release(self) -> Duration {
        let Self {
            connection,
            raw,
            _claim: claim,
            since,
        } = self;
        if let Err(error) = connection.execute_batch("ROLLBACK") {
            // Closing the connection rolls back as well.
            tracing::warn!(%error, "could not roll back the transaction that held Chroma's writers");
        }
        drop(connection);
        let held = since.elapsed();
        drop(raw);
        drop(claim);
        held
    }
}

impl Request {
    /// Answers after the time was up.
    fn refuse(self, held: Duration) {
        let error = HoldError::Expired(held);
        // An answer that nobody awaits any more is no failure.
        match self {
            Self::Describe(answer) => drop(answer.send(Err(error))),
            Self::Stat(answer) => drop(answer.send(Err(error))),
            Self::Piece { answer, .. } => drop(answer.send(Err(error))),
            Self::End(answer) => drop(answer.send(Err(error))),
        }
    }
}
