//! Replacing the daemon, changing its settings, and how an instance ended.

use std::time::Duration;

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

/// How long a successor may take until it serves, unless the request says otherwise.
pub const DEFAULT_RESTART_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest that can be asked for, in seconds.
pub const MIN_RESTART_TIMEOUT_SECONDS: f64 = 1.0;
/// The longest time that can be asked for, also for a stop, in seconds.
pub const MAX_TIMEOUT_SECONDS: f64 = 3600.0;

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

/// Answer of `POST /admin/reload`.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
pub struct ReloadDone {
    /// What is in force now.
    pub changed: Vec<SettingChange>,
    /// What was edited too and needs a restart.
    pub needs_restart: Vec<SettingChange>,
    /// Until when the key before counts, if `JWT_SECRET_KEY` was changed and `JWT_SECRET_KEY_GRACE` is not 0.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_key_counts_until: Option<String>,
}

/// A setting whose value was edited.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its name in the environment.
    pub name: String,
    /// Its value before; `******` for a secret, absent when it had none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Its value now; `******` for a secret, absent when it has none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
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
