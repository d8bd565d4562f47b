//! The end of the log that writes: what `tracing-appender` does not do.
//!
//! Its worker thread calls `write` for each event and `flush` when none waits, so a burst becomes one
//! `write(2)`. Errors of the disk are kept here, where the worker would swallow them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::libc;
use thiserror::Error;

/// How much is gathered before it is written even though more waits.
const BUFFER: usize = 256 * 1024;

/// The log file cannot be used.
#[derive(Debug, Error)]
pub enum LogFileError {
    /// The system refused.
    #[error(
        "the log file {path} cannot be opened: {source}; set LOG_FILE to a file that this user may write, or to - for stdout"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a file of ours.
    #[error("the log file {path} {reason}; remove it or choose another LOG_FILE")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
}

/// How the log file is doing, and the wish to have it opened again.
#[derive(Debug, Default)]
pub struct LogHealth {
    failure: Mutex<Option<String>>,
    reopen: AtomicBool,
    /// Events handed to the writer's queue, and how many of them it has dealt with.
    queued: AtomicU64,
    written: Mutex<u64>,
    progress: Condvar,
}

impl LogHealth {
    /// What the last write failed with, if the last write failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().clone()
    }

    pub(super) fn count_queued(&self) {
        self.queued.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until every event logged so far is in the file, at most `timeout`; whether it is.
    pub fn settle(&self, timeout: Duration) -> bool {
        let target = self.queued.load(Ordering::Acquire);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .progress
            .wait_timeout_while(written, timeout, |written| *written < target);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= target
    }

    fn count_written(&self, events: u64) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) += events;
        self.progress.notify_all();
    }

    /// Has the file opened anew by its name before the next event is written.
    pub fn request_reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log file: opened for appending, 0600, never through a link or onto another user's file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Events in the buffer.
    buffered: u64,
    lost_lines: usize,
    takes_stdio: bool,
    health: Arc<LogHealth>,
}

impl LogFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is a link, no regular file, or another user's.
    pub fn open(path: &Path) -> Result<Self, LogFileError> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            buffer: Vec::new(),
            buffered: 0,
            lost_lines: 0,
            takes_stdio: false,
            health: Arc::default(),
        })
    }

    /// Makes the file this process's stdout and stderr, now and whenever it is opened again.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn take_stdio(&mut self) -> io::Result<()> {
        self.takes_stdio = true;
        redirect_stdio(&self.file)
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Arc<LogHealth> {
        Arc::clone(&self.health)
    }

    fn reopen(&mut self) {
        let opened = open(&self.path).map_err(io::Error::other).and_then(|file| {
            if self.takes_stdio {
                redirect_stdio(&file)?;
            }
            Ok(file)
        });
        match opened {
            Ok(file) => self.file = file,
            Err(error) => *self.health.lock() = Some(error.to_string()),
        }
    }

    fn write_buffer(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if self.lost_lines > 0 {
            let note = format!(
                "{} ERROR fullon_master_api::logs: {} lines were lost: the log file could not be written\n",
                jiff::Timestamp::now(),
                self.lost_lines
            );
            self.buffer.splice(0..0, note.into_bytes());
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.lost_lines = 0;
                *self.health.lock() = None;
            }
            Err(error) => {
                let noted = usize::from(self.lost_lines > 0);
                self.lost_lines += memchr::memchr_iter(b'\n', &self.buffer).count() - noted;
                *self.health.lock() = Some(format!("writing {}: {error}", self.path.display()));
            }
        }
        self.buffer.clear();
        self.health
            .count_written(std::mem::take(&mut self.buffered));
    }
}

impl Write for LogFile {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + event.len() > BUFFER {
            self.write_buffer();
        }
        self.buffer.extend_from_slice(event);
        self.buffered += 1;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.health.reopen.swap(false, Ordering::AcqRel) {
            // What was logged before the request belongs to the old file.
            self.write_buffer();
            self.reopen();
        }
        self.write_buffer();
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, LogFileError> {
    let io = |source| LogFileError::Io {
        path: path.to_owned(),
        source,
    };
    let unusable = |reason| {
        Err(LogFileError::Unusable {
            path: path.to_owned(),
            reason,
        })
    };
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
    {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return unusable("is a symbolic link");
        }
        other => other.map_err(io)?,
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return unusable("is not a regular file");
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return unusable("belongs to another user");
    }
    if metadata.mode() & 0o077 != 0 {
        // One that the Python launcher left, readable by everybody.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(io)?;
    }
    Ok(file)
}

fn redirect_stdio(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_log_goes_to_the_new_file_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        log.flush().unwrap();
        std::fs::rename(&path, path.with_extension("1")).unwrap();
        log.write_all(b"two\n").unwrap();
        log.flush().unwrap();
        log.health().request_reopen();
        log.write_all(b"three\n").unwrap();
        log.flush().unwrap();
        log.write_all(b"four\n").unwrap();
        log.flush().unwrap();
        assert_eq!(
            std::fs::read_to_string(path.with_extension("1")).unwrap(),
            "one\ntwo\nthree\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failing_disk_is_told_and_the_lost_lines_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        let good = std::mem::replace(
            &mut log.file,
            OpenOptions::new().append(true).open("/dev/full").unwrap(),
        );
        for _ in 0..2 {
            log.write_all(b"a\nb\n").unwrap();
            log.flush().unwrap();
        }
        assert!(log.health().failure().unwrap().contains("No space left"));
        log.file = good;
        log.write_all(b"c\n").unwrap();
        log.flush().unwrap();
        assert_eq!(log.health().failure(), None);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(" 4 lines were lost") && text.ends_with("\nc\n"),
            "{text}"
        );
    }

    #[test]
    fn links_and_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
        assert!(
            LogFile::open(&link)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        assert!(!directory.path().join("target").exists());
        assert!(LogFile::open(directory.path()).is_err());
        assert!(
            LogFile::open(Path::new("/dev/null"))
                .unwrap_err()
                .to_string()
                .contains("regular")
        );
    }
}
