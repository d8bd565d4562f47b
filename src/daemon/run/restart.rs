//! A zero-downtime restart: runs the handoff to a successor, and recovers when it fails.

use std::pin::pin;
use std::time::Duration;

use rustix::process::Signal;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::daemon::Daemon;
use super::reload::Reloadable;
use crate::daemon::supervise::systemd;
use crate::daemon::upgrade::{ReadySuccessor, handoff, start_successor};
use crate::health::Phase;
use crate::server::control_request::{
    ControlRequest, ReloadCommand, RestartCommand, RestartFailure, RestartFailureKind,
    SessionCommand, StopCommand,
};

/// The outcome of a handoff.
pub enum HandoffOutcome {
    /// The successor serves; the client has not been answered yet.
    Replaced(ReadySuccessor, RestartCommand),
    /// A stop was requested during the handoff.
    Stopped(StopCommand),
    /// The daemon continues as before.
    Failed,
}

/// Requests that arrived during a handoff, for the process that serves afterwards.
#[derive(Default)]
struct DeferredRequests {
    stop: Option<StopCommand>,
    reloads: Vec<ReloadCommand>,
    /// The successor has read the sessions already. When it takes over, these are dropped, and the
    /// clients repeat them to it.
    sessions: Vec<SessionCommand>,
}

impl DeferredRequests {
    fn defer_stop(&mut self, stop: StopCommand) {
        match &mut self.stop {
            Some(first) if stop.is_signal => {
                // A second signal forces the stop.
                if first.is_signal {
                    first.timeout = Some(Duration::ZERO);
                }
                first.is_signal = true;
            }
            Some(first) => first.is_immediate |= stop.is_immediate,
            None => self.stop = Some(stop),
        }
    }
}

/// Tries to replace the daemon by a successor.
pub async fn restart(daemon: &mut Daemon, command: RestartCommand) -> HandoffOutcome {
    tracing::info!(by = command.by, timeout = ?command.timeout, "starting the new process");
    systemd::notify_reloading();
    let mut deferred = DeferredRequests::default();
    let outcome = run_handoff(daemon, &command, &mut deferred).await;
    match (outcome, deferred.stop) {
        (Ok(successor), stop) => {
            // It has taken over, so the requests are meant for it.
            if stop.is_some() {
                let _ = successor.process.terminate();
            }
            if !deferred.reloads.is_empty() {
                let _ = successor.process.send_signal(Signal::HUP);
            }
            HandoffOutcome::Replaced(successor, command)
        }
        (Err(failure), Some(stop)) => {
            handoff::reclaim(&mut daemon.resources, None).await;
            command.reply.send(Err(failure));
            HandoffOutcome::Stopped(stop)
        }
        (Err(failure), None) => {
            daemon.reloadable.metrics.count_failed_restart();
            tracing::error!(
                by = command.by,
                reason = failure.reason,
                "restart failed; the daemon continues as before"
            );
            handoff::reclaim(&mut daemon.resources, Some(&failure)).await;
            systemd::notify(&[
                NotifyState::Ready,
                NotifyState::Status("serving; the last restart failed"),
            ]);
            command.reply.send(Err(failure));
            for command in deferred.sessions {
                daemon.update_sessions(command);
            }
            for command in deferred.reloads {
                daemon.reload(command);
            }
            HandoffOutcome::Failed
        }
    }
}

/// Starts a successor and waits until it has taken over. Requests that arrive meanwhile are
/// deferred; a stop aborts the handoff.
async fn run_handoff(
    daemon: &mut Daemon,
    command: &RestartCommand,
    deferred: &mut DeferredRequests,
) -> Result<ReadySuccessor, RestartFailure> {
    let prepared = daemon.save_sessions().and_then(|()| {
        let Reloadable { keys, health, .. } = &daemon.reloadable;
        handoff::prepare(&daemon.resources, &command.by, keys, health, &daemon.admin)
    });
    let (successor_command, payload) = prepared.map_err(|error| {
        let reason = format!("the new process cannot be started: {error}");
        RestartFailure::new(RestartFailureKind::StartFailed, reason)
    })?;
    let abort = CancellationToken::new();
    let mut handoff = pin!(start_successor(
        successor_command,
        payload,
        &daemon.resources.pid_file,
        command.timeout,
        &abort,
    ));
    loop {
        let request = tokio::select! {
            biased;
            outcome = &mut handoff => return outcome,
            request = daemon.requests.next() => request,
        };
        match request {
            ControlRequest::Stop(stop) => {
                daemon.reloadable.health.enter(Phase::Draining);
                deferred.defer_stop(stop);
                abort.cancel();
            }
            ControlRequest::Restart(other) => other.reply.send(Err(RestartFailure::new(
                RestartFailureKind::Busy,
                "another restart is in progress",
            ))),
            // The successor may have read its settings already.
            ControlRequest::Reload(command) => deferred.reloads.push(command),
            ControlRequest::ReopenLog => daemon.reopen_log(),
            // The successor has the old key already.
            ControlRequest::RevokeAll(command) => command.reply.send(None),
            ControlRequest::Sessions(command) => deferred.sessions.push(command),
        }
    }
}
