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

use super::handover::{self, Successor};
use super::legacy::Legacy;
use super::reload::Reloadable;
use super::requests::{Reload, Request, Requests, Restart, Stop};
use super::signals::{Asked, Signals};
use super::{Ended, keeper, systemd};
use crate::api::{ExitCause, Phase, RestartDone};
use crate::instance::{Exit, Presence, Process, inspect};
use crate::server::Shutdown;
use crate::server::orders::{Order, RestartFailure, RestartFailureKind, SignOutOrder};

/// How long what was cut off may take to notice.
const FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// A daemon that serves.
pub struct Life {
    pub requests: Requests,
    pub reloadable: Reloadable,
    pub legacy: Legacy,
    pub shutdown: Shutdown,
    pub servers: TaskTracker,
}

/// What was asked for while a successor was on its way.
#[derive(Default)]
struct Meanwhile {
    stop: Option<Stop>,
    reloads: Vec<Reload>,
    /// The successor has read who is signed out: dropped when it takes over, and asked of it again.
    sign_outs: Vec<SignOutOrder>,
}

impl Meanwhile {
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
enum End {
    Stopped(Stop),
    Replaced(Successor, Restart),
}

impl Life {
    /// Lives until it is asked to stop or is replaced, and drains.
    pub async fn live(mut self) -> Ended {
        let end = loop {
            let request = tokio::select! {
                request = self.requests.next() => request,
                () = self.legacy.forget_predecessor() => continue,
            };
            match request {
                Request::Stop(stop) => break End::Stopped(stop),
                Request::Reload(reload) => self.reload(reload),
                Request::SignOut(order) => self.sign_out(order),
                Request::Restart(restart) => {
                    if let Some(end) = self.restart(restart).await {
                        break end;
                    }
                }
            }
        };
        match end {
            End::Stopped(stop) => self.stop(stop).await,
            End::Replaced(successor, restart) => self.retire(successor, restart).await,
        }
    }

    /// Reads the settings again, and tells whoever may stop this process by signal how long that may take.
    fn reload(&mut self, reload: Reload) {
        self.reloadable.carry_out(reload);
        let delay = self.reloadable.in_force.settings().drain_delay;
        if self.legacy.state.drain_delay == delay {
            return;
        }
        let before = std::mem::replace(&mut self.legacy.state.drain_delay, delay);
        if let Err(error) = self.legacy.write_state() {
            tracing::error!(%error, "the state file could not be written");
            // So that the next one tries again.
            self.legacy.state.drain_delay = before;
        }
    }

    /// Ends a session, for this process and those that follow.
    fn sign_out(&mut self, order: SignOutOrder) {
        self.reloadable.sessions.end(&order.session);
        let noted = self.note_ended_sessions();
        // Whoever waited may have gone.
        let _ = order.answer.send(noted);
    }

    /// For whoever comes next: also those that had to make room for others.
    fn note_ended_sessions(&mut self) -> io::Result<()> {
        let ended = self.reloadable.sessions.ended();
        if self.legacy.state.ended_sessions == ended {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.legacy.state.ended_sessions, ended);
        self.legacy.write_state().inspect_err(|error| {
            tracing::error!(%error, "the state file could not be written");
            // So that the next one tries again.
            self.legacy.state.ended_sessions = before;
        })
    }

    /// Tries to be replaced. `None` when it goes on as before.
    async fn restart(&mut self, restart: Restart) -> Option<End> {
        tracing::info!(by = restart.by, timeout = ?restart.timeout, "starting a successor");
        systemd::notify_reloading();
        let (outcome, meanwhile) = self.hand_over(&restart).await;
        match (outcome, meanwhile.stop) {
            (Ok(successor), stop) => {
                // It took over all the same, so it is the one that is meant.
                if stop.is_some() {
                    let _ = successor.process.terminate();
                }
                if !meanwhile.reloads.is_empty() {
                    let _ = successor.process.signal(Signal::HUP);
                }
                Some(End::Replaced(successor, restart))
            }
            (Err(failure), Some(stop)) => {
                self.legacy.take_back(None).await;
                restart.answer.give(Err(failure));
                Some(End::Stopped(stop))
            }
            (Err(failure), None) => {
                self.reloadable.metrics.restart_failed();
                tracing::error!(
                    by = restart.by,
                    reason = failure.reason,
                    "the restart failed; this process goes on"
                );
                self.legacy.take_back(Some(&failure)).await;
                systemd::notify(&[
                    NotifyState::Ready,
                    NotifyState::Status("serving; the last restart failed"),
                ]);
                restart.answer.give(Err(failure));
                for order in meanwhile.sign_outs {
                    self.sign_out(order);
                }
                for reload in meanwhile.reloads {
                    self.reload(reload);
                }
                None
            }
        }
    }

    /// What became of the successor, and what was asked for meanwhile.
    async fn hand_over(
        &mut self,
        restart: &Restart,
    ) -> (Result<Successor, RestartFailure>, Meanwhile) {
        let mut meanwhile = Meanwhile::default();
        let prepared = self
            .note_ended_sessions()
            .and_then(|()| self.legacy.prepare(&restart.by, &self.reloadable));
        let (command, inheritance) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let failure = RestartFailure {
                    kind: RestartFailureKind::Failed,
                    reason: format!("a successor cannot be run: {error}"),
                };
                return (Err(failure), meanwhile);
            }
        };
        let abort = CancellationToken::new();
        let mut handover = pin!(handover::run(
            command,
            inheritance,
            &self.legacy.pid_file,
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
                Request::Restart(another) => another.answer.give(Err(RestartFailure {
                    kind: RestartFailureKind::Busy,
                    reason: "another restart is under way".into(),
                })),
                // For whoever serves afterwards: the successor may have read its settings already.
                Request::Reload(reload) => meanwhile.reloads.push(reload),
                Request::SignOut(order) => meanwhile.sign_outs.push(order),
            }
        }
    }

    /// Drains while the successor serves.
    async fn retire(self, successor: Successor, restart: Restart) -> Ended {
        let Self {
            requests,
            reloadable,
            legacy,
            shutdown,
            servers,
        } = self;
        let mut pid = successor.process.pid();
        reloadable.health.hand_over();
        reloadable.health.stop_watching();
        shutdown.hand_over();
        (reloadable.log.rotation_switch())(false);
        let done = RestartDone {
            old_pid: legacy.state.pid,
            pid,
            generation: legacy.state.generation + 1,
            server: successor.server,
            admin: successor.admin,
        };
        // Whoever connects after the answer meets the successor.
        shutdown.deaf().await;
        let is_kept_here = legacy.mode.needs_keeper();
        if is_kept_here && let Err(error) = keeper::adopt_orphans() {
            tracing::error!(%error, "this process will not see the end of a later successor");
        }
        let pid_file = legacy.pid_file.path().to_owned();
        legacy.leave();
        systemd::notify(&[
            NotifyState::MainPid(pid),
            NotifyState::Ready,
            NotifyState::Status("serving"),
        ]);
        drop(successor.channel);
        tracing::info!(by = restart.by, successor = pid, "replaced; draining");
        restart.answer.give(Ok(done));

        // What came too late for this process.
        let (mut signals, orders) = requests.close();
        if orders.iter().any(|order| matches!(order, Order::Stop(_))) {
            let _ = successor.process.terminate();
        }
        drop(orders);
        let timeout = reloadable.in_force.settings().shutdown_timeout;
        let drained = async {
            loop {
                let asked = tokio::select! {
                    () = servers.wait() => return,
                    () = nobody_serves(&successor.process, &pid_file), if !shutdown.closes_idle() => {
                        shutdown.begin();
                        continue;
                    }
                    asked = signals.next() => asked,
                };
                if is_kept_here {
                    pid = keeper::pass_on(asked.signal(), pid, &pid_file);
                }
                if matches!(asked, Asked::Stop(_)) {
                    // The second one.
                    if shutdown.closes_idle() {
                        shutdown.force();
                    }
                    shutdown.begin();
                }
            }
        };
        if tokio::time::timeout(timeout, drained).await.is_err() {
            tracing::info!(
                "the deadline is over: closing what is idle, cutting off what is in flight"
            );
            shutdown.begin();
            force(&shutdown, &servers).await;
        }
        tracing::info!("drained");
        reloadable.log.settle(Duration::from_secs(5));
        if !is_kept_here {
            return Ended::Gracefully;
        }
        // The log is the successor's: its file may be rotated away.
        drop(reloadable);
        match keeper::keep(signals, pid, &pid_file).await {
            Ok(code) => Ended::Kept(code),
            Err(error) => {
                tracing::error!(%error, "this process cannot stand in for its successor");
                Ended::Kept(1)
            }
        }
    }

    /// Drains, and leaves nothing but how it ended.
    async fn stop(self, stop: Stop) -> Ended {
        let Self {
            requests,
            reloadable,
            mut legacy,
            shutdown,
            servers,
        } = self;
        let Stop { by, cause, timeout } = stop;
        let settings = reloadable.in_force.settings();
        let (delay, timeout) = (
            settings.drain_delay,
            timeout.unwrap_or(settings.shutdown_timeout),
        );
        let (mut signals, _) = requests.close();
        let deadline = shutdown.due_within(delay + timeout);
        reloadable.health.enter(Phase::Draining);
        reloadable.health.stop_watching();
        systemd::notify_stopping(deadline.left());
        tracing::info!(by, ?timeout, ?delay, "stopping");
        let mut second_signal = pin!(second_signal(&mut signals, cause == ExitCause::Signalled));
        let delayed = async {
            // So that load balancers notice while there is somebody who serves. Even no time takes a while to sleep.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            // So that followers see it before their streams end.
            reloadable.log.settle(Duration::from_secs(1));
            legacy.sockets.clear();
            shutdown.begin();
            let all_drained = async {
                tokio::join!(servers.wait(), legacy.end_predecessors());
            };
            if tokio::time::timeout(timeout, all_drained).await.is_err() {
                tracing::warn!("the deadline is over: cutting off what is still in flight");
            }
        };
        let ended = tokio::select! {
            () = delayed => Ended::Gracefully,
            signal = &mut second_signal => {
                tracing::warn!(signal, "a second signal: cutting off what is still in flight");
                Ended::Interrupted
            }
        };
        // A second signal may come before the drain.
        legacy.sockets.clear();
        legacy.kill_predecessors();
        force(&shutdown, &servers).await;
        legacy.state.ended_sessions = reloadable.sessions.ended();
        tracing::info!("stopped");
        reloadable.log.settle(Duration::from_secs(5));
        let cause = if matches!(ended, Ended::Interrupted) {
            ExitCause::Interrupted
        } else {
            cause
        };
        legacy.end(Exit {
            cause,
            by,
            at: Timestamp::now().to_string(),
        });
        ended
    }
}

/// Returns once the successor is gone and no other daemon took its place.
async fn nobody_serves(successor: &Process, pid_file: &Path) {
    // One that cannot be waited for is told by signal that it is over, or by its deadline.
    if successor.gone().await.is_err() || matches!(inspect(pid_file), Ok(Presence::Held(_))) {
        std::future::pending::<()>().await;
    }
}

/// Cuts off what is still there.
async fn force(shutdown: &Shutdown, servers: &TaskTracker) {
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
            Asked::Stop(signal) if had_one => return signal,
            Asked::Stop(signal) => {
                tracing::info!(signal, "stopping already");
                had_one = true;
            }
            Asked::Reload | Asked::Restart => {}
        }
    }
}
