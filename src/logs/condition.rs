//! How the log file is doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What keeps the log from its file, and how far the writer has come.
#[derive(Debug)]
pub struct LogHealth {
    troubles: Mutex<Troubles>,
    has_trouble: watch::Sender<bool>,
    /// Whoever rotates the file from outside is done.
    reopen: AtomicBool,
    /// Events handed to the writer's queue, and how many of them it has dealt with.
    queued: AtomicU64,
    written: Mutex<u64>,
    progress: Condvar,
    bytes: AtomicU64,
    lost: AtomicU64,
    rotations: AtomicU64,
}

/// What became of what was logged, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFigures {
    /// Bytes in the file.
    pub bytes: u64,
    /// Lines that are not.
    pub lost: u64,
    /// Rotations by this process.
    pub rotations: u64,
}

/// What went wrong the last time, and did not go well since.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles {
    pub write: Option<String>,
    pub open: Option<String>,
    pub rotate: Option<String>,
    pub stalled: Option<String>,
}

impl Troubles {
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
            troubles: Mutex::default(),
            has_trouble: watch::Sender::new(false),
            reopen: AtomicBool::new(false),
            queued: AtomicU64::default(),
            written: Mutex::default(),
            progress: Condvar::new(),
            bytes: AtomicU64::default(),
            lost: AtomicU64::default(),
            rotations: AtomicU64::default(),
        }
    }
}

impl LogHealth {
    /// Why the log cannot be written as it should.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.troubles).first().cloned()
    }

    /// Returns once there is a failure.
    pub async fn failed(&self) {
        // Fails only without a sender, which we are.
        let _ = self.has_trouble.subscribe().wait_for(|has| *has).await;
    }

    pub(super) fn report(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = lock(&self.troubles);
        change(&mut troubles);
        let now = troubles.first().is_some();
        self.has_trouble
            .send_if_modified(|has| std::mem::replace(has, now) != now);
    }

    pub(super) fn request_reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Whether that was requested since it was last asked.
    pub(super) fn takes_reopen(&self) -> bool {
        self.reopen.swap(false, Ordering::AcqRel)
    }

    pub(super) fn count_queued(&self) {
        self.queued.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn count_written(&self, events: u64) {
        *lock(&self.written) += events;
        self.progress.notify_all();
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self, lines: usize) {
        self.lost.fetch_add(lines as u64, Ordering::Relaxed);
    }

    pub(super) fn count_rotation(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of what was logged.
    #[must_use]
    pub fn figures(&self) -> LogFigures {
        LogFigures {
            bytes: self.bytes.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            rotations: self.rotations.load(Ordering::Relaxed),
        }
    }

    /// Waits until the writer has dealt with every event logged so far, at most `timeout`; whether it has.
    pub fn settle(&self, timeout: Duration) -> bool {
        let target = self.queued.load(Ordering::Acquire);
        let written = lock(&self.written);
        let waited = self
            .progress
            .wait_timeout_while(written, timeout, |written| *written < target);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= target
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
