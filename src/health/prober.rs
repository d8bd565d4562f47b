//! The task that asks one dependency for as long as the daemon serves.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

use super::dependency::FAILURES;
use super::failure::Failure;
use super::postgres::Postgres;
use super::redis::Redis;
use crate::config::{DatabaseSettings, Pace, RedisSettings};

/// After a failure the next probe comes sooner; later ones less and less, up to the interval.
const SOON: Duration = Duration::from_secs(1);

/// What is asked, and how to get in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Postgres(DatabaseSettings),
    Redis(RedisSettings),
}

impl Target {
    /// Tells it from others, also in another process of the same program.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

enum Client {
    Postgres(Postgres),
    Redis(Redis),
}

impl Client {
    fn new(target: Target) -> Self {
        match target {
            Target::Postgres(settings) => Self::Postgres(Postgres::new(settings)),
            Target::Redis(settings) => Self::Redis(Redis::new(settings)),
        }
    }

    async fn probe(&mut self) -> Result<(), Failure> {
        match self {
            Self::Postgres(client) => client.probe().await,
            Self::Redis(client) => client.probe().await,
        }
    }

    fn hang_up(&mut self) {
        match self {
            Self::Postgres(client) => client.hang_up(),
            Self::Redis(client) => client.hang_up(),
        }
    }
}

/// Probes until it is dropped; `tell` is told how long each took, or why it failed.
pub async fn run(target: Target, pace: Pace, tell: impl Fn(Result<Duration, &Failure>)) {
    let mut client = Client::new(target);
    let mut failures: u32 = 0;
    loop {
        let timeout = timeout(pace, failures);
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(timeout, client.probe()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Timeout(timeout)),
        };
        let took = begun.elapsed();
        if outcome.is_ok() {
            failures = 0;
        } else {
            failures = failures.saturating_add(1);
            client.hang_up();
        }
        tell(outcome.as_ref().map(|()| took));
        tokio::time::sleep(pause(pace, failures, took)).await;
    }
}

/// How many failures there are before the probe that decides.
const BEFORE_LAST: u32 = FAILURES - 1;

/// The probe that decides whether it is down is given less time, so that it is decided within two intervals.
fn timeout(pace: Pace, failures: u32) -> Duration {
    match failures {
        BEFORE_LAST => pace.timeout.min(pace.interval * 3 / 8),
        _ => pace.timeout,
    }
}

/// How long until the next probe, after one that took so long.
fn pause(pace: Pace, failures: u32, took: Duration) -> Duration {
    let soon = SOON.min(pace.interval / 4);
    match failures {
        0 => pace.interval.mul_f64(0.9 + 0.2 * chance()),
        BEFORE_LAST => soon.saturating_sub(took),
        _ => soon
            .saturating_mul(1 << failures.saturating_sub(FAILURES).min(20))
            .min(pace.interval),
    }
}

/// Between 0 and 1: daemons that were started together need not ask together.
fn chance() -> f64 {
    let mut bytes = [0; 2];
    // Without random bytes it is always the same.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    f64::from(u16::from_ne_bytes(bytes)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_down_is_asked_less_and_less() {
        let pace = Pace {
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
        };
        let pauses = (FAILURES..).map(|failures| pause(pace, failures, Duration::ZERO).as_secs());
        let pauses: Vec<_> = pauses.take(40).collect();
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(pauses[8..].iter().all(|pause| *pause == 60));
    }

    /// The worst case: it stops right after it has answered.
    #[test]
    fn what_hangs_is_noticed_within_two_intervals() {
        for (interval, timeout_of) in [(500, 250), (1000, 500), (5000, 1000), (60_000, 30_000)] {
            let pace = Pace {
                interval: Duration::from_millis(interval),
                timeout: Duration::from_millis(timeout_of),
            };
            for _ in 0..1000 {
                let first = timeout(pace, 0);
                let second = timeout(pace, 1);
                let noticed =
                    pause(pace, 0, Duration::ZERO) + first + pause(pace, 1, first) + second;
                assert!(noticed < pace.interval * 2, "{pace:?}: {noticed:?}");
            }
        }
    }
}
