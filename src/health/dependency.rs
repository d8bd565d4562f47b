//! What is known of one dependency.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::failure::ProbeError;
use crate::api::{Check, CheckState};

/// How often one that was up has to fail before it is down: one probe may be lost.
pub const FAILURES_UNTIL_DOWN: u32 = 2;

/// What its probes have told.
#[derive(Debug)]
pub struct Dependency {
    name: &'static str,
    status: Mutex<DependencyStatus>,
}

/// Whose word counts: that of the settings in force, not that of those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeEpoch(u64);

#[derive(Debug)]
struct DependencyStatus {
    state: CheckState,
    since: Timestamp,
    /// The same on a clock that does not jump.
    changed_at: Instant,
    /// Failures since the last answer.
    failures: u32,
    /// Whether what is known comes from probes with the settings in force.
    is_probed: bool,
    epoch: ProbeEpoch,
    last_error: Option<String>,
    latency: Option<Duration>,
    ok: u64,
    error: u64,
    timeout: u64,
}

/// The figures of a dependency.
#[derive(Debug, Clone)]
pub struct DependencyMetrics {
    /// `postgresql` or `redis`.
    pub name: &'static str,
    /// Probes that were answered.
    pub ok: u64,
    /// Probes that failed.
    pub error: u64,
    /// Probes that took too long.
    pub timeout: u64,
    /// How long the last one that was answered took.
    pub latency: Option<Duration>,
}

/// What a probe has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum StateChange {
    None,
    Up {
        /// How long it was down, if it was.
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
                latency: None,
                ok: 0,
                error: 0,
                timeout: 0,
            }),
        }
    }

    /// One of which another process knew this.
    pub fn restored(name: &'static str, check: &Check) -> Self {
        let new = Self::new(name);
        let mut known = new.lock();
        known.state = check.state;
        known.is_probed = check.state == CheckState::Up;
        known.last_error.clone_from(&check.last_error);
        known.latency = check
            .latency_ms
            .and_then(|latency| Duration::try_from_secs_f64(latency / 1e3).ok());
        let since = check.since.as_deref().and_then(|since| since.parse().ok());
        if let Some(since) = since {
            let lasts = Timestamp::now().duration_since(since).unsigned_abs();
            known.since = since;
            known.changed_at = known
                .changed_at
                .checked_sub(lasts)
                .unwrap_or(known.changed_at);
        }
        drop(known);
        new
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn state(&self) -> CheckState {
        self.lock().state
    }

    /// From now on only the word of the new turn counts. What was known stays until then; unless it is of the same settings,
    /// the first word counts at once.
    pub fn start_epoch(&self, is_same: bool) -> ProbeEpoch {
        let mut known = self.lock();
        known.epoch = ProbeEpoch(known.epoch.0 + 1);
        known.is_probed &= is_same;
        known.failures = 0;
        known.epoch
    }

    /// Notes what became of a probe, and tells what that changes.
    pub fn record(&self, turn: ProbeEpoch, outcome: Result<Duration, &ProbeError>) -> StateChange {
        let mut known = self.lock();
        if known.epoch != turn {
            return StateChange::None;
        }
        let tolerates = std::mem::replace(&mut known.is_probed, true);
        match outcome {
            Ok(latency) => {
                known.ok += 1;
                known.failures = 0;
                known.latency = Some(latency);
                known.last_error = None;
                let was_down = known.state == CheckState::Down;
                match known.transition(CheckState::Up) {
                    Some(lasted) => StateChange::Up {
                        down_for: was_down.then_some(lasted),
                    },
                    None => StateChange::None,
                }
            }
            Err(failure) => {
                if matches!(failure, ProbeError::Timeout(_)) {
                    known.timeout += 1;
                } else {
                    known.error += 1;
                }
                known.failures += 1;
                if tolerates
                    && known.state == CheckState::Up
                    && known.failures < FAILURES_UNTIL_DOWN
                {
                    return StateChange::None;
                }
                let reason = failure.to_string();
                known.last_error = Some(reason.clone());
                match known.transition(CheckState::Down) {
                    Some(_) => StateChange::Down { reason },
                    None => StateChange::None,
                }
            }
        }
    }

    pub fn check(&self) -> Check {
        let known = self.lock();
        Check {
            name: self.name.into(),
            state: known.state,
            since: Some(known.since.to_string()),
            latency_ms: known
                .latency
                .map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3),
            last_error: known.last_error.clone(),
        }
    }

    pub fn metrics(&self) -> DependencyMetrics {
        let known = self.lock();
        DependencyMetrics {
            name: self.name,
            ok: known.ok,
            error: known.error,
            timeout: known.timeout,
            latency: known.latency,
        }
    }

    fn lock(&self) -> MutexGuard<'_, DependencyStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DependencyStatus {
    /// How long the state before lasted, if it was another.
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
        let turn = dependency.start_epoch(true);
        assert_eq!(dependency.state(), CheckState::Unknown);
        let down = |change| matches!(change, StateChange::Down { .. });
        assert!(down(dependency.record(turn, Err(&LATE))));
        assert_eq!(dependency.record(turn, Err(&LATE)), StateChange::None);
        assert!(matches!(
            dependency.record(turn, Ok(QUICK)),
            StateChange::Up { down_for: Some(_) }
        ));
        for _ in 0..3 {
            assert_eq!(dependency.record(turn, Err(&LATE)), StateChange::None);
            assert_eq!(dependency.record(turn, Ok(QUICK)), StateChange::None);
        }
        assert_eq!(dependency.record(turn, Err(&LATE)), StateChange::None);
        assert_eq!(dependency.check().last_error, None);
        assert!(down(dependency.record(turn, Err(&LATE))));
        assert!(dependency.check().last_error.is_some());
        let figures = dependency.metrics();
        assert_eq!((figures.ok, figures.error, figures.timeout), (4, 0, 7));
    }

    #[test]
    fn new_settings_keep_state_until_first_probe() {
        let dependency = Dependency::new("it");
        let old = dependency.start_epoch(true);
        dependency.record(old, Ok(QUICK));
        let new = dependency.start_epoch(false);
        assert_eq!(dependency.record(old, Err(&LATE)), StateChange::None);
        assert_eq!(dependency.record(old, Err(&LATE)), StateChange::None);
        assert_eq!(dependency.state(), CheckState::Up);
        assert!(matches!(
            dependency.record(new, Err(&LATE)),
            StateChange::Down { .. }
        ));
    }

    #[test]
    fn restored_dependency_continues_in_next_process() {
        let before = Dependency::new("it");
        let turn = before.start_epoch(true);
        before.record(turn, Ok(QUICK));
        let after = Dependency::restored("it", &before.check());
        let told = |dependency: &Dependency| format!("{:?}", dependency.check());
        assert_eq!(told(&after), told(&before));
        let turn = after.start_epoch(true);
        assert_eq!(after.record(turn, Err(&LATE)), StateChange::None);
        assert!(matches!(
            after.record(turn, Err(&LATE)),
            StateChange::Down { .. }
        ));

        let again = Dependency::restored("it", &after.check());
        assert_eq!(told(&again), told(&after));
        let turn = again.start_epoch(true);
        assert_eq!(again.record(turn, Err(&LATE)), StateChange::None);
        assert!(matches!(
            again.record(turn, Ok(QUICK)),
            StateChange::Up { down_for: Some(_) }
        ));
    }
}
