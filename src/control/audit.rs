//! The audit trail, read from its files: that works for a daemon that is not running, too.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::target::DaemonControl;
use crate::audit::{self, Head, Record, Report};
use crate::instance::PidFileError;

/// The audit trail cannot be read.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// Changes are only logged.
    #[error("there is no audit file: set AUDIT_FILE to a file and run `fullon restart`")]
    NoFile,
    /// The file does not exist.
    #[error(
        "the audit file {} does not exist: start the daemon with `fullon start`, or set AUDIT_FILE to the daemon's audit file", .0.display()
    )]
    FileMissing(PathBuf),
    /// A file cannot be read.
    #[error("the audit trail cannot be read: {0}")]
    Io(io::Error),
}

impl DaemonControl {
    /// The last records, oldest first.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or there is none.
    pub fn audit_records(&self, count: usize) -> Result<Vec<Record>, AuditError> {
        let path = self.audit_file()?;
        audit::last_records(&path, count, None).map_err(AuditError::Io)
    }

    /// Checks the chain of all records, and that it contains `head`.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or there is none.
    pub fn verify_audit(&self, head: Option<&Head>) -> Result<Report, AuditError> {
        let path = self.audit_file()?;
        audit::verify(&path, head).map_err(AuditError::Io)
    }

    /// The audit file of the running daemon, or else the configured one.
    fn audit_file(&self) -> Result<PathBuf, AuditError> {
        let path = match self.recorded_state()? {
            Some(state) => state.audit_file,
            None => self.settings.audit_file.clone(),
        };
        let path = path.ok_or(AuditError::NoFile)?;
        match audit::exists(&path) {
            Ok(false) => Err(AuditError::FileMissing(path)),
            Ok(true) => Ok(path),
            Err(error) => Err(AuditError::Io(error)),
        }
    }
}
