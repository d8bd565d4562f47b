//! Repeats a request that a daemon refuses, because it is being replaced or stops.

use std::time::{Duration, Instant};

/// How long to repeat it.
pub const MAX_WAIT: Duration = Duration::from_secs(2);
/// How often.
const INTERVAL: Duration = Duration::from_millis(500);

/// The time since the first try.
pub struct Retries(Instant);

impl Retries {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Waits for the next try, which is to the process that is then the daemon. Returns false if
    /// `max_wait` is over.
    pub async fn wait(&self, max_wait: Duration) -> bool {
        let may_retry = self.0.elapsed() < max_wait;
        if may_retry {
            tokio::time::sleep(INTERVAL).await;
        }
        may_retry
    }
}
