//! What a daemon is asked to do, by an order over REST or by a signal.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::signals::{Asked, Signals};
use crate::api::{ExitCause, ReloadDone, RestartDone, SUCCESSOR_TIMEOUT};
use crate::config::Problems;
use crate::server::orders::{Order, RestartFailure, SignOutOrder};

/// Where requests come from.
pub struct Requests {
    pub orders: mpsc::Receiver<Order>,
    pub signals: Signals,
}

/// Something to do.
pub enum Request {
    Stop(Stop),
    Restart(Restart),
    Reload(Reload),
    SignOut(SignOutOrder),
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
    pub answer: Answer<Result<RestartDone, RestartFailure>>,
}

/// Read the settings again.
pub struct Reload {
    pub by: String,
    pub answer: Answer<Result<ReloadDone, Problems>>,
}

/// Tells whoever waits what became of a request; after a signal nobody does.
pub struct Answer<T>(Option<oneshot::Sender<T>>);

impl<T> Answer<T> {
    pub fn give(self, outcome: T) {
        if let Some(waiting) = self.0 {
            // Whoever waited may have gone.
            let _ = waiting.send(outcome);
        }
    }
}

impl Requests {
    /// The next one. May be dropped at any time.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            Some(order) = self.orders.recv() => match order {
                Order::Stop(order) => Request::Stop(Stop {
                    cause: ExitCause::Stopped,
                    by: order.subject,
                    timeout: Some(order.timeout),
                }),
                Order::Restart(order) => Request::Restart(Restart {
                    by: order.subject,
                    timeout: order.timeout,
                    answer: Answer(Some(order.answer)),
                }),
                Order::Reload(order) => Request::Reload(Reload {
                    by: order.subject,
                    answer: Answer(Some(order.answer)),
                }),
                Order::SignOut(order) => Request::SignOut(order),
            },
            asked = self.signals.next() => of_signal(asked),
        }
    }

    /// Takes no more orders. Those that nobody has looked at are returned: who waits for one learns, when it is dropped, that
    /// the daemon is on its way out.
    pub fn close(mut self) -> (Signals, Vec<Order>) {
        self.orders.close();
        let mut left = Vec::new();
        while let Ok(order) = self.orders.try_recv() {
            left.push(order);
        }
        (self.signals, left)
    }
}

fn of_signal(asked: Asked) -> Request {
    let by = asked.signal_name();
    let (action, request) = match asked {
        Asked::Stop(_) => (
            "stop",
            Request::Stop(Stop {
                cause: ExitCause::Signalled,
                by: by.into(),
                timeout: None,
            }),
        ),
        Asked::Restart => (
            "restart",
            Request::Restart(Restart {
                by: by.into(),
                timeout: SUCCESSOR_TIMEOUT,
                answer: Answer(None),
            }),
        ),
        Asked::Reload => (
            "reload",
            Request::Reload(Reload {
                by: by.into(),
                answer: Answer(None),
            }),
        ),
    };
    tracing::info!(target: "audit", action, outcome = "accepted", subject = by);
    request
}
