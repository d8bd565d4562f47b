//! The workers of one daemon process.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::directory::WorkersDirectory;
use super::report::WorkerReport;
use super::slot::{Shared, Slot, Stop};
use crate::config::AppSettings;
use crate::proxy::Balancer;

/// The workers of this process. When it is dropped, or the process dies, the guards end them.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    state: Mutex<State>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Arc<Slot>>,
    /// All workers were ready once.
    has_been_ready: bool,
    is_stopping: bool,
}

/// The application did not become ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkersFailed {
    reason: String,
    /// The last lines that the worker printed, oldest first.
    last_lines: Vec<String>,
}

impl fmt::Display for WorkersFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.last_lines.is_empty() {
            write!(f, "; its last lines:")?;
        }
        for line in &self.last_lines {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WorkersFailed {}

impl Workers {
    /// Starts the workers, and returns at once. Must be called within a tokio runtime. The workers
    /// are added to the balancer when they are ready.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn start(
        settings: AppSettings,
        directory: WorkersDirectory,
        balancer: Arc<Balancer>,
    ) -> io::Result<Arc<Self>> {
        // With a handler for SIGCHLD, guards start with its default action. If it were ignored, they
        // would not learn how their workers exit.
        drop(signal(SignalKind::child())?);
        let workers = Arc::new(Self {
            shared: Arc::new(Shared {
                settings: Mutex::new(settings),
                directory,
                balancer,
                changed: watch::Sender::new(()),
            }),
            state: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        workers.adjust_count(&mut workers.lock());
        Ok(workers)
    }

    /// Returns once all workers are ready. Cancel safe.
    ///
    /// # Errors
    ///
    /// A worker exited, could not be started, or was not ready in time.
    pub async fn ready(&self) -> Result<(), WorkersFailed> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(outcome) = self.readiness() {
                return outcome;
            }
            // This object holds the sender.
            let _ = changed.changed().await;
        }
    }

    fn readiness(&self) -> Option<Result<(), WorkersFailed>> {
        let mut state = self.lock();
        if state.has_been_ready || state.slots.iter().all(|slot| slot.is_ready()) {
            state.has_been_ready = true;
            return Some(Ok(()));
        }
        let failed = state.slots.iter().find_map(|slot| {
            let failure = slot.failure()?;
            Some(WorkersFailed {
                reason: format!("worker {} {failure}", slot.number),
                last_lines: slot.last_lines.get(),
            })
        });
        failed.map(Err)
    }

    /// Applies the number of workers at once, and timeouts from the next start or stop on. A worker
    /// that is one too many is stopped once it has no request but streams.
    pub fn apply(&self, settings: AppSettings) {
        *self.shared.settings() = settings;
        let mut state = self.lock();
        if !state.is_stopping {
            self.adjust_count(&mut state);
        }
    }

    fn adjust_count(&self, state: &mut State) {
        let count = self.shared.settings().workers.get();
        for slot in state
            .slots
            .split_off(usize::from(count).min(state.slots.len()))
        {
            slot.stop(Stop::Drain);
        }
        for number in state.slots.len() + 1..=usize::from(count) {
            let number = u16::try_from(number).unwrap_or(count);
            let slot = Slot::new(number, Arc::clone(&self.shared));
            self.tasks.spawn(Arc::clone(&slot).run());
            state.slots.push(slot);
        }
    }

    /// Ends all workers: SIGTERM, then SIGKILL after `APP_STOP_TIMEOUT`. Returns when all are gone.
    pub async fn terminate(&self) {
        self.stop(Stop::Terminate);
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.directory.remove();
    }

    /// Kills all workers.
    pub fn kill(&self) {
        self.stop(Stop::Kill);
    }

    fn stop(&self, stop: Stop) {
        let mut state = self.lock();
        state.is_stopping = true;
        for slot in &state.slots {
            slot.stop(stop);
        }
    }

    /// The slots and their workers.
    #[must_use]
    pub fn report(&self) -> Vec<WorkerReport> {
        let slots = self.lock().slots.clone();
        slots.iter().map(|slot| slot.report()).collect()
    }

    /// Whether the workers of a slot die again and again.
    #[must_use]
    pub fn is_crash_loop(&self) -> bool {
        self.lock().slots.iter().any(|slot| slot.is_crash_loop())
    }

    /// Why no worker is ready, in one line.
    #[must_use]
    pub fn failure(&self) -> String {
        let state = self.lock();
        if state.is_stopping {
            return "the workers are stopped".into();
        }
        let failed = state.slots.iter().find_map(|slot| {
            let failure = slot.failure()?;
            let is_loop = slot.is_crash_loop();
            let suffix = if is_loop { " (crash loop)" } else { "" };
            Some(format!("worker {} {failure}{suffix}", slot.number))
        });
        failed.unwrap_or_else(|| "no worker is ready yet".into())
    }

    /// The last lines that the worker printed that failed last, or else the first one.
    #[must_use]
    pub fn last_output(&self) -> Vec<String> {
        let state = self.lock();
        let failed = state.slots.iter().find(|slot| slot.failure().is_some());
        let slot = failed.or_else(|| state.slots.first());
        slot.map(|slot| slot.last_lines.get()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
