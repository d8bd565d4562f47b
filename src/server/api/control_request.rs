//! What the admin API asks of whoever runs the servers.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::api::{ReloadDone, RestartDone};
use crate::auth::Session;
use crate::config::InvalidSettings;

/// Something to do.
#[derive(Debug)]
pub enum ControlRequest {
    /// Drain and exit.
    Stop(StopCommand),
    /// Hand over to a successor.
    Restart(RestartCommand),
    /// Read the settings again.
    Reload(ReloadCommand),
    /// End a session, so that the next process knows it too.
    SignOut(SignOutCommand),
}

/// An order to stop.
#[derive(Debug)]
pub struct StopCommand {
    /// Who gave it.
    pub subject: String,
    /// How long requests in flight may take.
    pub timeout: Duration,
}

/// An order to hand over to a successor.
#[derive(Debug)]
pub struct RestartCommand {
    /// Who gave it.
    pub subject: String,
    /// How long the successor may take until it serves.
    pub timeout: Duration,
    /// Takes what became of it.
    pub reply: oneshot::Sender<Result<RestartDone, RestartFailure>>,
}

/// An order to read the settings again.
#[derive(Debug)]
pub struct ReloadCommand {
    /// Who gave it.
    pub subject: String,
    /// Takes what became of it.
    pub reply: oneshot::Sender<Result<ReloadDone, InvalidSettings>>,
}

/// An order to end a session.
#[derive(Debug)]
pub struct SignOutCommand {
    /// Which.
    pub session: Session,
    /// Told once it has ended, or why processes to come will not know. Dropped when this process may not end it any more.
    pub reply: oneshot::Sender<std::io::Result<()>>,
}

/// Takes orders.
pub type ControlSender = mpsc::Sender<ControlRequest>;

/// The daemon was not replaced, and goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartFailure {
    /// What kind of failure.
    pub kind: RestartFailureKind,
    /// Why, for people.
    pub reason: String,
}

/// Why a daemon was not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartFailureKind {
    /// Another restart, or a stop, was under way.
    Busy,
    /// The settings are not valid.
    InvalidSettings,
    /// The successor did not start.
    StartFailed,
    /// The successor took too long.
    TimedOut,
}
