//! `fullon stop`

use serde_json::json;

use super::context::{CommandContext, block_on};
use super::duration::parse_seconds;
use super::error::{CommandError, Result};
use super::output::{Colour, Output, notice};
use crate::api::{MAX_TIMEOUT_SECONDS, StopRequest};
use crate::control::{StopMethod, StopOutcome};

#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Time for requests in flight to finish, instead of SHUTDOWN_TIMEOUT: 10s, 1m 30s, or a number of seconds
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    timeout: Option<f64>,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    parse_seconds(text, 0.0, MAX_TIMEOUT_SECONDS)
}

pub fn run(context: &CommandContext, arguments: &StopArgs, output: &Output) -> Result {
    let control = context.control()?;
    let request = StopRequest {
        timeout_seconds: arguments.timeout,
    };
    let outcome = block_on(control.stop(&request, &mut notice))?.map_err(anyhow::Error::from)?;
    match outcome {
        StopOutcome::Stopped { pid, method } => {
            let (text, via) = match method {
                StopMethod::Rest => ("Daemon stopped", "rest"),
                StopMethod::Unconfirmed => (
                    "Daemon accepted the stop request and no longer answers",
                    "rest",
                ),
                StopMethod::Terminated => ("Daemon stopped (by SIGTERM)", "sigterm"),
                StopMethod::Killed => (
                    "Daemon stopped (by SIGKILL: it did not stop in time)",
                    "sigkill",
                ),
            };
            output.print_success(text)?;
            output.print_json(&json!({ "stopped": true, "pid": pid, "via": via }))
        }
        StopOutcome::NotRunning => print_not_running(output, "Daemon is not running"),
        StopOutcome::Dead(pid) => {
            let pid = pid.map_or(String::new(), |pid| format!(" (PID {pid})"));
            print_not_running(
                output,
                &format!(
                    "Daemon is not running: it died{pid} and left {}; the next start replaces the file",
                    control.pid_file().display()
                ),
            )
        }
    }
}

fn print_not_running(output: &Output, text: &str) -> Result {
    output.print_result("•", Colour::Yellow, text)?;
    output.print_json(&json!({ "stopped": false, "detail": text }))?;
    Err(CommandError::Exit(1))
}
