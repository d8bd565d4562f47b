//! How the servers are told to stop.

use tokio_util::sync::CancellationToken;

/// Two steps: first everything is finished, then what is left is cut off. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    begun: CancellationToken,
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
        self.begun.cancel();
    }

    /// What is still open is cut off.
    pub fn force(&self) {
        self.begun.cancel();
        self.forced.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Returns once it has begun.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Returns once it is forced.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }
}
