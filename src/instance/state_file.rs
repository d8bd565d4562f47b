//! The state file, `PID_FILE` with `.state` behind it: what a verb needs to reach the daemon that holds the PID file
//! from any directory and after `.env` was edited. Mode 0600, because it holds the instance key. It stays when the daemon
//! ends, and tells the next one how that was.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::api::ExitCause;
use crate::auth::RevokedSessions;
use crate::config::{MASK, Secret, SettingsLocation};

/// What the daemon leaves for the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateFile {
    /// Process id; the state counts only while this process holds the PID file.
    pub pid: u32,
    /// UUID of the daemon's life.
    pub instance: String,
    /// Base URL of the admin API.
    pub admin: String,
    /// Base URL of the public API.
    pub server: String,
    /// The log file, if the log goes to one.
    pub log_file: Option<PathBuf>,
    /// Secret of the tokens with which the command line signs.
    pub instance_key: StoredKey,
    /// Directory in which the daemon was started: where `.env` and relative paths are seen from.
    pub working_directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings given by flags.
    pub flags: BTreeMap<String, String>,
    /// Whether `fullon start` started it; otherwise whoever runs `fullon run` starts it again.
    pub in_background: bool,
    /// 1, and one more at each zero-downtime restart; 0 for a daemon that knows none.
    #[serde(default)]
    pub generation: u32,
    /// `DRAIN_DELAY`: how much longer a stop may take.
    #[serde(default)]
    pub drain_delay: Duration,
    /// The last restart that failed.
    #[serde(default)]
    pub failed_restart: Option<FailedRestart>,
    /// Sessions that were signed out: the process that comes next must know them.
    #[serde(default)]
    pub ended_sessions: RevokedSessions,
    /// How it ended, once it has.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
}

/// A secret that one process leaves to another. It is written like any text, and never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoredKey(String);

impl StoredKey {
    /// Wraps the text of a key.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The key, to sign or verify with.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        Secret::new(self.0.clone())
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A restart after which the daemon went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRestart {
    /// When.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Why.
    pub cause: ExitCause,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: String,
}

/// The state file cannot be used.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// The system refused.
    #[error("the state file {path} cannot be {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It was not written by the daemon that holds the PID file.
    #[error("the state file {path} {reason}")]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why it is not believed.
        reason: &'static str,
    },
}

impl StateFile {
    /// Where the state of the daemon with this PID file is.
    #[must_use]
    pub fn path(pid_file: &Path) -> PathBuf {
        let mut path = pid_file.as_os_str().to_owned();
        path.push(".state");
        path.into()
    }

    /// Replaces the file; a reader sees the old or the new one.
    ///
    /// # Errors
    ///
    /// The directory is not writable or the disk is full.
    pub fn write(&self, pid_file: &Path) -> Result<(), StateFileError> {
        self.stage(pid_file)?.publish()
    }

    /// Writes it beside the file, so that what may fail has been done before it counts.
    ///
    /// # Errors
    ///
    /// The directory is not writable or the disk is full.
    pub fn stage(&self, pid_file: &Path) -> Result<StagedStateFile, StateFileError> {
        let path = Self::path(pid_file);
        let mut temporary = path.clone().into_os_string();
        // Only who has the lock writes it, and takes over what a killed one left.
        temporary.push(".new");
        let staged = StagedStateFile {
            temporary: temporary.into(),
            path,
        };
        let write = || -> io::Result<()> {
            let text = serde_json::to_vec(&self.with_utf8_paths())?;
            let _ = fs::remove_file(&staged.temporary);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&staged.temporary)?
                .write_all(&text)
        };
        write().map_err(|source| io_error(&staged.path, "written", source))?;
        Ok(staged)
    }

    /// A path that is not UTF-8 is approximated: the daemon runs, and only a restart will miss the path.
    fn with_utf8_paths(&self) -> Self {
        let text = |path: &PathBuf| PathBuf::from(path.to_string_lossy().into_owned());
        Self {
            log_file: self.log_file.as_ref().map(text),
            working_directory: text(&self.working_directory),
            env_file: self.env_file.as_ref().map(text),
            ..self.clone()
        }
    }

    /// Reads the state that the process `holder` left beside its PID file.
    ///
    /// # Errors
    ///
    /// It is not there, is not this user's or root's, or belongs to another process.
    pub fn read_active(pid_file: &Path, holder: u32) -> Result<Self, StateFileError> {
        let state = Self::read_last(pid_file)?;
        if state.pid != holder || state.exit.is_some() {
            return Err(StateFileError::Untrusted {
                path: Self::path(pid_file),
                reason: "was left by another process",
            });
        }
        Ok(state)
    }

    /// Reads what a daemon left that may have ended.
    ///
    /// # Errors
    ///
    /// It is not there, or is not this user's or root's.
    pub fn read_last(pid_file: &Path) -> Result<Self, StateFileError> {
        let path = Self::path(pid_file);
        let untrusted = |reason| StateFileError::Untrusted {
            path: path.clone(),
            reason,
        };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path)
            .map_err(|source| io_error(&path, "read", source))?;
        let metadata = file
            .metadata()
            .map_err(|source| io_error(&path, "read", source))?;
        let me = nix::unistd::geteuid().as_raw();
        if !metadata.is_file() || ![me, 0].contains(&metadata.uid()) && me != 0 {
            return Err(untrusted("belongs to another user"));
        }
        if metadata.nlink() > 1 {
            return Err(untrusted(
                "has another name, too (a hard link): restart the daemon, which writes a new one",
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(untrusted(
                "can be read by others, and holds a key: restart the daemon, which writes a new one",
            ));
        }
        Self::parse(io::BufReader::new(file))
            .map_err(|_| untrusted("is not one that this version wrote"))
    }

    /// The state that a file holds.
    pub(crate) fn parse(text: impl io::Read) -> serde_json::Result<Self> {
        serde_json::from_reader(text)
    }

    /// Where the daemon's settings come from.
    #[must_use]
    pub fn settings_location(&self) -> SettingsLocation {
        SettingsLocation {
            directory: self.working_directory.clone(),
            env_file: self.env_file.clone(),
            flags: self.flags.clone(),
        }
    }

    /// Leaves behind how this daemon ended.
    pub fn record_exit(mut self, pid_file: &Path, exit: ExitRecord) {
        // It dies with the process.
        self.instance_key = StoredKey::new("");
        self.exit = Some(exit);
        if self.write(pid_file).is_err() {
            // No room for it: better nothing than what looks like a crash.
            let _ = fs::remove_file(Self::path(pid_file));
        }
    }

    /// When it was last written.
    #[must_use]
    pub fn modified_at(pid_file: &Path) -> Option<std::time::SystemTime> {
        fs::metadata(Self::path(pid_file)).ok()?.modified().ok()
    }
}

/// A state file that does not count yet. Dropped, it never will.
#[derive(Debug)]
pub struct StagedStateFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl StagedStateFile {
    /// Puts it in its place.
    ///
    /// # Errors
    ///
    /// The directory is not writable.
    pub fn publish(self) -> Result<(), StateFileError> {
        fs::rename(&self.temporary, &self.path)
            .map_err(|source| io_error(&self.path, "written", source))
    }
}

impl Drop for StagedStateFile {
    fn drop(&mut self) {
        // Once published, there is none.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> StateFileError {
    StateFileError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}
