//! What a daemon is asked to do, by an order over REST or by a signal.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::signals::{SignalAction, Signals};
use crate::api::{DEFAULT_RESTART_TIMEOUT, ExitCause, ReloadDone, RestartDone};
use crate::config::InvalidSettings;
use crate::server::control_request::{ControlRequest, RestartFailure, SignOutCommand};

/// Where requests come from.
pub struct RequestSource {
    pub control_requests: mpsc::Receiver<ControlRequest>,
    pub signals: Signals,
}

/// Something to do.
pub enum Request {
    Stop(Stop),
    Restart(Restart),
    Reload(Reload),
    SignOut(SignOutCommand),
}

/// Drain and exit.
pub struct Stop {
    pub cause: ExitCause,
    pub by: String,
    /// How long requests in flight may take, unless as the settings say.
    pub timeout: Option<Duration>,
}

/// Hand over to a successor.
pub struct Restart {
    pub by: String,
    /// How long the successor may take.
    pub timeout: Duration,
    pub reply: Reply<Result<RestartDone, RestartFailure>>,
}

/// Read the settings again.
pub struct Reload {
    pub by: String,
    pub reply: Reply<Result<ReloadDone, InvalidSettings>>,
}

/// Tells whoever waits what became of a request; after a signal nobody does.
pub struct Reply<T>(Option<oneshot::Sender<T>>);

impl<T> Reply<T> {
    pub fn send(self, outcome: T) {
        if let Some(waiting) = self.0 {
            // Whoever waited may have gone.
            let _ = waiting.send(outcome);
        }
    }
}

impl RequestSource {
    /// The next one. May be dropped at any time.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            Some(order) = self.control_requests.recv() => match order {
                ControlRequest::Stop(order) => Request::Stop(Stop {
                    cause: ExitCause::Stopped,
                    by: order.subject,
                    timeout: Some(order.timeout),
                }),
                ControlRequest::Restart(order) => Request::Restart(Restart {
                    by: order.subject,
                    timeout: order.timeout,
                    reply: Reply(Some(order.reply)),
                }),
                ControlRequest::Reload(order) => Request::Reload(Reload {
                    by: order.subject,
                    reply: Reply(Some(order.reply)),
                }),
                ControlRequest::SignOut(order) => Request::SignOut(order),
            },
            asked = self.signals.next() => request_from_signal(asked),
        }
    }

    /// Takes no more orders. Those that nobody has looked at are returned: who waits for one learns, when it is dropped, that
    /// the daemon is on its way out.
    pub fn close(mut self) -> (Signals, Vec<ControlRequest>) {
        self.control_requests.close();
        let mut left = Vec::new();
        while let Ok(order) = self.control_requests.try_recv() {
            left.push(order);
        }
        (self.signals, left)
    }
}

fn request_from_signal(asked: SignalAction) -> Request {
    let by = asked.signal_name();
    let (action, request) = match asked {
        SignalAction::Stop(_) => (
            "stop",
            Request::Stop(Stop {
                cause: ExitCause::Signalled,
                by: by.into(),
                timeout: None,
            }),
        ),
        SignalAction::Restart => (
            "restart",
            Request::Restart(Restart {
                by: by.into(),
                timeout: DEFAULT_RESTART_TIMEOUT,
                reply: Reply(None),
            }),
        ),
        SignalAction::Reload => (
            "reload",
            Request::Reload(Reload {
                by: by.into(),
                reply: Reply(None),
            }),
        ),
    };
    tracing::info!(target: "audit", action, outcome = "accepted", subject = by);
    request
}
