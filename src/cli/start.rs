//! `fullon start`

use serde_json::json;

use super::output::{Colour, Output};
use super::{Context, Failure, Result, block_on};
use crate::config::Settings;
use crate::control::LaunchError;
use crate::instance::{Presence, inspect};

pub fn run(context: &Context, output: &Output) -> Result {
    let settings = Settings::load(&context.origin.sources())?;
    settings.check_background()?;
    // The lock decides; this only spares a process where the answer is known.
    let presence = inspect(&settings.pid_file).map_err(anyhow::Error::from)?;
    if let Presence::Held(holder) = presence {
        let pid = holder
            .pid()
            .map_or(String::new(), |pid| format!(" with PID {pid}"));
        let is_stopping = block_on(context.control()?.is_stopping())?;
        return Err(if is_stopping {
            anyhow::anyhow!("the daemon is stopping{pid}: it finishes the requests in flight, at most for SHUTDOWN_TIMEOUT; start it when it is gone (`fullon status`), or cut them off with `fullon restart --hard`")
        } else {
            anyhow::anyhow!("already running{pid}; `fullon status` tells more")
        }
        .into());
    }
    let started = context.launch()?.start().map_err(|error| match error {
        LaunchError::Failed { message, exit_code } => {
            output.error(&message);
            Failure::Exit(exit_code)
        }
        other => Failure::Other(other.into()),
    })?;
    let log_file = settings.log.target.file();
    output.outcome(
        "✓",
        Colour::Green,
        &format!("Daemon started with PID {}", started.pid),
    )?;
    if let Some(path) = log_file {
        output.line(&format!("Log file: {}", path.display()))?;
    }
    output.line(&format!("PID file: {}", settings.pid_file.display()))?;
    output.value(&json!({
        "pid": started.pid,
        "server": started.server,
        "log_file": log_file,
        "pid_file": settings.pid_file,
    }))
}
