//! Whether the admin API answers.

use crate::client::ClientError;
use crate::doctor::finding::Finding;
use crate::doctor::process::{describe_listener, describe_state, resume_hint};
use crate::doctor::snapshot::Snapshot;
use crate::sys::Process;

const ADMIN_API: &str = "admin API";

pub fn answer(snapshot: &Snapshot) -> Option<Finding> {
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
                Some(process) if has_state_file || process.is_suspended() => {
                    resume_hint(process, base)
                }
                Some(_) => {
                    "there is no state file: set ADMIN_HOST and ADMIN_PORT to the daemon's address"
                        .into()
                }
                None => {
                    "check that the daemon is running there; check the address or the tunnel".into()
                }
            };
            let state = describe_state(process);
            (format!("{base} cannot be reached: {reason}{state}"), hint)
        }
        ClientError::TokenRefused { base, problem } => {
            let base = base.trim_end_matches('/');
            (
                format!("{base} rejected the token: {}", problem.reason()),
                refusal_hint(error, problem.status, process.is_some()).into(),
            )
        }
        ClientError::UnexpectedServer { base, .. } => (
            format!("{error}; {} listens there", describe_listener(base)),
            "set ADMIN_HOST and ADMIN_PORT (or --admin-url) to the daemon's address".into(),
        ),
        ClientError::Untrusted { base, reason } => (
            format!(
                "no token was sent to {}: {reason}",
                base.trim_end_matches('/')
            ),
            "stop the program that listens there, or use the daemon's own address".into(),
        ),
        // The state file has a finding of its own, which says why.
        ClientError::NoState(_) => (
            "its address is unknown without a usable state file".into(),
            "fix the state file; meanwhile run this with --admin-url".into(),
        ),
        ClientError::NoKey(_) => (
            error.to_string(),
            "run this as the daemon's user, or set JWT_SECRET_KEY to the daemon's signing key"
                .into(),
        ),
        ClientError::InvalidAddress(_) | ClientError::UnknownAddress(_) => (
            error.to_string(),
            "set ADMIN_HOST and ADMIN_PORT to the daemon's address".into(),
        ),
        ClientError::Problem(_)
        | ClientError::NotRunning
        | ClientError::NoRandomBytes(_)
        | ClientError::Sign(_) => (error.to_string(), "see `fullon logs --no-follow`".into()),
    };
    Finding::error(ADMIN_API, message, hint)
}

fn refusal_hint(error: &ClientError, status: u16, can_restart: bool) -> &'static str {
    if error.is_clock_difference() {
        "the clocks of the two machines differ: synchronise them"
    } else if status == 403 {
        "use the loopback address: --admin-url http://127.0.0.1:PORT"
    } else if can_restart {
        "set JWT_SECRET_KEY to the daemon's signing key, or run this as the daemon's user; if the key was changed, run `fullon restart --hard`"
    } else {
        "set JWT_SECRET_KEY to the daemon's signing key, or run this as the daemon's user"
    }
}
