//! Command-line flags and variables that a running daemon ignores: it keeps the flags, the `.env` file
//! and the environment that it was started with.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::target::DaemonControl;
use crate::config::{
    APP_COMMAND, Flags, SettingsLocation, Sources, differing_variables, flag_name,
    inherited_settings,
};
use crate::instance::{LockHolder, PidFileStatus, StateFile, inspect_pid_file};
use crate::sys::Process;

/// The flags would have no effect.
#[derive(Debug, Error)]
pub enum IgnoredFlags {
    /// Flags of settings that the daemon was not started with.
    #[error(
        "{} given, but a running daemon keeps the flags that it was started with: edit {} and use `fullon reload` or `fullon restart`, or pass the flags to `fullon restart --hard`",
        list(.flags), .file.display()
    )]
    Flags {
        flags: Vec<String>,
        /// The daemon's `.env` file.
        file: PathBuf,
    },
    /// `--env-file` names another file than the daemon's.
    #[error(
        "--env-file {} was given, but the running daemon reads {}: edit that file, or start the daemon with the other file by `fullon restart --hard`",
        .given.display(), .used.display()
    )]
    EnvFile {
        /// The file of the command line.
        given: PathBuf,
        used: PathBuf,
    },
}

/// Variables of this process that a running daemon does not see.
#[derive(Debug)]
pub struct IgnoredVariables {
    pub names: Vec<&'static str>,
    /// The daemon's `.env` file.
    pub file: PathBuf,
}

fn list(flags: &[String]) -> String {
    let auxiliary = if flags.len() == 1 { "was" } else { "were" };
    format!("{} {auxiliary}", flags.join(", "))
}

impl DaemonControl {
    /// Checks that a running local daemon was started with these flags.
    ///
    /// # Errors
    ///
    /// The flags that it was not started with.
    pub fn reject_ignored(&self, location: &SettingsLocation) -> Result<(), IgnoredFlags> {
        let Some(state) = self.running_state() else {
            return Ok(());
        };
        if !self.targets(&state) {
            return Ok(());
        }
        // Only the path: the file may belong to another user.
        let used = state.settings_location().env_file_path();
        if let Some(given) = &location.env_file
            && !is_same_file(given, &used)
        {
            let given = given.clone();
            return Err(IgnoredFlags::EnvFile { given, used });
        }
        let flags = differing_flags(&location.flags, &state.flags);
        if flags.is_empty() {
            return Ok(());
        }
        Err(IgnoredFlags::Flags { flags, file: used })
    }

    /// The settings in this process's environment that a running local daemon ignores, because it
    /// was started with other values. `PID_FILE` only selects the daemon. Empty if its environment
    /// cannot be read.
    #[must_use]
    pub fn ignored_variables(&self) -> Option<IgnoredVariables> {
        let (process, state) = self.own_daemon()?;
        let names = differing_variables(&process.environment());
        let file = state.settings_location().env_file_path();
        (!names.is_empty()).then_some(IgnoredVariables { names, file })
    }

    /// The `.env` file of the working directory and that of the running local daemon, if they
    /// differ. Without `--env-file`, the daemon's own file is read.
    #[must_use]
    pub fn ignored_env_file(&self, location: &SettingsLocation) -> Option<(PathBuf, PathBuf)> {
        let (_, state) = self.own_daemon()?;
        let here = location.env_file_path();
        let used = state.settings_location().env_file_path();
        let is_ignored =
            location.env_file.is_none() && here.exists() && !is_same_file(&here, &used);
        is_ignored.then_some((here, used))
    }

    /// The state file of the daemon that holds the PID file.
    pub(super) fn running_state(&self) -> Option<Box<StateFile>> {
        let status = inspect_pid_file(self.pid_file()).ok()?;
        self.read_state(status).1
    }

    /// The settings that the local daemon would read after a restart, if it belongs to this user.
    #[must_use]
    pub fn running_sources(&self) -> Option<Sources> {
        let (process, state) = self.own_daemon()?;
        Some(sources_after_restart(&state, &process))
    }

    /// The running local daemon, if it belongs to this user.
    pub(super) fn own_daemon(&self) -> Option<(Process, Box<StateFile>)> {
        let status = inspect_pid_file(self.pid_file()).ok()?;
        let (PidFileStatus::Held(LockHolder::Known(process)), Some(state)) =
            self.read_state(status)
        else {
            return None;
        };
        let is_own =
            process.belongs_to_this_user() && state.belongs_to_this_user() && self.targets(&state);
        is_own.then_some((process, state))
    }
}

/// The settings that a daemon would read after a restart. Variables that this process does not have
/// come from the daemon's environment.
pub(crate) fn sources_after_restart(state: &StateFile, process: &Process) -> Sources {
    let inherited = inherited_settings(process.environment());
    state
        .settings_location()
        .read_sources_with_fallback(&inherited)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|it| it == one))
}

/// The given flags that the daemon was not started with. `--pid-file` only selects the daemon, and a
/// restart passes a new command of the application on.
fn differing_flags(given: &Flags, known: &Flags) -> Vec<String> {
    given
        .iter()
        .filter(|(name, value)| {
            !["PID_FILE", APP_COMMAND].contains(&name.as_str()) && known.get(*name) != Some(value)
        })
        .map(|(name, _)| format!("--{}", flag_name(name)))
        .collect()
}
