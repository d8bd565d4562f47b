//! What the running daemon reports about itself.

use crate::api::{Check, CheckState, ExitCause, Phase, VERSION};
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::Snapshot;

const DAEMON: &str = "daemon";
const HEALTH: &str = "health";

pub fn phase(snapshot: &Snapshot) -> Option<Finding> {
    let activity = match snapshot.status()?.phase {
        Phase::Ready => return None,
        Phase::Starting => "starts",
        Phase::Draining => "stops: it finishes the requests in flight",
    };
    let hint = "fullon status tells when it is done";
    Some(Finding::warning(DAEMON, format!("it {activity}"), hint))
}

pub fn version(snapshot: &Snapshot) -> Option<Finding> {
    let version = &snapshot.status()?.version;
    (version != VERSION).then(|| {
        let message = format!("it is version {version}, and this program is {VERSION}");
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
        "the one before it (PID {}) crashed or was killed at {at}",
        exit.pid
    );
    let hint = "fullon status --json has its last lines";
    Some(Finding::warning(DAEMON, message, hint))
}

/// The health of each dependency.
pub fn dependencies(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot.dependency_checks().map(dependency).collect()
}

fn dependency(check: &Check) -> Finding {
    let name = &check.name;
    match check.state {
        CheckState::Up => {
            let latency = check
                .latency_ms
                .map_or(String::new(), |latency| format!(" ({latency} ms)"));
            Finding::ok(HEALTH, format!("{name} is up{latency}"))
        }
        CheckState::Unknown => Finding::warning(
            HEALTH,
            format!("{name} was not heard of yet"),
            "ask again after CHECK_TIMEOUT",
        ),
        CheckState::Down => {
            let error = check.last_error.as_deref().unwrap_or("it does not say why");
            let hint =
                "correct its settings, or what they point to: the daemon tries again by itself";
            Finding::error(HEALTH, format!("{name} is down: {error}"), hint)
        }
    }
}
