//! Whether the service can be used: the phase of the process and what it depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::api::{
    Check, CheckState, Health as Body, HealthState, Phase, Readiness, SERVICE, VERSION,
};
use crate::logs::LogHealth;

/// The phase and the checks.
#[derive(Debug)]
pub struct Health {
    /// A [`Phase`]. Every probe reads it, so it is no lock.
    phase: AtomicU8,
    /// Whether a successor serves while this process drains: then the service is as well as before.
    is_replaced: AtomicBool,
    log: Option<Arc<LogHealth>>,
}

impl Health {
    /// Health of a process that starts. `log` is how its log file is doing, if it has one.
    #[must_use]
    pub fn new(log: Option<Arc<LogHealth>>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            is_replaced: AtomicBool::new(false),
            log,
        }
    }

    /// How the log file is doing, if there is one.
    #[must_use]
    pub fn log(&self) -> Option<&LogHealth> {
        self.log.as_deref()
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
    pub fn hand_over(&self) {
        self.is_replaced.store(true, Ordering::Release);
        self.enter(Phase::Draining);
    }

    /// Whether requests should be sent here. A log that cannot be written does not stop the service.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready || self.is_replaced.load(Ordering::Acquire)
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
            service: SERVICE.into(),
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

    /// What the service depends on.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        self.log.as_deref().map_or_else(Vec::new, |log| {
            let last_error = log.failure();
            vec![Check {
                name: "log".into(),
                state: if last_error.is_none() {
                    CheckState::Up
                } else {
                    CheckState::Down
                },
                latency_ms: None,
                last_error,
            }]
        })
    }
}
