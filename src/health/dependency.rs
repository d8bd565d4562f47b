//! State of one dependency, as determined by its probes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::check::{Check, CheckState};
use super::error::ProbeError;

/// How many probes in a row have to fail before a dependency that was up is down. One probe may be
/// lost.
pub const FAILURES_UNTIL_DOWN: u32 = 2;

/// A dependency and its state.
#[derive(Debug)]
pub struct Dependency {
    name: &'static str,
    status: Mutex<DependencyStatus>,
}

/// Identifies the settings that a probe ran with. Results of an earlier epoch are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeEpoch(u64);

#[derive(Debug)]
struct DependencyStatus {
    state: CheckState,
    since: Timestamp,
    /// The same time on a monotonic clock.
    changed_at: Instant,
    /// Failures since the last success.
    failures: u32,
    /// Whether the state comes from probes with the active settings.
    is_probed: bool,
    epoch: ProbeEpoch,
    last_error: Option<String>,
    metrics: DependencyMetrics,
}

/// Metrics of a dependency.
#[derive(Debug, Clone, Default)]
pub struct DependencyMetrics {
    /// `postgresql` or `redis`.
    pub name: &'static str,
    /// Successful probes.
    pub ok: u64,
    /// Failed probes.
    pub error: u64,
    /// Probes that timed out.
    pub timeout: u64,
    /// Duration of the last successful probe.
    pub latency: Option<Duration>,
}

/// The effect of a probe on the state.
#[derive(Debug, PartialEq, Eq)]
pub enum StateChange {
    Up {
        /// `None` if it was not down before.
        down_for: Option<Duration>,
    },
    Down {
        reason: String,
    },
}

impl Dependency {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            status: Mutex::new(DependencyStatus {
                state: CheckState::Unknown,
                since: Timestamp::now(),
                changed_at: Instant::now(),
                failures: 0,
                is_probed: false,
                epoch: ProbeEpoch(0),
                last_error: None,
                metrics: DependencyMetrics {
                    name,
                    ..DependencyMetrics::default()
                },
            }),
        }
    }

    /// Creates a dependency with the state that another process determined.
    pub fn restored(name: &'static str, check: &Check) -> Self {
        let new = Self::new(name);
        let mut status = new.lock();
        status.state = check.state;
        status.is_probed = check.state == CheckState::Up;
        status.last_error.clone_from(&check.last_error);
        status.metrics.latency = check.latency;
        if let Some(since) = check.since {
            let elapsed = Timestamp::now().duration_since(since).unsigned_abs();
            status.since = since;
            status.changed_at = status
                .changed_at
                .checked_sub(elapsed)
                .unwrap_or(status.changed_at);
        }
        drop(status);
        new
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn state(&self) -> CheckState {
        self.lock().state
    }

    /// Starts a new epoch and ignores later results of earlier ones. The state stays as it is. With
    /// other settings (`same_settings` is false), the first probe decides: its failure is not
    /// tolerated.
    pub fn start_epoch(&self, same_settings: bool) -> ProbeEpoch {
        let mut status = self.lock();
        status.epoch = ProbeEpoch(status.epoch.0 + 1);
        status.is_probed &= same_settings;
        status.failures = 0;
        status.epoch
    }

    /// Records the result of a probe. Returns its effect, if the state changed.
    pub fn record(
        &self,
        epoch: ProbeEpoch,
        result: Result<Duration, &ProbeError>,
    ) -> Option<StateChange> {
        let mut status = self.lock();
        if status.epoch != epoch {
            return None;
        }
        let tolerates_failure = std::mem::replace(&mut status.is_probed, true);
        match result {
            Ok(latency) => {
                status.metrics.ok += 1;
                status.failures = 0;
                status.metrics.latency = Some(latency);
                status.last_error = None;
                let was_down = status.state == CheckState::Down;
                let lasted = status.transition(CheckState::Up)?;
                Some(StateChange::Up {
                    down_for: was_down.then_some(lasted),
                })
            }
            Err(error) => {
                if error.is_timeout() {
                    status.metrics.timeout += 1;
                } else {
                    status.metrics.error += 1;
                }
                status.failures += 1;
                if tolerates_failure
                    && status.state == CheckState::Up
                    && status.failures < FAILURES_UNTIL_DOWN
                {
                    return None;
                }
                let reason = error.to_string();
                status.last_error = Some(reason.clone());
                status.transition(CheckState::Down)?;
                Some(StateChange::Down { reason })
            }
        }
    }

    pub fn check(&self) -> Check {
        let status = self.lock();
        Check {
            name: self.name.into(),
            state: status.state,
            since: Some(status.since),
            latency: status.metrics.latency,
            last_error: status.last_error.clone(),
        }
    }

    pub fn metrics(&self) -> DependencyMetrics {
        self.lock().metrics.clone()
    }

    fn lock(&self) -> MutexGuard<'_, DependencyStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DependencyStatus {
    /// Enters a state. Returns how long the previous one lasted, if it was a different one.
    fn transition(&mut self, state: CheckState) -> Option<Duration> {
        if self.state == state {
            return None;
        }
        let lasted = self.changed_at.elapsed();
        self.state = state;
        self.since = Timestamp::now();
        self.changed_at = Instant::now();
        Some(lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: ProbeError = ProbeError::Timeout(Duration::from_secs(1));
    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn one_failure_is_tolerated_after_first_probe() {
        let dependency = Dependency::new("it");
        let epoch = dependency.start_epoch(true);
        assert_eq!(dependency.state(), CheckState::Unknown);
        let down = |change| matches!(change, Some(StateChange::Down { .. }));
        assert!(down(dependency.record(epoch, Err(&LATE))));
        assert_eq!(dependency.record(epoch, Err(&LATE)), None);
        assert!(matches!(
            dependency.record(epoch, Ok(QUICK)),
            Some(StateChange::Up { down_for: Some(_) })
        ));
        for _ in 0..3 {
            assert_eq!(dependency.record(epoch, Err(&LATE)), None);
            assert_eq!(dependency.record(epoch, Ok(QUICK)), None);
        }
        assert_eq!(dependency.record(epoch, Err(&LATE)), None);
        assert_eq!(dependency.check().last_error, None);
        assert!(down(dependency.record(epoch, Err(&LATE))));
        assert!(dependency.check().last_error.is_some());
        let metrics = dependency.metrics();
        assert_eq!((metrics.ok, metrics.error, metrics.timeout), (4, 0, 7));
    }

    #[test]
    fn new_settings_keep_state_until_first_probe() {
        let dependency = Dependency::new("it");
        let old = dependency.start_epoch(true);
        dependency.record(old, Ok(QUICK));
        let new = dependency.start_epoch(false);
        assert_eq!(dependency.record(old, Err(&LATE)), None);
        assert_eq!(dependency.record(old, Err(&LATE)), None);
        assert_eq!(dependency.state(), CheckState::Up);
        assert!(matches!(
            dependency.record(new, Err(&LATE)),
            Some(StateChange::Down { .. })
        ));
    }

    #[test]
    fn restored_dependency_continues_in_next_process() {
        let before = Dependency::new("it");
        let epoch = before.start_epoch(true);
        before.record(epoch, Ok(QUICK));
        let after = Dependency::restored("it", &before.check());
        assert_eq!(after.check(), before.check());
        let epoch = after.start_epoch(true);
        assert_eq!(after.record(epoch, Err(&LATE)), None);
        assert!(matches!(
            after.record(epoch, Err(&LATE)),
            Some(StateChange::Down { .. })
        ));

        let again = Dependency::restored("it", &after.check());
        assert_eq!(again.check(), after.check());
        let epoch = again.start_epoch(true);
        assert_eq!(again.record(epoch, Err(&LATE)), None);
        assert!(matches!(
            again.record(epoch, Ok(QUICK)),
            Some(StateChange::Up { down_for: Some(_) })
        ));
    }
}
