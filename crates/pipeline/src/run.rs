//! What every stage of a run shares.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arkstream_format::{BaseBundle, Component, Generation, Member, Omission};
use chrono::{DateTime, Utc};

use crate::{Budget, Cancel, Event, Observer, Sink, Stats};

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
    /// When the bundle was begun: by this run, or by the interrupted one that it continues.
    pub begun_at: DateTime<Utc>,
    /// The generations before this one: of an older bundle, and of this one.
    pub generations: Vec<Generation>,
    /// Older bundles that members are copied out of.
    pub bases: Vec<BaseBundle>,
    /// Where its time goes. The sink counts into the same.
    pub stats: Arc<Stats>,
    omissions: Arc<Mutex<Vec<Omission>>>,
    redone: Arc<Mutex<BTreeMap<(Component, String), u64>>>,
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
            stats: sink.stats(),
            sink,
            observer,
            cancel,
            budget,
            jobs: jobs.max(1),
            begun_at: Utc::now(),
            generations: Vec::new(),
            bases: Vec::new(),
            omissions: Arc::default(),
            redone: Arc::default(),
        }
    }

    /// The number of this generation, from 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        let numbers = self.generations.iter().map(|generation| generation.number);
        numbers.max().unwrap_or(0) + 1
    }

    /// The same run with another set of snapshots, after `given_up` was given up. What was left out is
    /// counted anew.
    #[must_use]
    pub fn next_generation(&self, given_up: Option<Generation>) -> Self {
        let mut next = self.clone();
        next.generations.extend(given_up);
        next.omissions = Arc::default();
        next
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

    /// Counts a member of an interrupted run or an older bundle that is not kept, but made again.
    pub fn redo(&self, component: Component, name: &str, reason: &str) {
        self.observer.event(&Event::Redone {
            component,
            name: name.to_owned(),
            reason: reason.to_owned(),
        });
        let mut redone = self.redone.lock().unwrap_or_else(PoisonError::into_inner);
        *redone.entry((component, reason.to_owned())).or_default() += 1;
    }

    /// How many members were made again, by component and reason.
    #[must_use]
    pub fn redone(&self) -> BTreeMap<(Component, String), u64> {
        let redone = self.redone.lock().unwrap_or_else(PoisonError::into_inner);
        redone.clone()
    }

    /// Tells the observer that a member of an interrupted run or an older bundle is kept.
    pub fn kept(&self, member: &Member) {
        self.observer.event(&Event::Kept {
            component: member.component,
            raw_bytes: member.raw_len,
            stored_bytes: member.stored_len,
        });
    }

    /// Tells the observer.
    pub fn tell(&self, event: Event) {
        self.observer.event(&event);
    }
}
