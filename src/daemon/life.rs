//! The daemon from the moment it serves: does what it is asked to, and drains.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handover::{self, ReadySuccessor};
use super::legacy::InstanceResources;
use super::reload::Reloadable;
use super::requests::{Reload, Request, RequestSource, Restart, Stop};
use super::signals::{SignalAction, Signals};
use super::{ExitOutcome, keeper, systemd};
use crate::api::{ExitCause, Phase, RestartDone};
use crate::instance::{ExitRecord, PidFileStatus, Process, inspect_pid_file};
use crate::server::Shutdown;
use crate::server::control_request::{
    ControlRequest, RestartFailure, RestartFailureKind, SignOutCommand,
};

/// How long what was cut off may take to notice.
const FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// A daemon that serves.
pub struct Daemon {
    pub requests: RequestSource,
    pub reloadable: Reloadable,
    pub resources: InstanceResources,
    pub shutdown: Shutdown,
    pub servers: TaskTracker,
}

/// What was asked for while a successor was on its way.
#[derive(Default)]
struct DeferredRequests {
    stop: Option<Stop>,
    reloads: Vec<Reload>,
    /// The successor has read who is signed out: dropped when it takes over, and asked of it again.
    session_ends: Vec<SignOutCommand>,
}

impl DeferredRequests {
    fn stop(&mut self, stop: Stop) {
        match &mut self.stop {
            // The second signal.
            Some(first) if stop.cause == ExitCause::Signalled => {
                if first.cause == ExitCause::Signalled {
                    first.timeout = Some(Duration::ZERO);
                }
                first.cause = ExitCause::Signalled;
            }
            Some(_) => {}
            None => self.stop = Some(stop),
        }
    }
}

/// Why a life comes to its end.
enum EndReason {
    Stopped(Stop),
    Replaced(ReadySuccessor, Restart),
}

impl Daemon {
    /// Lives until it is asked to stop or is replaced, and drains.
    pub async fn run(mut self) -> ExitOutcome {
        let end = loop {
            let request = tokio::select! {
                request = self.requests.next() => request,
                () = self.resources.predecessor_exited() => continue,
            };
            match request {
                Request::Stop(stop) => break EndReason::Stopped(stop),
                Request::Reload(reload) => self.reload(reload),
                Request::SignOut(order) => self.end_session(order),
                Request::Restart(restart) => {
                    if let Some(end) = self.restart(restart).await {
                        break end;
                    }
                }
            }
        };
        match end {
            EndReason::Stopped(stop) => self.drain_and_exit(stop).await,
            EndReason::Replaced(successor, restart) => {
                self.drain_after_handoff(successor, restart).await
            }
        }
    }

    /// Reads the settings again, and tells whoever may stop this process by signal how long that may take.
    fn reload(&mut self, reload: Reload) {
        self.reloadable.handle_reload(reload);
        let delay = self.reloadable.live_settings.settings().drain_delay;
        if self.resources.state.drain_delay == delay {
            return;
        }
        let before = std::mem::replace(&mut self.resources.state.drain_delay, delay);
        if let Err(error) = self.resources.write_state() {
            tracing::error!(%error, "the state file could not be written");
            // So that the next one tries again.
            self.resources.state.drain_delay = before;
        }
    }

    /// Ends a session, for this process and those that follow.
    fn end_session(&mut self, order: SignOutCommand) {
        self.reloadable.sessions.revoke(&order.session);
        let noted = self.save_ended_sessions();
        // Whoever waited may have gone.
        let _ = order.reply.send(noted);
    }

    /// For whoever comes next: also those that had to make room for others.
    fn save_ended_sessions(&mut self) -> io::Result<()> {
        let ended = self.reloadable.sessions.revoked();
        if self.resources.state.ended_sessions == ended {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.resources.state.ended_sessions, ended);
        self.resources.write_state().inspect_err(|error| {
            tracing::error!(%error, "the state file could not be written");
            // So that the next one tries again.
            self.resources.state.ended_sessions = before;
        })
    }

    /// Tries to be replaced. `None` when it goes on as before.
    async fn restart(&mut self, restart: Restart) -> Option<EndReason> {
        tracing::info!(by = restart.by, timeout = ?restart.timeout, "starting a successor");
        systemd::notify_reloading();
        let (outcome, meanwhile) = self.run_handoff(&restart).await;
        match (outcome, meanwhile.stop) {
            (Ok(successor), stop) => {
                // It took over all the same, so it is the one that is meant.
                if stop.is_some() {
                    let _ = successor.process.terminate();
                }
                if !meanwhile.reloads.is_empty() {
                    let _ = successor.process.send_signal(Signal::HUP);
                }
                Some(EndReason::Replaced(successor, restart))
            }
            (Err(failure), Some(stop)) => {
                self.resources.reclaim(None).await;
                restart.reply.send(Err(failure));
                Some(EndReason::Stopped(stop))
            }
            (Err(failure), None) => {
                self.reloadable.metrics.count_failed_restart();
                tracing::error!(
                    by = restart.by,
                    reason = failure.reason,
                    "the restart failed; this process goes on"
                );
                self.resources.reclaim(Some(&failure)).await;
                systemd::notify(&[
                    NotifyState::Ready,
                    NotifyState::Status("serving; the last restart failed"),
                ]);
                restart.reply.send(Err(failure));
                for order in meanwhile.session_ends {
                    self.end_session(order);
                }
                for reload in meanwhile.reloads {
                    self.reload(reload);
                }
                None
            }
        }
    }

    /// What became of the successor, and what was asked for meanwhile.
    async fn run_handoff(
        &mut self,
        restart: &Restart,
    ) -> (Result<ReadySuccessor, RestartFailure>, DeferredRequests) {
        let mut meanwhile = DeferredRequests::default();
        let prepared = self.save_ended_sessions().and_then(|()| {
            self.resources
                .prepare_handoff(&restart.by, &self.reloadable)
        });
        let (command, inheritance) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let failure = RestartFailure {
                    kind: RestartFailureKind::StartFailed,
                    reason: format!("a successor cannot be run: {error}"),
                };
                return (Err(failure), meanwhile);
            }
        };
        let abort = CancellationToken::new();
        let mut handover = pin!(handover::start_successor(
            command,
            inheritance,
            &self.resources.pid_file,
            restart.timeout,
            &abort,
        ));
        loop {
            let request = tokio::select! {
                biased;
                outcome = &mut handover => return (outcome, meanwhile),
                request = self.requests.next() => request,
            };
            match request {
                Request::Stop(stop) => {
                    self.reloadable.health.enter(Phase::Draining);
                    meanwhile.stop(stop);
                    abort.cancel();
                }
                Request::Restart(another) => another.reply.send(Err(RestartFailure {
                    kind: RestartFailureKind::Busy,
                    reason: "another restart is under way".into(),
                })),
                // For whoever serves afterwards: the successor may have read its settings already.
                Request::Reload(reload) => meanwhile.reloads.push(reload),
                Request::SignOut(order) => meanwhile.session_ends.push(order),
            }
        }
    }

    /// Drains while the successor serves.
    async fn drain_after_handoff(self, successor: ReadySuccessor, restart: Restart) -> ExitOutcome {
        let Self {
            requests,
            reloadable,
            resources: legacy,
            shutdown,
            servers,
        } = self;
        let mut pid = successor.process.pid();
        reloadable.health.drain_replaced();
        reloadable.health.stop_watching();
        shutdown.start_handoff();
        (reloadable.log.rotation_switch())(false);
        let done = RestartDone {
            old_pid: legacy.state.pid,
            pid,
            generation: legacy.state.generation + 1,
            server: successor.server,
            admin: successor.admin,
        };
        // Whoever connects after the answer meets the successor.
        shutdown.listeners_closed().await;
        let is_kept_here = legacy.mode.must_supervise();
        if is_kept_here && let Err(error) = keeper::become_subreaper() {
            tracing::error!(%error, "this process will not see the end of a later successor");
        }
        let pid_file = legacy.pid_file.path().to_owned();
        legacy.release();
        systemd::notify(&[
            NotifyState::MainPid(pid),
            NotifyState::Ready,
            NotifyState::Status("serving"),
        ]);
        drop(successor.channel);
        tracing::info!(by = restart.by, successor = pid, "replaced; draining");
        restart.reply.send(Ok(done));

        // What came too late for this process.
        let (mut signals, orders) = requests.close();
        if orders
            .iter()
            .any(|order| matches!(order, ControlRequest::Stop(_)))
        {
            let _ = successor.process.terminate();
        }
        drop(orders);
        let timeout = reloadable.live_settings.settings().shutdown_timeout;
        let drained = async {
            loop {
                let asked = tokio::select! {
                    () = servers.wait() => return,
                    () = no_daemon_left(&successor.process, &pid_file), if !shutdown.is_closing_idle() => {
                        shutdown.start();
                        continue;
                    }
                    asked = signals.next() => asked,
                };
                if is_kept_here {
                    pid = keeper::forward_signal(asked.to_signal(), pid, &pid_file);
                }
                if matches!(asked, SignalAction::Stop(_)) {
                    // The second one.
                    if shutdown.is_closing_idle() {
                        shutdown.force();
                    }
                    shutdown.start();
                }
            }
        };
        if tokio::time::timeout(timeout, drained).await.is_err() {
            tracing::info!(
                "the deadline is over: closing what is idle, cutting off what is in flight"
            );
            shutdown.start();
            force_close(&shutdown, &servers).await;
        }
        tracing::info!("drained");
        reloadable.log.flush(Duration::from_secs(5));
        if !is_kept_here {
            return ExitOutcome::Graceful;
        }
        // The log is the successor's: its file may be rotated away.
        drop(reloadable);
        match keeper::supervise(signals, pid, &pid_file).await {
            Ok(code) => ExitOutcome::Supervised(code),
            Err(error) => {
                tracing::error!(%error, "this process cannot stand in for its successor");
                ExitOutcome::Supervised(1)
            }
        }
    }

    /// Drains, and leaves nothing but how it ended.
    async fn drain_and_exit(self, stop: Stop) -> ExitOutcome {
        let Self {
            requests,
            reloadable,
            resources: mut legacy,
            shutdown,
            servers,
        } = self;
        let Stop { by, cause, timeout } = stop;
        let settings = reloadable.live_settings.settings();
        let (delay, timeout) = (
            settings.drain_delay,
            timeout.unwrap_or(settings.shutdown_timeout),
        );
        let (mut signals, _) = requests.close();
        let deadline = shutdown.set_deadline(delay + timeout);
        reloadable.health.enter(Phase::Draining);
        reloadable.health.stop_watching();
        systemd::notify_stopping(deadline.remaining());
        tracing::info!(by, ?timeout, ?delay, "stopping");
        let mut second_signal = pin!(second_signal(&mut signals, cause == ExitCause::Signalled));
        let delayed = async {
            // So that load balancers notice while there is somebody who serves. Even no time takes a while to sleep.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            // So that followers see it before their streams end.
            reloadable.log.flush(Duration::from_secs(1));
            legacy.sockets.clear();
            shutdown.start();
            let all_drained = async {
                tokio::join!(servers.wait(), legacy.stop_predecessors());
            };
            if tokio::time::timeout(timeout, all_drained).await.is_err() {
                tracing::warn!("the deadline is over: cutting off what is still in flight");
            }
        };
        let ended = tokio::select! {
            () = delayed => ExitOutcome::Graceful,
            signal = &mut second_signal => {
                tracing::warn!(signal, "a second signal: cutting off what is still in flight");
                ExitOutcome::Interrupted
            }
        };
        // A second signal may come before the drain.
        legacy.sockets.clear();
        legacy.kill_predecessors();
        force_close(&shutdown, &servers).await;
        legacy.state.ended_sessions = reloadable.sessions.revoked();
        tracing::info!("stopped");
        reloadable.log.flush(Duration::from_secs(5));
        let cause = if matches!(ended, ExitOutcome::Interrupted) {
            ExitCause::Interrupted
        } else {
            cause
        };
        legacy.record_exit(ExitRecord {
            cause,
            by,
            at: Timestamp::now().to_string(),
        });
        ended
    }
}

/// Returns once the successor is gone and no other daemon took its place.
async fn no_daemon_left(successor: &Process, pid_file: &Path) {
    // One that cannot be waited for is told by signal that it is over, or by its deadline.
    if successor.exited().await.is_err()
        || matches!(inspect_pid_file(pid_file), Ok(PidFileStatus::Held(_)))
    {
        std::future::pending::<()>().await;
    }
}

/// Cuts off what is still there.
async fn force_close(shutdown: &Shutdown, servers: &TaskTracker) {
    shutdown.force();
    if tokio::time::timeout(FORCE_TIMEOUT, servers.wait())
        .await
        .is_err()
    {
        tracing::error!("a request handler blocks its thread: leaving without it");
    }
}

/// The second signal that asks to stop. After an order over REST the first one says nothing new.
async fn second_signal(signals: &mut Signals, mut had_one: bool) -> &'static str {
    loop {
        match signals.next().await {
            SignalAction::Stop(signal) if had_one => return signal,
            SignalAction::Stop(signal) => {
                tracing::info!(signal, "stopping already");
                had_one = true;
            }
            SignalAction::Reload | SignalAction::Restart => {}
        }
    }
}
