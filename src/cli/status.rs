//! `fullon status`. Its exit codes are those of LSB init scripts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::json;

use super::context::{CommandContext, block_on};
use super::error::{CommandError, Result};
use super::output::{Colour, Output, Span, notice};
use super::reload::activating_command;
use crate::api::{
    AuditState, DaemonPhase, DaemonStatus, ExitCause, HealthCheck, HealthCheckState, LastExit,
    WorkerStatus,
};
use crate::client::ClientError;
use crate::config::{Activation, InvalidSettings, Settings, activation};
use crate::control::{DaemonControl, StatusReport};
use crate::identity::identity;

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Exit with 0 if the public API reports ready, otherwise with 1 (for health checks of containers)
    #[arg(long)]
    ready: bool,
}

pub fn run(context: &CommandContext, arguments: &StatusArgs, output: &Output) -> Result {
    if arguments.ready {
        return super::ready::run(context, output);
    }
    let control = context.control()?;
    let pid_file = control.pid_file();
    let unknown = |error: String| {
        print_not_running(4, "unknown", &format!("Unknown: {error}"), pid_file, output)
    };
    let report = match block_on(control.status())? {
        Ok(report) => report,
        Err(error) => return unknown(error.to_string()),
    };
    match report {
        StatusReport::Running(status) if output.is_json() => print_json(&status, output),
        StatusReport::Running(status) => {
            print(&status, output)?;
            print_log_level_override(&control, &status, output)?;
            print_pending(&control, &status, output)
        }
        StatusReport::Unresponsive {
            pid,
            server,
            log_file,
            error,
        } => {
            notice(&format!(
                "{error}; this status is from the PID file and its lock"
            ));
            print_offline(pid, server.as_deref(), log_file, pid_file, &error, output)
        }
        StatusReport::Dead(pid) => {
            let pid = pid.map_or(String::new(), |pid| format!(" (PID {pid})"));
            let text = format!(
                "Dead{pid}: the daemon ended without removing its PID file; the next start replaces it"
            );
            print_not_running(1, "dead", &text, pid_file, output)
        }
        StatusReport::NotRunning => {
            print_not_running(3, "not_running", "Not running", pid_file, output)
        }
        StatusReport::Unknown(error) => unknown(error.to_string()),
    }
}

fn print(status: &DaemonStatus, output: &Output) -> Result {
    let (state, colour) = describe_state(status);
    let uptime = Duration::try_from_secs_f64(status.uptime_seconds.floor()).unwrap_or_default();
    let uptime = humantime::format_duration(uptime);
    print_label("Status:", colour, &state, output)?;
    let mut lines = vec![
        ("PID:", status.pid.to_string()),
        ("PID File:", status.pid_file.clone()),
        ("Log File:", status.log_file.clone()),
        ("Server:", status.server.clone()),
    ];
    let server = status.server.trim_start_matches("http://");
    if status.listens_on.iter().any(|address| address != server) {
        lines.push(("Listening:", status.listens_on.join(", ")));
    }
    lines.extend([
        ("Docs:", status.docs.clone()),
        ("Health:", status.health.clone()),
        ("Admin:", status.admin.clone()),
        ("Version:", status.version.clone()),
        ("Uptime:", uptime.to_string()),
    ]);
    if let Some(command) = &status.app_command {
        lines.push(("App:", command.clone()));
    }
    print_labels(&lines, output)?;
    for worker in &status.workers {
        let (text, colour) = describe_worker(worker);
        print_label("Worker:", colour, &text, output)?;
    }
    if let Some(last) = &status.last_exit {
        let colour = if last.cause == ExitCause::Crashed {
            Colour::Red
        } else {
            Colour::Grey
        };
        print_label("Last exit:", colour, &describe_last_exit(last), output)?;
        if last.cause == ExitCause::Crashed {
            for line in &last.last_lines {
                output.print_line(&format!("  {line}"))?;
            }
        }
    }
    // A healthy log is not mentioned.
    let is_relevant =
        |check: &&HealthCheck| check.since.is_some() || check.state != HealthCheckState::Up;
    for check in status.checks.iter().filter(is_relevant) {
        let (text, colour) = describe_check(check);
        print_label("Check:", colour, &text, output)?;
    }
    for warning in &status.warnings {
        print_label("Warning:", Colour::Yellow, warning, output)?;
    }
    match &status.audit {
        Some(AuditState {
            error: Some(error), ..
        }) => {
            let text = format!("{error}; records are kept in memory");
            print_label("Audit:", Colour::Yellow, &text, output)?;
        }
        // The head that `fullon audit --verify --head` compares with.
        Some(audit) if audit.seq > 0 => {
            print_labels(
                &[("Audit:", format!("{}:{}", audit.seq, audit.hash))],
                output,
            )?;
        }
        _ => {}
    }
    Ok(())
}

/// Prints the log level if it is not the configured one.
fn print_log_level_override(
    control: &DaemonControl,
    status: &DaemonStatus,
    output: &Output,
) -> Result {
    let Some(level) = block_on(control.log_level_override(&status.log_level))? else {
        return Ok(());
    };
    let configured = &level.configured_level;
    let until = level.revert_after_seconds.and_then(|seconds| {
        let left = SignedDuration::try_from_secs_f64(seconds.round()).ok()?;
        let now = Timestamp::now().round(Unit::Second).ok()?;
        now.checked_add(left).ok()
    });
    let text = match until {
        Some(until) => format!("{} until {until}, then {configured}", level.level),
        None => format!(
            "{} until a restart or a new LOG_LEVEL (now {configured})",
            level.level
        ),
    };
    print_label("Log Level:", Colour::Yellow, &text, output)
}

/// Prints the settings that were edited but are not active, and the command that applies them.
fn print_pending(control: &DaemonControl, status: &DaemonStatus, output: &Output) -> Result {
    let program = identity().command;
    let pending = &status.pending_restart;
    let sources = control.running_sources().filter(|_| !pending.is_empty());
    let checked = sources.as_ref().map(Settings::load);
    let problems = checked.and_then(|settings| settings.err().map(|InvalidSettings(it)| it));
    for problem in problems.iter().flatten() {
        let text =
            format!("{problem}: fix it before a reload or restart (`{program} config --check`)");
        print_label("Pending:", Colour::Red, &text, output)?;
    }
    let is_invalid = |name: &&String| {
        let mut problems = problems.iter().flatten();
        problems.any(|problem| problem.setting == **name)
    };
    let names: Vec<_> = pending.iter().filter(|name| !is_invalid(name)).collect();
    for step in [Activation::Reload, Activation::Restart, Activation::Start] {
        let names = names.iter().filter(|name| activation(name) == step);
        let names: Vec<_> = names.map(|name| name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        let text = format!(
            "{} changed in .env, not active until `{}`",
            names.join(", "),
            activating_command(step, &status.pid_file)
        );
        print_label("Pending:", Colour::Yellow, &text, output)?;
    }
    Ok(())
}

fn print_json(status: &DaemonStatus, output: &Output) -> Result {
    output.print_json(&json!({
        "state": "running",
        "via": "rest",
        "pid": status.pid,
        "pid_file": status.pid_file,
        "log_file": status.log_file,
        "server": status.server,
        "status": status,
    }))
}

/// The state in one line. It begins with `Running`, which scripts search for.
fn describe_state(status: &DaemonStatus) -> (String, Colour) {
    let is_down = |check: &&HealthCheck| check.state == HealthCheckState::Down;
    let down = status.checks.iter().filter(is_down);
    let down: Vec<_> = down.map(|check| &*check.name).collect();
    match status.phase {
        DaemonPhase::Starting => ("Running (starting)".into(), Colour::Yellow),
        DaemonPhase::Draining => ("Running (draining)".into(), Colour::Yellow),
        DaemonPhase::Ready if down.is_empty() => ("Running".into(), Colour::Green),
        DaemonPhase::Ready => {
            let text = format!("Running (unhealthy: {})", down.join(", "));
            (text, Colour::Yellow)
        }
    }
}

/// A worker in one line.
fn describe_worker(worker: &WorkerStatus) -> (String, Colour) {
    let (state, colour) = match &*worker.state {
        "starting" => ("is starting", Colour::Yellow),
        "ready" => ("is ready", Colour::Green),
        "stopping" => ("is stopping", Colour::Yellow),
        "backing_off" => ("has exited, and starts again soon", Colour::Red),
        "crash_loop" => ("exits again and again", Colour::Red),
        other => (other, Colour::Yellow),
    };
    let pid = worker.pid.map(|pid| {
        let memory = ByteSize(worker.rss_bytes).display().si();
        format!(" (PID {pid}, {memory})")
    });
    let in_flight = (worker.in_flight > 0).then(|| format!(", in flight: {}", worker.in_flight));
    let restarts = (worker.restarts > 0).then(|| format!(", restarts: {}", worker.restarts));
    let last_exit = worker.last_exit.as_ref();
    let last_exit = last_exit.map(|exit| format!(", last exit: {exit}"));
    let parts = [pid, in_flight, restarts, last_exit];
    let text = parts.into_iter().flatten().collect::<String>();
    let text = format!("{} {state}{text}", worker.slot);
    (text, colour)
}

fn describe_check(check: &HealthCheck) -> (String, Colour) {
    let name = &check.name;
    let since = check
        .since
        .as_ref()
        .map_or(String::new(), |since| format!(" since {since}"));
    match check.state {
        HealthCheckState::Up => {
            let latency = check
                .latency_ms
                .map_or(String::new(), |latency| format!(" ({latency} ms)"));
            (format!("{name} is up{since}{latency}"), Colour::Green)
        }
        HealthCheckState::Unknown => (format!("{name} has not been checked yet"), Colour::Yellow),
        HealthCheckState::Down => {
            let error = check.last_error.as_deref().unwrap_or("unknown error");
            (format!("{name} is down{since}: {error}"), Colour::Red)
        }
    }
}

fn describe_last_exit(last: &LastExit) -> String {
    let how = match last.cause {
        ExitCause::Stopped => "stopped",
        ExitCause::Signalled => "stopped (signal)",
        ExitCause::Interrupted => "ended before requests were finished",
        ExitCause::Restarted => "replaced",
        ExitCause::Crashed => "crashed",
    };
    let by = last
        .by
        .as_ref()
        .map_or(String::new(), |by| format!(" by {by}"));
    let at = last
        .at
        .as_ref()
        .map_or(String::new(), |at| format!(" at {at}"));
    format!("{how}{by}{at} (PID {})", last.pid)
}

/// Prints the status from the PID file and the state file, without the admin API.
fn print_offline(
    pid: Option<u32>,
    server: Option<&str>,
    log_file: Option<PathBuf>,
    pid_file: &Path,
    error: &ClientError,
    output: &Output,
) -> Result {
    let state = match error {
        ClientError::TokenRefused { .. } | ClientError::NoKey(_) => {
            "Running (admin API rejected the token)"
        }
        ClientError::NoState(_) => "Running (address of the admin API unknown)",
        ClientError::Untrusted { .. } => "Running (another user's program holds the admin port)",
        _ => "Running (admin API does not answer)",
    };
    output.print_json(&json!({
        "state": "running",
        "via": "pid_file",
        "pid": pid,
        "pid_file": pid_file,
        "log_file": log_file,
        "server": server,
        "detail": error.to_string(),
    }))?;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
    let url = |path: &str| or_unknown(server.map(|server| format!("{server}{path}")));
    print_label("Status:", Colour::Yellow, state, output)?;
    let lines = [
        ("PID:", or_unknown(pid.map(|pid| pid.to_string()))),
        ("PID File:", pid_file.display().to_string()),
        (
            "Log File:",
            or_unknown(log_file.map(|path| path.display().to_string())),
        ),
        ("Server:", url("")),
        ("Docs:", url("/docs")),
        ("Health:", url("/health")),
    ];
    print_labels(&lines, output)
}

fn print_not_running(
    code: u8,
    state: &str,
    text: &str,
    pid_file: &Path,
    output: &Output,
) -> Result {
    print_label("Status:", Colour::Red, text, output)?;
    print_labels(&[("PID File:", pid_file.display().to_string())], output)?;
    output.print_json(&json!({ "state": state, "pid_file": pid_file, "detail": text }))?;
    Err(CommandError::Exit(code))
}

fn print_labels(lines: &[(&str, String)], output: &Output) -> Result {
    lines
        .iter()
        .try_for_each(|(label, value)| output.print_line(&format!("{label:<10} {value}")))
}

fn print_label(label: &str, colour: Colour, text: &str, output: &Output) -> Result {
    output.print_spans(&[
        Span::plain(&format!("{label:<10} ")),
        Span::coloured(colour, text),
    ])
}
