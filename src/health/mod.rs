//! Whether the service can be used: the phase of the process and the state of its dependencies.
//!
//! Each dependency has a task (`prober`) that keeps a connection to it. The last result is stored,
//! so no request waits for a dependency.

mod check;
mod dependency;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod monitor;
mod postgres;
mod prober;
mod redis;
mod tls;
mod transport;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::DependencySettings;
use crate::logs::LogHealth;
use monitor::DependencyMonitor;

pub use check::{Check, CheckState, Phase};
pub use dependency::DependencyMetrics;

/// The phase and the checks.
#[derive(Debug)]
pub struct Health {
    /// A [`Phase`]. Atomic, because every request of `/health` reads it.
    phase: AtomicU8,
    /// Whether a new process serves while this one drains. Then the service is as ready as before.
    is_replaced: AtomicBool,
    log: Option<Arc<LogHealth>>,
    dependencies: Arc<DependencyMonitor>,
    application: OnceLock<Arc<dyn ApplicationHealth>>,
}

/// The state of the application that the daemon runs.
pub trait ApplicationHealth: fmt::Debug + Send + Sync {
    /// Whether a worker can receive requests. Must not block.
    fn is_ready(&self) -> bool;

    /// Its state as a check.
    fn check(&self) -> Check;
}

impl Health {
    /// Creates the health of a starting process. `log` is the state of its log file, if it has one.
    #[must_use]
    pub fn new(log: Option<Arc<LogHealth>>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            is_replaced: AtomicBool::new(false),
            log,
            dependencies: DependencyMonitor::new(),
            application: OnceLock::new(),
        }
    }

    /// Adds the check of the application. Only the first one counts.
    pub fn watch_application(&self, application: Arc<dyn ApplicationHealth>) {
        let _ = self.application.set(application);
    }

    /// The state of the log file, if there is one.
    #[must_use]
    pub fn log(&self) -> Option<&LogHealth> {
        self.log.as_deref()
    }

    /// Probes exactly the dependencies in `settings` from now on. Unchanged dependencies keep their
    /// state and connection.
    ///
    /// `known` is the state of a new dependency until its first probe ([`Self::known_checks`] of
    /// the old process). Without a known state, a dependency is up until its first probe if
    /// `presume_up` is set: clients already use the service.
    ///
    /// Must be called within a tokio runtime.
    pub fn watch_dependencies(
        &self,
        settings: &DependencySettings,
        known: &[(Check, u64)],
        presume_up: bool,
    ) {
        self.dependencies.reconcile(settings, known, presume_up);
    }

    /// Stops all probes.
    pub fn stop_watching(&self) {
        self.dependencies.stop();
    }

    /// Metrics of each dependency.
    #[must_use]
    pub fn dependency_metrics(&self) -> Vec<DependencyMetrics> {
        self.dependencies.metrics()
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Starts draining because a new process serves.
    pub fn drain_replaced(&self) {
        self.is_replaced.store(true, Ordering::Release);
        self.enter(Phase::Draining);
    }

    /// Whether traffic should be sent here. A log that cannot be written does not matter.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_serving = self.phase() == Phase::Ready || self.is_replaced.load(Ordering::Acquire);
        let application = self.application.get();
        is_serving
            && self.dependencies.all_up()
            && application.is_none_or(|application| application.is_ready())
    }

    /// The state of each dependency and a digest of its settings, for [`Self::watch_dependencies`]
    /// of the next process, which may have other settings.
    #[must_use]
    pub fn known_checks(&self) -> Vec<(Check, u64)> {
        self.dependencies.known_checks()
    }

    /// The checks of all dependencies and of the log file.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let application = self.application.get();
        let mut checks: Vec<_> = application.map(|it| it.check()).into_iter().collect();
        checks.extend(self.dependencies.checks());
        checks.extend(self.log.as_deref().map(|log| {
            let last_error = log.failure();
            Check {
                name: "log".into(),
                state: if last_error.is_none() {
                    CheckState::Up
                } else {
                    CheckState::Down
                },
                since: None,
                latency: None,
                last_error,
            }
        }));
        checks
    }
}
