//! What every stage of a run shares.

use std::sync::{Arc, Mutex, PoisonError};

use arkstream_format::{Component, Omission};

use crate::{Budget, Cancel, Event, Observer, Sink};

/// The surroundings of a run. Cheap to clone.
#[derive(Clone)]
pub struct Run {
    /// Where members go.
    pub sink: Arc<dyn Sink>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Raised when the user interrupts.
    pub cancel: Cancel,
    /// Bytes that may be in flight, over all workers.
    pub budget: Budget,
    /// Connections and workers that read at once.
    pub jobs: usize,
    omissions: Arc<Mutex<Vec<Omission>>>,
}

impl Run {
    /// A run into `sink`.
    pub fn new(
        sink: Arc<dyn Sink>,
        observer: Arc<dyn Observer>,
        cancel: Cancel,
        budget: Budget,
        jobs: usize,
    ) -> Self {
        Self {
            sink,
            observer,
            cancel,
            budget,
            jobs: jobs.max(1),
            omissions: Arc::default(),
        }
    }

    /// Counts something that is left out. It changes the verdict and the exit code of the run.
    pub fn omit(&self, component: Component, what: impl Into<String>, reason: impl Into<String>) {
        let omission = Omission {
            component,
            what: what.into(),
            reason: reason.into(),
        };
        self.observer.event(&Event::Omitted(omission.clone()));
        self.omissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(omission);
    }

    /// Everything that was left out so far.
    #[must_use]
    pub fn omissions(&self) -> Vec<Omission> {
        self.omissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells the observer.
    pub fn tell(&self, event: Event) {
        self.observer.event(&event);
    }
}
