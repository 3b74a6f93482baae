//! Who holds a Chroma directory open.
//!
//! A Chroma that runs keeps its files open: after a switch it would go on writing into the former
//! ones, and everything it acknowledges would be lost.

#[cfg(unix)]
mod processes;
#[cfg(windows)]
mod shares;

use std::fmt;

#[cfg(unix)]
pub(super) use processes::holders;
#[cfg(windows)]
pub(super) use shares::holders;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Everybody who holds something open.
    pub(super) holders: Vec<Holder>,
    /// Processes of the directory's owner that this user may not look at; `None` where the system does
    /// not tell who holds files open.
    pub(super) unseen: Option<usize>,
}

/// A process that holds the directory open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pid: Option<u32>,
    command: String,
    what: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} ({}) {}", self.command, self.what),
            None => write!(f, "{} {}", self.command, self.what),
        }
    }
}
