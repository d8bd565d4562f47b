//! The lock on the PID file, and the process that holds it. It covers one byte far behind the end of
//! the file. A program that locks the file for reasons of its own is therefore never taken for the
//! daemon.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::content::read_pid;
use super::error::PidFileError;
use crate::sys::Process;

/// The offset of the locked byte: the letters "fullon" as a number.
const LOCKED_BYTE: i64 = 0x6675_6c6c_6f6e;

/// The process that holds the lock.
#[derive(Debug)]
pub enum LockHolder {
    /// This process, which was seen to hold the lock. It is safe to signal.
    Known(Process),
    /// A process that the system hides. The PID in the file, if it is one.
    Hidden(Option<u32>),
}

impl LockHolder {
    /// The PID, as far as it is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Known(process) => Some(process.pid()),
            Self::Hidden(pid) => *pid,
        }
    }

    /// Why this user cannot inspect a process, and what to do. `pid` is the PID in the file.
    #[must_use]
    pub fn explain_hidden(pid: Option<u32>) -> &'static str {
        // The kernel lets nobody inspect a process with more capabilities, see `ptrace(2)`.
        if pid
            .and_then(Process::open)
            .is_some_and(|process| process.belongs_to_this_user())
        {
            "it has capabilities that this program lacks: use the daemon's program file, or run the command as root"
        } else {
            "it belongs to another user: run the command as the daemon's user, or as root"
        }
    }
}

/// A lock that keeps this process from locking the file.
pub enum LockConflict {
    None,
    Daemon,
    OtherProgram,
}

pub fn find_conflict(path: &Path, file: &File) -> Result<LockConflict, PidFileError> {
    let mut request = lock_request();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut request))
        .map_err(|errno| PidFileError::io(path, "examined", errno.into()))?;
    Ok(if i32::from(request.l_type) == libc::F_UNLCK {
        LockConflict::None
    } else if (request.l_start, request.l_len) == (LOCKED_BYTE, 1) {
        LockConflict::Daemon
    } else {
        LockConflict::OtherProgram
    })
}

/// Finds the process that holds the lock: first the one that the file names, then any other.
pub fn find_holder(path: &Path, file: &File) -> LockHolder {
    let recorded = read_pid(file);
    let Ok(metadata) = fs::metadata(path) else {
        return LockHolder::Hidden(recorded);
    };
    let holds = |process: &Process| holds_lock(process, &metadata);
    recorded
        .and_then(Process::open)
        .filter(|process| holds(process))
        .or_else(|| Process::all().find(|process| holds(process)))
        .map_or(LockHolder::Hidden(recorded), LockHolder::Known)
}

/// Whether the process holds the lock and belongs to the owner of the file, as every daemon does.
/// The owner can pass the lock to a program that another user runs, such as `su`. For root, that
/// program must not be the daemon: commands signal it, and trust it as a process of its user.
pub fn holds_lock(process: &Process, file: &fs::Metadata) -> bool {
    process.owner_uid() == Some(file.uid()) && process.holds_lock(file, is_daemon_lock)
}

/// The path of the PID file that the process holds, wherever it is now, or where it was
/// when it was removed.
pub fn find_held_file(process: &Process) -> Option<PathBuf> {
    let path = process.locked_file(is_daemon_lock)?;
    let removed = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"));
    Some(removed.map_or_else(|| path.clone(), PathBuf::from))
}

fn is_daemon_lock(line: &str) -> bool {
    let range = format!(" {LOCKED_BYTE} {LOCKED_BYTE}");
    line.contains("OFDLCK") && line.trim_end().ends_with(&range)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are small; the C library declares the fields narrower than the names"
)]
pub fn lock_request() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: LOCKED_BYTE,
        l_len: 1,
        l_pid: 0,
    }
}
