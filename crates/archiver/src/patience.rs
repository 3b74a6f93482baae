//! How long and how often to try again.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, until a limit.
pub(crate) struct Patience {
    limit: Duration,
    since: Option<Instant>,
    next: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            next: FIRST,
        }
    }

    /// How long to wait before the next attempt; `None` when it is not worth another.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited >= self.limit {
            return None;
        }
        let pause = self.next.min(self.limit - waited);
        self.next = (2 * self.next).min(LONGEST);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        assert_eq!(Patience::new(Duration::ZERO).pause(), None);
        let mut patience = Patience::new(Duration::from_secs(100));
        let pauses: Vec<u64> = (0..7)
            .filter_map(|_| patience.pause())
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }
}
