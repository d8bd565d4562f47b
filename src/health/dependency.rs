//! What is known of one dependency.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::failure::Failure;
use crate::api::{Check, CheckState};

/// How often one that was up has to fail before it is down: one probe may be lost.
pub const FAILURES: u32 = 2;

/// What its probes have told.
#[derive(Debug)]
pub struct Dependency {
    name: &'static str,
    known: Mutex<Known>,
}

/// Whose word counts: that of the settings in force, not that of those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u64);

#[derive(Debug)]
struct Known {
    state: CheckState,
    since: Timestamp,
    /// The same on a clock that does not jump.
    changed: Instant,
    /// Failures since the last answer.
    failures: u32,
    /// Whether what is known comes from probes with the settings in force.
    is_asked: bool,
    turn: Turn,
    last_error: Option<String>,
    latency: Option<Duration>,
    ok: u64,
    error: u64,
    timeout: u64,
}

/// The figures of a dependency.
#[derive(Debug, Clone)]
pub struct DependencyFigures {
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
pub enum Change {
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
            known: Mutex::new(Known {
                state: CheckState::Unknown,
                since: Timestamp::now(),
                changed: Instant::now(),
                failures: 0,
                is_asked: false,
                turn: Turn(0),
                last_error: None,
                latency: None,
                ok: 0,
                error: 0,
                timeout: 0,
            }),
        }
    }

    /// One of which another process knew this.
    pub fn known(name: &'static str, check: &Check) -> Self {
        let new = Self::new(name);
        let mut known = new.lock();
        known.state = check.state;
        known.is_asked = check.state == CheckState::Up;
        known.last_error.clone_from(&check.last_error);
        known.latency = check
            .latency_ms
            .and_then(|latency| Duration::try_from_secs_f64(latency / 1e3).ok());
        let since = check.since.as_deref().and_then(|since| since.parse().ok());
        if let Some(since) = since {
            let lasts = Timestamp::now().duration_since(since).unsigned_abs();
            known.since = since;
            known.changed = known.changed.checked_sub(lasts).unwrap_or(known.changed);
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
    pub fn next_turn(&self, is_same: bool) -> Turn {
        let mut known = self.lock();
        known.turn = Turn(known.turn.0 + 1);
        known.is_asked &= is_same;
        known.failures = 0;
        known.turn
    }

    /// Notes what became of a probe, and tells what that changes.
    pub fn note(&self, turn: Turn, outcome: Result<Duration, &Failure>) -> Change {
        let mut known = self.lock();
        if known.turn != turn {
            return Change::None;
        }
        let tolerates = std::mem::replace(&mut known.is_asked, true);
        match outcome {
            Ok(latency) => {
                known.ok += 1;
                known.failures = 0;
                known.latency = Some(latency);
                known.last_error = None;
                let was_down = known.state == CheckState::Down;
                match known.enter(CheckState::Up) {
                    Some(lasted) => Change::Up {
                        down_for: was_down.then_some(lasted),
                    },
                    None => Change::None,
                }
            }
            Err(failure) => {
                if matches!(failure, Failure::Timeout(_)) {
                    known.timeout += 1;
                } else {
                    known.error += 1;
                }
                known.failures += 1;
                if tolerates && known.state == CheckState::Up && known.failures < FAILURES {
                    return Change::None;
                }
                let reason = failure.to_string();
                known.last_error = Some(reason.clone());
                match known.enter(CheckState::Down) {
                    Some(_) => Change::Down { reason },
                    None => Change::None,
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

    pub fn figures(&self) -> DependencyFigures {
        let known = self.lock();
        DependencyFigures {
            name: self.name,
            ok: known.ok,
            error: known.error,
            timeout: known.timeout,
            latency: known.latency,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// How long the state before lasted, if it was another.
    fn enter(&mut self, state: CheckState) -> Option<Duration> {
        if self.state == state {
            return None;
        }
        let lasted = self.changed.elapsed();
        self.state = state;
        self.since = Timestamp::now();
        self.changed = Instant::now();
        Some(lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Failure = Failure::Timeout(Duration::from_secs(1));
    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_word_counts_at_once_and_later_one_failure_is_forgiven() {
        let dependency = Dependency::new("it");
        let turn = dependency.next_turn(true);
        assert_eq!(dependency.state(), CheckState::Unknown);
        let down = |change| matches!(change, Change::Down { .. });
        assert!(down(dependency.note(turn, Err(&LATE))));
        assert_eq!(dependency.note(turn, Err(&LATE)), Change::None);
        assert!(matches!(
            dependency.note(turn, Ok(QUICK)),
            Change::Up { down_for: Some(_) }
        ));
        for _ in 0..3 {
            assert_eq!(dependency.note(turn, Err(&LATE)), Change::None);
            assert_eq!(dependency.note(turn, Ok(QUICK)), Change::None);
        }
        assert_eq!(dependency.note(turn, Err(&LATE)), Change::None);
        assert_eq!(dependency.check().last_error, None);
        assert!(down(dependency.note(turn, Err(&LATE))));
        assert!(dependency.check().last_error.is_some());
        let figures = dependency.figures();
        assert_eq!((figures.ok, figures.error, figures.timeout), (4, 0, 7));
    }

    #[test]
    fn other_settings_leave_the_state_until_they_are_tried_and_then_count_at_once() {
        let dependency = Dependency::new("it");
        let old = dependency.next_turn(true);
        dependency.note(old, Ok(QUICK));
        let new = dependency.next_turn(false);
        assert_eq!(dependency.note(old, Err(&LATE)), Change::None);
        assert_eq!(dependency.note(old, Err(&LATE)), Change::None);
        assert_eq!(dependency.state(), CheckState::Up);
        assert!(matches!(
            dependency.note(new, Err(&LATE)),
            Change::Down { .. }
        ));
    }

    #[test]
    fn what_another_process_knew_goes_on() {
        let before = Dependency::new("it");
        let turn = before.next_turn(true);
        before.note(turn, Ok(QUICK));
        let after = Dependency::known("it", &before.check());
        let told = |dependency: &Dependency| format!("{:?}", dependency.check());
        assert_eq!(told(&after), told(&before));
        let turn = after.next_turn(true);
        assert_eq!(after.note(turn, Err(&LATE)), Change::None);
        assert!(matches!(after.note(turn, Err(&LATE)), Change::Down { .. }));

        let again = Dependency::known("it", &after.check());
        assert_eq!(told(&again), told(&after));
        let turn = again.next_turn(true);
        assert_eq!(again.note(turn, Err(&LATE)), Change::None);
        assert!(matches!(
            again.note(turn, Ok(QUICK)),
            Change::Up { down_for: Some(_) }
        ));
    }
}
