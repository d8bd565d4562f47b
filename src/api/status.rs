//! Responses that describe the service and the daemon.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::application::WorkerStatus;
use super::audit::AuditState;
use super::health::{DaemonPhase, HealthCheck};
use super::lifecycle::LastExit;

/// Name and version of the service, with links to its documentation and health.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Name of the service: `fullon_master_api`.
    pub service: String,
    /// Version of the running program, such as `1.0.0`.
    pub version: String,
    /// Path of the interactive API documentation.
    pub docs: String,
    /// Path of the health endpoint.
    pub health: String,
}

/// State of the daemon: process, addresses, files, usage and health checks.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Name of the service: `fullon_master_api`.
    pub service: String,
    /// Version of the running program, such as `1.0.0`.
    pub version: String,
    /// Phase of the process: starting, ready or draining.
    pub phase: DaemonPhase,
    /// Process ID of the daemon.
    pub pid: u32,
    /// UUID of this process. Each start and each restart makes a new one.
    pub instance: String,
    /// Number of the process since the first start: 1, incremented by each zero-downtime restart.
    pub generation: u32,
    /// Start of the process, as an RFC 3339 timestamp in UTC.
    pub started_at: String,
    /// Seconds since the start, measured with the monotonic clock.
    pub uptime_seconds: f64,
    /// Base URL of the public API for clients on this machine.
    pub server: String,
    /// Addresses at which the public API listens. `0.0.0.0` stands for all of this machine's IPv4
    /// addresses, `[::]` for all addresses.
    #[serde(default)]
    pub listens_on: Vec<String>,
    /// URL of the documentation of the public API, or of the admin API if the public port belongs to an
    /// application.
    pub docs: String,
    /// URL of the public API's health endpoint.
    pub health: String,
    /// Base URL of the admin API.
    pub admin: String,
    /// Path of the PID file.
    pub pid_file: String,
    /// Path of the log file. `-` stands for stdout.
    pub log_file: String,
    /// The end of the audit trail. Absent when there is no audit file.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audit: Option<AuditState>,
    /// Active log level: a level, or filter directives such as `info,hyper=debug`.
    pub log_level: String,
    /// Resources that the process uses.
    pub process: ProcessUsage,
    /// Connections and requests of the public and the admin API together.
    pub http: HttpUsage,
    /// Requests of the public API since the start of this process.
    #[serde(default)]
    pub public_requests: RequestTotals,
    /// Number of clients that follow the log.
    #[serde(default)]
    pub log_followers: u64,
    /// Command line of the application's workers. Absent without an application.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_command: Option<String>,
    /// Workers of the application. Empty without an application.
    #[serde(default)]
    pub workers: Vec<WorkerStatus>,
    /// Results of the health checks: one for the application, one for each configured dependency,
    /// and one for the log file.
    pub checks: Vec<HealthCheck>,
    /// Names of settings that were changed and are not active until a reload or a restart.
    pub pending_restart: Vec<String>,
    /// Weaknesses, such as an `.env` file with a secret that all users can read, or a daemon that
    /// runs as root.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How the previous process ended. Absent when there is no record of one.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_exit: Option<LastExit>,
}

/// Resources that the process uses.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// CPU time since the start in seconds, user and system.
    pub cpu_seconds: f64,
    /// Number of open file descriptors.
    pub open_files: u64,
    /// Number of threads.
    pub threads: u64,
}

/// Connections and requests of the public and the admin API together.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct HttpUsage {
    /// Number of open connections.
    pub connections: u64,
    /// Number of requests whose response has not begun.
    pub in_flight: u64,
    /// Number of requests since the start of this process.
    pub requests_total: u64,
}

/// Requests of the public API since the start of this process.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
pub struct RequestTotals {
    /// Number of requests.
    pub total: u64,
    /// Number of requests other than health checks.
    pub without_health: u64,
    /// Number of those with status 5xx.
    pub errors: u64,
    /// Numbers of requests by duration.
    pub durations: Vec<DurationBucket>,
}

/// Number of requests that took at most a time.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct DurationBucket {
    /// The time in seconds, up to the start of the response. Absent in the last bucket, which has
    /// all requests.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub up_to_seconds: Option<f64>,
    /// Number of requests, with those of the buckets before.
    pub count: u64,
}
