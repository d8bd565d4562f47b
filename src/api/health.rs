//! Health of the service.

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::health;
use crate::identity::identity;

/// Whether the service can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Ready, and every dependency answers.
    Healthy,
    /// Starting, stopping, or a dependency is down. A process that was replaced answers for its successor.
    Unhealthy,
}

/// Answer of `GET /health`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct Health {
    /// Whether the service can be used.
    pub status: HealthState,
    /// Version of the running program.
    #[oai(validator(min_length = 1))]
    pub version: String,
    /// Always `fullon_master_api`.
    pub service: String,
}

/// Answer of `GET /health/live`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct Liveness {
    /// Always `alive`: a process that does not serve cannot say otherwise.
    pub status: String,
}

/// Answer of `GET /health/ready`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether traffic should be sent here.
    pub ready: bool,
    /// Where the process is in its life.
    pub phase: Phase,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One thing the service depends on.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct Check {
    /// What was checked: `postgresql`, `redis`, or `log` for the log file.
    pub name: String,
    /// Whether it works.
    pub state: CheckState,
    /// When that began, as RFC 3339 in UTC; absent for a check that needs no probe.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
    /// How long the last probe that was answered took, in milliseconds; absent for a check that needs no probe.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<f64>,
    /// Why it is down; absent when it is not.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

/// State of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase", remote = "health::CheckState")]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It works.
    Up,
    /// It does not.
    Down,
    /// It was not asked yet, or has not answered yet.
    Unknown,
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase", remote = "health::Phase")]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not all listeners answer yet.
    Starting,
    /// Serving.
    Ready,
    /// Asked to stop, or replaced by a successor that serves; finishing the requests in flight.
    Draining,
}

impl Health {
    /// The response of `GET /health`.
    #[must_use]
    pub fn new(is_ready: bool) -> Self {
        Self {
            status: if is_ready {
                HealthState::Healthy
            } else {
                HealthState::Unhealthy
            },
            version: VERSION.into(),
            service: identity().service.into(),
        }
    }
}

impl From<&health::Health> for Readiness {
    fn from(health: &health::Health) -> Self {
        Self {
            ready: health.is_ready(),
            phase: health.phase().into(),
            checks: health.checks().into_iter().map(Check::from).collect(),
        }
    }
}

impl From<health::Check> for Check {
    fn from(check: health::Check) -> Self {
        Self {
            latency_ms: check.latency_ms(),
            name: check.name,
            state: check.state.into(),
            since: check.since.map(|since| since.to_string()),
            last_error: check.last_error,
        }
    }
}
