//! `fullon stop`

use serde_json::json;

use super::output::{Colour, Output, notice};
use super::{Context, Failure, Result, block_on, seconds_within};
use crate::api::{MAX_TIMEOUT, StopRequest};
use crate::control::{How, Stopped};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long requests in flight may take, in place of SHUTDOWN_TIMEOUT: 10s, 1m 30s, or a number of seconds
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    timeout: Option<f64>,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    seconds_within(text, 0.0, MAX_TIMEOUT)
}

pub fn run(context: &Context, arguments: &Arguments, output: &Output) -> Result {
    let control = context.control()?;
    let order = StopRequest {
        timeout_seconds: arguments.timeout,
    };
    let stopped = block_on(control.stop(&order, &mut notice))?.map_err(anyhow::Error::from)?;
    match stopped {
        Stopped::Done { pid, how } => {
            let (text, via) = match how {
                How::Rest => ("Daemon stopped", "rest"),
                How::OutOfSight => ("Daemon accepted the stop and answers no more", "rest"),
                How::Terminated => ("Daemon stopped (by SIGTERM)", "sigterm"),
                How::Killed => (
                    "Daemon stopped (killed: it did not stop by itself)",
                    "sigkill",
                ),
            };
            output.outcome("✓", Colour::Green, text)?;
            output.value(&json!({ "stopped": true, "pid": pid, "via": via }))
        }
        Stopped::NotRunning => nothing_to_do(output, "Daemon is not running"),
        Stopped::Dead(pid) => {
            let pid = pid.map_or(String::new(), |pid| format!(" (PID {pid})"));
            nothing_to_do(
                output,
                &format!(
                    "Daemon is not running: it died{pid} and left {}, which the next start takes over",
                    control.pid_file().display()
                ),
            )
        }
    }
}

fn nothing_to_do(output: &Output, text: &str) -> Result {
    output.outcome("•", Colour::Yellow, text)?;
    output.value(&json!({ "stopped": false, "detail": text }))?;
    Err(Failure::Exit(1))
}
