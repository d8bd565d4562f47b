//! The wire contract: one type for what the servers send, the client reads and the OpenAPI documents say.
//!
//! A type derives `Object` for its schema and `serde` for its bytes, so that fields appear in the order in
//! which they are declared here. Timestamps are RFC 3339 in UTC. An `Option` that is `None` is left out,
//! except in [`LogEntry`] and [`LogPage`], where it is `null`.

mod level;
mod log;
mod problem;
mod restart;
mod session;

use std::net::SocketAddr;

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

pub use level::{LogLevel, LogLevelRequest, MAX_REVERT_SECONDS};
pub use log::{LogEntry, LogPage, StreamEnd, StreamGap, event};
pub use problem::{Problem, SettingError, UNKNOWN_PATH_PREFIX};
pub use restart::{
    DEFAULT_RESTART_TIMEOUT, ExitCause, LastExit, MAX_TIMEOUT_SECONDS, MIN_RESTART_TIMEOUT_SECONDS,
    ReloadDone, RestartDone, RestartRequest, SettingChange,
};
pub use session::{Session, SignInToken};

/// Name of the service on the wire.
pub const SERVICE_NAME: &str = "fullon_master_api";
/// Path of the console, below the admin API's address.
pub const CONSOLE_PATH: &str = "/console";
/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

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
#[oai(rename_all = "lowercase")]
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
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not all listeners answer yet.
    Starting,
    /// Serving.
    Ready,
    /// Asked to stop, or replaced by a successor that serves; finishing the requests in flight.
    Draining,
}

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

/// Body of `POST /admin/stop`; may be left out.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// How long requests in flight may take once the listeners have closed, in seconds, 0 to 3600; `SHUTDOWN_TIMEOUT` when
    /// left out.
    #[oai(
        skip_serializing_if_is_none,
        validator(maximum(value = "3600"), minimum(value = "0"))
    )]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_seconds: Option<f64>,
}

/// Answer of `POST /admin/stop`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct StopAccepted {
    /// `draining`.
    pub phase: Phase,
    /// Process id of the daemon that stops.
    pub pid: u32,
    /// Requests in flight when the stop was asked for, without this one.
    pub in_flight: u64,
    /// When the last of them is cut off, as RFC 3339 in UTC.
    pub deadline: String,
    /// Seconds until then, 0 to 3900, for whoever has another clock.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds_left: Option<f64>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingEntry {
    /// Its name in the environment.
    pub name: String,
    /// Its value; `******` for a secret, absent when it has none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// `flag`, `environment`, the path of a file, `default`, or `not set`.
    pub source: String,
}

/// Base URL of a listener, as a client on this machine reaches it.
#[must_use]
pub fn base_url(address: SocketAddr) -> String {
    format!("http://{}", reachable_address(address))
}

/// Where a client on this machine reaches a listener.
#[must_use]
pub fn reachable_address(listener: SocketAddr) -> SocketAddr {
    let mut address = listener;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}
