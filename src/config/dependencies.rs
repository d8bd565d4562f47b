//! Settings of the services that health depends on: PostgreSQL and Redis.

use std::time::Duration;

use super::database::{DatabaseSettings, load_database};
use super::parse;
use super::redis::{RedisSettings, load_redis};
use super::validator::Validator;

/// The services to probe, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencySettings {
    /// PostgreSQL, if `DB_NAME` or `DATABASE_URL` is set.
    pub database: Option<DatabaseSettings>,
    /// Redis, if `REDIS_HOST` or `REDIS_URL` is set.
    pub redis: Option<RedisSettings>,
    pub probe_schedule: ProbeSchedule,
}

/// How often a dependency is probed, and how long a probe may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSchedule {
    /// From the end of a probe to the next.
    pub interval: Duration,
    /// Limit on one probe, at most half of the interval.
    pub timeout: Duration,
}

impl DependencySettings {
    pub(super) fn load(validator: &mut Validator<'_>) -> Option<Self> {
        let interval = validator.value("CHECK_INTERVAL", parse::check_interval);
        let timeout = validator.value("CHECK_TIMEOUT", parse::check_timeout);
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout > interval / 2
        {
            validator.add_problem(
                "CHECK_TIMEOUT",
                format!("`{timeout:?}` is more than half of CHECK_INTERVAL ({interval:?})"),
            );
        }
        let probe_schedule = ProbeSchedule {
            interval: interval?,
            timeout: timeout?,
        };
        let database = load_database(validator);
        let redis = load_redis(validator);
        Some(Self {
            database,
            redis,
            probe_schedule,
        })
    }
}
