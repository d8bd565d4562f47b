//! Opens the log and the audit trail of the daemon.

use std::sync::Arc;

use crate::audit::{AuditFile, AuditTrail};
use crate::config::{LogTarget, Settings};
use crate::daemon::error::StartError;
use crate::daemon::run_mode::RunMode;
use crate::instance::describe_other_writer;
use crate::logs::{self, InstalledLog, LogFile, LogFileError, WriterMark, has_other_writer};

/// Opens the log file, or stdout, and installs it as the log of this process. `is_shared` tells
/// that the old process still rotates the file.
pub fn open_log(
    settings: &Settings,
    mode: RunMode,
    is_shared: bool,
) -> Result<InstalledLog, StartError> {
    let stdout = match mode {
        RunMode::Background => None,
        RunMode::Foreground { stdout, .. } => stdout,
    };
    let mut other_writer = None;
    let (file, stdout) = match &settings.log.target {
        LogTarget::Stdout => (None, Some(stdout.unwrap_or_default())),
        LogTarget::File(path) => {
            let file = LogFile::open(path, &settings.log);
            let mut file = file.map_err(|error| match error {
                LogFileError::Io { .. } if !mode.is_background() => {
                    StartError::LogFileInForeground(error)
                }
                error => error.into(),
            })?;
            file = file.with_mark(WriterMark::of_pid_file(&settings.pid_file));
            if file.has_other_writer() {
                other_writer = Some(describe_other_writer(path, &settings.pid_file));
            }
            if is_shared {
                file = file.without_rotation();
            }
            if mode.is_background() {
                file.redirect_stdio().map_err(StartError::Stdio)?;
            }
            (Some(file), stdout)
        }
    };
    let log = logs::install(&settings.log, file, stdout)?;
    if let Some(other) = other_writer {
        tracing::warn!(
            "{other} writes to this LOG_FILE, too: their lines are mixed, and both rotate it"
        );
    }
    tokio::spawn(log.retry_writes());
    Ok(log)
}

/// Opens the audit file, and writes to it from now on.
pub fn open_audit_trail(
    settings: &Settings,
    instance: &str,
) -> Result<Arc<AuditTrail>, StartError> {
    let mark = WriterMark::of_pid_file(&settings.pid_file);
    let file = settings.audit_file.as_deref().map(AuditFile::open);
    let file = file.transpose()?.map(|file| file.with_mark(mark));
    if let Some(file) = &file
        && has_other_writer(file.path(), mark).unwrap_or_default()
    {
        let other = describe_other_writer(file.path(), &settings.pid_file);
        tracing::warn!(
            "{other} writes to this AUDIT_FILE, too: their records are mixed in one chain"
        );
    }
    let trail = Arc::new(AuditTrail::new(file, instance));
    let writer = Arc::clone(&trail);
    tokio::spawn(async move { writer.run().await });
    Ok(trail)
}
