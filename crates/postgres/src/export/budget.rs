//! A worker's permits, growing with what it holds.

use arkstream_pipeline::{Budget, Permit};

/// Permits are taken in steps of this size, so that not every row asks.
pub(super) const STEP: u64 = 1 << 20;

/// What a worker holds of its own budget.
pub(super) struct Held<'a> {
    budget: &'a Budget,
    permits: Vec<Permit>,
    bytes: u64,
}

impl<'a> Held<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self {
            budget,
            permits: Vec::new(),
            bytes: 0,
        }
    }

    /// Holds at least `bytes`, or the whole budget when it is smaller. Nobody else takes from it
    /// while the worker decodes, so this waits for nobody but the worker's own last member.
    pub(super) async fn grow_to(&mut self, bytes: u64) {
        let wanted = bytes
            .div_ceil(STEP)
            .saturating_mul(STEP)
            .min(self.budget.bytes());
        if wanted > self.bytes {
            self.permits
                .push(self.budget.take(wanted - self.bytes).await);
            self.bytes = wanted;
        }
    }

    /// Holds `bytes`, to the step, or the whole budget when it is smaller.
    pub(super) async fn set(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.permits.clear();
            self.bytes = 0;
        }
        self.grow_to(bytes).await;
    }
}
