//! The one error that crosses ports.

use std::{error::Error, fmt, io, sync::Arc};

/// What sort of failure it is. The command line turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A defect of Arkstream itself.
    Internal,
    /// Wrong arguments or configuration.
    Usage,
    /// A bundle is damaged.
    Damaged,
    /// Versions that do not go together.
    Incompatible,
    /// The target or output exists, is locked, or refuses to be written.
    Refused,
    /// A source cannot be reached or read, or a tool is missing.
    Source,
    /// No space left.
    NoSpace,
    /// The user interrupted the run.
    Interrupted,
    /// The world changed between planning and locking; the barrier may be tried again.
    Retry,
}

/// Something failed: what was attempted, why it failed, what to do next.
///
/// Neither part may hold a secret: a failure is printed and logged.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What sort of failure it is.
    pub kind: FailureKind,
    attempted: String,
    why: String,
    help: Option<String>,
    passing: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure of `kind`: `attempted` says what was to be done on what, `why` what went wrong.
    pub fn new(kind: FailureKind, attempted: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            kind,
            attempted: attempted.into(),
            why: why.to_string(),
            help: None,
            passing: false,
            source: None,
        }
    }

    /// A failed system call on a file: `ENOSPC` and `EDQUOT` become [`FailureKind::NoSpace`],
    /// everything else is of `kind`.
    pub fn io(kind: FailureKind, attempted: impl Into<String>, error: io::Error) -> Self {
        let (kind, help) = if is_no_space(&error) {
            (
                FailureKind::NoSpace,
                Some("free some space or choose another place with --out, then run again"),
            )
        } else {
            (kind, None)
        };
        let mut failure = Self::new(kind, attempted, &error);
        failure.help = help.map(str::to_owned);
        failure.source = Some(Arc::new(error));
        failure
    }

    /// The run was interrupted.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(FailureKind::Interrupted, "run", "interrupted")
    }

    /// Says what the user can do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says more about why it failed, or about what became of it.
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.why = format!("{}; {more}", self.why);
        self
    }

    /// Says that it may pass by itself: a lost connection, a server that starts again.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.passing
    }

    /// Keeps the error that caused it, for logs.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What was attempted, on what.
    #[must_use]
    pub fn attempted(&self) -> &str {
        &self.attempted
    }

    /// Why it failed.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What the user can do, if it is known.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// Whether an I/O error means that a disk or a quota is full.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.attempted, self.why)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
