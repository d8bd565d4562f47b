//! When a worker that died is started again.

use std::time::Duration;

/// The delay after the first failure. It doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// This many failures in a row are a crash loop.
const CRASH_LOOP: u32 = 5;
/// A worker that was ready for so long ends a row of failures.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The failures in a row in one slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestartPolicy {
    failures: u32,
}

impl RestartPolicy {
    /// Counts a failure. Returns how long to wait before the next start.
    pub fn failed(&mut self) -> Duration {
        let delay =
            FIRST_DELAY.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        delay.min(MAX_DELAY)
    }

    /// A worker was ready for [`STABLE_AFTER`].
    pub fn stable(&mut self) {
        self.failures = 0;
    }

    pub fn is_crash_loop(self) -> bool {
        self.failures >= CRASH_LOOP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_until_a_worker_is_stable() {
        let mut policy = RestartPolicy::default();
        let delays: Vec<_> = (0..10).map(|_| policy.failed().as_millis()).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000];
        assert_eq!(delays, expected);
        for _ in 0..100 {
            assert_eq!(policy.failed(), MAX_DELAY);
        }
        policy.stable();
        assert_eq!(policy.failed(), FIRST_DELAY);
    }

    #[test]
    fn five_failures_in_a_row_are_a_crash_loop() {
        let mut policy = RestartPolicy::default();
        for number in 1..=6 {
            policy.failed();
            assert_eq!(policy.is_crash_loop(), number >= 5, "{number}");
        }
        policy.stable();
        assert!(!policy.is_crash_loop());
    }
}
