//! Requests of the admin API or of a signal to the daemon.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::api::{ReloadResult, RestartResult};
use crate::auth::{Claims, RevokeError, RevokedAll};
use crate::config::{AppCommand, InvalidSettings};
use crate::server::http::audit::AuditRecord;

/// A change that the daemon carries out.
#[derive(Debug)]
pub enum ControlRequest {
    /// Drain and exit.
    Stop(StopCommand),
    /// Replace this process by a new one.
    Restart(RestartCommand),
    /// Read the settings again.
    Reload(ReloadCommand),
    /// Save the sessions for the next process.
    Sessions(SessionCommand),
    /// Revoke all tokens.
    RevokeAll(RevokeAllCommand),
    /// By signal: reopens the log file after an external rotation.
    ReopenLog,
}

/// Stops the daemon.
#[derive(Debug)]
pub struct StopCommand {
    /// Subject of the caller's token, the name of a signal, or another cause.
    pub by: String,
    /// How long requests in flight may take; `None` for `SHUTDOWN_TIMEOUT`.
    pub timeout: Option<Duration>,
    /// Whether a signal requested it.
    pub is_signal: bool,
    /// Exit without a drain.
    pub is_immediate: bool,
}

/// Replaces the daemon by a new process.
#[derive(Debug)]
pub struct RestartCommand {
    /// Subject of the caller's token, or the name of a signal.
    pub by: String,
    /// How long the new process may take until it serves; `None` for the default.
    pub timeout: Option<Duration>,
    /// Another command of the application.
    pub app_command: Option<AppCommand>,
    pub reply: Reply<Result<RestartResult, RestartFailure>>,
}

/// Reads the settings again.
#[derive(Debug)]
pub struct ReloadCommand {
    /// Subject of the caller's token, or the name of a signal.
    pub by: String,
    pub reply: Reply<Result<ReloadResult, InvalidSettings>>,
}

/// Ends sessions, and saves the sessions for the next process.
#[derive(Debug)]
pub struct SessionCommand {
    /// The sessions to end.
    pub ended: Vec<Uuid>,
    /// An error means that the next process would not know of the change. Dropped without a reply
    /// when this process is stopping or replaced.
    pub reply: Reply<io::Result<()>>,
}

/// Revokes all tokens and ends all sessions.
#[derive(Debug)]
pub struct RevokeAllCommand {
    /// Records the event when the command is carried out.
    pub audit: Arc<AuditRecord>,
    /// A local command, which gives up when its token expires, and changes the files itself.
    pub command: Option<Arc<Claims>>,
    /// `None` if a restart is in progress, or the client has given up.
    pub reply: Reply<Option<Result<RevokeAllOutcome, RevokeError>>>,
}

/// The outcome of revoking all tokens.
#[derive(Debug)]
pub struct RevokeAllOutcome {
    pub revoked: RevokedAll,
    /// How many sessions ended.
    pub sessions: usize,
}

/// Where the outcome of a request is sent. Nobody waits for the outcome of a signal.
#[derive(Debug)]
pub struct Reply<T>(Option<oneshot::Sender<T>>);

impl<T> Reply<T> {
    /// A reply that nobody waits for.
    pub fn none() -> Self {
        Self(None)
    }

    /// Sends the outcome.
    pub fn send(self, outcome: T) {
        if let Some(sender) = self.0 {
            // The client may have disconnected.
            let _ = sender.send(outcome);
        }
    }
}

impl<T> From<oneshot::Sender<T>> for Reply<T> {
    fn from(sender: oneshot::Sender<T>) -> Self {
        Self(Some(sender))
    }
}

/// Sends control requests to the daemon.
pub type ControlSender = mpsc::Sender<ControlRequest>;

/// The daemon was not replaced. It continues, unless a stop was requested meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartFailure {
    pub kind: RestartFailureKind,
    /// The reason, for people.
    pub reason: String,
}

impl RestartFailure {
    /// `reason` is for people.
    pub fn new(kind: RestartFailureKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }
}

/// Why the daemon was not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartFailureKind {
    /// Another restart or a stop is under way.
    Busy,
    InvalidSettings,
    /// The new process could not be run, failed, or did not claim the PID file.
    StartFailed,
    /// The new process took too long.
    TimedOut,
}
