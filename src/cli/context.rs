//! Context of every command: the daemon to operate, and where its settings are.

use std::collections::BTreeMap;

use super::error::{CommandError, Result};
use super::output::notice;
use crate::config::{self, ClientSettings, SettingProblem, SettingsLocation};
use crate::control::DaemonControl;
use crate::instance::Launch;

pub struct CommandContext {
    pub admin_url: Option<String>,
    pub location: SettingsLocation,
}

impl CommandContext {
    /// The daemon to operate. Problems of settings that are not needed to find it are only printed.
    pub fn control(&self) -> Result<DaemonControl> {
        let (control, ignored) = self.control_with_ignored()?;
        ignored.print_except("");
        Ok(control)
    }

    /// The daemon to operate, for a command that may fail because of the other settings.
    pub fn control_with_ignored(&self) -> Result<(DaemonControl, IgnoredProblems)> {
        let mut settings = ClientSettings::load(&self.location.read_sources())?;
        let ignored = IgnoredProblems(std::mem::take(&mut settings.ignored_problems));
        Ok((self.control_for(settings)?, ignored))
    }

    pub fn control_for(&self, settings: ClientSettings) -> Result<DaemonControl> {
        DaemonControl::new(settings, self.admin_url.as_deref(), &user_name())
            .map_err(|error| CommandError::Usage(error.to_string()))
    }

    pub fn launch(&self) -> Result<Launch> {
        Ok(Launch {
            program: Launch::current_program()?,
            settings_location: self.location.clone(),
            environment: BTreeMap::new(),
        })
    }
}

/// Problems of settings that a command does not need.
#[must_use]
pub struct IgnoredProblems(Vec<SettingProblem>);

impl IgnoredProblems {
    pub fn all(&self) -> &[SettingProblem] {
        &self.0
    }

    /// Prints those that the error of the command does not name.
    pub fn print_except(&self, error: &str) {
        let problems = self.0.iter().map(ToString::to_string);
        for problem in problems.filter(|problem| !error.contains(problem)) {
            notice(&format!("ignored by this command: {problem}"));
        }
    }
}

/// The user of this process, for the audit trail.
pub fn user_name() -> String {
    config::user_name(nix::unistd::getuid().as_raw())
}

/// The message of an error, or nothing.
pub fn error_text<T>(outcome: &std::result::Result<T, impl ToString>) -> String {
    let error = outcome.as_ref().err();
    error.map_or(String::new(), ToString::to_string)
}

/// Runs the client side of a command.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
