//! `fullon reload`

use serde_json::json;

use super::context::{CommandContext, block_on, error_text};
use super::error::{CommandError, Result};
use super::output::{Output, notice};
use crate::api::SettingChange;
use crate::config::{Activation, SettingsLocation, activation};
use crate::control::{DaemonControl, ReloadError, ReloadOutcome};
use crate::identity::identity;

pub fn run(context: &CommandContext, output: &Output) -> Result {
    let (control, ignored) = context.control_with_ignored()?;
    control
        .reject_ignored(&context.location)
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    warn_about_ignored_settings(&control, &context.location);
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
    let is_kept = |change: &SettingChange| activation(&change.name) == Activation::Start;
    let text = match (done.changed.is_empty(), done.needs_restart.is_empty()) {
        (true, true) => "Settings reloaded: nothing has changed",
        (true, false) if done.needs_restart.iter().any(is_kept) => {
            "Settings reloaded: no change is active yet"
        }
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
    for step in [Activation::Restart, Activation::Start] {
        let pending = done.needs_restart.iter();
        let mut pending = pending.filter(|change| activation(&change.name) == step);
        if let Some(first) = pending.next() {
            let command = activating_command(step, &control.pid_file().display().to_string());
            output.print_line(&format!("Not active until `{command}`:"))?;
            for change in std::iter::once(first).chain(pending) {
                output.print_line(&format!("  {}", describe(change)))?;
            }
        }
    }
    output.print_json(&done)
}

/// The command that activates the new value of a setting. `pid_file` is the daemon's.
pub fn activating_command(step: Activation, pid_file: &str) -> String {
    let program = identity().command;
    match step {
        Activation::Reload => format!("{program} reload"),
        Activation::Restart => format!("{program} restart"),
        Activation::Start => format!("{program} stop --pid-file {pid_file} && {program} start"),
    }
}

/// A shell script may set a variable before the command, or change to a directory with an `.env`
/// file, as it would for a start.
pub fn warn_about_ignored_settings(control: &DaemonControl, location: &SettingsLocation) {
    if let Some(ignored) = control.ignored_variables() {
        notice(&format!(
            "{} in this environment: ignored, because a running daemon keeps the variables that it was started with; edit {}, or use `{} restart --hard`",
            ignored.names.join(", "),
            ignored.file.display(),
            identity().command
        ));
    }
    if let Some((here, used)) = control.ignored_env_file(location) {
        notice(&format!(
            "{}: ignored, because the running daemon reads {}; edit that file, or use `{} restart --hard`",
            here.display(),
            used.display(),
            identity().command
        ));
    }
}

fn describe(change: &SettingChange) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    let (name, from, to) = (&change.name, shown(&change.from), shown(&change.to));
    format!("{name}: {from} -> {to}")
}
