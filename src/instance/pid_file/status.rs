//! Inspects the PID file without the lock.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::content::{open_for_reading, parse_pid, read_pid, read_stale_content};
use super::error::PidFileError;
use super::lock::{
    LockConflict, LockHolder, find_conflict, find_held_file, find_holder, holds_lock,
};
use crate::sys::{Process, is_same_file};

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

/// The daemon that also writes to the file at `path`, which has its mark: its PID and its PID file,
/// as far as this user may see them. It is not the daemon of `own_pid_file`.
#[must_use]
pub fn describe_other_writer(path: &Path, own_pid_file: &Path) -> String {
    let find = || {
        let file = fs::metadata(path).ok()?;
        let own = fs::metadata(own_pid_file).ok();
        let is_own = |held: &Path| {
            let held = fs::metadata(held);
            own.as_ref()
                .is_some_and(|own| held.is_ok_and(|held| is_same_file(own, &held)))
        };
        Process::all().find_map(|process| {
            let has_mark = process.holds_lock(&file, |line| line.contains("OFDLCK"));
            let held = held_pid_file(&process).filter(|held| has_mark && !is_own(held))?;
            Some((process.pid(), held))
        })
    };
    find().map_or_else(
        || "another daemon".into(),
        |(pid, held)| format!("another daemon (PID {pid}, PID file {})", held.display()),
    )
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
