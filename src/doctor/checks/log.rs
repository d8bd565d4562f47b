//! Whether the log can be written, and whether its disk has space.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use crate::api::HealthCheckState;
use crate::audit::{AuditFile, ignored_files, trail_owner};
use crate::config::LogTarget;
use crate::doctor::creation::creation_obstacle;
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{DaemonState, Snapshot};
use crate::instance::describe_other_writer;
use crate::logs::{
    LOST_GROUP_HINT, LogFile, LogFileError, WriterMark, describe_lost_group, has_lost_group,
    has_other_writer,
};
use crate::sys::DiskSpace;
use crate::sys::Process;

const LOG: &str = "log";
const DISK: &str = "disk";
const AUDIT: &str = "audit trail";

/// Free space is scarce below the size of the file system divided by this.
const SCARCE_FRACTION: u64 = 100;

pub fn log(snapshot: &Snapshot) -> Option<Finding> {
    Some(match target(snapshot)? {
        LogTarget::Stdout if snapshot.daemon_state == DaemonState::Running => {
            Finding::ok(LOG, "goes to stdout")
        }
        LogTarget::Stdout => {
            let message = "goes to stdout (LOG_FILE=-), which only `fullon run` supports";
            Finding::ok(LOG, message).with_hint("set LOG_FILE to a file for `fullon start`")
        }
        LogTarget::File(path) => check_file(snapshot, &path),
    })
}

/// Whether the daemon writes its audit trail.
pub fn audit(snapshot: &Snapshot) -> Option<Finding> {
    if let Some(status) = snapshot.status() {
        let Some(audit) = &status.audit else {
            let message = "there is no audit file: changes are only logged";
            return Some(Finding::ok(AUDIT, message).with_hint("set AUDIT_FILE to a file"));
        };
        return Some(match &audit.error {
            Some(error) => Finding::warning(
                AUDIT,
                format!("{error}; records are kept in memory"),
                "check the disk space, the owner and the directory; the daemon retries by itself",
            ),
            None => audit_file_warning(snapshot, Path::new(&audit.file)).unwrap_or_else(|| {
                Finding::ok(AUDIT, format!("{}, {} records", audit.file, audit.seq))
            }),
        });
    }
    if snapshot.daemon_state != DaemonState::NotRunning {
        return None;
    }
    let path = snapshot.settings.client.audit_file.as_deref()?;
    match AuditFile::check(path) {
        Ok(_) => audit_file_warning(snapshot, path),
        Err(error) => Some(Finding::error(
            AUDIT,
            error.to_string(),
            "the daemon does not start with this file: run `fullon doctor` again when it is repaired",
        )),
    }
}

/// Another daemon writes to the audit file, or a file with the name of a rotated one is not part of
/// the trail.
fn audit_file_warning(snapshot: &Snapshot, path: &Path) -> Option<Finding> {
    if snapshot.daemon_state == DaemonState::Remote {
        return None;
    }
    if let Some(other) = other_writer(snapshot, path) {
        let message = format!("{other} writes to {}, too", path.display());
        let hint = "choose another AUDIT_FILE: the records of both daemons are mixed in one chain";
        return Some(Finding::warning(AUDIT, message, hint));
    }
    let daemon = snapshot.state_file.as_ref().map(|state| state.owner_uid);
    let ignored = ignored_files(path, trail_owner(path, daemon));
    Some(Finding::warning(
        AUDIT,
        ignored.first()?.to_string(),
        "set AUDIT_FILE to a file in a directory that only this user can write to",
    ))
}

/// Free space for the log. [`log`] reports a missing directory.
pub fn disk(snapshot: &Snapshot) -> Option<Finding> {
    let LogTarget::File(path) = target(snapshot)? else {
        return None;
    };
    let directory = path.parent()?;
    let DiskSpace {
        available: free,
        total,
    } = DiskSpace::at(directory)?;
    let message = format!("{} free in {}", ByteSize(free), directory.display());
    // A full file is kept while the next one grows.
    let max_size = snapshot.settings.log_max_size.unwrap_or_default();
    let scarce = (total / SCARCE_FRACTION).max(2 * max_size.as_u64());
    Some(if free == 0 {
        Finding::error(DISK, message, "free disk space: log lines are lost")
    } else if free < scarce {
        Finding::warning(DISK, message, "free disk space, or lower LOG_MAX_SIZE")
    } else {
        Finding::ok(DISK, message)
    })
}

/// The log of the running daemon, or else the configured one.
fn target(snapshot: &Snapshot) -> Option<LogTarget> {
    if snapshot.daemon_state == DaemonState::Remote {
        return None;
    }
    let from_path = |path: Option<PathBuf>| path.map_or(LogTarget::Stdout, LogTarget::File);
    if let Some(state) = &snapshot.state_file {
        return Some(from_path(state.log_file.clone()));
    }
    if let Some(status) = snapshot.status() {
        let path = Some(&status.log_file).filter(|path| *path != "-");
        return Some(from_path(path.map(PathBuf::from)));
    }
    snapshot.settings.client.log.clone()
}

/// Another daemon that has marked the log or the audit file as its own.
fn other_writer(snapshot: &Snapshot, path: &Path) -> Option<String> {
    let pid_file = &snapshot.settings.client.pid_file;
    let own = WriterMark::of_pid_file(pid_file);
    // Without its PID file, the mark of a running daemon is not known.
    let is_known = snapshot.daemon_state == DaemonState::NotRunning || own.is_some();
    let is_shared = is_known
        && snapshot.unlocked_process.is_none()
        && has_other_writer(path, own).unwrap_or_default();
    is_shared.then(|| describe_other_writer(path, pid_file))
}

fn all_can_read(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

fn lost_group(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| has_lost_group(&file))
}

fn check_file(snapshot: &Snapshot, path: &Path) -> Finding {
    let shown = path.display();
    if let Some(check) = snapshot.log_check()
        && check.state == HealthCheckState::Down
    {
        return Finding::error(
            LOG,
            check.last_error.as_deref().unwrap_or("cannot be written"),
            "check the disk space, the owner and the directory; the daemon retries by itself",
        );
    }
    let belongs_to_this_user = snapshot
        .process()
        .is_some_and(Process::belongs_to_this_user);
    if snapshot.daemon_state == DaemonState::Running && !belongs_to_this_user {
        return Finding::ok(LOG, format!("{shown} (written by the daemon)"));
    }
    let (message, hint) = match LogFile::check(path) {
        Ok(exists) => match (creation_obstacle(path), exists) {
            (None, true) if let Some(other) = other_writer(snapshot, path) => {
                let message = format!("{other} writes to {shown}, too");
                let hint = "choose another LOG_FILE: lines are mixed, and both daemons rotate it";
                return Finding::warning(LOG, message, hint);
            }
            (None, true) if all_can_read(path) => {
                let message = format!("all users can read {shown}");
                let hint = "set LOG_MODE to 0640 for readers in the file's group, or remove LOG_MODE, then run chmod on the file";
                return Finding::warning(LOG, message, hint);
            }
            (None, true) if lost_group(path) => {
                return Finding::warning(LOG, describe_lost_group(path), LOST_GROUP_HINT);
            }
            (None, true) => return Finding::ok(LOG, shown.to_string()),
            (None, false) => {
                let message = format!("{shown} does not exist yet; the first line creates it");
                return Finding::ok(LOG, message);
            }
            (Some(obstacle), true) => {
                let message = format!("{shown} cannot be rotated: {obstacle}");
                let hint = "give this user write access to the directory, or set LOG_FILE to a file in another directory";
                return Finding::warning(LOG, message, hint);
            }
            (Some(obstacle), false) => (
                format!("{shown} cannot be created: {obstacle}"),
                "create the directory or give this user write access, or choose another LOG_FILE",
            ),
        },
        Err(LogFileError::Unusable { defect, .. }) => {
            let hint = format!("{}choose another LOG_FILE", defect.remedy());
            return Finding::error(LOG, format!("{shown} {defect}"), hint);
        }
        Err(LogFileError::Io { source, .. }) => (
            format!("{shown} cannot be opened for writing: {source}"),
            "give this user write access (chown, chmod), or choose another LOG_FILE",
        ),
    };
    Finding::error(LOG, message, hint)
}
