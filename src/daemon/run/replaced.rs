//! The old process after a handoff: drains while the successor serves, and may then supervise it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::task::TaskTracker;

use super::daemon::Daemon;
use super::drain::{ExitOutcome, force_close};
use super::reload::Reloadable;
use super::requests::{RequestSource, exited};
use crate::api::RestartResult;
use crate::daemon::resources::InstanceResources;
use crate::daemon::signals::{SignalAction, SignalHandlers};
use crate::daemon::supervise::{init, systemd};
use crate::daemon::upgrade::ReadySuccessor;
use crate::instance::{PidFileStatus, StateFile, inspect_pid_file};
use crate::server::Shutdown;
use crate::server::admin::pass_counters_on;
use crate::server::control_request::{ControlRequest, RestartCommand};
use crate::sys::{Process, blocking};
use crate::workers::Workers;

/// Releases everything to the successor and drains. If nobody else can, then supervises it.
pub async fn drain_after_handoff(
    daemon: Daemon,
    successor: ReadySuccessor,
    command: RestartCommand,
) -> ExitOutcome {
    let Daemon {
        requests,
        reloadable,
        resources,
        pending_start: _,
        shutdown,
        servers,
        admin,
    } = daemon;
    let is_supervisor = resources.mode.must_supervise();
    let pid_file = resources.pid_file.path().to_owned();
    let process = release(&reloadable, resources, &shutdown, successor, command).await;
    let (signals, supervisor) = close_requests(requests, &process);
    let mut replaced = ReplacedDaemon {
        signals,
        supervisor,
        daemon: process.pid(),
        successor: process,
        pid_file,
        is_supervisor,
        shutdown,
        servers,
    };
    let timeout = reloadable.live_settings.settings().shutdown_timeout;
    if tokio::time::timeout(timeout, replaced.drain())
        .await
        .is_err()
    {
        tracing::info!(
            "deadline reached; closing idle connections and aborting the requests in flight"
        );
        replaced.shutdown.start();
        force_close(&replaced.shutdown, &replaced.servers).await;
    }
    if let Some(application) = &reloadable.application {
        replaced.stop_workers(&application.workers).await;
    }
    reloadable.audit.flush();
    tracing::info!("drained");
    reloadable.log.flush(Duration::from_secs(5));
    blocking(|| pass_counters_on(&admin));
    if !is_supervisor {
        return ExitOutcome::Graceful;
    }
    // The log file is the successor's, and may be rotated away.
    drop((reloadable, admin));
    replaced.supervise().await
}

/// Closes the listeners, leaves the files to the successor, and answers the client. Returns the
/// successor.
async fn release(
    reloadable: &Reloadable,
    resources: InstanceResources,
    shutdown: &Shutdown,
    successor: ReadySuccessor,
    command: RestartCommand,
) -> Process {
    let pid = successor.process.pid();
    let pid_file = resources.pid_file.path().to_owned();
    reloadable.sessions.limit_to_successor(move || {
        let state = StateFile::read_own(&pid_file).ok()?;
        Some(state.sessions)
    });
    reloadable.health.drain_replaced();
    reloadable.health.stop_watching();
    shutdown.start_handoff();
    (reloadable.log.rotation_switch())(false);
    let done = RestartResult {
        old_pid: resources.state.pid,
        pid,
        generation: resources.state.generation + 1,
        server: successor.server,
        admin: successor.admin,
    };
    // A connection that is opened after the answer must reach the successor.
    shutdown.listeners_closed().await;
    if resources.mode.must_supervise()
        && let Err(error) = init::become_subreaper()
    {
        tracing::error!(%error, "cannot become a subreaper; this process will not notice the exit of later processes");
    }
    resources.release();
    systemd::notify(&[
        NotifyState::MainPid(pid),
        NotifyState::Ready,
        NotifyState::Status("serving"),
    ]);
    drop(successor.channel);
    tracing::info!(by = command.by, successor = pid, "replaced; draining");
    command.reply.send(Ok(done));
    successor.process
}

/// Forwards a stop that came too late for this process, and drops the other requests. Returns the
/// signals, and the supervisor of this process.
fn close_requests(
    requests: RequestSource,
    successor: &Process,
) -> (SignalHandlers, Option<Process>) {
    let (signals, supervisor, pending) = requests.close();
    let is_stop = |request: &ControlRequest| matches!(request, ControlRequest::Stop(_));
    if pending.iter().any(is_stop) {
        let _ = successor.terminate();
    }
    (signals, supervisor)
}

/// A daemon that was replaced.
struct ReplacedDaemon {
    successor: Process,
    /// PID of the daemon: the successor, or a later one that took its place.
    daemon: u32,
    pid_file: PathBuf,
    is_supervisor: bool,
    signals: SignalHandlers,
    /// The process that supervises this one.
    supervisor: Option<Process>,
    shutdown: Shutdown,
    servers: TaskTracker,
}

impl ReplacedDaemon {
    /// Waits until the servers have finished. Handles signals meanwhile.
    async fn drain(&mut self) {
        loop {
            let action = tokio::select! {
                () = self.servers.wait() => return,
                () = exited(self.supervisor.as_ref()) => {
                    self.supervisor = None;
                    self.shutdown.force();
                    self.shutdown.start();
                    continue;
                }
                () = no_daemon_left(&self.successor, &self.pid_file),
                    if !self.shutdown.is_closing_idle() =>
                {
                    self.shutdown.start();
                    continue;
                }
                action = self.signals.next() => action,
            };
            if self.is_supervisor {
                self.daemon = init::forward_signal(action.to_signal(), self.daemon, &self.pid_file);
            }
            if matches!(action, SignalAction::Stop(_)) {
                // The second signal forces the stop.
                if self.shutdown.is_closing_idle() {
                    self.shutdown.force();
                }
                self.shutdown.start();
            }
        }
    }

    /// Stops the workers, which serve no client any more. A signal to stop kills them.
    async fn stop_workers(&mut self, workers: &Workers) {
        let mut terminated = pin!(workers.terminate());
        loop {
            let action = tokio::select! {
                () = &mut terminated => return,
                action = self.signals.next() => action,
            };
            if self.is_supervisor {
                self.daemon = init::forward_signal(action.to_signal(), self.daemon, &self.pid_file);
            }
            if matches!(action, SignalAction::Stop(_)) {
                workers.kill();
            }
        }
    }

    async fn supervise(self) -> ExitOutcome {
        let exit_code = init::supervise(self.signals, self.daemon, &self.pid_file).await;
        ExitOutcome::Supervised(exit_code.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot supervise the new process");
            1
        }))
    }
}

/// Returns once the successor has exited and no other daemon has taken its place.
async fn no_daemon_left(successor: &Process, pid_file: &Path) {
    // If the successor cannot be waited for, a signal or the deadline ends the drain.
    if successor.exited().await.is_err()
        || matches!(inspect_pid_file(pid_file), Ok(PidFileStatus::Held(_)))
    {
        std::future::pending::<()>().await;
    }
}
