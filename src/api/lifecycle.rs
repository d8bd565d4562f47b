//! Stop, restart, and how an instance ended.

use std::time::Duration;

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::health::Phase;

/// How long the new process may take until it serves, unless the request says otherwise.
pub const DEFAULT_RESTART_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest timeout of a restart.
pub const MIN_RESTART_TIMEOUT_SECONDS: f64 = 1.0;
/// The longest timeout of a restart or a stop.
pub const MAX_TIMEOUT_SECONDS: f64 = 3600.0;

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

/// Body of `POST /admin/restart`; may be left out.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct RestartRequest {
    /// How long the successor may take until it serves, in seconds, 1 to 3600; 30 when left out.
    #[oai(
        skip_serializing_if_is_none,
        validator(maximum(value = "3600"), minimum(value = "1"))
    )]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_seconds: Option<f64>,
}

/// Answer of `POST /admin/restart`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct RestartDone {
    /// Process id of the daemon that was replaced, and drains now.
    pub old_pid: u32,
    /// Process id of its successor, which serves.
    pub pid: u32,
    /// Generation of the successor.
    pub generation: u32,
    /// Address of the successor's public API.
    pub server: String,
    /// Address of the successor's admin API.
    pub admin: String,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct LastExit {
    /// Why it ended.
    pub cause: ExitCause,
    /// Who asked: the subject of a token, or the name of a signal; absent after a crash.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// When, as RFC 3339 in UTC; after a crash the last time it wrote to its log or its state file.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    /// Process id it had.
    pub pid: u32,
    /// The last lines of the log then, at most 10; none when the log goes to stdout.
    pub last_lines: Vec<String>,
}

/// Why an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ExitCause {
    /// It was asked to over REST.
    Stopped,
    /// A signal asked it to.
    Signalled,
    /// A second signal ended it before it had drained.
    Interrupted,
    /// Its successor took over.
    Restarted,
    /// It ended without a word: a crash, SIGKILL, or a machine that went down.
    Crashed,
}
