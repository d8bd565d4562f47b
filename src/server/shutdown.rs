//! How the servers are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Two steps: first everything is finished, then what is left is cut off. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    /// The same for whoever only looks: asking the token takes a lock, and every request asks.
    has_begun: Arc<AtomicBool>,
    forced: CancellationToken,
}

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listeners close, streams end, requests in flight are finished.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.begun.cancel();
    }

    /// What is still open is cut off.
    pub fn force(&self) {
        self.begin();
        self.forced.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Returns once it has begun.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// The same for whoever asks again and again: asking anew takes a lock.
    pub fn begun_owned(&self) -> WaitForCancellationFutureOwned {
        self.begun.clone().cancelled_owned()
    }

    /// Returns once it is forced.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }
}
