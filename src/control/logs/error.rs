//! Errors of reading the log.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::client::ClientError;
use crate::instance::PidFileError;
use crate::logs::{FilterError, ReadError};

const NO_FILE_HINT: &str = "use `journalctl -u fullon_master_api` under systemd, or `docker logs`, `podman logs` or `kubectl logs` in a container; for `fullon logs`, set LOG_FILE to a file and run `fullon restart`";

/// The log cannot be read.
#[derive(Debug, Error)]
pub enum LogsError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The admin API failed, and a remote daemon's file cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file cannot be read.
    #[error(transparent)]
    File(ReadError),
    /// The file does not exist.
    #[error(
        "the log file {} does not exist: start the daemon with `fullon start`, or set LOG_FILE to the daemon's log file", .0.display()
    )]
    FileMissing(PathBuf),
    /// The log goes to stdout, which cannot be read back.
    #[error("the log goes to stdout (LOG_FILE=-), which `fullon logs` cannot read: {NO_FILE_HINT}")]
    Stdout,
    /// The admin API failed, and the log file is unknown.
    #[error("{0}; there is no log file to read: {NO_FILE_HINT}")]
    FileUnknown(String),
    /// The admin API failed, and only a state file of another user names the log file.
    #[error(
        "{error}; the log file {} is named by a state file of {user}, who may have named any file: it is not read", .path.display()
    )]
    ForeignFile {
        error: String,
        path: PathBuf,
        user: String,
    },
    /// The filter is invalid.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl From<ReadError> for LogsError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
                Self::FileMissing(path)
            }
            other => Self::File(other),
        }
    }
}
