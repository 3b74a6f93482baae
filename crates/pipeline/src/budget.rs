//! The memory budget: bytes in flight, the only back-pressure knob.
//!
//! Whoever holds data takes a [`Permit`] for it first and waits while the budget is used up. A
//! permit larger than the whole budget is cut to the budget, so that a single value larger than
//! it stalls nothing: it then runs alone.
//!
//! **No deadlock by construction:** a worker that holds permits must never wait for a permit of a
//! budget that other waiting workers share. So each worker gets a budget of its own through
//! [`Budget::split`], and waits only for bytes that it will give back itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are counted in units of this many bytes.
const UNIT: u64 = 1024;

/// A number of bytes that may be in flight.
#[derive(Clone, Debug)]
pub struct Budget {
    semaphore: Arc<Semaphore>,
    units: u32,
    gauge: Arc<Gauge>,
}

/// Bytes in flight over a budget and all budgets split from it.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self::with_gauge(bytes, Arc::default())
    }

    fn with_gauge(bytes: u64, gauge: Arc<Gauge>) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self {
            semaphore: Arc::new(Semaphore::new(units as usize)),
            units,
            gauge,
        }
    }

    /// `workers` budgets of equal size that together make up this one. The whole must not be used
    /// beside them.
    #[must_use]
    pub fn split(&self, workers: usize) -> Vec<Self> {
        let share = self.bytes() / workers.max(1) as u64;
        (0..workers)
            .map(|_| Self::with_gauge(share, Arc::clone(&self.gauge)))
            .collect()
    }

    /// The size of the budget in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// The largest number of bytes that were in flight at once, over all splits.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.gauge.peak.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` may be in flight. They are given back when the permit is dropped.
    pub async fn take(&self, bytes: u64) -> Permit {
        let units = u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .min(self.units);
        let permit = Arc::clone(&self.semaphore).acquire_many_owned(units).await;
        let held = u64::from(units) * UNIT;
        let now = self.gauge.now.fetch_add(held, Ordering::Relaxed) + held;
        self.gauge.peak.fetch_max(now, Ordering::Relaxed);
        Permit {
            // The semaphore is never closed; a permit without a count would still be safe.
            _permit: permit.ok(),
            gauge: Arc::clone(&self.gauge),
            bytes: held,
        }
    }
}

/// Bytes taken from a [`Budget`].
#[derive(Debug)]
pub struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
    gauge: Arc<Gauge>,
    bytes: u64,
}

impl Permit {
    /// How many bytes it stands for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gauge.now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_larger_than_the_budget_runs_alone() {
        let budget = Budget::new(1 << 20);
        let big = budget.take(1 << 30).await;
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { drop(budget.take(1024).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(big);
        waiting.await.unwrap();
        assert_eq!(budget.peak(), 1 << 20);
    }

    #[tokio::test]
    async fn splits_do_not_wait_for_one_another() {
        let shares = Budget::new(4 << 20).split(2);
        let _first = shares[0].take(2 << 20).await;
        let _second = shares[1].take(2 << 20).await;
        assert_eq!(shares[0].peak(), 4 << 20);
    }
}
