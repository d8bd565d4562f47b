//! Stop, restart, and how an instance ended.

use std::time::Duration;

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::health::DaemonPhase;
use crate::config::AppSettings;

/// How long the new process may take until it serves, unless the request says otherwise.
pub const DEFAULT_RESTART_TIMEOUT: Duration = Duration::from_secs(30);

/// How much longer a start or restart may take than a worker of the application.
const APP_START_MARGIN: Duration = Duration::from_secs(10);

/// How long a start or restart may take, unless the request says otherwise.
#[must_use]
pub fn start_timeout(app: Option<&AppSettings>) -> Duration {
    let of_app = app.map(|app| app.start_timeout + APP_START_MARGIN);
    of_app.unwrap_or_default().max(DEFAULT_RESTART_TIMEOUT)
}

/// The shortest timeout of a restart.
pub const MIN_RESTART_TIMEOUT_SECONDS: f64 = 1.0;
/// The longest timeout of a restart or a stop.
pub const MAX_TIMEOUT_SECONDS: f64 = 3600.0;

/// Options of a stop. The body may be left out.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Time for requests in flight to finish after the listeners have closed, in seconds, 0 to
    /// 3600. Default: `SHUTDOWN_TIMEOUT`.
    #[oai(
        skip_serializing_if_is_none,
        validator(maximum(value = "3600"), minimum(value = "0"))
    )]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_seconds: Option<f64>,
}

/// The daemon drains: what it still has to finish, and by when.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct StopResult {
    /// Always `draining`.
    pub phase: DaemonPhase,
    /// Process ID of the daemon that stops.
    pub pid: u32,
    /// Number of requests in flight when the stop was requested, without this one.
    pub in_flight: u64,
    /// Time by which requests that are still in flight are aborted, and the application is stopped,
    /// as an RFC 3339 timestamp in UTC.
    pub deadline: String,
    /// Seconds until the deadline, 0 to 7500, for clients with another clock.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds_left: Option<f64>,
}

/// Options of a zero-downtime restart. The body may be left out.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct RestartRequest {
    /// Time for the new process to become ready, in seconds, 1 to 3600. Default: 30, or 10 more than
    /// `APP_START_TIMEOUT` if that is longer.
    #[oai(
        skip_serializing_if_is_none,
        validator(maximum(value = "3600"), minimum(value = "1"))
    )]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_seconds: Option<f64>,
    /// Command of the application, in place of the one that the daemon was started with and of
    /// `APP_COMMAND`: the program and its arguments. Only `fullon restart -- COMMAND…` may send it,
    /// whose token the holder of a key has signed for this one request.
    #[oai(skip_serializing_if_is_none, validator(min_items = "1"))]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command: Option<Vec<String>>,
}

/// The new process that replaced the old one.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct RestartResult {
    /// Process ID of the old process, which drains now.
    pub old_pid: u32,
    /// Process ID of the new process, which serves requests.
    pub pid: u32,
    /// Generation of the new process: that of the old process plus 1.
    pub generation: u32,
    /// Base URL of the new process's public API.
    pub server: String,
    /// Base URL of the new process's admin API.
    pub admin: String,
}

/// How the previous process ended.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct LastExit {
    /// Cause of the exit.
    pub cause: ExitCause,
    /// Subject of the token, or name of the signal, that requested the exit. Absent after a crash.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// Time of the exit, as an RFC 3339 timestamp in UTC. After a crash: the last write to the log
    /// or the state file.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    /// Process ID of the previous process.
    pub pid: u32,
    /// Last lines of its log, at most 10. Empty when the log goes to stdout.
    pub last_lines: Vec<String>,
}

/// Cause of an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ExitCause {
    /// A client of the admin API stopped it.
    Stopped,
    /// A signal stopped it.
    Signalled,
    /// A second signal, or the end of the process that supervised it, ended it before it had
    /// drained.
    Interrupted,
    /// A new process replaced it in a zero-downtime restart.
    Restarted,
    /// It ended unexpectedly: a crash, SIGKILL, or a machine that went down.
    Crashed,
}
