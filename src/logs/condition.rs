//! How the log file is doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What keeps the log from its file, and how far the writer has come.
#[derive(Debug)]
pub struct LogHealth {
    errors: Mutex<WriteErrors>,
    has_error: watch::Sender<bool>,
    /// Whoever rotates the file from outside is done.
    reopen_requested: AtomicBool,
    /// Events handed to the writer's queue, and how many of them it has dealt with.
    queued_events: AtomicU64,
    written_events: Mutex<u64>,
    written_changed: Condvar,
    bytes_written: AtomicU64,
    dropped_lines: AtomicU64,
    rotations: AtomicU64,
}

/// What became of what was logged, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes in the file.
    pub bytes_written: u64,
    /// Lines that are not.
    pub dropped_lines: u64,
    /// Rotations by this process.
    pub rotations: u64,
}

/// What went wrong the last time, and did not go well since.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteErrors {
    pub write: Option<String>,
    pub open: Option<String>,
    pub rotate: Option<String>,
    pub stalled: Option<String>,
}

impl WriteErrors {
    fn first(&self) -> Option<&String> {
        self.write
            .as_ref()
            .or(self.open.as_ref())
            .or(self.rotate.as_ref())
            .or(self.stalled.as_ref())
    }
}

impl Default for LogHealth {
    fn default() -> Self {
        Self {
            errors: Mutex::default(),
            has_error: watch::Sender::new(false),
            reopen_requested: AtomicBool::new(false),
            queued_events: AtomicU64::default(),
            written_events: Mutex::default(),
            written_changed: Condvar::new(),
            bytes_written: AtomicU64::default(),
            dropped_lines: AtomicU64::default(),
            rotations: AtomicU64::default(),
        }
    }
}

impl LogHealth {
    /// Why the log cannot be written as it should.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.errors).first().cloned()
    }

    /// Returns once there is a failure.
    pub async fn wait_for_failure(&self) {
        // Fails only without a sender, which we are.
        let _ = self.has_error.subscribe().wait_for(|has| *has).await;
    }

    pub(super) fn update_errors(&self, change: impl FnOnce(&mut WriteErrors)) {
        let mut troubles = lock(&self.errors);
        change(&mut troubles);
        let now = troubles.first().is_some();
        self.has_error
            .send_if_modified(|has| std::mem::replace(has, now) != now);
    }

    pub(super) fn request_reopen(&self) {
        self.reopen_requested.store(true, Ordering::Release);
    }

    /// Whether that was requested since it was last asked.
    pub(super) fn take_reopen_request(&self) -> bool {
        self.reopen_requested.swap(false, Ordering::AcqRel)
    }

    pub(super) fn count_queued(&self) {
        self.queued_events.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn count_written(&self, events: u64) {
        *lock(&self.written_events) += events;
        self.written_changed.notify_all();
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, lines: usize) {
        self.dropped_lines
            .fetch_add(lines as u64, Ordering::Relaxed);
    }

    pub(super) fn count_rotation(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of what was logged.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        LogStats {
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            dropped_lines: self.dropped_lines.load(Ordering::Relaxed),
            rotations: self.rotations.load(Ordering::Relaxed),
        }
    }

    /// Waits until the writer has dealt with every event logged so far, at most `timeout`; whether it has.
    pub fn flush(&self, timeout: Duration) -> bool {
        let target = self.queued_events.load(Ordering::Acquire);
        let written = lock(&self.written_events);
        let waited = self
            .written_changed
            .wait_timeout_while(written, timeout, |written| *written < target);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= target
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
