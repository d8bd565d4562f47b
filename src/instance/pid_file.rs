//! The PID file. A daemon runs as long as its lock on the file exists: the lock is taken with
//! `fcntl(2)`'s `F_OFD_SETLK`, and the kernel releases it however the daemon ends. The PID in the
//! file is for people and scripts. Before a command acts on a process, [`inspect_pid_file`] has
//! verified that this very process holds the lock.
//!
//! The lock covers one byte far behind the end of the file. A program that locks the file for
//! reasons of its own is therefore never taken for the daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use thiserror::Error;

use crate::sys::{OpenError, Process, is_same_file, open_owned, open_regular};

/// The offset of the locked byte: the letters "fullon" as a number.
const LOCKED_BYTE: i64 = 0x6675_6c6c_6f6e;
/// Length of the file, in bytes. It is constant, so that a PID is replaced in place and never seen
/// half written. The rest is newlines, which `$(cat FILE)` strips.
const FILE_LEN: usize = 11;
/// A longer file, in bytes, is not a PID file.
const MAX_LEN: usize = 64;

/// Why a PID file cannot be used.
#[derive(Debug, Error)]
pub enum PidFileError {
    /// A daemon holds the lock. Its PID, if known.
    #[error("already running{}", .0.as_ref().map_or(String::new(), |pid| format!(" with PID {pid}")))]
    AlreadyRunning(Option<u32>),
    /// Another program holds a lock on the file.
    #[error(
        "the PID file {0} is locked by a program that is not this daemon: choose another PID_FILE"
    )]
    LockedByOtherProgram(PathBuf),
    /// The settings name another file than the one that the daemon holds.
    #[error(
        "PID_FILE: it was changed from {held} to {wanted}, and a running daemon cannot move its lock: stop it, then start it"
    )]
    PathChanged {
        /// The file that is held.
        held: PathBuf,
        /// The file in the settings.
        wanted: PathBuf,
    },
    /// It is not a regular file of this user.
    #[error("the PID file {path} {reason}: choose another PID_FILE")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// A system call failed.
    #[error(
        "the PID file {path} cannot be {action}: {source}; run this as its owner, or set PID_FILE to a file in a directory of yours"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// `opened`, `locked` or `written`, for example.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// The PID file, locked by this process. Dropping it removes the file, then releases the lock. A
/// file that existed and was empty stays, unless it was claimed.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
    remove_on_drop: bool,
}

impl PidFile {
    /// Opens and locks the file. Creates it if it does not exist, and reuses what a crashed daemon
    /// left.
    ///
    /// # Errors
    ///
    /// [`PidFileError::AlreadyRunning`] when a daemon runs; another error when the file cannot be
    /// used.
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
                        // The lock was released in between.
                        LockConflict::None => continue,
                    });
                }
                Err(errno) => return Err(io_error(path, "locked", errno.into())),
            }
            // A daemon that has just stopped may have removed the file that is locked now.
            if is_file_at(path, &file) {
                let content = read_stale_content(path, &file)?;
                return Ok(Self {
                    path: path.to_owned(),
                    file,
                    remove_on_drop: is_new || content.iter().any(u8::is_ascii_digit),
                });
            }
        }
    }

    /// Takes a lock that the old process shares with this one. The file belongs to the old process
    /// until [`Self::claim`].
    ///
    /// # Errors
    ///
    /// `path` is another file than the one that is locked.
    pub fn inherit(path: &Path, held: &Path, lock: File) -> Result<Self, PidFileError> {
        if path != held {
            return Err(PidFileError::PathChanged {
                held: held.to_owned(),
                wanted: path.to_owned(),
            });
        }
        if !is_file_at(path, &lock) {
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

    /// Duplicates the descriptor, with which another process shares the lock.
    ///
    /// # Errors
    ///
    /// No descriptor is free.
    pub fn clone_lock(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes the PID of this process into the file, which belongs to this process from now on.
    ///
    /// # Errors
    ///
    /// The disk is full or broken.
    pub fn claim(&mut self) -> Result<(), PidFileError> {
        self.write_pid(std::process::id())?;
        self.remove_on_drop = true;
        Ok(())
    }

    /// Leaves the file to the process that shares the lock and has claimed it.
    pub fn disown(mut self) {
        self.remove_on_drop = false;
    }

    /// Whether the path still names the locked file. It does not when somebody removed or replaced
    /// the file.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        is_file_at(&self.path, &self.file)
    }

    /// Whether the process shares the lock.
    #[must_use]
    pub fn is_locked_by(&self, process: &Process) -> bool {
        let file = self.file.metadata();
        file.is_ok_and(|file| holds_lock(process, &file))
    }

    /// The PID in the file.
    #[must_use]
    pub fn recorded_pid(&self) -> Option<u32> {
        read_recorded_pid(&self.path)
    }

    /// Checks that this user can acquire an existing file, without changing it.
    ///
    /// # Errors
    ///
    /// The file cannot be used.
    pub fn check_usable(path: &Path) -> Result<(), PidFileError> {
        open_owned_file(path, OpenOptions::new().write(true)).map(drop)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the PID in the file. Readers see either the old or the new one.
    fn write_pid(&self, pid: u32) -> Result<(), PidFileError> {
        let text = format_pid(pid);
        self.file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.set_len(text.len() as u64))
            .map_err(|source| io_error(&self.path, "written", source))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.remove_on_drop && self.is_in_place() {
            // If it cannot be removed, it is a file without a lock, which the next start reuses.
            let _ = fs::remove_file(&self.path);
        }
    }
}

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
}

/// What the PID file tells about the daemon.
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

/// A lock that keeps this process from locking the file.
enum LockConflict {
    None,
    Daemon,
    OtherProgram,
}

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

/// Finds the process that holds the lock: first the one that the file names, then any other.
fn find_holder(path: &Path, file: &File) -> LockHolder {
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

fn holds_lock(process: &Process, file: &fs::Metadata) -> bool {
    let range = format!(" {LOCKED_BYTE} {LOCKED_BYTE}");
    let is_daemon_lock = |line: &str| line.contains("OFDLCK") && line.trim_end().ends_with(&range);
    process.holds_lock(file, is_daemon_lock) == Some(true)
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

/// Returns the file and whether it is new; `None` when it was removed in between.
fn open_or_create(path: &Path) -> Result<Option<(File, bool)>, PidFileError> {
    let has_kind = |error: &PidFileError, kind| matches!(error, PidFileError::Io { source, .. } if source.kind() == kind);
    match open_owned_file(path, OpenOptions::new().create_new(true).write(true)) {
        Err(error) if has_kind(&error, io::ErrorKind::AlreadyExists) => {}
        created => return created.map(|file| Some((file, true))),
    }
    match open_owned_file(path, OpenOptions::new().write(true)) {
        Err(error) if has_kind(&error, io::ErrorKind::NotFound) => Ok(None),
        opened => opened.map(|file| Some((file, false))),
    }
}

fn open_for_reading(path: &Path) -> Result<File, PidFileError> {
    let (file, _) = open_regular(path, OpenOptions::new().read(true))
        .map_err(|error| open_error(path, error))?;
    Ok(file)
}

fn open_owned_file(path: &Path, options: &mut OpenOptions) -> Result<File, PidFileError> {
    let (file, _) = open_owned(path, options.read(true).mode(0o600))
        .map_err(|error| open_error(path, error))?;
    Ok(file)
}

/// Whether the path, not followed if it is a symbolic link, names the open file.
fn is_file_at(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(at_path), Ok(open)) => is_same_file(&at_path, &open),
        _ => false,
    }
}

fn read_pid(file: &File) -> Option<u32> {
    parse_pid(&read_content(file).ok()?)
}

/// Reads at most one byte more than [`MAX_LEN`], so that a longer file is recognized.
fn read_content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Reads a file that is not locked. Fails unless a daemon may have written it: another file must
/// not be overwritten or removed.
fn read_stale_content(path: &Path, file: &File) -> Result<Vec<u8>, PidFileError> {
    let content = read_content(file).map_err(|source| io_error(path, "read", source))?;
    // A daemon that died while it replaced a PID leaves several numbers. A machine that lost power
    // leaves zero bytes.
    let is_expected = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == 0;
    if content.len() <= MAX_LEN && content.iter().all(is_expected) {
        return Ok(content);
    }
    Err(PidFileError::Unusable {
        path: path.to_owned(),
        reason: "holds something that is no process id, and was left as it is",
    })
}

/// The content of the file for a PID.
pub(super) fn format_pid(pid: u32) -> String {
    format!("{pid:\n<FILE_LEN$}")
}

/// Parses the content of the file. 0 is not a PID.
pub(super) fn parse_pid(content: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(content).ok()?;
    let digits = text.trim();
    let is_number = text.len() <= MAX_LEN && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse().ok())?
        .filter(|pid| *pid > 0)
}

fn open_error(path: &Path, error: OpenError) -> PidFileError {
    match error {
        OpenError::Io { action, source } => io_error(path, action, source),
        OpenError::Unusable(reason) => PidFileError::Unusable {
            path: path.to_owned(),
            reason,
        },
    }
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
