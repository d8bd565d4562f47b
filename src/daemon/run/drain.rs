//! A stop: drains, and records how the daemon exited.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::daemon::Daemon;
use super::requests::exited;
use crate::daemon::resources::InstanceResources;
use crate::daemon::signals::{SignalAction, SignalHandlers};
use crate::daemon::supervise::systemd;
use crate::health::Phase;
use crate::instance::{ExitCause, ExitRecord};
use crate::server::Shutdown;
use crate::server::control_request::StopCommand;

/// How long closed connections may take to end.
const FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How the daemon exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitOutcome {
    /// All requests in flight were finished, or the deadline passed.
    Graceful,
    /// A second signal, or the end of its supervisor, ended it at once.
    Interrupted,
    /// It was replaced, and supervised its successors. The last one exited with this code.
    Supervised(u8),
}

/// Drains and exits.
pub async fn drain_and_exit(daemon: Daemon, command: StopCommand) -> ExitOutcome {
    let Daemon {
        requests,
        reloadable,
        mut resources,
        pending_start: _,
        shutdown,
        servers,
        admin: _,
    } = daemon;
    let StopCommand {
        by,
        timeout,
        is_signal,
        is_immediate,
    } = command;
    let settings = reloadable.live_settings.settings();
    let (delay, timeout) = if is_immediate {
        (Duration::ZERO, Duration::ZERO)
    } else {
        let timeout = timeout.unwrap_or(settings.shutdown_timeout);
        (settings.drain_delay, timeout)
    };
    let (mut signals, supervisor, _) = requests.close();
    let workers = reloadable.application.as_ref().map(|it| &*it.workers);
    let deadline = shutdown.set_deadline(settings.stop_timeout(timeout));
    reloadable.health.enter(Phase::Draining);
    reloadable.health.stop_watching();
    systemd::notify_stopping(deadline.remaining());
    tracing::info!(by, ?timeout, ?delay, "stopping");
    let drained = async {
        // Load balancers notice the unready daemon while it still serves. Even a sleep of no time
        // takes a while.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // So that followers of the log get its last lines before their streams end.
        reloadable.log.flush(Duration::from_secs(1));
        drain(&mut resources, &shutdown, &servers, timeout).await;
        if let Some(workers) = workers {
            // Their clients need no worker any more.
            force_close(&shutdown, &servers).await;
            workers.terminate().await;
        }
    };
    let outcome = tokio::select! {
        () = drained => ExitOutcome::Graceful,
        signal = second_signal(&mut signals, is_signal) => {
            tracing::warn!(signal, "second signal; aborting the requests in flight");
            ExitOutcome::Interrupted
        }
        () = exited(supervisor.as_ref()) => {
            tracing::error!("the supervising process has ended; aborting the requests in flight");
            ExitOutcome::Interrupted
        }
    };
    // A second signal may come before the drain has closed them.
    resources.sockets.clear();
    resources.kill_predecessors();
    force_close(&shutdown, &servers).await;
    if let Some(workers) = workers {
        workers.kill();
        workers.terminate().await;
    }
    resources.state.sessions = reloadable.sessions.stored();
    reloadable.audit.flush();
    tracing::info!("stopped");
    reloadable.log.flush(Duration::from_secs(5));
    resources.record_exit(ExitRecord {
        cause: match outcome {
            ExitOutcome::Interrupted => ExitCause::Interrupted,
            _ if is_immediate => ExitCause::Interrupted,
            _ if is_signal => ExitCause::Signalled,
            _ => ExitCause::Stopped,
        },
        by,
        at: Timestamp::now().to_string(),
    });
    outcome
}

/// Closes the listeners, and waits at most `timeout` until this process and those that it replaced
/// have finished their requests.
async fn drain(
    resources: &mut InstanceResources,
    shutdown: &Shutdown,
    servers: &TaskTracker,
    timeout: Duration,
) {
    resources.sockets.clear();
    shutdown.start();
    let all_drained = async {
        tokio::join!(servers.wait(), resources.stop_predecessors());
    };
    if tokio::time::timeout(timeout, all_drained).await.is_err() {
        tracing::warn!("deadline reached; aborting the requests in flight");
    }
}

/// Closes the remaining connections.
pub async fn force_close(shutdown: &Shutdown, servers: &TaskTracker) {
    shutdown.force();
    if tokio::time::timeout(FORCE_TIMEOUT, servers.wait())
        .await
        .is_err()
    {
        tracing::error!("a request handler blocks its thread; exiting without waiting for it");
    }
}

/// Returns the second signal that requests a stop. `had_first` is false after a stop over REST: the
/// first signal changes nothing then.
async fn second_signal(signals: &mut SignalHandlers, mut had_first: bool) -> &'static str {
    loop {
        match signals.next().await {
            SignalAction::Stop(signal) if had_first => return signal,
            SignalAction::Stop(signal) => {
                tracing::info!(signal, "already stopping");
                had_first = true;
            }
            SignalAction::Reload | SignalAction::ReopenLog | SignalAction::Restart => {}
        }
    }
}
