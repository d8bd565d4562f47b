//! Checks of the report of the running daemon about itself.

use crate::api::{DaemonPhase, ExitCause, HealthCheck, HealthCheckState, VERSION};
use crate::config::root_warning;
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::Snapshot;

const DAEMON: &str = "daemon";
const HEALTH: &str = "health";
const USER: &str = "user";

/// Whether the daemon runs as root.
pub fn user(snapshot: &Snapshot) -> Option<Finding> {
    let warning = root_warning(snapshot.process()?.pid())?;
    Some(Finding::warning(USER, warning.message, warning.next_step))
}

pub fn phase(snapshot: &Snapshot) -> Option<Finding> {
    let activity = match snapshot.status()?.phase {
        DaemonPhase::Ready => return None,
        DaemonPhase::Starting => "starting",
        DaemonPhase::Draining => "draining: waiting for the requests in flight",
    };
    let hint = "`fullon status` shows when the daemon is ready or has stopped";
    Some(Finding::warning(DAEMON, activity, hint))
}

pub fn version(snapshot: &Snapshot) -> Option<Finding> {
    let version = &snapshot.status()?.version;
    (version != VERSION).then(|| {
        let message = format!("runs version {version}; this program is version {VERSION}");
        Finding::warning(DAEMON, message, "fullon restart")
    })
}

/// Whether the previous instance crashed.
pub fn last_exit(snapshot: &Snapshot) -> Option<Finding> {
    let exit = snapshot.status()?.last_exit.as_ref()?;
    if exit.cause != ExitCause::Crashed {
        return None;
    }
    let at = exit.at.as_deref().unwrap_or("an unknown time");
    let message = format!(
        "the previous daemon (PID {}) crashed or was killed at {at}",
        exit.pid
    );
    let hint = "`fullon status` shows the last lines of its log";
    Some(Finding::warning(DAEMON, message, hint))
}

/// The health of each dependency.
pub fn dependencies(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot.dependency_checks().map(dependency).collect()
}

fn dependency(check: &HealthCheck) -> Finding {
    let name = &check.name;
    match check.state {
        HealthCheckState::Up => {
            let latency = check
                .latency_ms
                .map_or(String::new(), |latency| format!(" ({latency} ms)"));
            Finding::ok(HEALTH, format!("{name} is up{latency}"))
        }
        HealthCheckState::Unknown => Finding::warning(
            HEALTH,
            format!("{name} has not been probed yet"),
            "run `fullon doctor` again after CHECK_TIMEOUT",
        ),
        HealthCheckState::Down => {
            let error = check
                .last_error
                .as_deref()
                .unwrap_or("no reason was reported");
            let hint = format!(
                "check the settings and the server of {name}; the daemon retries by itself"
            );
            Finding::error(HEALTH, format!("{name} is down: {error}"), hint)
        }
    }
}
