//! The daemon while it serves: handles requests until it stops or is replaced.

use super::daemon::Daemon;
use super::drain::{ExitOutcome, drain_and_exit};
use super::replaced::drain_after_handoff;
use super::restart::{HandoffOutcome, restart};
use crate::daemon::application::Application;
use crate::daemon::error::StartError;
use crate::instance::StartupReporter;
use crate::server::control_request::{
    ControlRequest, RestartFailure, RestartFailureKind, StopCommand,
};

/// Serves until the daemon is stopped or replaced, then drains.
///
/// # Errors
///
/// The application did not become ready.
pub async fn run(
    mut daemon: Daemon,
    reporter: &mut Option<StartupReporter>,
) -> Result<ExitOutcome, StartError> {
    let mut revocations = daemon.reloadable.keys.revocations().subscribe();
    daemon.record_revocations();
    loop {
        let is_starting = daemon.pending_start.is_some();
        let request = tokio::select! {
            request = daemon.requests.next() => request,
            () = daemon.resources.predecessor_exited() => continue,
            ready = application_ready(daemon.reloadable.application.as_deref()), if is_starting => {
                if let Err(error) = ready {
                    abort_start(daemon, &error).await;
                    return Err(error);
                }
                if let Some(start) = daemon.pending_start.take() {
                    daemon.finish_start(start, reporter);
                }
                continue;
            }
            Ok(()) = revocations.changed() => {
                daemon.record_revocations();
                continue;
            }
        };
        match request {
            ControlRequest::Stop(command) => return Ok(drain_and_exit(daemon, command).await),
            ControlRequest::Restart(command) if is_starting => {
                command.reply.send(Err(RestartFailure::new(
                    RestartFailureKind::Busy,
                    "the application is still starting",
                )));
            }
            ControlRequest::Reload(command) => daemon.reload(command),
            ControlRequest::ReopenLog => daemon.reopen_log(),
            ControlRequest::Sessions(command) => daemon.update_sessions(command),
            ControlRequest::RevokeAll(command) => daemon.revoke_all(command),
            ControlRequest::Restart(command) => match restart(&mut daemon, command).await {
                HandoffOutcome::Replaced(successor, command) => {
                    return Ok(drain_after_handoff(daemon, successor, command).await);
                }
                HandoffOutcome::Stopped(command) => {
                    return Ok(drain_and_exit(daemon, command).await);
                }
                HandoffOutcome::Failed => {}
            },
        }
    }
}

async fn application_ready(application: Option<&Application>) -> Result<(), StartError> {
    match application {
        Some(application) => application.ready().await,
        None => Ok(()),
    }
}

/// Exits without a drain: no request was served.
async fn abort_start(daemon: Daemon, error: &StartError) {
    tracing::error!(%error, "the application did not start");
    let command = StopCommand {
        by: "the application did not start".into(),
        timeout: None,
        is_signal: false,
        is_immediate: true,
    };
    drain_and_exit(daemon, command).await;
}
