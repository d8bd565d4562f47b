//! Prepares the payload of a handoff, and recovers when the handoff fails.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;

use crate::auth::ConfiguredKeys;
use crate::config::AppCommand;
use crate::daemon::resources::InstanceResources;
use crate::health::Health;
use crate::instance::{
    FailedRestart, HandoffHeader, HandoffPayload, InheritedSocket, StoredSecret,
};
use crate::server::admin::{AdminState, share_counters};
use crate::server::control_request::RestartFailure;
use crate::sys::{Process, blocking};

/// How long a killed successor may take to release the lock.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the command that runs a successor, with another command of the application if it is given.
///
/// # Errors
///
/// The program or its directory no longer exists.
pub fn successor_command(
    resources: &InstanceResources,
    app_command: Option<&AppCommand>,
) -> io::Result<Command> {
    let InstanceResources { launch, mode, .. } = resources;
    let launch = match app_command {
        Some(command) => &launch.with_app_command(command),
        None => launch,
    };
    if let Some(missing) = launch.missing_path() {
        let text = format!("{} does not exist", missing.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    let mut command = launch.command(mode.successor_arguments());
    if mode.must_supervise() {
        // Signals of the terminal reach only this process, which forwards them.
        command.process_group(0);
    }
    Ok(command)
}

/// Makes the payload for a successor. `by` is the client or signal that requested the restart. From
/// now on, this process adds its counters to those of the successor.
///
/// # Errors
///
/// No descriptor is free.
pub fn payload(
    resources: &InstanceResources,
    by: &str,
    keys: &ConfiguredKeys,
    health: &Health,
    admin: &AdminState,
) -> io::Result<HandoffPayload> {
    let InstanceResources {
        mode,
        state,
        pid_file,
        supervisor,
        ..
    } = resources;
    let counters = blocking(|| share_counters(admin)).inspect_err(|error| {
        tracing::warn!(%error, "cannot pass the counters on; they start at 0");
    });
    Ok(HandoffPayload {
        header: HandoffHeader {
            pid: state.pid,
            generation: state.generation,
            by: by.to_owned(),
            pid_file: pid_file.path().to_owned(),
            instance_key: state.instance_key.clone(),
            configured_key: Some(StoredSecret::new(keys.current())),
            previous_key: keys.previous().map(|previous| {
                let valid_for = u64::try_from(previous.valid_for.as_millis());
                let key = StoredSecret::new(previous.secret);
                (key, valid_for.unwrap_or(u64::MAX))
            }),
            supervisor: if mode.must_supervise() {
                Some(state.pid)
            } else {
                *supervisor
            },
            checks: health.known_checks(),
            failed_attempts: admin.auth.recent_failures(),
            has_revocations: keys.revocations().was_present(),
        },
        lock: pid_file.clone_lock()?,
        stderr: io::stderr().as_fd().try_clone_to_owned()?,
        sockets: clone_sockets(&resources.sockets)?,
        counters: counters.ok(),
        predecessors: predecessors(resources)?,
    })
}

fn clone_sockets(sockets: &[InheritedSocket]) -> io::Result<Vec<InheritedSocket>> {
    let clone = |socket: &InheritedSocket| {
        let listener = socket.listener.try_clone()?;
        Ok(InheritedSocket {
            listener,
            ..*socket
        })
    };
    sockets.iter().map(clone).collect()
}

/// The processes that drain while the successor serves, which it stops when it stops itself.
fn predecessors(resources: &InstanceResources) -> io::Result<Vec<Process>> {
    let mut predecessors = Vec::new();
    // A supervisor must not be stopped: it would forward the signal to the successor.
    if !resources.mode.must_supervise() {
        predecessors.extend(Process::open(resources.state.pid));
    }
    for process in &resources.predecessors {
        if !process.has_exited() {
            predecessors.push(process.try_clone()?);
        }
    }
    Ok(predecessors)
}

/// Reclaims the PID file and the state file after a failed handoff. Kills successors that hold the
/// lock but did not report in time. `failure` is noted in the state file.
pub async fn reclaim(resources: &mut InstanceResources, failure: Option<&RestartFailure>) {
    let own_pid = resources.state.pid;
    let holders: Vec<_> = Process::all()
        .filter(|process| process.pid() != own_pid && resources.pid_file.is_locked_by(process))
        .collect();
    for process in holders {
        // It may have exited already.
        let _ = process.kill();
        let _ = tokio::time::timeout(KILL_TIMEOUT, process.exited()).await;
    }
    if let Some(failure) = failure {
        resources.state.failed_restart = Some(FailedRestart {
            at: Timestamp::now().to_string(),
            reason: failure.reason.clone(),
        });
    }
    if !resources.pid_file.is_in_place() {
        // Both files belong to another daemon by now.
        return;
    }
    // A failure is logged.
    let _ = resources.write_state();
    if let Err(error) = resources.pid_file.claim() {
        tracing::error!(%error, "cannot write the PID file");
    }
}
