//! Control requests to the daemon, by REST or by signal.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::audit::{AuditTrail, Event, Outcome};
use crate::daemon::signals::{SignalAction, SignalHandlers};
use crate::server::control_request::{
    ControlRequest, ReloadCommand, Reply, RestartCommand, StopCommand,
};
use crate::sys::Process;

/// Receives control requests from the admin API and from signals.
pub struct RequestSource {
    pub control_requests: mpsc::Receiver<ControlRequest>,
    pub signals: SignalHandlers,
    /// The first process of `fullon run`, if it supervises this one.
    pub supervisor: Option<Process>,
    /// Records the requests by signal. The admin API records its own.
    pub audit: Arc<AuditTrail>,
}

impl RequestSource {
    /// Waits for the next request. Cancel safe.
    pub async fn next(&mut self) -> ControlRequest {
        tokio::select! {
            Some(request) = self.control_requests.recv() => request,
            action = self.signals.next() => request_from_signal(action, &self.audit),
            () = exited(self.supervisor.as_ref()) => {
                self.supervisor = None;
                stop_without_supervisor(&self.audit)
            }
        }
    }

    /// Closes the queue of the admin API and returns the requests that are still in it. A client
    /// whose request is dropped is answered that the daemon is shutting down.
    pub fn close(mut self) -> (SignalHandlers, Option<Process>, Vec<ControlRequest>) {
        self.control_requests.close();
        let mut pending = Vec::new();
        while let Ok(request) = self.control_requests.try_recv() {
            pending.push(request);
        }
        (self.signals, self.supervisor, pending)
    }
}

/// Returns once the process has exited; never if there is none, or it cannot be waited for.
pub async fn exited(process: Option<&Process>) {
    if let Some(process) = process
        && process.exited().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The parent of `fullon run` takes its exit for the end of the service, and may start the service
/// again at once. So this process must leave the ports and the PID file without a drain.
fn stop_without_supervisor(audit: &AuditTrail) -> ControlRequest {
    let by = "exit of the supervising process".to_owned();
    tracing::error!("the process that supervises this one has ended; exiting, too");
    let mut event = Event::new("stop", Outcome::Accepted);
    event.subject = Some(by.clone());
    audit.record(&event);
    ControlRequest::Stop(StopCommand {
        by,
        timeout: None,
        is_signal: false,
        is_immediate: true,
    })
}

fn request_from_signal(signal: SignalAction, audit: &AuditTrail) -> ControlRequest {
    let name = signal.signal_name();
    let by = name.to_owned();
    let (action, request) = match signal {
        SignalAction::Stop(_) => (
            "stop",
            ControlRequest::Stop(StopCommand {
                by,
                timeout: None,
                is_signal: true,
                is_immediate: false,
            }),
        ),
        SignalAction::Restart => (
            "restart",
            ControlRequest::Restart(RestartCommand {
                by,
                timeout: None,
                app_command: None,
                reply: Reply::none(),
            }),
        ),
        // It changes nothing that a record would have to explain.
        SignalAction::ReopenLog => return ControlRequest::ReopenLog,
        SignalAction::Reload => (
            "reload",
            ControlRequest::Reload(ReloadCommand {
                by,
                reply: Reply::none(),
            }),
        ),
    };
    let mut event = Event::new(action, Outcome::Accepted);
    event.subject = Some(name.to_owned());
    audit.record(&event);
    request
}
