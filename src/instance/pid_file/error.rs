//! Why a PID file cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::sys::OpenError;

/// Why a PID file cannot be used.
#[derive(Debug, Error)]
pub enum PidFileError {
    /// A daemon holds the lock. Its PID, if known.
    #[error("the daemon is already running{}", .0.as_ref().map_or(String::new(), |pid| format!(" with PID {pid}")))]
    AlreadyRunning(Option<u32>),
    /// Another program holds a lock on the file.
    #[error("the PID file {0} is locked by another program: choose another PID_FILE")]
    LockedByOtherProgram(PathBuf),
    /// The settings name another file than the one that the daemon holds.
    #[error(
        "PID_FILE changed from {held} to {wanted}, but a running daemon cannot change its PID file: run `fullon stop --pid-file {held}`, then `fullon start`"
    )]
    PathChanged {
        /// The file that is held.
        held: PathBuf,
        /// The file in the settings.
        wanted: PathBuf,
    },
    /// It is not a regular file of this user.
    #[error("the PID file {path} {reason}: choose another PID_FILE")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The kind of file, or its defect.
        reason: &'static str,
    },
    /// The directory of a new PID file does not exist.
    #[error(
        "the PID file {path} cannot be created: the directory {directory} does not exist; create it with `mkdir -p {directory}`, or set PID_FILE to a file in a directory that exists"
    )]
    MissingDirectory {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// A system call failed.
    #[error(
        "the PID file {path} cannot be {action}: {source}; run this as the file's owner, or set PID_FILE to a file in a directory that this user can write to"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// `opened`, `locked` or `written`, for example.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl PidFileError {
    /// `error` is that of opening the file at `path`.
    pub(super) fn from_open(path: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Io { action, source } => Self::io(path, action, source),
            OpenError::Unusable(defect) => Self::Unusable {
                path: path.to_owned(),
                reason: defect.text(),
            },
        }
    }

    pub(super) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
