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
use super::format::own_line;
use super::rotation::{Rotation, rotate};
use crate::config::{LogFormat, LogSettings};

/// How much is gathered before it is written even though more waits, and how much is kept while nothing can be written.
const BUFFER: usize = 256 * 1024;
/// How long a file that was renamed is written to while no other has its name: logrotate makes one, unless it is told not
/// to, and keeps out of the way of one that is there already.
const NAMELESS_FOR: Duration = Duration::from_secs(1);
/// How long a rotation that failed is not tried again.
const ROTATE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often, and how long apart, it is looked whether another process finishes the line that it has begun.
const LOOKS: u32 = 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

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
    rotation: Arc<Rotation>,
    format: LogFormat,
    /// Whole lines.
    buffer: Vec<u8>,
    /// Events since the last attempt to write.
    buffered: u64,
    /// Lines that did not fit the buffer.
    lost: usize,
    /// How much of the first line in the buffer the file got already, and how long it was then.
    begun: Option<(usize, u64)>,
    /// How long the file was when we were the last to write.
    known_size: u64,
    /// After a rotation that failed: when it is tried again.
    rotate_again_at: Option<Instant>,
    /// Since when no file has the log's name.
    nameless_since: Option<Instant>,
    takes_stdio: bool,
    health: Arc<LogHealth>,
}

impl LogFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is a link, no regular file, or another user's.
    pub fn open(path: &Path, settings: &LogSettings) -> Result<Self, LogFileError> {
        let (file, id) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            id,
            rotation: Arc::new(Rotation::new(settings)),
            format: settings.format,
            buffer: Vec::new(),
            buffered: 0,
            lost: 0,
            begun: None,
            known_size: 0,
            rotate_again_at: None,
            nameless_since: None,
            takes_stdio: false,
            health: Arc::default(),
        })
    }

    /// Whether the file is there and [`Self::open`] would take it. Neither makes nor changes it.
    ///
    /// # Errors
    ///
    /// It is there, and `open` would fail.
    pub fn check(path: &Path) -> Result<bool, LogFileError> {
        match open_own(path, &write_options()) {
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
    pub fn take_stdio(&mut self) -> io::Result<()> {
        self.takes_stdio = true;
        redirect_stdio(&self.file)
    }

    /// Leaves it to another process to rotate the file.
    #[must_use]
    pub fn rotated_by_another(self) -> Self {
        self.rotation.set_ours(false);
        self
    }

    /// When it is rotated.
    pub(super) fn rotation(&self) -> Arc<Rotation> {
        Arc::clone(&self.rotation)
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Arc<LogHealth> {
        Arc::clone(&self.health)
    }

    /// Writes what waits, as far as that can be had.
    fn drain(&mut self) {
        if self.is_left() {
            self.reopen();
        }
        let mut outcome = self.retry_rotation().and_then(|()| self.write_out());
        if outcome.is_ok() && self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.say(&format!(
                "{lost} lines are missing here: the log could not be written"
            ));
            outcome = self.write_out();
        }
        let failure = outcome.err().map(|error| {
            let waiting = memchr_iter(b'\n', &self.buffer).count();
            format!(
                "writing {}: {error}; {waiting} lines wait for room, {} were lost",
                self.path.display(),
                self.lost
            )
        });
        self.health.report(|troubles| troubles.write = failure);
        self.health
            .count_written(std::mem::take(&mut self.buffered));
    }

    /// Whether the log is another file now: an outside rotation renames it, and an accident removes it.
    fn is_left(&mut self) -> bool {
        let is_requested = self.health.takes_reopen();
        if let Ok(there) = std::fs::symlink_metadata(&self.path) {
            self.nameless_since = None;
            return FileId::of(&there) != self.id;
        }
        let since = *self.nameless_since.get_or_insert_with(Instant::now);
        let is_removed = self.file.metadata().is_ok_and(|ours| ours.nlink() == 0);
        is_requested || is_removed || since.elapsed() >= NAMELESS_FOR
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok((file, id)) => {
                self.replace(file, id);
                self.health.report(|troubles| troubles.open = None);
            }
            Err(error) => {
                let mut is_new = false;
                self.health.report(|troubles| {
                    is_new = troubles.open.replace(error.to_string()).is_none();
                });
                if is_new {
                    self.say(&format!("{error}; still writing to the file that was open"));
                }
            }
        }
    }

    fn retry_rotation(&mut self) -> io::Result<()> {
        if self.rotate_again_at.is_some_and(|at| at <= Instant::now()) {
            self.rotate_again_at = None;
            let size = self.file.metadata()?.len();
            if self.rotation.max_size().is_some_and(|max| size >= max) {
                self.rotate();
            }
        }
        Ok(())
    }

    fn rotate(&mut self) {
        let rotated = rotate(&self.path, self.rotation.keep())
            .and_then(|file| Ok((FileId::of(&file.metadata()?), file)));
        match rotated {
            Ok((id, file)) => {
                self.replace(file, id);
                self.health.count_rotation();
                self.health.report(|troubles| troubles.rotate = None);
            }
            Err(error) => {
                self.rotate_again_at = Some(Instant::now() + ROTATE_AGAIN_AFTER);
                let text = format!("the log file cannot be rotated and grows: {error}");
                let mut is_new = false;
                self.health.report(|troubles| {
                    is_new = troubles.rotate.replace(text.clone()).is_none();
                });
                if is_new {
                    self.say(&text);
                }
            }
        }
    }

    fn replace(&mut self, file: File, id: FileId) {
        if self.takes_stdio
            && let Err(error) = redirect_stdio(&file)
        {
            self.say(&format!("stdout and stderr stay with the old log: {error}"));
        }
        self.file = file;
        self.id = id;
        self.begun = None;
        self.known_size = 0;
        self.rotate_again_at = None;
        self.nameless_since = None;
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut size = self.file.metadata()?.len();
        let mut begun = match self.begun.take() {
            Some((bytes, then)) if then == size => bytes,
            _ => {
                if size != self.known_size && self.is_cut_off(&mut size)? {
                    // Somebody was cut off within a line: ours begins on its own.
                    self.file.write_all(b"\n")?;
                    size += 1;
                }
                0
            }
        };
        while !self.buffer.is_empty() {
            let part = self.that_fits(size, begun);
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
                self.begun = (begun > 0).then_some((begun, size));
            })?;
            self.health.count_bytes(written);
            size += written as u64;
            let reached = begun + written;
            let whole = memrchr(b'\n', &self.buffer[..reached]).map_or(0, |newline| newline + 1);
            self.buffer.drain(..whole);
            begun = reached - whole;
            self.known_size = size;
        }
        Ok(())
    }

    /// Up to where the buffer is written before the file is full: whole lines, and at least one in an empty file.
    fn that_fits(&self, size: u64, begun: usize) -> usize {
        let first_line = || memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |at| at + 1);
        if begun > 0 {
            return first_line();
        }
        let is_rotated = self.rotate_again_at.is_none() && self.nameless_since.is_none();
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
    fn is_cut_off(&self, size: &mut u64) -> io::Result<bool> {
        for _ in 0..LOOKS {
            if self.ends_with_newline(*size)? {
                return Ok(false);
            }
            std::thread::sleep(LOOK_INTERVAL);
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
    fn say(&mut self, message: &str) {
        let line = own_line(self.format, module_path!(), message);
        self.buffer.extend(line.as_bytes());
    }
}

impl Write for LogFile {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let fits = |buffer: &Vec<u8>| buffer.is_empty() || buffer.len() + event.len() <= BUFFER;
        // Nothing gets behind what was lost before that is said.
        if self.lost > 0 || !fits(&self.buffer) {
            self.drain();
        }
        if self.lost == 0 && fits(&self.buffer) {
            self.buffer.extend_from_slice(event);
        } else {
            let lines = memchr_iter(b'\n', event).count();
            self.lost += lines;
            self.health.count_lost(lines);
        }
        self.buffered += 1;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

/// How files of the log are opened for writing. Reading tells whether the last line is finished.
pub(super) fn write_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

fn open(path: &Path) -> Result<(File, FileId), LogFileError> {
    let (file, metadata) = open_own(path, write_options().create(true))?;
    if metadata.mode() & 0o077 != 0 {
        // One that the Python launcher left, readable by everybody.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(|source| LogFileError::Io {
                path: path.to_owned(),
                source,
            })?;
    }
    let id = FileId::of(&metadata);
    Ok((file, id))
}

fn open_own(path: &Path, options: &OpenOptions) -> Result<(File, Metadata), LogFileError> {
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

fn redirect_stdio(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;
    use crate::config::LogTarget;
    use crate::logs::segments::{MAX_NUMBER, numbered};

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
                number => numbered(&self.path, number),
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
    fn a_file_is_rotated_before_it_gets_larger_than_allowed() {
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
    fn a_rotation_that_fails_is_told_and_the_file_grows() {
        let mut log = Log::new(10);
        for number in 1..=MAX_NUMBER {
            std::fs::create_dir(numbered(&log.path, number)).unwrap();
        }
        log.log(&["12345678", "90", "more"]);
        let failure = log.failure().unwrap();
        assert!(failure.contains("cannot be rotated"), "{failure}");
        let lines = log.lines(0);
        assert_eq!((lines.len(), lines[1].as_str()), (4, "90"), "{lines:?}");
        std::fs::remove_dir(numbered(&log.path, 1)).unwrap();
        log.file.rotate_again_at = Some(Instant::now());
        log.file.flush().unwrap();
        assert_eq!((log.lines(0), log.failure()), (Vec::new(), None));
        assert_eq!(log.lines(1), lines);
    }

    #[test]
    fn a_file_that_lost_its_name_is_left_for_the_one_that_has_it() {
        let mut log = Log::new(0);
        log.log(&["one"]);
        std::fs::rename(&log.path, numbered(&log.path, 1)).unwrap();
        // Whoever rotated it may be about to make a new one.
        log.log(&["two"]);
        assert!(!log.path.exists());
        File::create(&log.path).unwrap();
        log.log(&["three"]);
        assert_eq!(log.lines(1), ["one", "two"]);
        assert_eq!(log.lines(0), ["three"]);
        std::fs::rename(&log.path, numbered(&log.path, 2)).unwrap();
        log.file.health.request_reopen();
        log.log(&["four"]);
        std::fs::rename(&log.path, numbered(&log.path, 3)).unwrap();
        log.log(&["five"]);
        log.file.nameless_since = Instant::now().checked_sub(NAMELESS_FOR);
        log.log(&["six"]);
        assert_eq!(log.lines(3), ["four", "five"]);
        assert_eq!(log.lines(0), ["six"]);
        std::fs::remove_file(&log.path).unwrap();
        log.file.flush().unwrap();
        assert_eq!(log.lines(0), [""; 0]);
        assert_eq!(std::fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_full_disk_does_not_take_waits_and_what_does_not_fit_is_counted() {
        let mut log = Log::new(0);
        log.log(&["before"]);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let good = std::mem::replace(&mut log.file.file, full);
        let long = "x".repeat(BUFFER / 2);
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
    fn an_unfinished_line_is_left_alone() {
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
    fn a_line_that_was_begun_is_finished_or_written_whole() {
        let mut log = Log::new(0);
        for (is_interrupted, expected) in
            [(false, vec!["begun"]), (true, vec!["begother", "begun"])]
        {
            std::fs::write(&log.path, "beg").unwrap();
            log.file.buffer = b"begun\n".to_vec();
            log.file.begun = Some((3, 3));
            if is_interrupted {
                std::fs::write(&log.path, "begother").unwrap();
            }
            log.file.flush().unwrap();
            assert_eq!(log.lines(0), expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_is_told_and_tried_again() {
        let mut log = Log::new(0);
        let old = numbered(&log.path, 1);
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
    fn links_and_directories_are_refused() {
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
