//! The state of the log file: errors, progress of the writer, and statistics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Current errors of the log file, and the progress of its writer.
#[derive(Debug)]
pub struct LogHealth {
    errors: Mutex<WriteErrors>,
    has_error: watch::Sender<bool>,
    /// An external rotation is complete.
    reopen_requested: AtomicBool,
    /// Events passed to the writer's queue.
    queued_events: AtomicU64,
    /// Events the writer is done with.
    written_events: Mutex<u64>,
    written_changed: Condvar,
    bytes_written: AtomicU64,
    dropped_lines: AtomicU64,
    rotations: AtomicU64,
}

/// Statistics of the log file since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes written to the file.
    pub bytes_written: u64,
    /// Lines missing from the file.
    pub dropped_lines: u64,
    /// Rotations by this process.
    pub rotations: u64,
}

/// The last error of each operation; `None` after it succeeded.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteErrors {
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
    /// The current error, if the log cannot be written as configured.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.errors).first().cloned()
    }

    /// Returns once there is an error.
    pub async fn wait_for_failure(&self) {
        // Fails only without a sender, and `self` holds it.
        let _ = self.has_error.subscribe().wait_for(|has| *has).await;
    }

    pub(crate) fn update_errors(&self, change: impl FnOnce(&mut WriteErrors)) {
        let mut errors = lock(&self.errors);
        change(&mut errors);
        let now = errors.first().is_some();
        self.has_error
            .send_if_modified(|has| std::mem::replace(has, now) != now);
    }

    pub(crate) fn request_reopen(&self) {
        self.reopen_requested.store(true, Ordering::Release);
    }

    /// Whether a reopen was requested since the last call.
    pub(crate) fn take_reopen_request(&self) -> bool {
        self.reopen_requested.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn count_queued(&self) {
        self.queued_events.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn count_written(&self, events: u64) {
        *lock(&self.written_events) += events;
        self.written_changed.notify_all();
    }

    pub(crate) fn count_bytes(&self, bytes: usize) {
        self.bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, lines: usize) {
        self.dropped_lines
            .fetch_add(lines as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_rotation(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// Statistics since the start of the process.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        LogStats {
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            dropped_lines: self.dropped_lines.load(Ordering::Relaxed),
            rotations: self.rotations.load(Ordering::Relaxed),
        }
    }

    /// Waits at most `timeout` until the writer is done with every event logged so far. Returns
    /// whether it is.
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
