//! What the admin API asks of whoever runs the servers.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::api::{ReloadDone, RestartDone};
use crate::auth::Session;
use crate::config::Problems;

/// Something to do.
#[derive(Debug)]
pub enum Order {
    /// Drain and exit.
    Stop(StopOrder),
    /// Hand over to a successor.
    Restart(RestartOrder),
    /// Read the settings again.
    Reload(ReloadOrder),
    /// End a session, so that the next process knows it too.
    SignOut(SignOutOrder),
}

/// An order to stop.
#[derive(Debug)]
pub struct StopOrder {
    /// Who gave it.
    pub subject: String,
    /// How long requests in flight may take.
    pub timeout: Duration,
}

/// An order to hand over to a successor.
#[derive(Debug)]
pub struct RestartOrder {
    /// Who gave it.
    pub subject: String,
    /// How long the successor may take until it serves.
    pub timeout: Duration,
    /// Takes what became of it.
    pub answer: oneshot::Sender<Result<RestartDone, RestartFailure>>,
}

/// An order to read the settings again.
#[derive(Debug)]
pub struct ReloadOrder {
    /// Who gave it.
    pub subject: String,
    /// Takes what became of it.
    pub answer: oneshot::Sender<Result<ReloadDone, Problems>>,
}

/// An order to end a session.
#[derive(Debug)]
pub struct SignOutOrder {
    /// Which.
    pub session: Session,
    /// Told once it has ended, or why processes to come will not know. Dropped when this process may not end it any more.
    pub answer: oneshot::Sender<std::io::Result<()>>,
}

/// Takes orders.
pub type Orders = mpsc::Sender<Order>;

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
    Settings,
    /// The successor did not start.
    Failed,
    /// The successor took too long.
    Late,
}
