//! `fullon restart`

use serde_json::json;

use super::output::{Colour, Output, notice};
use super::{Context, Failure, Result, block_on, seconds_within};
use crate::api::{MAX_TIMEOUT, MIN_SUCCESSOR_TIMEOUT, SUCCESSOR_TIMEOUT};
use crate::control::{RestartError, RestartOptions, Restarted};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Stop the daemon, then start it: clients are refused in between
    #[arg(long)]
    hard: bool,

    /// How long the new daemon may take until it serves: 30s, 1m 30s, or a number of seconds
    #[arg(long, value_name = "DURATION", default_value_t = SUCCESSOR_TIMEOUT.as_secs_f64(), value_parser = seconds, conflicts_with = "hard")]
    timeout: f64,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    seconds_within(text, MIN_SUCCESSOR_TIMEOUT, MAX_TIMEOUT)
}

pub fn run(context: &Context, arguments: &Arguments, output: &Output) -> Result {
    let control = context.control()?;
    let launch = context.launch()?;
    let options = RestartOptions {
        hard: arguments.hard,
        timeout_seconds: Some(arguments.timeout),
    };
    let restarted = block_on(control.restart(launch, &options, &mut notice))?;
    let restarted = restarted.map_err(|error| match error {
        RestartError::Settings(_) | RestartError::SuccessorSettings(_) => {
            output.error(&error.to_string());
            Failure::Exit(2)
        }
        RestartError::NoEffect(error) => Failure::Usage(error.to_string()),
        other => Failure::Other(other.into()),
    })?;
    match restarted {
        Restarted::Replaced(done) => {
            let text = format!(
                "Daemon restarted with PID {} (was {})",
                done.pid, done.old_pid
            );
            output.outcome("✓", Colour::Green, &text)?;
            output.value(&json!({
                "old_pid": done.old_pid,
                "pid": done.pid,
                "server": done.server,
                "generation": done.generation,
            }))
        }
        Restarted::Started { old, new } => {
            match old {
                Some(pid) => output.line(&format!("Daemon stopped (PID {pid})"))?,
                None => output.line("Daemon was not running")?,
            }
            let text = format!("Daemon started with PID {}", new.pid);
            output.outcome("✓", Colour::Green, &text)?;
            output.value(&json!({
                "old_pid": old,
                "pid": new.pid,
                "server": new.server,
                "generation": 1,
            }))
        }
    }
}
