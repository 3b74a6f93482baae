//! Waiting for space on a full disk.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arkstream_pipeline::{Cancel, Event, Observer, is_no_space};

/// How often a full disk is tried again.
const EVERY: Duration = Duration::from_secs(1);

/// What to do when the disk is full.
#[derive(Clone)]
pub struct SpaceWait {
    /// For how long to wait; zero fails at once.
    pub limit: Duration,
    /// Ends the wait.
    pub cancel: Cancel,
    /// Is told when a wait begins and ends.
    pub observer: Arc<dyn Observer>,
}

impl SpaceWait {
    /// Does something until it does not fail for want of space any more. What is done must be safe to
    /// be done again after such a failure.
    pub(crate) fn patiently<T>(
        &self,
        what: &str,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut since = None;
        loop {
            let error = match step() {
                Err(error) if is_no_space(&error) => error,
                outcome => {
                    if since.is_some() {
                        self.tell(format!("there is space again for {what}; the run goes on"));
                    }
                    return outcome;
                }
            };
            let began = *since.get_or_insert_with(|| {
                if !self.limit.is_zero() {
                    let limit = self.limit.as_secs();
                    self.tell(format!("no space left for {what}: waiting up to {limit} s"));
                }
                Instant::now()
            });
            if began.elapsed() >= self.limit || self.cancel.is_raised() {
                return Err(error);
            }
            thread::sleep(EVERY);
        }
    }

    fn tell(&self, text: String) {
        self.observer.event(&Event::Warning(text));
    }
}
