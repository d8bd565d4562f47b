//! The PID file of this process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::content::{format_pid, open_owned_file, read_stale_content};
use super::error::PidFileError;
use super::lock::{LockConflict, find_conflict, find_holder, holds_lock, lock_request};
use super::status::read_recorded_pid;
use crate::sys::{Process, is_same_file};

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
                Err(errno) => return Err(PidFileError::io(path, "locked", errno.into())),
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
                reason: "was removed or replaced while the daemon was running",
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
            .map_err(|source| PidFileError::io(&self.path, "written", source))
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

/// Returns the file and whether it is new; `None` when it was removed in between.
fn open_or_create(path: &Path) -> Result<Option<(File, bool)>, PidFileError> {
    let has_kind = |error: &PidFileError, kind| matches!(error, PidFileError::Io { source, .. } if source.kind() == kind);
    match open_owned_file(path, OpenOptions::new().create_new(true).write(true)) {
        Err(error) if has_kind(&error, io::ErrorKind::AlreadyExists) => {}
        Err(error) if has_kind(&error, io::ErrorKind::NotFound) => {
            return Err(match path.parent() {
                Some(directory) if !directory.exists() => PidFileError::MissingDirectory {
                    path: path.to_owned(),
                    directory: directory.to_owned(),
                },
                _ => error,
            });
        }
        created => return created.map(|file| Some((file, true))),
    }
    match open_owned_file(path, OpenOptions::new().write(true)) {
        Err(error) if has_kind(&error, io::ErrorKind::NotFound) => Ok(None),
        opened => opened.map(|file| Some((file, false))),
    }
}

/// Whether the path, not followed if it is a symbolic link, names the open file.
fn is_file_at(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(at_path), Ok(open)) => is_same_file(&at_path, &open),
        _ => false,
    }
}
