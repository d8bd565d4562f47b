//! A zero-downtime restart: runs the handoff to a successor, and recovers when it fails.

use std::io;
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
    /// This process has reloaded its settings since it started the successor.
    is_reloaded: bool,
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
    let timeout = command.timeout.unwrap_or_else(|| daemon.restart_timeout());
    tracing::info!(by = command.by, ?timeout, "starting the new process");
    systemd::notify_restarting(timeout);
    let mut deferred = DeferredRequests::default();
    let outcome = run_handoff(daemon, &command, timeout, &mut deferred).await;
    match (outcome, deferred.stop) {
        (Ok(successor), stop) => {
            // It has taken over, so the requests are meant for it.
            if stop.is_some() {
                let _ = successor.process.terminate();
            }
            if deferred.is_reloaded || !deferred.reloads.is_empty() {
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

/// Starts a successor and waits until it has taken over. A stop aborts the attempt.
///
/// Until the successor asks for the handoff, which it does once its application is ready, this
/// process carries out all other requests. Those that arrive during the handoff are deferred.
async fn run_handoff(
    daemon: &mut Daemon,
    command: &RestartCommand,
    timeout: Duration,
    deferred: &mut DeferredRequests,
) -> Result<ReadySuccessor, RestartFailure> {
    let cannot_start = |error: io::Error| {
        let reason = format!("the new process cannot be started: {error}");
        RestartFailure::new(RestartFailureKind::StartFailed, reason)
    };
    let abort = CancellationToken::new();
    let mut give_up = pin!(give_up(&abort, timeout));
    let successor_command =
        handoff::successor_command(&daemon.resources, command.app_command.as_ref())
            .map_err(cannot_start)?;
    let waiting = {
        let mut start = pin!(start_successor(successor_command, give_up.as_mut()));
        loop {
            let request = tokio::select! {
                biased;
                outcome = &mut start => break outcome?,
                request = daemon.requests.next() => request,
            };
            match request {
                ControlRequest::Stop(stop) => {
                    daemon.reloadable.health.enter(Phase::Draining);
                    deferred.defer_stop(stop);
                    abort.cancel();
                }
                ControlRequest::Restart(other) => reject_second(other),
                ControlRequest::Reload(command) => {
                    // The successor may have read its settings already.
                    deferred.is_reloaded = true;
                    daemon.reload(command);
                }
                ControlRequest::ReopenLog => daemon.reopen_log(),
                ControlRequest::RevokeAll(command) => daemon.revoke_all(command),
                ControlRequest::Sessions(command) => daemon.update_sessions(command),
            }
        }
    };
    let payload = daemon.save_sessions().and_then(|()| {
        let Reloadable { keys, health, .. } = &daemon.reloadable;
        handoff::payload(&daemon.resources, &command.by, keys, health, &daemon.admin)
    });
    let payload = match payload {
        Ok(payload) => payload,
        Err(error) => {
            waiting.kill().await;
            return Err(cannot_start(error));
        }
    };
    let mut handoff = pin!(waiting.hand_over(payload, &daemon.resources.pid_file, give_up));
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
            ControlRequest::Restart(other) => reject_second(other),
            // The successor may have read its settings already.
            ControlRequest::Reload(command) => deferred.reloads.push(command),
            ControlRequest::ReopenLog => daemon.reopen_log(),
            // The successor has the old key already.
            ControlRequest::RevokeAll(command) => command.reply.send(None),
            ControlRequest::Sessions(command) => deferred.sessions.push(command),
        }
    }
}

/// Why a successor is given up, once it is.
async fn give_up(abort: &CancellationToken, timeout: Duration) -> RestartFailure {
    tokio::select! {
        () = abort.cancelled() => RestartFailure::new(
            RestartFailureKind::Busy,
            "a stop was requested during the restart",
        ),
        () = tokio::time::sleep(timeout) => RestartFailure::new(
            RestartFailureKind::TimedOut,
            format!("the new process did not become ready within {timeout:?} and was killed"),
        ),
    }
}

fn reject_second(command: RestartCommand) {
    command.reply.send(Err(RestartFailure::new(
        RestartFailureKind::Busy,
        "another restart is in progress",
    )));
}
