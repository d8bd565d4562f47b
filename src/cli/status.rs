//! `fullon status`. Exit codes are those of LSB init scripts.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::output::{Colour, Output, notice, visible};
use super::{Context, Failure, Result, block_on};
use crate::api::{Check, CheckState, ExitCause, LastExit, Phase, Status};
use crate::client::ClientError;
use crate::control::Report;

pub fn run(context: &Context, output: &Output) -> Result {
    let control = context.control()?;
    let pid_file = control.pid_file();
    let report = match block_on(control.status())? {
        Ok(report) => report,
        Err(error) => {
            return not_running(4, "unknown", &format!("unknown: {error}"), pid_file, output);
        }
    };
    match report {
        Report::Running(status) => online(&status, output),
        Report::RunningOffline {
            pid,
            server,
            log_file,
            because,
        } => {
            notice(&format!(
                "{because}; this is what the PID file and its lock tell"
            ));
            let offline = Offline {
                pid,
                server: server.as_deref(),
                log_file: log_file.as_deref(),
                pid_file,
            };
            offline.print(&because, output)
        }
        Report::Dead(pid) => {
            let was = pid.map_or(String::new(), |pid| format!(" (PID {pid})"));
            let text = format!(
                "dead{was}: it ended without removing its PID file, which the next start takes over"
            );
            not_running(1, "dead", &text, pid_file, output)
        }
        Report::NotRunning => not_running(3, "not_running", "not running", pid_file, output),
        Report::Unknown(error) => {
            not_running(4, "unknown", &format!("unknown: {error}"), pid_file, output)
        }
    }
}

fn online(status: &Status, output: &Output) -> Result {
    let (state, colour) = match status.phase {
        Phase::Ready => ("running", Colour::Green),
        Phase::Starting => ("running (starting)", Colour::Yellow),
        Phase::Draining => ("running (draining)", Colour::Yellow),
    };
    let uptime = Duration::try_from_secs_f64(status.uptime_seconds.floor()).unwrap_or_default();
    let uptime = humantime::format_duration(uptime);
    let lines = [
        ("Status:", output.paint(colour, state)),
        ("PID:", status.pid.to_string()),
        ("PID File:", visible(&status.pid_file)),
        ("Log File:", visible(&status.log_file)),
        ("Server:", visible(&status.server)),
        ("Docs:", visible(&status.docs)),
        ("Health:", visible(&status.health)),
        ("Admin:", visible(&status.admin)),
        ("Version:", visible(&status.version)),
        ("Uptime:", uptime.to_string()),
    ];
    print_labels(&lines, output)?;
    if let Some(last) = &status.last_exit {
        let colour = if last.cause == ExitCause::Crashed {
            Colour::Red
        } else {
            Colour::Grey
        };
        print_labels(
            &[("Before:", output.paint(colour, &visible(&ended(last))))],
            output,
        )?;
    }
    if !status.pending_restart.is_empty() {
        let text = format!(
            "{} edited, not in force: `fullon reload` or `fullon restart`",
            status.pending_restart.join(", ")
        );
        print_labels(
            &[("Pending:", output.paint(Colour::Yellow, &visible(&text)))],
            output,
        )?;
    }
    // A log that is written needs no mention.
    let is_news = |check: &&Check| check.since.is_some() || check.state != CheckState::Up;
    for check in status.checks.iter().filter(is_news) {
        let (text, colour) = describe(check);
        print_labels(&[("Check:", output.paint(colour, &visible(&text)))], output)?;
    }
    output.value(&json!({
        "state": "running",
        "via": "rest",
        "pid": status.pid,
        "pid_file": status.pid_file,
        "log_file": status.log_file,
        "server": status.server,
        "status": status,
    }))
}

fn describe(check: &Check) -> (String, Colour) {
    let name = &check.name;
    let since = check
        .since
        .as_ref()
        .map_or(String::new(), |since| format!(" since {since}"));
    match check.state {
        CheckState::Up => {
            let latency = check
                .latency_ms
                .map_or(String::new(), |latency| format!(" ({latency} ms)"));
            (format!("{name} is up{since}{latency}"), Colour::Green)
        }
        CheckState::Unknown => (format!("{name} was not heard of yet"), Colour::Yellow),
        CheckState::Down => {
            let error = check.last_error.as_deref().unwrap_or("it does not say why");
            (format!("{name} is down{since}: {error}"), Colour::Red)
        }
    }
}

fn ended(last: &LastExit) -> String {
    let how = match last.cause {
        ExitCause::Stopped => "stopped",
        ExitCause::Signalled => "stopped by signal",
        ExitCause::Interrupted => "ended before it had drained",
        ExitCause::Restarted => "replaced",
        ExitCause::Crashed => "crashed",
    };
    let by = last
        .by
        .as_ref()
        .map_or(String::new(), |by| format!(", {by}"));
    let at = last
        .at
        .as_ref()
        .map_or(String::new(), |at| format!(", {at}"));
    format!("PID {} {how}{by}{at}", last.pid)
}

/// What is known without the admin API.
struct Offline<'a> {
    pid: Option<u32>,
    server: Option<&'a str>,
    log_file: Option<&'a Path>,
    pid_file: &'a Path,
}

impl Offline<'_> {
    fn print(&self, because: &ClientError, output: &Output) -> Result {
        let unknown = || "unknown".to_owned();
        let server = |path: &str| {
            self.server
                .map_or_else(unknown, |server| format!("{server}{path}"))
        };
        let state = match because {
            ClientError::Refused { .. } | ClientError::NoKey(_) => "running (admin API refused us)",
            _ => "running (admin API does not answer)",
        };
        let lines = [
            ("Status:", output.paint(Colour::Yellow, state)),
            ("PID:", self.pid.map_or_else(unknown, |pid| pid.to_string())),
            ("PID File:", self.pid_file.display().to_string()),
            (
                "Log File:",
                self.log_file
                    .map_or_else(unknown, |path| path.display().to_string()),
            ),
            ("Server:", server("")),
            ("Docs:", server("/docs")),
            ("Health:", server("/health")),
        ];
        print_labels(&lines, output)?;
        output.value(&json!({
            "state": "running",
            "via": "pid_file",
            "pid": self.pid,
            "pid_file": self.pid_file,
            "log_file": self.log_file,
            "server": self.server,
            "detail": because.to_string(),
        }))
    }
}

fn not_running(code: u8, state: &str, text: &str, pid_file: &Path, output: &Output) -> Result {
    let lines = [
        ("Status:", output.paint(Colour::Red, text)),
        ("PID File:", pid_file.display().to_string()),
    ];
    print_labels(&lines, output)?;
    output.value(&json!({ "state": state, "pid_file": pid_file, "detail": text }))?;
    Err(Failure::Exit(code))
}

fn print_labels(lines: &[(&str, String)], output: &Output) -> Result {
    lines
        .iter()
        .try_for_each(|(label, value)| output.line(&format!("{label:<10} {value}")))
}
