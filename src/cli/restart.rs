//! `fullon restart`

use serde_json::json;

use super::output::{Colour, Output, notice};
use super::{Context, Failure, Result, block_on};
use crate::control::RestartError;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Stop the daemon, then start it; there is no other way yet
    #[arg(long)]
    hard: bool,
}

pub fn run(context: &Context, output: &Output) -> Result {
    let control = context.control()?;
    let launch = context.launch()?;
    let restarted = block_on(control.restart(launch, &mut notice))?;
    let restarted = restarted.map_err(|error| match error {
        RestartError::Settings(_) => {
            output.error(&error.to_string());
            Failure::Exit(2)
        }
        other => Failure::Other(other.into()),
    })?;
    match restarted.old {
        Some(pid) => output.line(&format!("Daemon stopped (PID {pid})"))?,
        None => output.line("Daemon was not running")?,
    }
    let new = restarted.new;
    output.outcome(
        "✓",
        Colour::Green,
        &format!("Daemon started with PID {}", new.pid),
    )?;
    output.value(&json!({ "old_pid": restarted.old, "pid": new.pid, "server": new.server }))
}
