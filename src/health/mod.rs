//! Whether the service can be used: the phase of the process and what it depends on.
//!
//! Each dependency has a task of its own (`prober`), which keeps a connection to it. What it found is at hand whenever somebody
//! asks: no answer waits for a dependency.

mod dependency;
mod failure;
mod postgres;
mod prober;
pub(crate) mod redis;
mod tls;
mod transport;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::api::{
    Check, CheckState, Health as Body, HealthState, Phase, Readiness, SERVICE_NAME, VERSION,
};
use crate::config::DependencySettings;
use crate::logs::LogHealth;
pub use dependency::DependencyMetrics;
use watched::DependencyMonitor;

/// The phase and the checks.
#[derive(Debug)]
pub struct Health {
    /// A [`Phase`]. Every probe reads it, so it is no lock.
    phase: AtomicU8,
    /// Whether a successor serves while this process drains: then the service is as ready as before.
    is_replaced: AtomicBool,
    log: Option<Arc<LogHealth>>,
    dependencies: Arc<DependencyMonitor>,
}

impl Health {
    /// Health of a process that starts. `log` is how its log file is doing, if it has one.
    #[must_use]
    pub fn new(log: Option<Arc<LogHealth>>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            is_replaced: AtomicBool::new(false),
            log,
            dependencies: DependencyMonitor::new(),
        }
    }

    /// How the log file is doing, if there is one.
    #[must_use]
    pub fn log(&self) -> Option<&LogHealth> {
        self.log.as_deref()
    }

    /// Watches what the settings name, from now on and nothing else. Who is watched already with the same settings is left
    /// alone. What is `known` of a new one holds until it is known better; of whom nothing is known counts as
    /// `are_presumed_up` says until its first answer: as up where the service is up already for those who use it. Must be
    /// called within a tokio runtime.
    pub fn watch_dependencies(
        &self,
        settings: &DependencySettings,
        known: &[(Check, u64)],
        are_presumed_up: bool,
    ) {
        self.dependencies
            .reconcile(settings, known, are_presumed_up);
    }

    /// Asks no dependency any more.
    pub fn stop_watching(&self) {
        self.dependencies.stop();
    }

    /// What the probes of each dependency came to.
    #[must_use]
    pub fn dependency_metrics(&self) -> Vec<DependencyMetrics> {
        self.dependencies.metrics()
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => Phase::Starting,
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Enters the next phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Drains, while a successor serves.
    pub fn drain_replaced(&self) {
        self.is_replaced.store(true, Ordering::Release);
        self.enter(Phase::Draining);
    }

    /// Whether requests should be sent here. A log that cannot be written does not stop the service.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_served = self.phase() == Phase::Ready || self.is_replaced.load(Ordering::Acquire);
        is_served && self.dependencies.all_up()
    }

    /// The answer of `/health`.
    #[must_use]
    pub fn summary(ready: bool) -> Body {
        Body {
            status: if ready {
                HealthState::Healthy
            } else {
                HealthState::Unhealthy
            },
            version: VERSION.into(),
            service: SERVICE_NAME.into(),
        }
    }

    /// The answer of `/health/ready`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness {
            ready: self.is_ready(),
            phase: self.phase(),
            checks: self.checks(),
        }
    }

    /// What is known of each dependency, for [`Self::watch_dependencies`] of another process: with a digest of the settings, since the
    /// other one may have others.
    #[must_use]
    pub fn known_checks(&self) -> Vec<(Check, u64)> {
        self.dependencies.known_checks()
    }

    /// What the service depends on, and its log.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = self.dependencies.checks();
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
                latency_ms: None,
                last_error,
            }
        }));
        checks
    }
}
