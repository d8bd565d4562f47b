//! The end of the log that writes: what `tracing-appender` does not do.
//!
//! Its worker thread calls `write` for each event and `flush` when none waits, so a burst becomes one
//! `write(2)`. Errors of the disk are kept here, where the worker would swallow them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    write_failure: Mutex<Option<String>>,
    reopen_failure: Mutex<Option<String>>,
    reopen: AtomicBool,
    /// Events handed to the writer's queue, and how many of them it has dealt with.
    queued: AtomicU64,
    written: Mutex<u64>,
    progress: Condvar,
}

impl LogHealth {
    /// What the last write, or the last attempt to open the file anew, failed with.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let failure = |of: &Mutex<Option<String>>| lock(of).clone();
        failure(&self.write_failure).or_else(|| failure(&self.reopen_failure))
    }

    pub(super) fn count_queued(&self) {
        self.queued.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until every event logged so far is in the file, at most `timeout`; whether it is.
    pub fn settle(&self, timeout: Duration) -> bool {
        let target = self.queued.load(Ordering::Acquire);
        let written = lock(&self.written);
        let waited = self
            .progress
            .wait_timeout_while(written, timeout, |written| *written < target);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= target
    }

    fn count_written(&self, events: u64) {
        *lock(&self.written) += events;
        self.progress.notify_all();
    }

    /// Has the file opened anew by its name, once what was logged before is in the old one. Until that succeeds it is
    /// tried again with every write.
    pub(super) fn request_reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The file ends within a line: a write failed half way.
    is_torn: bool,
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
            is_torn: false,
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
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
                *lock(&self.health.reopen_failure) = None;
            }
            Err(error) => {
                let is_new = lock(&self.health.reopen_failure)
                    .replace(error.to_string())
                    .is_none();
                self.health.request_reopen();
                if is_new {
                    let note =
                        own_line(&format!("{error}; still writing to the file that was open"));
                    self.append(note.as_bytes());
                }
            }
        }
    }

    fn write_buffer(&mut self) {
        if self.lost_lines > 0 && !self.buffer.is_empty() {
            let lost = self.lost_lines;
            let note = own_line(&format!(
                "{lost} lines were lost: the log file could not be written"
            ));
            if self.append(note.as_bytes()) {
                self.lost_lines = 0;
            } else {
                // The note itself is no line that anybody misses.
                self.lost_lines = lost;
            }
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.append(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        self.health
            .count_written(std::mem::take(&mut self.buffered));
    }

    /// Writes whole lines behind what is there; whether all of them are in the file. Those that are not are counted.
    fn append(&mut self, lines: &[u8]) -> bool {
        if lines.is_empty() {
            return true;
        }
        if self.is_torn && self.file.write_all(b"\n").is_ok() {
            self.is_torn = false;
        }
        let mut written = 0;
        let outcome = loop {
            match self.file.write(&lines[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == lines.len() {
                break Ok(());
            }
        };
        let failure = outcome.err().map(|error: io::Error| {
            self.is_torn |= written > 0 && lines[written - 1] != b'\n';
            self.lost_lines += memchr::memchr_iter(b'\n', &lines[written..]).count();
            format!("writing {}: {error}", self.path.display())
        });
        let is_whole = failure.is_none();
        *lock(&self.health.write_failure) = failure;
        is_whole
    }
}

/// A line of the writer's own: it cannot log, since what it logs would come back to it.
fn own_line(message: &str) -> String {
    format!(
        "{} ERROR fullon_master_api::logs: {message}\n",
        jiff::Timestamp::now()
    )
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
    fn a_line_that_was_torn_by_a_full_disk_stays_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        // A pipe takes some bytes of a large write and then no more, as a disk does that fills up.
        let (mut reader, writer) = io::pipe().unwrap();
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&writer, flags).unwrap();
        log.file = std::os::fd::OwnedFd::from(writer).into();
        for line in [
            "first\n".to_owned(),
            "x".repeat(200_000) + "\n",
            "third\n".to_owned(),
        ] {
            log.write_all(line.as_bytes()).unwrap();
        }
        log.flush().unwrap();
        assert!(log.health().failure().is_some());
        let mut taken = vec![0; 50_000];
        io::Read::read_exact(&mut reader, &mut taken).unwrap();
        log.write_all(b"fourth\n").unwrap();
        log.flush().unwrap();
        drop(log);
        let mut rest = String::new();
        io::Read::read_to_string(&mut reader, &mut rest).unwrap();
        let lines: Vec<&str> = rest.lines().collect();
        assert!(lines[0].bytes().all(|byte| byte == b'x'), "{lines:?}");
        assert!(lines[1].contains(" 2 lines were lost"), "{lines:?}");
        assert_eq!(lines[2..], ["fourth"]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_is_told_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path).unwrap();
        let write = |log: &mut LogFile, line: &str| {
            log.write_all(line.as_bytes()).unwrap();
            log.flush().unwrap();
        };
        let old = path.with_extension("1");
        std::fs::rename(&path, &old).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        log.health().request_reopen();
        write(&mut log, "one\n");
        write(&mut log, "two\n");
        assert!(log.health().failure().unwrap().contains("symbolic link"));
        std::fs::remove_file(&path).unwrap();
        write(&mut log, "three\n");
        write(&mut log, "four\n");
        assert_eq!(log.health().failure(), None);
        let text = std::fs::read_to_string(&old).unwrap();
        assert_eq!(
            text.matches("still writing to the file that was open")
                .count(),
            1,
            "{text}"
        );
        assert!(text.ends_with("two\nthree\n"), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
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
