//! How the servers are told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Three steps: nothing new is begun, idle connections are closed, and what is left is cut off. Without a successor the
/// first two are one. Clones share all.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    started: CancellationToken,
    /// The same for whoever only looks: asking the token takes a lock, and every request asks.
    has_started: Arc<AtomicBool>,
    has_successor: Arc<AtomicBool>,
    /// Whoever accepts connections.
    listeners: TaskTracker,
    idle_closing: CancellationToken,
    forced: CancellationToken,
    deadline: Arc<OnceLock<Deadline>>,
}

/// When a stop cuts off what is still in flight.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// For people.
    pub at: Timestamp,
    instant: Instant,
}

impl Deadline {
    /// How much time there is until then.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }
}

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the deadline, if none is set: the first order to stop counts.
    #[must_use]
    pub fn set_deadline(&self, left: Duration) -> Deadline {
        *self.deadline.get_or_init(|| Deadline {
            at: Timestamp::now() + SignedDuration::try_from(left).unwrap_or_default(),
            instant: Instant::now() + left,
        })
    }

    /// Listeners close, streams end, idle connections are closed, requests in flight are finished.
    pub fn start(&self) {
        self.has_started.store(true, Ordering::Release);
        self.started.cancel();
        self.idle_closing.cancel();
    }

    /// The same, but an idle connection stays until its client has had an answer with `Connection: close`: another process
    /// serves whoever comes.
    pub fn start_handoff(&self) {
        self.has_successor.store(true, Ordering::Release);
        self.has_started.store(true, Ordering::Release);
        self.started.cancel();
    }

    /// Whether another process serves whoever comes.
    #[must_use]
    pub fn has_successor(&self) -> bool {
        self.has_successor.load(Ordering::Acquire)
    }

    /// What is still open is cut off.
    pub fn force(&self) {
        self.start();
        self.forced.cancel();
    }

    /// Accepts connections until it is dropped.
    pub(super) fn listener_token(&self) -> TaskTrackerToken {
        self.listeners.token()
    }

    /// Returns once nobody accepts connections any more. To be asked once the shutdown has begun.
    pub async fn listeners_closed(&self) {
        self.listeners.close();
        self.listeners.wait().await;
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Acquire)
    }

    /// Returns once it has begun.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// The same for whoever asks again and again: asking anew takes a lock.
    pub fn started_owned(&self) -> WaitForCancellationFutureOwned {
        self.started.clone().cancelled_owned()
    }

    /// Whether idle connections are closed.
    #[must_use]
    pub fn is_closing_idle(&self) -> bool {
        self.idle_closing.is_cancelled()
    }

    /// Returns once idle connections are to be closed.
    pub async fn idle_closing(&self) {
        self.idle_closing.cancelled().await;
    }

    /// Whether it is forced.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.forced.is_cancelled()
    }

    /// Returns once it is forced.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }
}
