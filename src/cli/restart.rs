//! `fullon restart`

use serde_json::json;

use super::app_command::AppCommandArgs;
use super::context::{CommandContext, block_on, error_text};
use super::duration::parse_seconds;
use super::error::{CommandError, Result};
use super::output::{Output, notice};
use super::reload::warn_about_ignored_settings;
use crate::api::{MAX_TIMEOUT_SECONDS, MIN_RESTART_TIMEOUT_SECONDS};
use crate::control::{RestartError, RestartOptions, RestartOutcome};
use crate::identity::identity;

#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// Stop the daemon, then start it; connections are refused in between
    #[arg(long)]
    hard: bool,

    #[arg(
        long,
        value_name = "DURATION",
        value_parser = seconds,
        conflicts_with = "hard",
        help = "Time for the new process to become ready: 30s, 1m 30s, or a number of seconds [default: 30s, or APP_START_TIMEOUT and 10s if that is longer]"
    )]
    timeout: Option<f64>,

    #[command(flatten)]
    pub command: AppCommandArgs,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    parse_seconds(text, MIN_RESTART_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS)
}

pub fn run(context: &CommandContext, arguments: &RestartArgs, output: &Output) -> Result {
    let (control, ignored) = context.control_with_ignored()?;
    let launch = context.launch()?;
    let options = RestartOptions {
        hard: arguments.hard,
        timeout_seconds: arguments.timeout,
    };
    if !arguments.hard {
        warn_about_ignored_settings(&control, &context.location);
    }
    let outcome = block_on(control.restart(launch, &options, &mut notice))?;
    ignored.print_except(&error_text(&outcome));
    let outcome = outcome.map_err(|error| match error {
        RestartError::Settings(_) | RestartError::SuccessorSettings(_) => {
            output.print_error(&error.to_string());
            CommandError::Exit(2)
        }
        RestartError::AppCommand(error) => CommandError::Usage(error),
        RestartError::IgnoredFlags(error) => CommandError::Usage(error.to_string()),
        other => CommandError::Other(other.into()),
    })?;
    match outcome {
        RestartOutcome::Replaced(done) => {
            let text = format!(
                "Daemon restarted with PID {} (was {})",
                done.pid, done.old_pid
            );
            output.print_success(&text)?;
            if let Some(other) = control.other_program(done.pid) {
                let advice = if other.can_switch {
                    let command = identity().command;
                    format!(": use `{command} restart --hard` to switch to it")
                } else {
                    String::new()
                };
                let (running, current) = (other.running.display(), other.current.display());
                notice(&format!(
                    "restarted {running}; this command is {current}{advice}"
                ));
            }
            output.print_json(&json!({
                "old_pid": done.old_pid,
                "pid": done.pid,
                "server": done.server,
                "generation": done.generation,
            }))
        }
        RestartOutcome::Started { old_pid, daemon } => {
            match old_pid {
                Some(pid) => output.print_line(&format!("Daemon stopped (PID {pid})"))?,
                None => output.print_line("Daemon was not running")?,
            }
            let text = format!("Daemon started with PID {}", daemon.pid);
            output.print_success(&text)?;
            output.print_json(&json!({
                "old_pid": old_pid,
                "pid": daemon.pid,
                "server": daemon.server,
                "generation": 1,
            }))
        }
    }
}
