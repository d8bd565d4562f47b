//! The state file, `PID_FILE.state`: what a command needs to reach the daemon from any directory,
//! also after `.env` was edited. Its mode is 0600, because it holds the instance key. It stays when
//! the daemon exits, and tells the next one how that happened.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::stored_secret::StoredSecret;
use crate::auth::{RecordedKey, StoredSessions};
use crate::config::{Secret, SettingsLocation, user_name};
use crate::sys::{SocketId, create_beside, open_nofollow};

/// The content of the state file. The names of the fields are part of its format.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateFile {
    /// The user that the file belongs to. It is not in the file.
    #[serde(skip)]
    pub owner_uid: u32,
    /// PID of the daemon. The content is valid only while this process holds the PID file.
    pub pid: u32,
    /// UUID of the process.
    pub instance: String,
    /// Base URL of the admin API.
    pub admin: String,
    /// Base URL of the public API.
    pub server: String,
    /// The log file, if the log goes to a file.
    pub log_file: Option<PathBuf>,
    /// The audit file, if there is one.
    #[serde(default)]
    pub audit_file: Option<PathBuf>,
    /// The key file, whether or not its key is used. The revoked tokens are beside it.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Whether there is, or was, a file of revoked tokens. If it is missing, it was removed.
    #[serde(default)]
    pub has_revocations: bool,
    /// The signing key, without the key itself.
    #[serde(default)]
    pub signing_key: Option<RecordedKey>,
    /// The key with which the command line signs its tokens.
    pub instance_key: StoredSecret,
    /// The directory that the daemon was started in, for `.env` and relative paths.
    pub working_directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings that were given as flags.
    pub flags: BTreeMap<String, String>,
    /// Whether `fullon start` started it. Otherwise `fullon restart` cannot start it again.
    pub in_background: bool,
    /// 1, and one more at each zero-downtime restart; 0 for a version without such restarts.
    #[serde(default)]
    pub generation: u32,
    /// How long a stop may take; `None` from an old daemon that does not record it.
    #[serde(default)]
    pub stop_timeout: Option<Duration>,
    /// The last restart that failed.
    #[serde(default)]
    pub failed_restart: Option<FailedRestart>,
    /// The listening socket of the admin API.
    #[serde(default)]
    pub admin_socket: Option<SocketId>,
    /// The browser sessions, for the next process. Their values are digests.
    #[serde(default)]
    pub sessions: StoredSessions,
    /// How the daemon exited, once it has.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
}

/// A failed restart, after which the daemon continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRestart {
    /// The time, as RFC 3339 in UTC.
    pub at: String,
    /// The reason, for people.
    pub reason: String,
}

/// How a daemon exited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Why it exited.
    pub cause: ExitCause,
    /// The client or the signal that requested it.
    pub by: String,
    /// The time, as RFC 3339 in UTC.
    pub at: String,
}

/// Why a daemon exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitCause {
    /// A request over REST.
    Stopped,
    /// A signal.
    Signalled,
    /// A second signal, or the end of its supervisor, before it had drained.
    Interrupted,
}

/// Why the state file cannot be used.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// A system call failed.
    #[error("the state file {path} cannot be {action}: {source}{advice}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// The cause.
        source: io::Error,
        /// The next step, after a semicolon, or nothing.
        advice: String,
    },
    /// It may not have been written by the daemon that holds the PID file.
    #[error("the state file {path} {reason}")]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Its defect.
        reason: &'static str,
    },
}

impl StateFile {
    /// The path of the state file that belongs to a PID file.
    #[must_use]
    pub fn path(pid_file: &Path) -> PathBuf {
        crate::config::state_file(pid_file)
    }

    /// Replaces the file. Readers see either the old or the new one.
    ///
    /// # Errors
    ///
    /// The directory is not writable, or the disk is full.
    pub fn write(&self, pid_file: &Path) -> Result<(), StateFileError> {
        self.stage(pid_file)?.publish()
    }

    /// Writes the content to a temporary file, so that [`StagedStateFile::publish`] can hardly
    /// fail.
    ///
    /// # Errors
    ///
    /// The directory is not writable, or the disk is full.
    pub fn stage(&self, pid_file: &Path) -> Result<StagedStateFile, StateFileError> {
        let path = Self::path(pid_file);
        let failed = |source| write_error(&path, source);
        let text = serde_json::to_vec(&self.with_utf8_paths()).map_err(|e| failed(e.into()))?;
        // Only the holder of the lock writes this file.
        let (temporary, mut file) = create_beside(&path).map_err(failed)?;
        let staged = StagedStateFile {
            temporary,
            path: path.clone(),
        };
        file.write_all(&text).map_err(failed)?;
        Ok(staged)
    }

    /// Approximates paths that are not UTF-8, which cannot be written. The daemon runs with them
    /// all the same; only a restart does not find them.
    fn with_utf8_paths(&self) -> Self {
        let text = |path: &PathBuf| PathBuf::from(path.to_string_lossy().into_owned());
        Self {
            log_file: self.log_file.as_ref().map(text),
            working_directory: text(&self.working_directory),
            env_file: self.env_file.as_ref().map(text),
            key_file: self.key_file.as_ref().map(text),
            ..self.clone()
        }
    }

    /// Reads the file of the running process `holder`, which holds the PID file.
    ///
    /// # Errors
    ///
    /// The file does not exist, belongs to another user (except root), or was written by another
    /// process.
    pub fn read_active(pid_file: &Path, holder: u32) -> Result<Self, StateFileError> {
        let state = Self::read_last(pid_file)?;
        if state.pid != holder || state.exit.is_some() {
            return Err(StateFileError::Untrusted {
                path: Self::path(pid_file),
                reason: "was written by another process",
            });
        }
        Ok(state)
    }

    /// Reads the file of the last daemon, which may have exited.
    ///
    /// # Errors
    ///
    /// The file does not exist, or belongs to another user (except root).
    pub fn read_last(pid_file: &Path) -> Result<Self, StateFileError> {
        let path = Self::path(pid_file);
        let untrusted = |reason| StateFileError::Untrusted {
            path: path.clone(),
            reason,
        };
        let unreadable = |source| io_error(&path, "read", source);
        let file = open_nofollow(&path, OpenOptions::new().read(true)).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let me = nix::unistd::geteuid().as_raw();
        if !metadata.is_file() || ![me, 0].contains(&metadata.uid()) && me != 0 {
            return Err(untrusted("belongs to another user"));
        }
        if metadata.nlink() > 1 {
            return Err(untrusted("has more than one hard link"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(untrusted("contains a key and is readable by other users"));
        }
        let state = Self::parse(io::BufReader::new(file))
            .map_err(|_| untrusted("was not written by this version"))?;
        Ok(Self {
            owner_uid: metadata.uid(),
            ..state
        })
    }

    /// Reads the file of the last daemon, which belonged to this user: what it contains is acted on
    /// as this user. Root can also read the file of another user.
    ///
    /// # Errors
    ///
    /// The file does not exist, or belongs to another user.
    pub fn read_own(pid_file: &Path) -> Result<Self, StateFileError> {
        let state = Self::read_last(pid_file)?;
        if state.belongs_to_this_user() {
            return Ok(state);
        }
        Err(StateFileError::Untrusted {
            path: Self::path(pid_file),
            reason: "belongs to another user",
        })
    }

    /// Whether the file belongs to the user of this process.
    #[must_use]
    pub fn belongs_to_this_user(&self) -> bool {
        self.owner_uid == nix::unistd::geteuid().as_raw()
    }

    /// Whether the daemon knew of a file of revoked tokens beside this key file.
    #[must_use]
    pub fn knows_revocations_of(&self, key_file: &Path) -> bool {
        let recorded = self.key_file.as_deref();
        let recorded = recorded.map(Path::to_string_lossy);
        self.has_revocations && recorded == Some(key_file.to_string_lossy())
    }

    /// Parses the content of a state file.
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

    /// Records how this daemon exited.
    pub fn record_exit(mut self, pid_file: &Path, exit: ExitRecord) {
        // The key is not valid after this process.
        self.instance_key = StoredSecret::new(Secret::new(String::new()));
        self.exit = Some(exit);
        if self.write(pid_file).is_err() {
            // A state file without an exit looks like a crash. No file is better.
            let _ = fs::remove_file(Self::path(pid_file));
        }
    }

    /// The user that the file, or else the PID file, belongs to.
    #[must_use]
    pub fn owner(pid_file: &Path) -> Option<u32> {
        let metadata = fs::symlink_metadata(Self::path(pid_file));
        let metadata = metadata.or_else(|_| fs::symlink_metadata(pid_file));
        Some(metadata.ok()?.uid())
    }

    /// When the file was last written.
    #[must_use]
    pub fn modified_at(pid_file: &Path) -> Option<SystemTime> {
        fs::metadata(Self::path(pid_file)).ok()?.modified().ok()
    }
}

/// A state file under a temporary name, which is removed unless it is published.
#[derive(Debug)]
pub struct StagedStateFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl StagedStateFile {
    /// Renames the file to its final name.
    ///
    /// # Errors
    ///
    /// The directory is not writable.
    pub fn publish(self) -> Result<(), StateFileError> {
        fs::rename(&self.temporary, &self.path).map_err(|source| write_error(&self.path, source))
    }
}

impl Drop for StagedStateFile {
    fn drop(&mut self) {
        // After `publish` there is no such file.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> StateFileError {
    StateFileError::Io {
        path: path.to_owned(),
        action,
        source,
        advice: String::new(),
    }
}

/// In a directory such as `/tmp`, another user may have taken the name.
fn write_error(path: &Path, source: io::Error) -> StateFileError {
    let owner = path.symlink_metadata().map(|found| found.uid()).ok();
    let owner = owner.filter(|owner| *owner != nix::unistd::geteuid().as_raw());
    let belongs = owner.map_or(String::new(), |owner| {
        format!("; it belongs to {}", user_name(owner))
    });
    StateFileError::Io {
        path: path.to_owned(),
        action: "written",
        source,
        advice: format!(
            "{belongs}; set PID_FILE to a file in a directory that only this user can write to"
        ),
    }
}
