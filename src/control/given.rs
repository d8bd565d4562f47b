//! What is given on the command line and a running daemon does not take: it keeps the flags and the file that it was started
//! with.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Control;
use crate::config::{Flags, Origin, Sources, flag, inherited_settings};
use crate::instance::{Holder, Presence, Process, State, inspect};

/// It would have no effect.
#[derive(Debug, Error)]
pub enum NoEffect {
    /// Settings that it was not started with.
    #[error(
        "{} given, but a running daemon keeps the flags that it was started with: edit {} and use `fullon reload` or `fullon restart`, or give them to `fullon restart --hard`",
        were(.flags), .file.display()
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

fn were(flags: &[String]) -> String {
    let verb = if flags.len() == 1 { "was" } else { "were" };
    format!("{} {verb}", flags.join(", "))
}

impl Control {
    /// Looks whether the daemon, if one runs here, was started with what was given now.
    ///
    /// # Errors
    ///
    /// What it was not started with.
    pub fn check_given(&self, origin: &Origin) -> Result<(), NoEffect> {
        let Some(state) = self.state_of_running() else {
            return Ok(());
        };
        let is_meant = |url| self.is_local(url, Some(&state));
        if !self.admin_url.as_ref().is_none_or(is_meant) {
            return Ok(());
        }
        // Not read: it may be another user's.
        let used = state.origin().file();
        if let Some(given) = &origin.env_file
            && !is_same(given, &used)
        {
            let given = given.clone();
            return Err(NoEffect::EnvFile { given, used });
        }
        let flags = new_flags(&origin.flags, &state.flags);
        if flags.is_empty() {
            return Ok(());
        }
        Err(NoEffect::Flags { flags, file: used })
    }

    /// The state of the daemon that holds the PID file.
    pub(super) fn state_of_running(&self) -> Option<Box<State>> {
        let presence = inspect(&self.locator.pid_file).ok()?;
        self.with_state(presence).1
    }

    /// Where the daemon that runs here, as this user, would read its settings now.
    #[must_use]
    pub fn sources_of_running(&self) -> Option<Sources> {
        let presence = inspect(&self.locator.pid_file).ok()?;
        let (Presence::Held(Holder::Process(process)), Some(state)) = self.with_state(presence)
        else {
            return None;
        };
        let is_meant = |url| self.is_local(url, Some(&state));
        let is_it = process.is_ours() && self.admin_url.as_ref().is_none_or(is_meant);
        is_it.then(|| sources_of(&state, &process))
    }
}

/// What a daemon would read if it was restarted: its own environment counts where this process is silent.
pub(super) fn sources_of(state: &State, process: &Process) -> Sources {
    let inherited = inherited_settings(process.environment());
    state.origin().sources_beside(&inherited)
}

/// Whether both paths lead to one file, or would.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|it| it == one))
}

/// Flags that the daemon was not started with. Which PID file is meant is no news for it.
fn new_flags(given: &Flags, known: &Flags) -> Vec<String> {
    given
        .iter()
        .filter(|(name, value)| *name != "PID_FILE" && known.get(*name) != Some(value))
        .map(|(name, _)| format!("--{}", flag(name)))
        .collect()
}
