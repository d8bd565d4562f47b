//! The end of the log that writes: what `tracing-appender` does not do.
//!
//! Its worker thread calls `write` for each event and `flush` when none waits, so a burst becomes one `write(2)`. Lines
//! that the disk does not take wait here, as many as fit the buffer; those that do not fit are counted, and the log says
//! how many are missing where they are missing.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::{memchr, memchr_iter, memrchr};
use nix::libc;
use thiserror::Error;

use super::condition::LogHealth;
use super::cursor::FileId;
use super::format::format_own_line;
use super::rotation::{RotationPolicy, rotate};
use crate::config::{LogFormat, LogSettings};

/// How much is gathered before it is written even though more waits, and how much is kept while nothing can be written.
const MAX_BUFFER_BYTES: usize = 256 * 1024;
/// How long a file that was renamed is written to while no other has its name: logrotate makes one, unless it is told not
/// to, and keeps out of the way of one that is there already.
const NAME_MISSING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a rotation that failed is not tried again.
const ROTATION_RETRY_DELAY: Duration = Duration::from_millis(500);

/// How often, and how long apart, it is looked whether another process finishes the line that it has begun.
const PARTIAL_LINE_CHECKS: u32 = 20;
const PARTIAL_LINE_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// The log file cannot be used.
#[derive(Debug, Error)]
pub enum LogFileError {
    /// The system refused.
    #[error(
        "the log file {path} cannot be opened: {source}; set LOG_FILE to a file that this user may write"
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

/// The log file: opened for appending, 0600, never through a link or onto another user's file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    id: FileId,
    rotation: Arc<RotationPolicy>,
    format: LogFormat,
    /// Whole lines.
    buffer: Vec<u8>,
    /// Events since the last attempt to write.
    buffered_events: u64,
    /// Lines that did not fit the buffer.
    dropped_lines: usize,
    /// How much of the first line in the buffer the file got already, and how long it was then.
    partial_write: Option<(usize, u64)>,
    /// How long the file was when we were the last to write.
    last_size: u64,
    /// After a rotation that failed: when it is tried again.
    retry_rotation_at: Option<Instant>,
    /// Since when no file has the log's name.
    name_missing_since: Option<Instant>,
    stdio_redirected: bool,
    health: Arc<LogHealth>,
}

impl LogFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is a link, no regular file, or another user's.
    pub fn open(path: &Path, settings: &LogSettings) -> Result<Self, LogFileError> {
        let (file, id) = open_or_create(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            id,
            rotation: Arc::new(RotationPolicy::new(settings)),
            format: settings.format,
            buffer: Vec::new(),
            buffered_events: 0,
            dropped_lines: 0,
            partial_write: None,
            last_size: 0,
            retry_rotation_at: None,
            name_missing_since: None,
            stdio_redirected: false,
            health: Arc::default(),
        })
    }

    /// Whether the file is there and [`open_or_create`] would take it. Neither makes nor changes it.
    ///
    /// # Errors
    ///
    /// It is there, and `open` would fail.
    pub fn check(path: &Path) -> Result<bool, LogFileError> {
        match open_checked(path, &open_options()) {
            Ok(_) => Ok(true),
            Err(LogFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the file this process's stdout and stderr, now and whenever it is another one.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn redirect_stdio(&mut self) -> io::Result<()> {
        self.stdio_redirected = true;
        dup_to_stdio(&self.file)
    }

    /// Leaves it to another process to rotate the file.
    #[must_use]
    pub fn without_rotation(self) -> Self {
        self.rotation.set_enabled(false);
        self
    }

    /// When it is rotated.
    pub(super) fn rotation(&self) -> Arc<RotationPolicy> {
        Arc::clone(&self.rotation)
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Arc<LogHealth> {
        Arc::clone(&self.health)
    }

    /// Writes what waits, as far as that can be had.
    fn drain(&mut self) {
        if self.was_replaced() {
            self.reopen();
        }
        let mut outcome = self.retry_rotation().and_then(|()| self.write_buffer());
        if outcome.is_ok() && self.dropped_lines > 0 {
            let lost = std::mem::take(&mut self.dropped_lines);
            self.append_own_line(&format!(
                "{lost} lines are missing here: the log could not be written"
            ));
            outcome = self.write_buffer();
        }
        let failure = outcome.err().map(|error| {
            let waiting = memchr_iter(b'\n', &self.buffer).count();
            format!(
                "writing {}: {error}; {waiting} lines wait for room, {} were lost",
                self.path.display(),
                self.dropped_lines
            )
        });
        self.health
            .update_errors(|troubles| troubles.write = failure);
        self.health
            .count_written(std::mem::take(&mut self.buffered_events));
    }

    /// Whether the log is another file now: an outside rotation renames it, and an accident removes it.
    fn was_replaced(&mut self) -> bool {
        let is_requested = self.health.take_reopen_request();
        if let Ok(there) = std::fs::symlink_metadata(&self.path) {
            self.name_missing_since = None;
            return FileId::from_metadata(&there) != self.id;
        }
        let since = *self.name_missing_since.get_or_insert_with(Instant::now);
        let is_removed = self.file.metadata().is_ok_and(|ours| ours.nlink() == 0);
        is_requested || is_removed || since.elapsed() >= NAME_MISSING_TIMEOUT
    }

    fn reopen(&mut self) {
        match open_or_create(&self.path) {
            Ok((file, id)) => {
                self.switch_to(file, id);
                self.health.update_errors(|troubles| troubles.open = None);
            }
            Err(error) => {
                let mut is_new = false;
                self.health.update_errors(|troubles| {
                    is_new = troubles.open.replace(error.to_string()).is_none();
                });
                if is_new {
                    self.append_own_line(&format!(
                        "{error}; still writing to the file that was open"
                    ));
                }
            }
        }
    }

    fn retry_rotation(&mut self) -> io::Result<()> {
        if self
            .retry_rotation_at
            .is_some_and(|at| at <= Instant::now())
        {
            self.retry_rotation_at = None;
            let size = self.file.metadata()?.len();
            if self.rotation.max_size().is_some_and(|max| size >= max) {
                self.rotate();
            }
        }
        Ok(())
    }

    fn rotate(&mut self) {
        let rotated = rotate(&self.path, self.rotation.keep())
            .and_then(|file| Ok((FileId::from_metadata(&file.metadata()?), file)));
        match rotated {
            Ok((id, file)) => {
                self.switch_to(file, id);
                self.health.count_rotation();
                self.health.update_errors(|troubles| troubles.rotate = None);
            }
            Err(error) => {
                self.retry_rotation_at = Some(Instant::now() + ROTATION_RETRY_DELAY);
                let text = format!("the log file cannot be rotated and grows: {error}");
                let mut is_new = false;
                self.health.update_errors(|troubles| {
                    is_new = troubles.rotate.replace(text.clone()).is_none();
                });
                if is_new {
                    self.append_own_line(&text);
                }
            }
        }
    }

    fn switch_to(&mut self, file: File, id: FileId) {
        if self.stdio_redirected
            && let Err(error) = dup_to_stdio(&file)
        {
            self.append_own_line(&format!("stdout and stderr stay with the old log: {error}"));
        }
        self.file = file;
        self.id = id;
        self.partial_write = None;
        self.last_size = 0;
        self.retry_rotation_at = None;
        self.name_missing_since = None;
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut size = self.file.metadata()?.len();
        let mut begun = match self.partial_write.take() {
            Some((bytes, then)) if then == size => bytes,
            _ => {
                if size != self.last_size && self.ends_within_line(&mut size)? {
                    // Somebody was cut off within a line: ours begins on its own.
                    self.file.write_all(b"\n")?;
                    size += 1;
                }
                0
            }
        };
        while !self.buffer.is_empty() {
            let part = self.writable_len(size, begun);
            if part == 0 {
                self.rotate();
                size = self.file.metadata()?.len();
                continue;
            }
            let written = match self.file.write(&self.buffer[begun..part]) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            };
            let written = written.inspect_err(|_| {
                self.partial_write = (begun > 0).then_some((begun, size));
            })?;
            self.health.count_bytes(written);
            size += written as u64;
            let reached = begun + written;
            let whole = memrchr(b'\n', &self.buffer[..reached]).map_or(0, |newline| newline + 1);
            self.buffer.drain(..whole);
            begun = reached - whole;
            self.last_size = size;
        }
        Ok(())
    }

    /// Up to where the buffer is written before the file is full: whole lines, and at least one in an empty file.
    fn writable_len(&self, size: u64, begun: usize) -> usize {
        let first_line = || memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |at| at + 1);
        if begun > 0 {
            return first_line();
        }
        let is_rotated = self.retry_rotation_at.is_none() && self.name_missing_since.is_none();
        let max_size = self.rotation.max_size().filter(|_| is_rotated);
        let room = max_size.map(|max| max.saturating_sub(size));
        let room = room.and_then(|room| usize::try_from(room).ok());
        let room = room.unwrap_or(usize::MAX);
        if room >= self.buffer.len() {
            return self.buffer.len();
        }
        match memrchr(b'\n', &self.buffer[..room]) {
            Some(newline) => newline + 1,
            None if size == 0 => first_line(),
            None => 0,
        }
    }

    /// Whether the file ends within a line. One that grows is being written to by a process that hands over.
    fn ends_within_line(&self, size: &mut u64) -> io::Result<bool> {
        for _ in 0..PARTIAL_LINE_CHECKS {
            if self.ends_with_newline(*size)? {
                return Ok(false);
            }
            std::thread::sleep(PARTIAL_LINE_CHECK_INTERVAL);
            let before = std::mem::replace(size, self.file.metadata()?.len());
            if *size == before {
                return Ok(true);
            }
        }
        Ok(true)
    }

    fn ends_with_newline(&self, size: u64) -> io::Result<bool> {
        let mut last = [0];
        let read = match size.checked_sub(1) {
            Some(place) => self.file.read_at(&mut last, place)?,
            None => 0,
        };
        // One that was cut short meanwhile ends somewhere else.
        Ok(read == 0 || last == *b"\n")
    }

    /// A line of the writer's own.
    fn append_own_line(&mut self, message: &str) {
        let line = format_own_line(self.format, module_path!(), message);
        self.buffer.extend(line.as_bytes());
    }
}

impl Write for LogFile {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let fits =
            |buffer: &Vec<u8>| buffer.is_empty() || buffer.len() + event.len() <= MAX_BUFFER_BYTES;
        // Nothing gets behind what was lost before that is said.
        if self.dropped_lines > 0 || !fits(&self.buffer) {
            self.drain();
        }
        if self.dropped_lines == 0 && fits(&self.buffer) {
            self.buffer.extend_from_slice(event);
        } else {
            let lines = memchr_iter(b'\n', event).count();
            self.dropped_lines += lines;
            self.health.count_dropped(lines);
        }
        self.buffered_events += 1;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

/// How files of the log are opened for writing. Reading tells whether the last line is finished.
pub(super) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

fn open_or_create(path: &Path) -> Result<(File, FileId), LogFileError> {
    let (file, metadata) = open_checked(path, open_options().create(true))?;
    if metadata.mode() & 0o077 != 0 {
        // One that the Python launcher left, readable by everybody.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(|source| LogFileError::Io {
                path: path.to_owned(),
                source,
            })?;
    }
    let id = FileId::from_metadata(&metadata);
    Ok((file, id))
}

fn open_checked(path: &Path, options: &OpenOptions) -> Result<(File, Metadata), LogFileError> {
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
    let file = match options.open(path) {
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
    if metadata.nlink() > 1 {
        return unusable("has another name, too (a hard link)");
    }
    Ok((file, metadata))
}

fn dup_to_stdio(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;
    use crate::config::LogTarget;
    use crate::logs::segments::{MAX_NUMBER, numbered_path};

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
        file: LogFile,
    }

    impl Log {
        fn new(max_size: u64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            Self {
                file: open_with(&path, max_size).unwrap(),
                _directory: directory,
                path,
            }
        }

        /// Writes each line as an event, all at once.
        fn log(&mut self, lines: &[&str]) {
            for line in lines {
                self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
            }
            self.file.flush().unwrap();
        }

        fn lines(&self, number: u32) -> Vec<String> {
            let path = match number {
                0 => self.path.clone(),
                number => numbered_path(&self.path, number),
            };
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(str::to_owned).collect()
        }

        fn failure(&self) -> Option<String> {
            self.file.health.failure()
        }
    }

    fn open_with(path: &Path, max_size: u64) -> Result<LogFile, LogFileError> {
        let settings = LogSettings {
            filter: "info".into(),
            format: LogFormat::Text,
            target: LogTarget::File(path.to_owned()),
            max_size: ByteSize(max_size),
            keep: 3,
        };
        LogFile::open(path, &settings)
    }

    #[test]
    fn file_is_rotated_before_it_exceeds_max_size() {
        let mut log = Log::new(10);
        log.log(&["1234", "5678", "90", "a line that is too long for any", "b"]);
        assert_eq!(log.lines(0), ["b"]);
        assert_eq!(log.lines(1), ["a line that is too long for any"]);
        assert_eq!(log.lines(2), ["90"]);
        assert_eq!(log.lines(3), ["1234", "5678"]);
        assert_eq!(std::fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);
        log.log(&["c", "d", "e", "f", "g"]);
        assert_eq!(log.lines(0), ["g"]);
        assert_eq!(log.lines(1), ["b", "c", "d", "e", "f"]);
    }

    #[test]
    fn failed_rotation_is_reported_and_file_grows() {
        let mut log = Log::new(10);
        for number in 1..=MAX_NUMBER {
            std::fs::create_dir(numbered_path(&log.path, number)).unwrap();
        }
        log.log(&["12345678", "90", "more"]);
        let failure = log.failure().unwrap();
        assert!(failure.contains("cannot be rotated"), "{failure}");
        let lines = log.lines(0);
        assert_eq!((lines.len(), lines[1].as_str()), (4, "90"), "{lines:?}");
        std::fs::remove_dir(numbered_path(&log.path, 1)).unwrap();
        log.file.retry_rotation_at = Some(Instant::now());
        log.file.flush().unwrap();
        assert_eq!((log.lines(0), log.failure()), (Vec::new(), None));
        assert_eq!(log.lines(1), lines);
    }

    #[test]
    fn renamed_file_is_left_for_the_new_file() {
        let mut log = Log::new(0);
        log.log(&["one"]);
        std::fs::rename(&log.path, numbered_path(&log.path, 1)).unwrap();
        // Whoever rotated it may be about to make a new one.
        log.log(&["two"]);
        assert!(!log.path.exists());
        File::create(&log.path).unwrap();
        log.log(&["three"]);
        assert_eq!(log.lines(1), ["one", "two"]);
        assert_eq!(log.lines(0), ["three"]);
        std::fs::rename(&log.path, numbered_path(&log.path, 2)).unwrap();
        log.file.health.request_reopen();
        log.log(&["four"]);
        std::fs::rename(&log.path, numbered_path(&log.path, 3)).unwrap();
        log.log(&["five"]);
        log.file.name_missing_since = Instant::now().checked_sub(NAME_MISSING_TIMEOUT);
        log.log(&["six"]);
        assert_eq!(log.lines(3), ["four", "five"]);
        assert_eq!(log.lines(0), ["six"]);
        std::fs::remove_file(&log.path).unwrap();
        log.file.flush().unwrap();
        assert_eq!(log.lines(0), [""; 0]);
        assert_eq!(std::fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn full_disk_fills_buffer_then_drops_and_counts_lines() {
        let mut log = Log::new(0);
        log.log(&["before"]);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let good = std::mem::replace(&mut log.file.file, full);
        let long = "x".repeat(MAX_BUFFER_BYTES / 2);
        log.log(&["a"]);
        log.log(&["b", &long, &long, "c"]);
        let failure = log.failure().unwrap();
        assert!(failure.contains("No space left"), "{failure}");
        assert!(
            failure.contains("3 lines wait for room, 2 were lost"),
            "{failure}"
        );
        log.file.file = good;
        log.log(&["d"]);
        assert_eq!(log.failure(), None);
        let lines = log.lines(0);
        assert_eq!(lines[..4], ["before", "a", "b", &long]);
        assert!(
            lines[4].contains(" 2 lines are missing here") && lines.len() == 6,
            "{lines:?}"
        );
        assert_eq!(lines[5], "d");
    }

    #[test]
    fn unfinished_line_of_another_process_is_not_mixed() {
        let mut log = Log::new(0);
        let mut other = OpenOptions::new().append(true).open(&log.path).unwrap();
        other.write_all(b"cut o").unwrap();
        log.log(&["one", "two"]);
        other.write_all(b"a library says\n").unwrap();
        log.log(&["three"]);
        other.write_all(b"torn").unwrap();
        log.file = open_with(&log.path, 0).unwrap();
        log.log(&["four"]);
        let expected = [
            "cut o",
            "one",
            "two",
            "a library says",
            "three",
            "torn",
            "four",
        ];
        assert_eq!(log.lines(0), expected);
    }

    #[test]
    fn partially_written_line_is_completed_or_rewritten() {
        let mut log = Log::new(0);
        for (is_interrupted, expected) in
            [(false, vec!["begun"]), (true, vec!["begother", "begun"])]
        {
            std::fs::write(&log.path, "beg").unwrap();
            log.file.buffer = b"begun\n".to_vec();
            log.file.partial_write = Some((3, 3));
            if is_interrupted {
                std::fs::write(&log.path, "begother").unwrap();
            }
            log.file.flush().unwrap();
            assert_eq!(log.lines(0), expected);
        }
    }

    #[test]
    fn failed_reopen_is_reported_and_retried() {
        let mut log = Log::new(0);
        let old = numbered_path(&log.path, 1);
        std::fs::rename(&log.path, &old).unwrap();
        std::os::unix::fs::symlink("elsewhere", &log.path).unwrap();
        log.log(&["one"]);
        log.log(&["two"]);
        assert!(log.failure().unwrap().contains("symbolic link"));
        std::fs::remove_file(&log.path).unwrap();
        log.file.health.request_reopen();
        log.log(&["three"]);
        assert_eq!(log.failure(), None);
        let lines = log.lines(1);
        assert!(
            lines[1].contains("still writing to the file that was open"),
            "{lines:?}"
        );
        assert_eq!((lines.len(), lines[2].as_str()), (3, "two"));
        assert_eq!(log.lines(0), ["three"]);
    }

    #[test]
    fn links_and_special_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
        let refusal = |path: &Path| open_with(path, 0).unwrap_err().to_string();
        assert!(refusal(&link).contains("symbolic link"));
        assert!(!directory.path().join("target").exists());
        refusal(directory.path());
        assert!(refusal(Path::new("/dev/null")).contains("regular"));
    }
}
