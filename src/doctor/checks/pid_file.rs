//! The daemon's PID file, and the state file beside it.

use std::path::{Path, PathBuf};

use crate::doctor::creation::creation_obstacle;
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{PidFileState, Snapshot};
use crate::instance::{
    LockHolder, PidFile, PidFileError, PidFileStatus, StateFile, StateFileError, inspect_pid_file,
    read_recorded_pid,
};
use crate::sys::Process;

const PID_FILE: &str = "PID file";
const STATE_FILE: &str = "state file";

/// An invalid `PID_FILE` is reported with the other settings.
pub fn pid_file(snapshot: &Snapshot) -> Option<Finding> {
    if !snapshot.settings.is_pid_file_valid {
        return None;
    }
    let path = &snapshot.settings.client.pid_file;
    Some(match &snapshot.pid_file {
        PidFileState::Held(holder) => held(path, holder),
        PidFileState::NotHeld => {
            let running = snapshot.unlocked_process.as_ref();
            not_held(path, running, snapshot.other_daemon.as_ref())
        }
        PidFileState::Unusable(error) => unusable(path, error),
        PidFileState::Ignored => return None,
    })
}

/// The state file of a daemon that holds the PID file.
pub fn state_file(snapshot: &Snapshot) -> Option<Finding> {
    let PidFileState::Held(holder) = &snapshot.pid_file else {
        return None;
    };
    let pid_file = &snapshot.settings.client.pid_file;
    let path = StateFile::path(pid_file);
    let shown = path.display();
    if snapshot.state_file.is_some() {
        return Some(Finding::ok(STATE_FILE, shown.to_string()));
    }
    let reason = match StateFile::read_active(pid_file, holder.pid()?).err()? {
        StateFileError::Io { source, .. } => format!("cannot be read: {source}"),
        StateFileError::Untrusted { reason, .. } => reason.into(),
    };
    let belongs_to_this_user =
        matches!(holder, LockHolder::Known(process) if process.belongs_to_this_user());
    Some(Finding::warning(
        STATE_FILE,
        format!("{shown} {reason}; commands cannot use the admin API"),
        if belongs_to_this_user {
            "`fullon restart --hard` writes a new one; meanwhile use --admin-url"
        } else {
            "run this as the daemon's user"
        },
    ))
}

fn held(path: &Path, holder: &LockHolder) -> Finding {
    let shown = path.display();
    match holder {
        LockHolder::Known(process) => match read_recorded_pid(path) {
            Some(pid) if pid == process.pid() || is_held_by(path, pid) => {
                Finding::ok(PID_FILE, format!("{shown}: held by {}", process.describe()))
            }
            pid => Finding::warning(
                PID_FILE,
                format!(
                    "{shown}: held by {}, but the PID in the file is {}",
                    process.describe(),
                    pid.map_or("missing".into(), |pid| pid.to_string()),
                ),
                "`fullon restart` fixes the file; until then, do not signal that PID",
            ),
        },
        LockHolder::Hidden(pid) => Finding::warning(
            PID_FILE,
            format!(
                "{shown}: held by a process that this user cannot inspect{}",
                pid.map_or(String::new(), |pid| format!(" (PID in the file: {pid})")),
            ),
            LockHolder::explain_hidden(*pid),
        ),
    }
}

/// Whether this process holds the file by now: the holder may have been replaced since the
/// snapshot.
fn is_held_by(path: &Path, pid: u32) -> bool {
    matches!(inspect_pid_file(path), Ok(PidFileStatus::Held(holder)) if holder.pid() == Some(pid))
}

/// `running` is the daemon that should hold the file. `other` listens at the configured ports.
fn not_held(path: &Path, running: Option<&Process>, other: Option<&(Process, PathBuf)>) -> Finding {
    let shown = path.display();
    let file = inspect_pid_file(path);
    if let Some(process) = running {
        let event = match file {
            Ok(PidFileStatus::Absent) => "was removed",
            _ => "was replaced",
        };
        return Finding::error(
            PID_FILE,
            format!(
                "{shown} {event} while its daemon is running (PID {})",
                process.pid()
            ),
            "fullon stop && fullon start",
        );
    }
    match file {
        Err(error) => unusable(path, &error),
        // A daemon started since the snapshot.
        Ok(PidFileStatus::Held(holder)) => held(path, &holder),
        Ok(PidFileStatus::Absent) if let Some((process, other)) = other => {
            let (pid, other) = (process.pid(), other.display());
            Finding::warning(
                PID_FILE,
                format!(
                    "{shown} does not exist, but another daemon runs (PID {pid}, PID file {other})"
                ),
                format!("if you mean that daemon, add --pid-file {other} to each command"),
            )
        }
        Ok(PidFileStatus::Absent) => match creation_obstacle(path) {
            None => Finding::ok(
                PID_FILE,
                format!("{shown} does not exist: the daemon is not running"),
            )
            .with_hint("fullon start"),
            Some(obstacle) => not_creatable(path, &obstacle),
        },
        Ok(PidFileStatus::Stale(pid)) => {
            match (PidFile::check_usable(path), creation_obstacle(path)) {
                (Err(error), _) => unusable(path, &error),
                (Ok(()), Some(obstacle)) => not_creatable(&StateFile::path(path), &obstacle),
                (Ok(()), None) => stale(path, pid),
            }
        }
    }
}

fn stale(path: &Path, pid: Option<u32>) -> Finding {
    let shown = path.display();
    let other_program = pid
        .and_then(Process::open)
        .filter(|process| !process.has_exited());
    let (message, hint) = match (other_program, pid) {
        (Some(process), _) => (
            format!(
                "{shown} is stale; its PID now belongs to another program: {}",
                process.describe()
            ),
            "do not signal that program; `fullon start` takes over the file",
        ),
        (None, Some(pid)) => (
            format!("{shown} is stale: the daemon (PID {pid}) crashed or was killed"),
            "`fullon start` takes over the file; `fullon logs --no-follow` may show the reason",
        ),
        (None, None) => (
            format!("{shown} is stale and contains no PID"),
            "`fullon start` takes over the file",
        ),
    };
    Finding::warning(PID_FILE, message, hint)
}

fn not_creatable(path: &Path, obstacle: &str) -> Finding {
    Finding::error(
        PID_FILE,
        format!("{} cannot be created: {obstacle}", path.display()),
        "set PID_FILE to a file in a directory that this user can write to",
    )
}

fn unusable(path: &Path, error: &PidFileError) -> Finding {
    let shown = path.display();
    let (message, hint) = match error {
        PidFileError::LockedByOtherProgram(_) => (
            format!("{shown} is locked by another program"),
            "choose another PID_FILE; `lslocks` shows the program",
        ),
        PidFileError::Unusable { reason, .. } => (
            format!("{shown} {reason}"),
            "choose another PID_FILE, or move the file away",
        ),
        PidFileError::Io { action, source, .. } => (
            format!("{shown} cannot be {action}: {source}"),
            "run this as the file's owner, or set PID_FILE to a file in a directory that this user can write to",
        ),
        _ => (error.to_string(), "fullon status"),
    };
    Finding::error(PID_FILE, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn daemon_replaced_meanwhile_is_no_warning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut new = PidFile::acquire(&path).unwrap();
        let old = Process::open(std::os::unix::process::parent_id()).unwrap();
        let old = LockHolder::Known(old);
        assert_eq!(held(&path, &old).severity, Severity::Warning);
        new.claim().unwrap();
        assert_eq!(held(&path, &old).severity, Severity::Ok);
        std::fs::write(&path, "1").unwrap();
        assert_eq!(held(&path, &old).severity, Severity::Warning);
    }
}
