//! `fullon reload`

use serde_json::json;

use super::context::{CommandContext, block_on, error_text};
use super::error::{CommandError, Result};
use super::output::{Output, notice};
use crate::api::SettingChange;
use crate::control::{DaemonControl, ReloadError, ReloadOutcome};
use crate::identity::identity;

pub fn run(context: &CommandContext, output: &Output) -> Result {
    let (control, ignored) = context.control_with_ignored()?;
    control
        .reject_ignored(&context.location)
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    warn_about_ignored_variables(&control);
    let outcome = block_on(control.reload(&mut notice))?;
    ignored.print_except(&error_text(&outcome));
    let outcome = outcome.map_err(|error| match error {
        ReloadError::Settings(_) => {
            output.print_error(&error.to_string());
            CommandError::Exit(2)
        }
        other => CommandError::Other(other.into()),
    })?;
    let done = match outcome {
        ReloadOutcome::Reloaded(done) => done,
        ReloadOutcome::Signalled(pid) => {
            let text = format!("Sent SIGHUP to PID {pid}; see the log for the result");
            output.print_success(&text)?;
            return output.print_json(&json!({ "asked": pid }));
        }
    };
    let text = match (done.changed.is_empty(), done.needs_restart.is_empty()) {
        (true, true) => "Settings reloaded: nothing has changed",
        (true, false) => "Settings reloaded: all changes need a restart",
        (false, _) => "Settings reloaded",
    };
    output.print_success(text)?;
    for change in &done.changed {
        output.print_line(&format!("  {}", describe(change)))?;
    }
    if let Some(until) = &done.previous_key_valid_until {
        output.print_line(&format!("  The previous key is valid until {until}"))?;
    }
    if !done.needs_restart.is_empty() {
        output.print_line(&format!(
            "Not active until `{} restart`:",
            identity().command
        ))?;
    }
    for change in &done.needs_restart {
        output.print_line(&format!("  {}", describe(change)))?;
    }
    output.print_json(&done)
}

/// A shell script may set a variable before the command, as it would for a start.
pub fn warn_about_ignored_variables(control: &DaemonControl) {
    if let Some(ignored) = control.ignored_variables() {
        notice(&format!(
            "{} in this environment: ignored, because a running daemon keeps the variables that it was started with; edit {}, or use `{} restart --hard`",
            ignored.names.join(", "),
            ignored.file.display(),
            identity().command
        ));
    }
}

fn describe(change: &SettingChange) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    let (name, from, to) = (&change.name, shown(&change.from), shown(&change.to));
    format!("{name}: {from} -> {to}")
}
