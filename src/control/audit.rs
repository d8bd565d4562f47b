//! The audit trail, read from its files: that works for a daemon that is not running, too. Only the
//! trail of `--admin-url` is read through the API.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::target::{DaemonControl, Target, fetch_status, sudo_user};
use crate::api::{AuditEntry, MAX_AUDIT_RECORDS};
use crate::audit::{self, Head, Report};
use crate::client::{AdminClient, ClientError};
use crate::config::user_name;
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
    /// The state file of another user names the file. It may be any file.
    #[error(
        "the audit file {} is named by a state file of {}, who may have named any file: it is not read; run the command as that user (`sudo -u {} -H fullon audit --verify`), or set AUDIT_FILE to that file", .path.display(), user_name(*.owner), sudo_user(*.owner)
    )]
    ForeignFile { path: PathBuf, owner: u32 },
}

/// The result of [`DaemonControl::verify_audit`].
#[derive(Debug)]
pub struct VerifiedAudit {
    pub report: Report,
    /// Why a running daemon was not asked for its last record.
    pub not_asked: Option<ClientError>,
}

impl DaemonControl {
    /// The last records, oldest first.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or there is none.
    pub async fn audit_records(&self, count: u32) -> Result<Vec<AuditEntry>, AuditError> {
        if self.has_admin_url() {
            return self.fetch_audit(count).await;
        }
        let (path, owner) = match self.audit_file() {
            // Its daemon reads it.
            Err(AuditError::ForeignFile { .. }) => return self.fetch_audit(count).await,
            found => found?,
        };
        let records = audit::last_records(&path, owner, count as usize, None);
        let records = records.map_err(AuditError::Io)?.into_iter();
        Ok(records.map(AuditEntry::from).collect())
    }

    async fn fetch_audit(&self, count: u32) -> Result<Vec<AuditEntry>, AuditError> {
        match self.find_target().await? {
            Target::Local { client, .. }
            | Target::Unlocked { client, .. }
            | Target::Remote(client) => Ok(fetch_records(&client?, count).await?),
            Target::Dead(_) | Target::Absent => Err(ClientError::NotRunning.into()),
        }
    }

    /// Checks the chain of all records, and that it contains `head` and the last record of a
    /// running daemon.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or there is none.
    pub async fn verify_audit(&self, head: Option<&Head>) -> Result<VerifiedAudit, AuditError> {
        if self.has_admin_url() {
            return Err(AuditError::NotHere);
        }
        let (path, owner) = self.audit_file()?;
        // Before the files are read: later records are not missing.
        let (daemon, not_asked) = match self.daemon_head(&path).await? {
            Ok(head) => (head, None),
            Err(error) => (None, Some(error)),
        };
        let report = audit::verify(&path, owner, head, daemon.as_ref()).map_err(AuditError::Io)?;
        Ok(VerifiedAudit { report, not_asked })
    }

    /// The last record that the running daemon knows of, if one runs and writes to this file.
    async fn daemon_head(
        &self,
        path: &Path,
    ) -> Result<Result<Option<Head>, ClientError>, PidFileError> {
        let (Target::Local { client, .. } | Target::Unlocked { client, .. }) =
            self.find_target().await?
        else {
            return Ok(Ok(None));
        };
        let known = fetch_status(client).await.map(|status| status.audit);
        Ok(known.map(|audit| {
            let audit = audit.filter(|audit| Path::new(&audit.file) == path)?;
            let (seq, hash) = (audit.seq, audit.hash);
            Some(Head { seq, hash })
        }))
    }

    /// The audit file of the running daemon, or else the configured one, and the user whose it is.
    fn audit_file(&self) -> Result<(PathBuf, u32), AuditError> {
        let configured = &self.settings.audit_file;
        let (path, daemon) = if let Some(state) = self.recorded_state()? {
            let owner = state.owner_uid;
            if !state.belongs_to_this_user()
                && state.audit_file != *configured
                && let Some(path) = state.audit_file
            {
                return Err(AuditError::ForeignFile { path, owner });
            }
            (state.audit_file, Some(owner))
        } else {
            let owner = StateFile::owner(self.pid_file());
            let is_trusted = |owner: &u32| is_trusted_owner(self.pid_file(), *owner);
            (configured.clone(), owner.filter(is_trusted))
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
