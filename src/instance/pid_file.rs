//! The PID file. The lock on it is the truth: it is taken with `fcntl(2)`'s `F_OFD_SETLK`, lives as long as
//! the daemon does, and vanishes with it however it ends. The number in the file is information for people
//! and scripts; before a verb acts on a process, [`inspect_pid_file`] has seen that very process hold the lock.
//!
//! The lock covers one byte far behind the end of the file, so that a program that happens to lock the file for
//! reasons of its own is never taken for the daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use thiserror::Error;

use super::process::Process;

/// Where the locked byte is: "fullon", read as a number.
const LOCKED_BYTE: i64 = 0x6675_6c6c_6f6e;
/// Length of the file, in bytes, so that the number can be replaced in place without ever being torn. It is filled with
/// newlines, which `$(cat FILE)` strips.
const FILE_LEN: usize = 11;
/// A longer file, in bytes, is no PID file.
const MAX_LEN: usize = 64;

/// What can be wrong with a PID file.
#[derive(Debug, Error)]
pub enum PidFileError {
    /// A daemon holds it.
    #[error("already running{}", .0.as_ref().map_or(String::new(), |pid| format!(" with PID {pid}")))]
    AlreadyRunning(Option<u32>),
    /// Another program has locked it.
    #[error(
        "the PID file {0} is locked by a program that is not this daemon: choose another PID_FILE"
    )]
    LockedByOtherProgram(PathBuf),
    /// The settings name another one than the daemon holds.
    #[error(
        "PID_FILE: it was changed from {held} to {wanted}, and a running daemon cannot move its lock: stop it, then start it"
    )]
    PathChanged {
        /// The one that is held.
        held: PathBuf,
        /// The one in the settings.
        wanted: PathBuf,
    },
    /// It is a directory, a device, or another user's.
    #[error("the PID file {path} {reason}: choose another PID_FILE")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The system refused.
    #[error(
        "the PID file {path} cannot be {action}: {source}; run this as its owner, or set PID_FILE to a file in a directory of yours"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// `opened`, `locked` or `written`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The PID file, locked by this process. It is removed when this is dropped, before the lock is let go of: unless it was there,
/// and empty, and was not taken over.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
    /// Whether it is this process's to remove.
    remove_on_drop: bool,
}

impl PidFile {
    /// Opens and locks the file, making it if it is not there. What a dead daemon left is taken over.
    ///
    /// # Errors
    ///
    /// [`PidFileError::AlreadyRunning`] when a daemon runs; otherwise what keeps the file from being used.
    pub fn acquire(path: &Path) -> Result<Self, PidFileError> {
        loop {
            let Some((file, is_new)) = open_or_create(path)? else {
                continue;
            };
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_request())) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(match find_conflict(path, &file)? {
                        LockConflict::Daemon => {
                            PidFileError::AlreadyRunning(find_holder(path, &file).pid())
                        }
                        LockConflict::OtherProgram => {
                            PidFileError::LockedByOtherProgram(path.to_owned())
                        }
                        // It was let go of in between.
                        LockConflict::None => continue,
                    });
                }
                Err(errno) => return Err(io_error(path, "locked", errno.into())),
            }
            // A daemon that just stopped may have removed the file that we locked.
            if is_same_file(path, &file) {
                let text = read_stale_content(path, &file)?;
                return Ok(Self {
                    path: path.to_owned(),
                    file,
                    remove_on_drop: is_new || text.iter().any(u8::is_ascii_digit),
                });
            }
        }
    }

    /// The lock that another process shares with this one. The file stays that one's until [`Self::claim`].
    ///
    /// # Errors
    ///
    /// `path` names another file.
    pub fn inherit(path: &Path, held: &Path, lock: File) -> Result<Self, PidFileError> {
        if path != held {
            return Err(PidFileError::PathChanged {
                held: held.to_owned(),
                wanted: path.to_owned(),
            });
        }
        if !is_same_file(path, &lock) {
            return Err(PidFileError::Unusable {
                path: path.to_owned(),
                reason: "was removed or replaced while the daemon ran",
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file: lock,
            remove_on_drop: false,
        })
    }

    /// The open file, which holds the lock for whoever has it.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub fn clone_lock(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Makes the file this process's, with its number in it.
    ///
    /// # Errors
    ///
    /// The disk is full or broken.
    pub fn claim(&mut self) -> Result<(), PidFileError> {
        self.write_pid(std::process::id())?;
        self.remove_on_drop = true;
        Ok(())
    }

    /// Leaves the file to the process that shares the lock and has taken it over.
    pub fn disown(mut self) {
        self.remove_on_drop = false;
    }

    /// Whether the file is still the one with this path: somebody may have removed or replaced it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        is_same_file(&self.path, &self.file)
    }

    /// Whether the process has the same lock.
    #[must_use]
    pub fn is_locked_by(&self, process: &Process) -> bool {
        let file = self.file.metadata();
        file.is_ok_and(|file| holds_lock(process, &file))
    }

    /// The number in the file.
    #[must_use]
    pub fn recorded_pid(&self) -> Option<u32> {
        read_recorded_pid(&self.path)
    }

    /// Whether this user can take over a file that is there, without doing so.
    ///
    /// # Errors
    ///
    /// What keeps the file from being used.
    pub fn check_usable(path: &Path) -> Result<(), PidFileError> {
        open_owned(path, OpenOptions::new().write(true)).map(drop)
    }

    /// Puts a number into the file. Readers see the old or the new one, never half of either.
    ///
    /// # Errors
    ///
    /// The disk is full or broken.
    fn write_pid(&self, pid: u32) -> Result<(), PidFileError> {
        let text = format_pid(pid);
        self.file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.set_len(text.len() as u64))
            .map_err(|source| io_error(&self.path, "written", source))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.remove_on_drop && self.is_in_place() {
            // A file that cannot be removed is one without a lock: the next start takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who holds the lock.
#[derive(Debug)]
pub enum LockHolder {
    /// This process; seen to hold the lock, and safe to signal.
    Known(Process),
    /// A process that the system does not let us look at, with the number that the file gives.
    Hidden(Option<u32>),
}

impl LockHolder {
    /// Its number, as far as it is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Known(process) => Some(process.pid()),
            Self::Hidden(pid) => *pid,
        }
    }
}

/// What the PID file says about the daemon.
#[derive(Debug)]
pub enum PidFileStatus {
    /// There is no file.
    Absent,
    /// The file is there, but no daemon holds it: it died without cleaning up. The number, if it is one.
    Stale(Option<u32>),
    /// A daemon lives.
    Held(LockHolder),
}

/// Whether the process has the lock, alone or with the one that the PID file names.
#[must_use]
pub fn holds_pid_file_lock(path: &Path, process: &Process) -> bool {
    fs::metadata(path).is_ok_and(|file| holds_lock(process, &file))
}

/// Looks at the PID file without changing anything.
///
/// # Errors
///
/// The file cannot be read.
pub fn inspect_pid_file(path: &Path) -> Result<PidFileStatus, PidFileError> {
    let file = match open_regular(path, OpenOptions::new().read(true)) {
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

/// The number in the file, which need not be that of its holder.
#[must_use]
pub fn read_recorded_pid(path: &Path) -> Option<u32> {
    read_pid(&open_regular(path, OpenOptions::new().read(true)).ok()?)
}

enum LockConflict {
    None,
    Daemon,
    OtherProgram,
}

/// Whose lock would keep us from locking the file.
fn find_conflict(path: &Path, file: &File) -> Result<LockConflict, PidFileError> {
    let mut request = lock_request();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut request))
        .map_err(|errno| io_error(path, "examined", errno.into()))?;
    Ok(if i32::from(request.l_type) == libc::F_UNLCK {
        LockConflict::None
    } else if (request.l_start, request.l_len) == (LOCKED_BYTE, 1) {
        LockConflict::Daemon
    } else {
        LockConflict::OtherProgram
    })
}

/// Finds the process that holds the lock: the one the file names, or else whichever does.
fn find_holder(path: &Path, file: &File) -> LockHolder {
    let named = read_pid(file);
    let Ok(metadata) = fs::metadata(path) else {
        return LockHolder::Hidden(named);
    };
    let holds = |process: &Process| holds_lock(process, &metadata);
    named
        .and_then(Process::open)
        .filter(|process| holds(process))
        .or_else(|| Process::all().find(|process| holds(process)))
        .map_or(LockHolder::Hidden(named), LockHolder::Known)
}

fn holds_lock(process: &Process, file: &fs::Metadata) -> bool {
    let ours = format!(" {LOCKED_BYTE} {LOCKED_BYTE}");
    let is_ours = |line: &str| line.contains("OFDLCK") && line.trim_end().ends_with(&ours);
    process.holds_lock(file, is_ours) == Some(true)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are small; the C library declares the fields narrower than the names"
)]
fn lock_request() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: LOCKED_BYTE,
        l_len: 1,
        l_pid: 0,
    }
}

/// The file, and whether it was made just now; `None` when it was removed in between.
fn open_or_create(path: &Path) -> Result<Option<(File, bool)>, PidFileError> {
    let is_because = |error: &PidFileError, kind| matches!(error, PidFileError::Io { source, .. } if source.kind() == kind);
    match open_owned(path, OpenOptions::new().create_new(true).write(true)) {
        Err(error) if is_because(&error, io::ErrorKind::AlreadyExists) => {}
        made => return made.map(|file| Some((file, true))),
    }
    match open_owned(path, OpenOptions::new().write(true)) {
        Err(error) if is_because(&error, io::ErrorKind::NotFound) => Ok(None),
        opened => opened.map(|file| Some((file, false))),
    }
}

fn open_regular(path: &Path, options: &mut OpenOptions) -> Result<File, PidFileError> {
    let file = options
        .read(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|source| {
            if source.raw_os_error() == Some(libc::ELOOP) {
                PidFileError::Unusable {
                    path: path.to_owned(),
                    reason: "is a symbolic link",
                }
            } else {
                io_error(path, "opened", source)
            }
        })?;
    let metadata = file
        .metadata()
        .map_err(|source| io_error(path, "examined", source))?;
    if !metadata.is_file() {
        return Err(PidFileError::Unusable {
            path: path.to_owned(),
            reason: "is not a regular file",
        });
    }
    Ok(file)
}

fn open_owned(path: &Path, options: &mut OpenOptions) -> Result<File, PidFileError> {
    let file = open_regular(path, options)?;
    let metadata = file
        .metadata()
        .map_err(|source| io_error(path, "examined", source))?;
    let unusable = |reason| {
        Err(PidFileError::Unusable {
            path: path.to_owned(),
            reason,
        })
    };
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return unusable("belongs to another user");
    }
    if metadata.nlink() > 1 {
        return unusable("has another name, too (a hard link)");
    }
    Ok(file)
}

fn is_same_file(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
        _ => false,
    }
}

fn read_pid(file: &File) -> Option<u32> {
    parse_pid(&read_content(file).ok()?)
}

fn read_content(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more, to see that there is more.
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The text of a file that nobody holds, if a daemon may take it over: somebody's notes are not its to write over, nor to
/// remove.
fn read_stale_content(path: &Path, file: &File) -> Result<Vec<u8>, PidFileError> {
    let text = read_content(file).map_err(|source| io_error(path, "read", source))?;
    // One that died while it wrote over another's number leaves several, and a machine that lost its power leaves zeros.
    let is_left = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == 0;
    if text.len() <= MAX_LEN && text.iter().all(is_left) {
        return Ok(text);
    }
    Err(PidFileError::Unusable {
        path: path.to_owned(),
        reason: "holds something that is no process id, and was left as it is",
    })
}

/// What the daemon with this number writes.
pub(crate) fn format_pid(pid: u32) -> String {
    format!("{pid:\n<FILE_LEN$}")
}

/// The number that the file holds; a daemon's is never 0.
pub(crate) fn parse_pid(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim();
    let is_number = text.len() <= MAX_LEN && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse().ok())?
        .filter(|pid| *pid > 0)
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> PidFileError {
    PidFileError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_acquire_fails_and_drop_removes_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        assert!(matches!(
            inspect_pid_file(&path).unwrap(),
            PidFileStatus::Absent
        ));

        let mut held = PidFile::acquire(&path).unwrap();
        held.claim().unwrap();
        match inspect_pid_file(&path).unwrap() {
            PidFileStatus::Held(LockHolder::Known(process)) => {
                assert_eq!(process.pid(), std::process::id());
            }
            other => panic!("{other:?}"),
        }
        match PidFile::acquire(&path) {
            Err(PidFileError::AlreadyRunning(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn inherited_lock_outlives_first_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let first = PidFile::acquire(&path).unwrap();
        let mut second = PidFile::inherit(&path, &path, first.clone_lock().unwrap()).unwrap();
        second.claim().unwrap();
        first.disown();
        assert!(matches!(
            PidFile::acquire(&path),
            Err(PidFileError::AlreadyRunning(_))
        ));
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn failed_successor_leaves_file_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut first = PidFile::acquire(&path).unwrap();
        first.claim().unwrap();
        drop(PidFile::inherit(&path, &path, first.clone_lock().unwrap()).unwrap());
        assert_eq!(first.recorded_pid(), Some(std::process::id()));
        let elsewhere = directory.path().join("other");
        assert!(matches!(
            PidFile::inherit(&elsewhere, &path, first.clone_lock().unwrap()),
            Err(PidFileError::PathChanged { .. })
        ));
    }

    #[test]
    fn holder_is_found_despite_wrong_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let held = PidFile::acquire(&path).unwrap();
        for text in [
            "1\n",
            "garbage",
            "",
            "99999999999999999999",
            "-5",
            "4194304",
        ] {
            fs::write(&path, text).unwrap();
            let PidFileStatus::Held(LockHolder::Known(process)) = inspect_pid_file(&path).unwrap()
            else {
                panic!("{text}");
            };
            assert_eq!(process.pid(), std::process::id(), "{text}");
        }
        // As after a crash.
        held.disown();
        assert!(matches!(
            inspect_pid_file(&path).unwrap(),
            PidFileStatus::Stale(Some(4_194_304))
        ));
    }

    #[test]
    fn malformed_pid_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        for (text, pid) in [
            ("0012\n\n", Some(12)),
            (&" ".repeat(100), None),
            (&format!("{}1234", " ".repeat(62)), None),
            ("+5", None),
            ("0", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_recorded_pid(&path), pid, "{text:?}");
        }
    }

    #[test]
    fn whole_file_lock_is_not_a_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let file = File::create(&path).unwrap();
        let whole_file = libc::flock {
            l_start: 0,
            l_len: 0,
            ..lock_request()
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file)).unwrap();
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert!(matches!(
            inspect_pid_file(&path),
            Err(PidFileError::LockedByOtherProgram(_))
        ));
        assert!(matches!(
            PidFile::acquire(&path),
            Err(PidFileError::LockedByOtherProgram(_))
        ));
    }
}
