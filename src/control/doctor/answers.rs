//! What the two APIs say, or why they say nothing.

use super::Finding;
use super::settings::SETTINGS;
use crate::api::{
    Check, CheckState, ExitCause, Health, HealthState, Phase, Problem, Status, VERSION,
};
use crate::auth::TokenError;
use crate::client::{ClientError, HealthError, parse_base_url};
use crate::config::is_reloadable;
use crate::instance::{Process, find_listener};

const ADMIN_API: &str = "admin API";
const PUBLIC_API: &str = "public API";
const DAEMON: &str = "daemon";
const HEALTH: &str = "health";

/// Name of the daemon's own check of its log, for which there is a finding of its own.
pub const LOG_CHECK: &str = "log";

pub fn answers(status: &Status) -> Finding {
    Finding::ok(
        ADMIN_API,
        format!(
            "{} answers (PID {}, version {})",
            status.admin, status.pid, status.version
        ),
    )
}

/// Why the admin API told nothing. `process` should have answered.
pub fn unreachable(error: &ClientError, process: Option<&Process>, has_state: bool) -> Finding {
    let (seen, next) = match error {
        ClientError::Unreachable { base, reason } => {
            let (base, next) = (base.trim_end_matches('/'), match process {
                Some(process) if has_state || process.is_suspended() => unstick_hint(process),
                Some(_) => "without a state file, ADMIN_HOST and ADMIN_PORT here have to be the daemon's".into(),
                None => "check that the daemon runs there, and the address or the tunnel".into(),
            });
            (
                format!(
                    "{base} cannot be reached: {reason}{}",
                    describe_process(process)
                ),
                next,
            )
        }
        ClientError::TokenRefused { base, problem } => {
            let base = base.trim_end_matches('/');
            (
                format!("{base} refused the token: {}", problem.reason()),
                refusal_hint(problem, process.is_some()),
            )
        }
        ClientError::UnexpectedServer { base, .. } => (
            format!("{error}: {} listens there", listener_at(base)),
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
    Finding::error(ADMIN_API, seen, next)
}

/// Who should have answered, and in what state.
fn describe_process(process: Option<&Process>) -> String {
    process.map_or(String::new(), |process| {
        let is = if process.is_suspended() {
            "is suspended"
        } else {
            "lives"
        };
        format!("; {} {is}", process.describe())
    })
}

fn unstick_hint(process: &Process) -> String {
    if process.is_suspended() {
        format!("kill -CONT {}", process.pid())
    } else {
        "unless it just starts or stops, or the network is blocked, it hangs: fullon restart --hard"
            .into()
    }
}

fn listener_at(base: &str) -> String {
    parse_base_url(base)
        .ok()
        .and_then(|url| find_listener(url.port_or_known_default()?))
        .map_or("somebody else".into(), |process| process.describe())
}

fn refusal_hint(problem: &Problem, can_restart: bool) -> String {
    let is_about = |refused: TokenError| problem.detail.starts_with(&refused.to_string());
    if is_about(TokenError::Expired) || is_about(TokenError::NotYetValid) {
        "the clocks of the two machines differ: set them"
    } else if problem.status == 403 {
        "use http://127.0.0.1 and the port"
    } else if can_restart {
        "use the daemon's JWT_SECRET_KEY, or run this as its user; if the secret was changed, fullon restart --hard"
    } else {
        "use the daemon's JWT_SECRET_KEY, or run this as its user"
    }
    .into()
}

pub fn public_api(
    base: &str,
    answer: Result<Health, HealthError>,
    process: Option<&Process>,
) -> Finding {
    match answer {
        Ok(Health {
            status: HealthState::Healthy,
            ..
        }) => Finding::ok(PUBLIC_API, format!("{base} answers")),
        Ok(_) => Finding::warning(
            PUBLIC_API,
            format!("{base} says that it is unhealthy"),
            format!("{base}/health/ready tells why"),
        ),
        Err(HealthError::Unreachable(why)) => Finding::error(
            PUBLIC_API,
            format!(
                "{base} cannot be reached: {why}{}",
                describe_process(process)
            ),
            process.map_or("run this as the daemon's user".into(), unstick_hint),
        ),
        Err(error @ HealthError::UnexpectedServer(_)) => Finding::error(
            PUBLIC_API,
            format!("{base}: {error}: {} listens there", listener_at(base)),
            "set HOST and PORT to where the daemon listens",
        ),
    }
}

/// What the daemon says of itself that somebody should know.
pub fn status_findings(status: &Status) -> Vec<Finding> {
    let phase = match status.phase {
        Phase::Ready => None,
        Phase::Starting => Some("starts"),
        Phase::Draining => Some("stops: it finishes the requests in flight"),
    };
    let phase = phase.map(|doing| {
        let next = "fullon status tells when it is done";
        Finding::warning(DAEMON, format!("it {doing}"), next)
    });
    let version = (status.version != VERSION).then(|| {
        let seen = format!(
            "it is version {}, and this program is {VERSION}",
            status.version
        );
        Finding::warning(DAEMON, seen, "fullon restart")
    });
    let pending = &status.pending_restart;
    let edited = (!pending.is_empty()).then(|| {
        let seen = format!("edited and not in force: {}", pending.join(", "));
        let is_reload_enough = pending.iter().all(|name| is_reloadable(name));
        let next = if is_reload_enough {
            "fullon reload"
        } else {
            "fullon restart"
        };
        Finding::warning(SETTINGS, seen, next)
    });
    let crash = status
        .last_exit
        .as_ref()
        .filter(|exit| exit.cause == ExitCause::Crashed)
        .map(|exit| {
            let at = exit.at.as_deref().unwrap_or("an unknown time");
            let seen = format!(
                "the one before it (PID {}) crashed or was killed at {at}",
                exit.pid
            );
            Finding::warning(DAEMON, seen, "fullon status --json has its last lines")
        });
    let checks = status
        .checks
        .iter()
        .filter(|check| check.name != LOG_CHECK)
        .map(health_finding);
    [phase, version, edited, crash]
        .into_iter()
        .flatten()
        .chain(checks)
        .collect()
}

fn health_finding(check: &Check) -> Finding {
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
            let next =
                "correct its settings, or what they point to: the daemon tries again by itself";
            Finding::error(HEALTH, format!("{name} is down: {error}"), next)
        }
    }
}
