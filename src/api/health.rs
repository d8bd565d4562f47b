//! Health of the service.

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::health;
use crate::identity::identity;

/// Health of the service as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// The process is ready and every dependency is up.
    Healthy,
    /// The process is starting or stopping, or a dependency is down. A process that was replaced
    /// reports the health of the new process.
    Unhealthy,
}

/// Health of the service, its version and its name, for load balancers.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct HealthReport {
    /// `healthy` with HTTP status 200, `unhealthy` with 503.
    pub status: HealthStatus,
    /// Version of the running program, such as `1.0.0`.
    #[oai(validator(min_length = 1))]
    pub version: String,
    /// Name of the service: `fullon_master_api`.
    pub service: String,
}

/// Proof that the process serves requests.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct LivenessReport {
    /// Always `alive`: a process that does not serve requests cannot respond at all.
    pub status: String,
}

/// Whether the service accepts traffic, and the result of each health check.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct ReadinessReport {
    /// Whether a load balancer should send traffic to this process: it is ready and no check is
    /// down.
    pub ready: bool,
    /// Phase of the process: starting, ready or draining.
    pub phase: DaemonPhase,
    /// Results of the health checks: one for each configured dependency, and one for the log file.
    pub checks: Vec<HealthCheck>,
}

/// Result of a health check of a dependency or of the log file.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Name of the check: `postgresql`, `redis`, or `log` for the log file.
    pub name: String,
    /// Result of the last probe.
    pub state: HealthCheckState,
    /// Start of the current state, as an RFC 3339 timestamp in UTC. Absent for a check without
    /// probes.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
    /// Duration of the last probe that was answered, in milliseconds. Absent for a check without
    /// probes.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<f64>,
    /// Reason why the check is down, without secrets and host names. Absent when it is not down.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

/// State of a dependency or of the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase", remote = "health::CheckState")]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckState {
    /// The last probe succeeded.
    Up,
    /// The last probe failed.
    Down,
    /// No probe has finished yet.
    Unknown,
}

/// Phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase", remote = "health::Phase")]
#[serde(rename_all = "lowercase")]
pub enum DaemonPhase {
    /// Not all listeners respond yet.
    Starting,
    /// The process serves requests.
    Ready,
    /// The process stops or was replaced by a new process, and finishes the requests in flight.
    Draining,
}

impl HealthReport {
    /// The response of `GET /health`.
    #[must_use]
    pub fn new(is_ready: bool) -> Self {
        Self {
            status: if is_ready {
                HealthStatus::Healthy
            } else {
                HealthStatus::Unhealthy
            },
            version: VERSION.into(),
            service: identity().service.into(),
        }
    }
}

impl From<&health::Health> for ReadinessReport {
    fn from(health: &health::Health) -> Self {
        Self {
            ready: health.is_ready(),
            phase: health.phase().into(),
            checks: health.checks().into_iter().map(HealthCheck::from).collect(),
        }
    }
}

impl From<health::Check> for HealthCheck {
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
