//! How the servers stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A shutdown of both servers. Clones share its state.
///
/// | step | effect |
/// |---|---|
/// | started | listeners close, streams end, responses say `Connection: close` |
/// | closing idle connections | connections without a request are closed |
/// | forced | all remaining connections are closed |
///
/// The first two steps happen together, except in a handoff to a new process.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    started: CancellationToken,
    /// Copies `started`: every request checks it, and the token takes a lock.
    has_started: Arc<AtomicBool>,
    has_successor: Arc<AtomicBool>,
    /// Tracks the accept loops.
    listeners: TaskTracker,
    idle_closing: CancellationToken,
    forced: CancellationToken,
    deadline: Arc<OnceLock<Deadline>>,
}

/// When a stop closes the remaining connections.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// Wall-clock time, to show to users.
    pub at: Timestamp,
    instant: Instant,
}

impl Deadline {
    /// The time until the deadline.
    pub fn remaining(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }
}

impl Shutdown {
    /// A shutdown that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the deadline, unless the first request to stop has set it already.
    pub(crate) fn set_deadline(&self, remaining: Duration) -> Deadline {
        *self.deadline.get_or_init(|| Deadline {
            at: Timestamp::now() + SignedDuration::try_from(remaining).unwrap_or_default(),
            instant: Instant::now() + remaining,
        })
    }

    /// Closes listeners, streams and idle connections. Requests in flight are finished.
    pub fn start(&self) {
        self.has_started.store(true, Ordering::Release);
        self.started.cancel();
        self.idle_closing.cancel();
    }

    /// As [`Self::start`], but keeps idle connections until their next response, which says
    /// `Connection: close`. A new process serves new connections.
    pub(crate) fn start_handoff(&self) {
        self.has_successor.store(true, Ordering::Release);
        self.has_started.store(true, Ordering::Release);
        self.started.cancel();
    }

    /// Whether a new process serves new connections.
    pub(crate) fn has_successor(&self) -> bool {
        self.has_successor.load(Ordering::Acquire)
    }

    /// Closes all remaining connections.
    pub fn force(&self) {
        self.start();
        self.forced.cancel();
    }

    /// Held by an accept loop while it runs.
    pub(crate) fn listener_token(&self) -> TaskTrackerToken {
        self.listeners.token()
    }

    /// Returns once all listeners are closed. Valid once the shutdown has started.
    pub async fn listeners_closed(&self) {
        self.listeners.close();
        self.listeners.wait().await;
    }

    /// Whether the shutdown has started.
    pub(crate) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Acquire)
    }

    /// Returns once the shutdown has started.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// As [`Self::started`], for a caller that polls often: each new future takes a lock.
    pub(crate) fn started_owned(&self) -> WaitForCancellationFutureOwned {
        self.started.clone().cancelled_owned()
    }

    /// Whether idle connections are being closed.
    pub(crate) fn is_closing_idle(&self) -> bool {
        self.idle_closing.is_cancelled()
    }

    /// Returns once idle connections have to close.
    pub(crate) async fn idle_closing(&self) {
        self.idle_closing.cancelled().await;
    }

    /// Whether all remaining connections are being closed.
    pub(crate) fn is_forced(&self) -> bool {
        self.forced.is_cancelled()
    }

    /// Returns once all remaining connections have to close.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }
}
