//! Control requests to the daemon, by REST or by signal.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::api::{DEFAULT_RESTART_TIMEOUT, ReloadDone, RestartDone};
use crate::config::InvalidSettings;
use crate::daemon::signals::{SignalAction, SignalHandlers};
use crate::server::control_request::{self, RestartFailure, SignOutCommand};

/// A request to the daemon.
pub enum ControlRequest {
    Stop(StopCommand),
    Restart(RestartCommand),
    Reload(ReloadCommand),
    SignOut(SignOutCommand),
}

/// Drain and exit.
pub struct StopCommand {
    pub by: String,
    /// How long requests in flight may take; `None` for the time in the settings.
    pub timeout: Option<Duration>,
    pub is_signal: bool,
}

/// Hand over to a successor.
pub struct RestartCommand {
    pub by: String,
    /// How long the successor may take until it serves.
    pub timeout: Duration,
    pub reply: Reply<Result<RestartDone, RestartFailure>>,
}

/// Reload the settings.
pub struct ReloadCommand {
    pub by: String,
    pub reply: Reply<Result<ReloadDone, InvalidSettings>>,
}

/// Where the outcome of a request is sent. Nobody waits for it after a signal.
pub struct Reply<T>(Option<oneshot::Sender<T>>);

impl<T> Reply<T> {
    fn none() -> Self {
        Self(None)
    }

    pub fn send(self, outcome: T) {
        if let Some(sender) = self.0 {
            // The client may have disconnected.
            let _ = sender.send(outcome);
        }
    }
}

impl From<control_request::ControlRequest> for ControlRequest {
    fn from(request: control_request::ControlRequest) -> Self {
        match request {
            control_request::ControlRequest::Stop(command) => Self::Stop(StopCommand {
                by: command.subject,
                timeout: Some(command.timeout),
                is_signal: false,
            }),
            control_request::ControlRequest::Restart(command) => Self::Restart(RestartCommand {
                by: command.subject,
                timeout: command.timeout,
                reply: Reply(Some(command.reply)),
            }),
            control_request::ControlRequest::Reload(command) => Self::Reload(ReloadCommand {
                by: command.subject,
                reply: Reply(Some(command.reply)),
            }),
            control_request::ControlRequest::SignOut(command) => Self::SignOut(command),
        }
    }
}

/// Receives control requests from the admin API and from signals.
pub struct RequestSource {
    pub control_requests: mpsc::Receiver<control_request::ControlRequest>,
    pub signals: SignalHandlers,
}

impl RequestSource {
    /// Waits for the next request. Cancel safe.
    pub async fn next(&mut self) -> ControlRequest {
        tokio::select! {
            Some(request) = self.control_requests.recv() => request.into(),
            action = self.signals.next() => request_from_signal(action),
        }
    }

    /// Closes the queue of the admin API and returns the requests that are still in it. A client
    /// whose request is dropped is answered that the daemon is shutting down.
    pub fn close(mut self) -> (SignalHandlers, Vec<ControlRequest>) {
        self.control_requests.close();
        let mut pending = Vec::new();
        while let Ok(request) = self.control_requests.try_recv() {
            pending.push(request.into());
        }
        (self.signals, pending)
    }
}

fn request_from_signal(signal: SignalAction) -> ControlRequest {
    let name = signal.signal_name();
    let by = name.to_owned();
    let (action, request) = match signal {
        SignalAction::Stop(_) => (
            "stop",
            ControlRequest::Stop(StopCommand {
                by,
                timeout: None,
                is_signal: true,
            }),
        ),
        SignalAction::Restart => (
            "restart",
            ControlRequest::Restart(RestartCommand {
                by,
                timeout: DEFAULT_RESTART_TIMEOUT,
                reply: Reply::none(),
            }),
        ),
        SignalAction::Reload => (
            "reload",
            ControlRequest::Reload(ReloadCommand {
                by,
                reply: Reply::none(),
            }),
        ),
    };
    tracing::info!(target: "audit", action, outcome = "accepted", subject = name);
    request
}
