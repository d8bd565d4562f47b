//! What is given on the command line and a running daemon does not take: it keeps the flags and the file that it was started
//! with.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Control;
use crate::config::{Flags, SettingsLocation, Sources, flag_name, inherited_settings};
use crate::instance::{LockHolder, PidFileStatus, Process, StateFile, inspect_pid_file};

/// It would have no effect.
#[derive(Debug, Error)]
pub enum IgnoredFlags {
    /// Settings that it was not started with.
    #[error(
        "{} given, but a running daemon keeps the flags that it was started with: edit {} and use `fullon reload` or `fullon restart`, or give them to `fullon restart --hard`",
        with_verb(.flags), .file.display()
    )]
    Flags {
        /// The flags.
        flags: Vec<String>,
        /// Where it reads settings.
        file: PathBuf,
    },
    /// Another file of settings.
    #[error(
        "--env-file {} was given, but the running daemon reads {}: edit that one, or use `fullon restart --hard`, which starts it with the other",
        .given.display(), .used.display()
    )]
    EnvFile {
        /// The one that was given.
        given: PathBuf,
        /// The one that it reads.
        used: PathBuf,
    },
}

fn with_verb(flags: &[String]) -> String {
    let verb = if flags.len() == 1 { "was" } else { "were" };
    format!("{} {verb}", flags.join(", "))
}

impl Control {
    /// Looks whether the daemon, if one runs here, was started with what was given now.
    ///
    /// # Errors
    ///
    /// What it was not started with.
    pub fn reject_ignored(&self, origin: &SettingsLocation) -> Result<(), IgnoredFlags> {
        let Some(state) = self.running_state() else {
            return Ok(());
        };
        let is_meant = |url| self.is_local(url, Some(&state));
        if !self.admin_url.as_ref().is_none_or(is_meant) {
            return Ok(());
        }
        // Not read: it may be another user's.
        let used = state.settings_location().env_file_path();
        if let Some(given) = &origin.env_file
            && !is_same_file(given, &used)
        {
            let given = given.clone();
            return Err(IgnoredFlags::EnvFile { given, used });
        }
        let flags = differing_flags(&origin.flags, &state.flags);
        if flags.is_empty() {
            return Ok(());
        }
        Err(IgnoredFlags::Flags { flags, file: used })
    }

    /// The state of the daemon that holds the PID file.
    pub(super) fn running_state(&self) -> Option<Box<StateFile>> {
        let presence = inspect_pid_file(&self.locator.pid_file).ok()?;
        self.read_state(presence).1
    }

    /// Where the daemon that runs here, as this user, would read its settings now.
    #[must_use]
    pub fn running_sources(&self) -> Option<Sources> {
        let presence = inspect_pid_file(&self.locator.pid_file).ok()?;
        let (PidFileStatus::Held(LockHolder::Known(process)), Some(state)) =
            self.read_state(presence)
        else {
            return None;
        };
        let is_meant = |url| self.is_local(url, Some(&state));
        let is_it = process.belongs_to_this_user() && self.admin_url.as_ref().is_none_or(is_meant);
        is_it.then(|| sources_after_restart(&state, &process))
    }
}

/// What a daemon would read if it was restarted: its own environment counts where this process is silent.
pub(super) fn sources_after_restart(state: &StateFile, process: &Process) -> Sources {
    let inherited = inherited_settings(process.environment());
    state
        .settings_location()
        .read_sources_with_fallback(&inherited)
}

/// Whether both paths lead to one file, or would.
fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|it| it == one))
}

/// Flags that the daemon was not started with. Which PID file is meant is no news for it.
fn differing_flags(given: &Flags, known: &Flags) -> Vec<String> {
    given
        .iter()
        .filter(|(name, value)| *name != "PID_FILE" && known.get(*name) != Some(value))
        .map(|(name, _)| format!("--{}", flag_name(name)))
        .collect()
}
