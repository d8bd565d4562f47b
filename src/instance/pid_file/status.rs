//! Inspects the PID file without the lock.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::content::{open_for_reading, parse_pid, read_pid, read_stale_content};
use super::error::PidFileError;
use super::lock::{
    LockConflict, LockHolder, find_conflict, find_held_file, find_holder, holds_lock,
};
use crate::sys::Process;

/// The state of the daemon, as the PID file shows it.
#[derive(Debug)]
pub enum PidFileStatus {
    /// There is no file, and no daemon.
    Absent,
    /// The file is not locked: the daemon crashed. The PID in the file, if it is one.
    Stale(Option<u32>),
    /// A daemon runs.
    Held(LockHolder),
}

/// Whether the process holds the lock, alone or together with the process that the file names.
#[must_use]
pub fn holds_pid_file_lock(path: &Path, process: &Process) -> bool {
    fs::metadata(path).is_ok_and(|file| holds_lock(process, &file))
}

/// The path of the PID file that a daemon holds, also if it was moved. The path of a file that was
/// removed or replaced is the one that it had.
#[must_use]
pub fn held_pid_file(process: &Process) -> Option<PathBuf> {
    find_held_file(process)
}

/// Inspects the PID file without changing it.
///
/// # Errors
///
/// The file cannot be read.
pub fn inspect_pid_file(path: &Path) -> Result<PidFileStatus, PidFileError> {
    let file = match open_for_reading(path) {
        Err(PidFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(PidFileStatus::Absent);
        }
        other => other?,
    };
    match find_conflict(path, &file)? {
        LockConflict::Daemon => Ok(PidFileStatus::Held(find_holder(path, &file))),
        LockConflict::OtherProgram => Err(PidFileError::LockedByOtherProgram(path.to_owned())),
        LockConflict::None => Ok(PidFileStatus::Stale(parse_pid(&read_stale_content(
            path, &file,
        )?))),
    }
}

/// The PID in the file. Its holder may be another process.
#[must_use]
pub fn read_recorded_pid(path: &Path) -> Option<u32> {
    read_pid(&open_for_reading(path).ok()?)
}
