//! Exit codes. They are part of the contract: scripts rely on them, `docs/ERRORS.md` lists them.

use std::process::ExitCode;

use arkstream_pipeline::{Failure, FailureKind};

use crate::{output, say::say, screen};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Complete.
    Complete = 0,
    /// A defect of Arkstream itself.
    Internal = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// Finished, but something was left out.
    LeftOut = 3,
    /// Verification found damage.
    Damaged = 4,
    /// Versions that do not go together.
    Incompatible = 5,
    /// The target or output exists, is locked, or refuses to be written.
    Refused = 6,
    /// A source cannot be reached, or a tool is missing.
    Source = 7,
    /// No space left.
    NoSpace = 8,
    /// Two bundles were compared, and differ.
    Different = 9,
    /// Interrupted.
    Interrupted = 130,
}

impl Code {
    pub(crate) fn of(failure: &Failure) -> Self {
        match failure.kind {
            FailureKind::Internal => Self::Internal,
            FailureKind::Usage => Self::Usage,
            FailureKind::Damaged => Self::Damaged,
            FailureKind::Incompatible => Self::Incompatible,
            FailureKind::Refused => Self::Refused,
            FailureKind::Source | FailureKind::Retry => Self::Source,
            FailureKind::NoSpace => Self::NoSpace,
            FailureKind::Interrupted => Self::Interrupted,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Tells a failure to a person: what was attempted, why it failed, what to do.
pub(crate) fn report(failure: &Failure) {
    tracing::error!("{failure}");
    screen::leave();
    if failure.kind == FailureKind::Interrupted {
        say("interrupted");
    } else {
        say(format!("error: {}", output::harmless(&failure.to_string())));
    }
    if let Some(help) = failure.advice() {
        say(format!("  help: {}", output::harmless(help)));
    }
}
