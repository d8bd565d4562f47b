//! Whether the admin API answers.

use crate::client::ClientError;
use crate::doctor::finding::Finding;
use crate::doctor::process::{describe_listener, describe_state, resume_hint};
use crate::doctor::snapshot::{PidFileState, Snapshot};
use crate::sys::Process;

const ADMIN_API: &str = "admin API";

/// A refusal at the configured address while nobody holds the PID file.
pub fn configured_address(snapshot: &Snapshot) -> Option<Finding> {
    if !matches!(snapshot.pid_file, PidFileState::NotHeld) {
        return None;
    }
    let error = snapshot.admin.as_ref()?.as_ref().err()?;
    Some(unreachable(error, None, false))
}

pub fn answer(snapshot: &Snapshot) -> Option<Finding> {
    if matches!(snapshot.pid_file, PidFileState::NotHeld) {
        return None;
    }
    Some(match snapshot.admin.as_ref()? {
        Ok(status) => Finding::ok(
            ADMIN_API,
            format!(
                "{} answers (PID {}, version {})",
                status.admin, status.pid, status.version
            ),
        ),
        Err(error) => unreachable(error, snapshot.process(), snapshot.state_file.is_some()),
    })
}

/// Why the admin API gave no answer. `process` should have answered.
fn unreachable(error: &ClientError, process: Option<&Process>, has_state_file: bool) -> Finding {
    let (message, hint) = match error {
        ClientError::Unreachable { base, reason } => {
            let base = base.trim_end_matches('/');
            let hint = match process {
                Some(process) if has_state_file || process.is_suspended() => resume_hint(process),
                Some(_) => {
                    "without a state file, ADMIN_HOST and ADMIN_PORT here have to be the daemon's"
                        .into()
                }
                None => "check that the daemon runs there, and the address or the tunnel".into(),
            };
            let state = describe_state(process);
            (format!("{base} cannot be reached: {reason}{state}"), hint)
        }
        ClientError::TokenRefused { base, problem } => {
            let base = base.trim_end_matches('/');
            (
                format!("{base} refused the token: {}", problem.reason()),
                refusal_hint(error, problem.status, process.is_some()).into(),
            )
        }
        ClientError::UnexpectedServer { base, .. } => (
            format!("{error}: {} listens there", describe_listener(base)),
            "use the ADMIN_HOST and ADMIN_PORT (or the --admin-url) of the daemon".into(),
        ),
        ClientError::NoKey(_) => (
            error.to_string(),
            "run this as the daemon's user, or set its JWT_SECRET_KEY".into(),
        ),
        ClientError::InvalidAddress(_) | ClientError::UnknownAddress(_) => (
            error.to_string(),
            "set ADMIN_HOST and ADMIN_PORT to where the daemon listens".into(),
        ),
        ClientError::Problem(_) | ClientError::NotRunning | ClientError::Sign(_) => (
            error.to_string(),
            "fullon logs --no-follow may tell more".into(),
        ),
    };
    Finding::error(ADMIN_API, message, hint)
}

fn refusal_hint(error: &ClientError, status: u16, can_restart: bool) -> &'static str {
    if error.is_clock_difference() {
        "the clocks of the two machines differ: set them"
    } else if status == 403 {
        "use http://127.0.0.1 and the port"
    } else if can_restart {
        "use the daemon's JWT_SECRET_KEY, or run this as its user; if the secret was changed, fullon restart --hard"
    } else {
        "use the daemon's JWT_SECRET_KEY, or run this as its user"
    }
}
