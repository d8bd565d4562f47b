//! The daemon while it serves: handles requests until it stops or is replaced.

use super::daemon::Daemon;
use super::drain::{ExitOutcome, drain_and_exit};
use super::replaced::drain_after_handoff;
use super::restart::{HandoffOutcome, restart};
use crate::server::control_request::ControlRequest;

/// Serves until the daemon is stopped or replaced, then drains.
pub async fn run(mut daemon: Daemon) -> ExitOutcome {
    let mut revocations = daemon.reloadable.keys.revocations().subscribe();
    daemon.record_revocations();
    loop {
        let request = tokio::select! {
            request = daemon.requests.next() => request,
            () = daemon.resources.predecessor_exited() => continue,
            Ok(()) = revocations.changed() => {
                daemon.record_revocations();
                continue;
            }
        };
        match request {
            ControlRequest::Stop(command) => return drain_and_exit(daemon, command).await,
            ControlRequest::Reload(command) => daemon.reload(command),
            ControlRequest::ReopenLog => daemon.reopen_log(),
            ControlRequest::Sessions(command) => daemon.update_sessions(command),
            ControlRequest::RevokeAll(command) => daemon.revoke_all(command),
            ControlRequest::Restart(command) => match restart(&mut daemon, command).await {
                HandoffOutcome::Replaced(successor, command) => {
                    return drain_after_handoff(daemon, successor, command).await;
                }
                HandoffOutcome::Stopped(command) => return drain_and_exit(daemon, command).await,
                HandoffOutcome::Failed => {}
            },
        }
    }
}
