//! The audit trail, read from its files: that works for a daemon that is not running, too. Only the
//! trail of `--admin-url` is read through the API.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::target::{DaemonControl, Target};
use crate::api::{AuditEntry, MAX_AUDIT_RECORDS};
use crate::audit::{self, Head, Report};
use crate::client::{AdminClient, ClientError};
use crate::instance::{PidFileError, StateFile};
use crate::sys::is_trusted_owner;

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
    /// The admin API failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The files of `--admin-url` may be on another machine.
    #[error("--verify reads the audit file: run it on the daemon's machine, without --admin-url")]
    NotHere,
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
    pub async fn audit_records(&self, count: u32) -> Result<Vec<AuditEntry>, AuditError> {
        if self.has_admin_url() {
            return match self.find_target().await? {
                Target::Local { client, .. }
                | Target::Unlocked { client, .. }
                | Target::Remote(client) => Ok(fetch_records(&client?, count).await?),
                Target::Dead(_) | Target::Absent => Err(ClientError::NotRunning.into()),
            };
        }
        let (path, owner) = self.audit_file()?;
        let records = audit::last_records(&path, owner, count as usize, None);
        let records = records.map_err(AuditError::Io)?.into_iter();
        Ok(records.map(AuditEntry::from).collect())
    }

    /// Checks the chain of all records, and that it contains `head`.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or there is none.
    pub fn verify_audit(&self, head: Option<&Head>) -> Result<Report, AuditError> {
        if self.has_admin_url() {
            return Err(AuditError::NotHere);
        }
        let (path, owner) = self.audit_file()?;
        audit::verify(&path, owner, head).map_err(AuditError::Io)
    }

    /// The audit file of the running daemon, or else the configured one, and the user whose it is.
    fn audit_file(&self) -> Result<(PathBuf, u32), AuditError> {
        let (path, daemon) = if let Some(state) = self.recorded_state()? {
            (state.audit_file, Some(state.owner_uid))
        } else {
            let owner = StateFile::owner(self.pid_file());
            let is_trusted = |owner: &u32| is_trusted_owner(self.pid_file(), *owner);
            (self.settings.audit_file.clone(), owner.filter(is_trusted))
        };
        let path = path.ok_or(AuditError::NoFile)?;
        let owner = audit::trail_owner(&path, daemon);
        match audit::exists(&path, owner) {
            Ok(false) => Err(AuditError::FileMissing(path)),
            Ok(true) => Ok((path, owner)),
            Err(error) => Err(AuditError::Io(error)),
        }
    }
}

/// Fetches as many pages as are needed.
async fn fetch_records(client: &AdminClient, count: u32) -> Result<Vec<AuditEntry>, ClientError> {
    let mut records: Vec<AuditEntry> = Vec::new();
    let mut left = count;
    while left > 0 {
        let before = records.first().map(|first| first.seq);
        let page = client.audit(left.min(MAX_AUDIT_RECORDS), before).await?;
        if page.records.is_empty() {
            break;
        }
        left = left.saturating_sub(u32::try_from(page.records.len()).unwrap_or(u32::MAX));
        records.splice(0..0, page.records);
    }
    Ok(records)
}
