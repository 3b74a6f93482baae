//! Progress as a stream of events, for terminals, logs and programs.

use std::time::Duration;

use arkstream_format::{Component, Omission};

/// Something happened that a person or a program may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A component's size is known: bytes to read, and how many tables, files or dumps.
    Planned {
        /// Which component.
        component: Component,
        /// Bytes to read; an estimate for tables and dumps.
        bytes: u64,
        /// Tables, files or dumps.
        items: u64,
    },
    /// Work on a component began.
    Started {
        /// Which component.
        component: Component,
    },
    /// Raw bytes of a component were read.
    Read {
        /// Which component.
        component: Component,
        /// How many.
        bytes: u64,
    },
    /// A member is in the bundle.
    Member {
        /// Which component.
        component: Component,
        /// Its name.
        name: String,
        /// Its rows, if it has any.
        rows: u64,
        /// Bytes before compression.
        raw_bytes: u64,
        /// Bytes in the file.
        stored_bytes: u64,
    },
    /// The run continues an interrupted one; what it found, for people.
    Resumed(String),
    /// A member of an interrupted run is kept as it is.
    Kept {
        /// Which component.
        component: Component,
        /// Bytes before compression.
        raw_bytes: u64,
        /// Bytes in the file.
        stored_bytes: u64,
    },
    /// A member of an interrupted run is given up and made again.
    Redone {
        /// Which component.
        component: Component,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A component is complete.
    Finished {
        /// Which component.
        component: Component,
    },
    /// The barrier was passed: all snapshots are taken.
    Barrier {
        /// Time between the first and the last snapshot.
        skew: Duration,
    },
    /// Something was left out.
    Omitted(Omission),
    /// Worth a line in the log.
    Note(String),
    /// Worth a line on the screen.
    Warning(String),
}

/// Somebody who watches a run. Called from many threads; must return at once.
pub trait Observer: Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: &Event);
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event) {}
}
