//! What the admin API asks the daemon to do.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::api::{ReloadDone, RestartDone};
use crate::auth::Session;
use crate::config::InvalidSettings;

/// A change that the daemon carries out.
#[derive(Debug)]
pub enum ControlRequest {
    /// Drain and exit.
    Stop(StopCommand),
    /// Hand over to a new process.
    Restart(RestartCommand),
    /// Read the settings again.
    Reload(ReloadCommand),
    /// End a session, so that the next process rejects it, too.
    SignOut(SignOutCommand),
}

/// Stops the daemon.
#[derive(Debug)]
pub struct StopCommand {
    /// Subject of the caller's token.
    pub subject: String,
    /// How long requests in flight may take.
    pub timeout: Duration,
}

/// Replaces the daemon by a new process.
#[derive(Debug)]
pub struct RestartCommand {
    /// Subject of the caller's token.
    pub subject: String,
    /// How long the new process may take until it serves.
    pub timeout: Duration,
    /// Receives the outcome.
    pub reply: oneshot::Sender<Result<RestartDone, RestartFailure>>,
}

/// Reads the settings again.
#[derive(Debug)]
pub struct ReloadCommand {
    /// Subject of the caller's token.
    pub subject: String,
    /// Receives the outcome.
    pub reply: oneshot::Sender<Result<ReloadDone, InvalidSettings>>,
}

/// Ends a session.
#[derive(Debug)]
pub struct SignOutCommand {
    pub session: Session,
    /// Receives an error if the next process would accept the session. Dropped when this process
    /// may not end it any more.
    pub reply: oneshot::Sender<std::io::Result<()>>,
}

/// Sends control requests to the daemon.
pub type ControlSender = mpsc::Sender<ControlRequest>;

/// The daemon was not replaced, and continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartFailure {
    pub kind: RestartFailureKind,
    /// The reason, for people.
    pub reason: String,
}

/// Why the daemon was not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartFailureKind {
    /// Another restart or a stop is under way.
    Busy,
    InvalidSettings,
    /// The new process did not start.
    StartFailed,
    /// The new process took too long.
    TimedOut,
}
