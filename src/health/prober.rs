//! The task that probes one dependency.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

use super::dependency::FAILURES_UNTIL_DOWN;
use super::error::ProbeError;
use super::postgres::PostgresClient;
use super::redis::RedisClient;
use crate::config::{DatabaseSettings, ProbeSchedule, RedisSettings};

/// Delay of the first retry after a failure. Later delays double, up to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A dependency to probe, with its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeTarget {
    Postgres(DatabaseSettings),
    Redis(RedisSettings),
}

impl ProbeTarget {
    /// Identifies the settings, also in another process of the same program.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

enum ProbeClient {
    Postgres(PostgresClient),
    Redis(RedisClient),
}

impl ProbeClient {
    fn new(target: ProbeTarget) -> Self {
        match target {
            ProbeTarget::Postgres(settings) => Self::Postgres(PostgresClient::new(settings)),
            ProbeTarget::Redis(settings) => Self::Redis(RedisClient::new(settings)),
        }
    }

    async fn probe(&mut self) -> Result<(), ProbeError> {
        match self {
            Self::Postgres(client) => client.probe().await,
            Self::Redis(client) => client.probe().await,
        }
    }

    /// The error of a probe that took too long.
    fn timeout_error(&self, timeout: Duration) -> ProbeError {
        let is_in_handshake = match self {
            Self::Postgres(client) => client.is_in_handshake(),
            Self::Redis(client) => client.is_in_handshake(),
        };
        if is_in_handshake {
            ProbeError::HandshakeTimeout(timeout)
        } else {
            ProbeError::Timeout(timeout)
        }
    }
}

/// Probes until it is dropped. `report` receives the duration of each probe, or the reason why it
/// failed.
pub async fn run(
    target: ProbeTarget,
    schedule: ProbeSchedule,
    report: impl Fn(Result<Duration, &ProbeError>),
) {
    let mut client = ProbeClient::new(target);
    let mut failures: u32 = 0;
    loop {
        let timeout = probe_timeout(schedule, failures);
        let started = Instant::now();
        let result = match tokio::time::timeout(timeout, client.probe()).await {
            Ok(result) => result,
            Err(_) => Err(client.timeout_error(timeout)),
        };
        let elapsed = started.elapsed();
        if result.is_ok() {
            failures = 0;
        } else {
            failures = failures.saturating_add(1);
        }
        report(result.as_ref().map(|()| elapsed));
        tokio::time::sleep(delay_until_next(schedule, failures, elapsed)).await;
    }
}

/// How many failures in a row leave a dependency up. The next one decides.
const MAX_TOLERATED: u32 = FAILURES_UNTIL_DOWN - 1;

/// The deciding probe has a shorter timeout, so that a failure is detected within two intervals.
fn probe_timeout(schedule: ProbeSchedule, failures: u32) -> Duration {
    match failures {
        MAX_TOLERATED => schedule.timeout.min(schedule.interval * 3 / 8),
        _ => schedule.timeout,
    }
}

/// Delay until the next probe, after one that took `elapsed`.
fn delay_until_next(schedule: ProbeSchedule, failures: u32, elapsed: Duration) -> Duration {
    let first_retry = FIRST_RETRY.min(schedule.interval / 4);
    match failures {
        0 => schedule.interval.mul_f64(0.9 + 0.2 * random_fraction()),
        MAX_TOLERATED => first_retry.saturating_sub(elapsed),
        _ => first_retry
            .saturating_mul(1 << failures.saturating_sub(FAILURES_UNTIL_DOWN).min(20))
            .min(schedule.interval),
    }
}

/// Between 0 and 1. Spreads the probes of daemons that were started together.
fn random_fraction() -> f64 {
    let mut bytes = [0; 2];
    // If this fails, the result is 0.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    f64::from(u16::from_ne_bytes(bytes)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_failed_dependency_back_off() {
        let schedule = ProbeSchedule {
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
        };
        let delays = (FAILURES_UNTIL_DOWN..)
            .map(|failures| delay_until_next(schedule, failures, Duration::ZERO).as_secs());
        let delays: Vec<_> = delays.take(40).collect();
        assert_eq!(delays[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(delays[8..].iter().all(|delay| *delay == 60));
    }

    /// The worst case is a dependency that hangs right after a successful probe.
    #[test]
    fn hang_is_detected_within_two_intervals() {
        for (interval, timeout_of) in [(500, 250), (1000, 500), (5000, 1000), (60_000, 30_000)] {
            let schedule = ProbeSchedule {
                interval: Duration::from_millis(interval),
                timeout: Duration::from_millis(timeout_of),
            };
            for _ in 0..1000 {
                let first = probe_timeout(schedule, 0);
                let second = probe_timeout(schedule, 1);
                let detected = delay_until_next(schedule, 0, Duration::ZERO)
                    + first
                    + delay_until_next(schedule, 1, first)
                    + second;
                assert!(
                    detected < schedule.interval * 2,
                    "{schedule:?}: {detected:?}"
                );
            }
        }
    }
}
