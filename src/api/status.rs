//! Responses that describe the service and the daemon.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::health::{Check, Phase};
use super::lifecycle::LastExit;

/// Answer of `GET /`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct Index {
    /// Always `fullon_master_api`.
    pub service: String,
    /// Version of the running program.
    pub version: String,
    /// Path of the interactive documentation.
    pub docs: String,
    /// Path of the health endpoint.
    pub health: String,
}

/// Answer of `GET /admin/status`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct Status {
    /// Always `fullon_master_api`.
    pub service: String,
    /// Version of the running program.
    pub version: String,
    /// Where the process is in its life.
    pub phase: Phase,
    /// Process id.
    pub pid: u32,
    /// UUID of this process's life.
    pub instance: String,
    /// 1, and one more at each zero-downtime restart.
    pub generation: u32,
    /// When the process started, as RFC 3339 in UTC.
    pub started_at: String,
    /// Seconds since then, by a clock that does not jump.
    pub uptime_seconds: f64,
    /// Address of the public API.
    pub server: String,
    /// Address of its documentation.
    pub docs: String,
    /// Address of its health endpoint.
    pub health: String,
    /// Address of the admin API.
    pub admin: String,
    /// Path of the PID file.
    pub pid_file: String,
    /// Path of the log file; `-` is stdout.
    pub log_file: String,
    /// Filter of the log in force.
    pub log_level: String,
    /// What the process uses.
    pub process: ProcessUsage,
    /// What the servers do.
    pub http: HttpUsage,
    /// What the service depends on.
    pub checks: Vec<Check>,
    /// Names of settings that were edited and are not in force: a reload or a restart puts them in force.
    pub pending_restart: Vec<String>,
    /// How the previous instance ended; absent when none is known.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_exit: Option<LastExit>,
}

/// What the process uses.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Processor time used so far, in seconds.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

/// What both servers together do.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct HttpUsage {
    /// Open connections.
    pub connections: u64,
    /// Requests whose answer has not begun.
    pub in_flight: u64,
    /// Requests since the start.
    pub requests_total: u64,
}
