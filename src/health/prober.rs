//! The task that asks one dependency for as long as the daemon serves.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

use super::dependency::FAILURES_UNTIL_DOWN;
use super::failure::ProbeError;
use super::postgres::PostgresClient;
use super::redis::RedisClient;
use crate::config::{DatabaseSettings, ProbeSchedule, RedisSettings};

/// After a failure the next probe comes sooner; later ones less and less, up to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What is asked, and how to get in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeTarget {
    Postgres(DatabaseSettings),
    Redis(RedisSettings),
}

impl ProbeTarget {
    /// Tells it from others, also in another process of the same program.
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

    fn disconnect(&mut self) {
        match self {
            Self::Postgres(client) => client.disconnect(),
            Self::Redis(client) => client.disconnect(),
        }
    }
}

/// Probes until it is dropped; `tell` is told how long each took, or why it failed.
pub async fn run(
    target: ProbeTarget,
    pace: ProbeSchedule,
    tell: impl Fn(Result<Duration, &ProbeError>),
) {
    let mut client = ProbeClient::new(target);
    let mut failures: u32 = 0;
    loop {
        let timeout = probe_timeout(pace, failures);
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(timeout, client.probe()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ProbeError::Timeout(timeout)),
        };
        let took = begun.elapsed();
        if outcome.is_ok() {
            failures = 0;
        } else {
            failures = failures.saturating_add(1);
            client.disconnect();
        }
        tell(outcome.as_ref().map(|()| took));
        tokio::time::sleep(delay_until_next(pace, failures, took)).await;
    }
}

/// How many failures there are before the probe that decides.
const LAST_TOLERATED: u32 = FAILURES_UNTIL_DOWN - 1;

/// The probe that decides whether it is down is given less time, so that it is decided within two intervals.
fn probe_timeout(pace: ProbeSchedule, failures: u32) -> Duration {
    match failures {
        LAST_TOLERATED => pace.timeout.min(pace.interval * 3 / 8),
        _ => pace.timeout,
    }
}

/// How long until the next probe, after one that took so long.
fn delay_until_next(pace: ProbeSchedule, failures: u32, took: Duration) -> Duration {
    let soon = FIRST_RETRY.min(pace.interval / 4);
    match failures {
        0 => pace.interval.mul_f64(0.9 + 0.2 * random_fraction()),
        LAST_TOLERATED => soon.saturating_sub(took),
        _ => soon
            .saturating_mul(1 << failures.saturating_sub(FAILURES_UNTIL_DOWN).min(20))
            .min(pace.interval),
    }
}

/// Between 0 and 1: daemons that were started together need not ask together.
fn random_fraction() -> f64 {
    let mut bytes = [0; 2];
    // Without random bytes it is always the same.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    f64::from(u16::from_ne_bytes(bytes)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_failed_dependency_back_off() {
        let pace = ProbeSchedule {
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
        };
        let pauses = (FAILURES_UNTIL_DOWN..)
            .map(|failures| delay_until_next(pace, failures, Duration::ZERO).as_secs());
        let pauses: Vec<_> = pauses.take(40).collect();
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(pauses[8..].iter().all(|pause| *pause == 60));
    }

    /// The worst case: it stops right after it has answered.
    #[test]
    fn hang_is_detected_within_two_intervals() {
        for (interval, timeout_of) in [(500, 250), (1000, 500), (5000, 1000), (60_000, 30_000)] {
            let pace = ProbeSchedule {
                interval: Duration::from_millis(interval),
                timeout: Duration::from_millis(timeout_of),
            };
            for _ in 0..1000 {
                let first = probe_timeout(pace, 0);
                let second = probe_timeout(pace, 1);
                let noticed = delay_until_next(pace, 0, Duration::ZERO)
                    + first
                    + delay_until_next(pace, 1, first)
                    + second;
                assert!(noticed < pace.interval * 2, "{pace:?}: {noticed:?}");
            }
        }
    }
}
