//! The writer of the log file: buffering, rotation and reopening, which `tracing-appender` lacks.
//!
//! The thread of `tracing-appender` calls `write` for each event and `flush` when no more are
//! queued. So a burst becomes one `write(2)`. When the disk is full, lines stay in the buffer.
//! Lines that do not fit are dropped and counted. The log reports their number where they are
//! missing.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::{memchr, memchr_iter, memrchr};

use super::format::format_own_line;
use super::health::LogHealth;
use super::open::{
    LOST_GROUP_HINT, LogFileError, describe_lost_group, has_lost_group, open_checked, open_options,
    open_or_create, set_mode,
};
use super::rotate::{RotationPolicy, rotate};
use super::writer_mark::{WriterMark, is_marked_by_another};
use crate::config::{LogFormat, LogSettings};
use crate::logs::cursor::FileId;
use crate::logs::files::files_between;
use crate::logs::history::FileHistory;

#[cfg(test)]
mod tests;

/// A buffer of this size is written although more events are queued. While the file cannot be
/// written, no more is kept in memory.
const MAX_BUFFER_BYTES: usize = 256 * 1024;
/// How long a renamed file is still written to if no other file has the log's name. logrotate
/// creates one unless it is configured not to, and does not replace one that exists already.
const NAME_MISSING_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between a failed rotation and the next attempt.
const ROTATION_RETRY_DELAY: Duration = Duration::from_millis(500);

/// How often, and at what interval, to check whether another process completes its line.
const PARTIAL_LINE_CHECKS: u32 = 20;
const PARTIAL_LINE_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// The log file, opened for appending.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    id: FileId,
    rotation: Arc<RotationPolicy>,
    /// The `LOG_MODE` that was applied.
    mode: Option<u32>,
    format: LogFormat,
    /// Whole lines.
    buffer: Vec<u8>,
    /// Events since the last attempt to write.
    buffered_events: u64,
    /// Lines that did not fit the buffer.
    dropped_lines: usize,
    /// How many bytes of the first line in the buffer are in the file already, and the file's size
    /// at that time.
    partial_write: Option<(usize, u64)>,
    /// The size of the file after our last write.
    last_size: u64,
    /// When a failed rotation is retried.
    retry_rotation_at: Option<Instant>,
    /// Since when no file has the log's name.
    name_missing_since: Option<Instant>,
    stdio_redirected: bool,
    health: Arc<LogHealth>,
    history: Arc<FileHistory>,
    mark: Option<WriterMark>,
}

impl LogFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is a link or not a regular file, or belongs to another user.
    pub fn open(path: &Path, settings: &LogSettings) -> Result<Self, LogFileError> {
        let (file, id) = open_or_create(path, settings.mode, None)?;
        let history = FileHistory::default();
        history.continue_in(id, file.metadata().map_or(0, |file| file.len()), 0);
        let mut opened = Self {
            path: path.to_owned(),
            file,
            id,
            rotation: Arc::new(RotationPolicy::new(settings)),
            mode: settings.mode,
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
            history: Arc::new(history),
            mark: None,
        };
        if opened.has_lost_group() {
            opened.report_lost_group();
        }
        Ok(opened)
    }

    /// Whether a rotation could not keep the group that read the file.
    #[must_use]
    pub fn has_lost_group(&self) -> bool {
        self.file.metadata().is_ok_and(|file| has_lost_group(&file))
    }

    fn report_lost_group(&mut self) {
        let problem = describe_lost_group(&self.path);
        self.append_own_line(&format!("{problem}: {LOST_GROUP_HINT}"));
    }

    /// Whether the file exists and [`Self::open`] would accept it. Does not change anything.
    ///
    /// # Errors
    ///
    /// The file exists, and `open` would fail.
    pub fn check(path: &Path) -> Result<bool, LogFileError> {
        match open_checked(path, &mut open_options()) {
            Ok(_) => Ok(true),
            Err(LogFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Redirects stdout and stderr of this process to the file, also after a rotation.
    ///
    /// # Errors
    ///
    /// The system reports an error.
    pub fn redirect_stdio(&mut self) -> io::Result<()> {
        self.stdio_redirected = true;
        dup_to_stdio(&self.file)
    }

    /// Leaves the rotation of the file to another process.
    #[must_use]
    pub fn without_rotation(self) -> Self {
        self.rotation.set_enabled(false);
        self
    }

    /// Marks the files as those of one daemon. Without locks in their file system, they stay
    /// unmarked.
    #[must_use]
    pub fn with_mark(self, mark: Option<WriterMark>) -> Self {
        let marked = Self { mark, ..self };
        marked.mark_file(&marked.file);
        marked
    }

    fn mark_file(&self, file: &File) {
        if let Some(mark) = self.mark {
            let _ = mark.set(file);
        }
    }

    /// Whether a daemon with another mark writes to the file, too.
    #[must_use]
    pub fn has_other_writer(&self) -> bool {
        is_marked_by_another(&self.file, self.mark).unwrap_or_default()
    }

    pub(crate) fn rotation(&self) -> Arc<RotationPolicy> {
        Arc::clone(&self.rotation)
    }

    /// The state of the file.
    #[must_use]
    pub fn health(&self) -> Arc<LogHealth> {
        Arc::clone(&self.health)
    }

    /// The succession of the files.
    pub(crate) fn history(&self) -> Arc<FileHistory> {
        Arc::clone(&self.history)
    }

    /// Writes the buffer as far as possible.
    fn drain(&mut self) {
        if self.was_replaced() {
            self.reopen();
        }
        self.apply_mode();
        let mut outcome = self.retry_rotation().and_then(|()| self.write_buffer());
        if outcome.is_ok() && self.dropped_lines > 0 {
            let dropped = std::mem::take(&mut self.dropped_lines);
            self.append_own_line(&format!(
                "{dropped} lines are missing here: the log could not be written"
            ));
            outcome = self.write_buffer();
        }
        let failure = outcome.err().map(|error| {
            let waiting = memchr_iter(b'\n', &self.buffer).count();
            format!(
                "cannot write {}: {error}; {waiting} lines are buffered, {} were lost",
                self.path.display(),
                self.dropped_lines
            )
        });
        self.health.update_errors(|errors| errors.write = failure);
        self.health
            .count_written(std::mem::take(&mut self.buffered_events));
    }

    /// Applies a `LOG_MODE` that was changed by a reload.
    fn apply_mode(&mut self) {
        let mode = self.rotation.mode();
        if std::mem::replace(&mut self.mode, mode) != mode
            && let Err(error) = set_mode(&self.file, mode)
        {
            self.append_own_line(&format!(
                "cannot change the mode of {}: {error}",
                self.path.display()
            ));
        }
    }

    /// Whether the log is another file now: an external rotation renamed ours, or it was removed.
    fn was_replaced(&mut self) -> bool {
        let is_requested = self.health.take_reopen_request();
        if let Ok(current) = std::fs::symlink_metadata(&self.path) {
            self.name_missing_since = None;
            return FileId::from_metadata(&current) != self.id;
        }
        let since = *self.name_missing_since.get_or_insert_with(Instant::now);
        let is_removed = self.file.metadata().is_ok_and(|ours| ours.nlink() == 0);
        is_requested || is_removed || since.elapsed() >= NAME_MISSING_TIMEOUT
    }

    fn reopen(&mut self) {
        match open_or_create(&self.path, self.rotation.mode(), Some(&self.file)) {
            Ok((file, id)) => {
                // Another process may have written to a file that this one has never opened.
                let between = files_between(&self.path, self.id, id).unwrap_or_default();
                self.switch_to(file, id, &between);
                self.health.update_errors(|errors| errors.open = None);
            }
            Err(error) => {
                let mut is_new = false;
                self.health.update_errors(|errors| {
                    is_new = errors.open.replace(error.to_string()).is_none();
                });
                if is_new {
                    self.append_own_line(&format!("{error}; writing to the previous file instead"));
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
        let rotated = rotate(&self.path, &self.file, self.rotation.keep(), self.mode)
            .and_then(|file| Ok((FileId::from_metadata(&file.metadata()?), file)));
        match rotated {
            Ok((id, file)) => {
                self.switch_to(file, id, &[]);
                self.health.count_rotation();
                self.health.update_errors(|errors| errors.rotate = None);
            }
            Err(error) => {
                self.retry_rotation_at = Some(Instant::now() + ROTATION_RETRY_DELAY);
                let text = format!("cannot rotate the log file, which keeps growing: {error}");
                let mut is_new = false;
                self.health.update_errors(|errors| {
                    is_new = errors.rotate.replace(text.clone()).is_none();
                });
                if is_new {
                    self.append_own_line(&text);
                }
            }
        }
    }

    /// Writes to another file from now on. `between` are the files that other processes have
    /// written to meanwhile, with their sizes.
    fn switch_to(&mut self, file: File, id: FileId, between: &[(FileId, u64)]) {
        let size = |file: &File| file.metadata().map_or(0, |file| file.len());
        let mut len_before = size(&self.file).max(self.last_size);
        for (skipped, len) in between {
            self.history.continue_in(*skipped, *len, len_before);
            len_before = *len;
        }
        // Readers know of the new file before it has lines.
        self.history.continue_in(id, size(&file), len_before);
        if self.stdio_redirected
            && let Err(error) = dup_to_stdio(&file)
        {
            self.append_own_line(&format!(
                "stdout and stderr still go to the previous log file: {error}"
            ));
        }
        self.mark_file(&file);
        let was_lost = self.has_lost_group();
        self.file = file;
        if !was_lost && self.has_lost_group() {
            self.report_lost_group();
        }
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
        if size < self.last_size {
            // As by `copytruncate` of logrotate.
            self.history.continue_in(self.id, size, self.last_size);
        }
        let mut partial = match self.partial_write.take() {
            Some((bytes, size_then)) if size_then == size => bytes,
            _ => {
                if size != self.last_size && ends_within_line(&self.file, &mut size)? {
                    // Another process was cut off within a line. Ours begins on the next one.
                    self.file.write_all(b"\n")?;
                    size += 1;
                }
                0
            }
        };
        while !self.buffer.is_empty() {
            let end = self.writable_len(size, partial);
            if end == 0 {
                self.rotate();
                size = self.file.metadata()?.len();
                continue;
            }
            let written = match self.file.write(&self.buffer[partial..end]) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            };
            let written = written.inspect_err(|_| {
                self.partial_write = (partial > 0).then_some((partial, size));
            })?;
            self.health.count_bytes(written);
            size += written as u64;
            let written_end = partial + written;
            let whole =
                memrchr(b'\n', &self.buffer[..written_end]).map_or(0, |newline| newline + 1);
            self.buffer.drain(..whole);
            partial = written_end - whole;
            self.last_size = size;
            self.history.set_size(size);
        }
        Ok(())
    }

    /// How many bytes of the buffer may be written before the file has to be rotated: whole lines,
    /// and at least one line if the file is empty.
    fn writable_len(&self, size: u64, partial: usize) -> usize {
        let first_line = || memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |at| at + 1);
        if partial > 0 {
            return first_line();
        }
        let may_rotate = self.retry_rotation_at.is_none() && self.name_missing_since.is_none();
        let max_size = self.rotation.max_size().filter(|_| may_rotate);
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

    /// Appends a line of the writer itself to the buffer.
    fn append_own_line(&mut self, message: &str) {
        let line = format_own_line(self.format, module_path!(), message);
        self.buffer.extend(line.as_bytes());
    }
}

impl Write for LogFile {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let fits =
            |buffer: &Vec<u8>| buffer.is_empty() || buffer.len() + event.len() <= MAX_BUFFER_BYTES;
        // After dropped lines, nothing is buffered before their number is.
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

/// Whether the file ends within a line. A growing file is one that another process still writes,
/// as during a restart. `size` becomes the size that was checked.
fn ends_within_line(file: &File, size: &mut u64) -> io::Result<bool> {
    for _ in 0..PARTIAL_LINE_CHECKS {
        if ends_with_newline(file, *size)? {
            return Ok(false);
        }
        std::thread::sleep(PARTIAL_LINE_CHECK_INTERVAL);
        let before = std::mem::replace(size, file.metadata()?.len());
        if *size == before {
            return Ok(true);
        }
    }
    Ok(true)
}

fn ends_with_newline(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    let read = match size.checked_sub(1) {
        Some(offset) => file.read_at(&mut last, offset)?,
        None => 0,
    };
    // Nothing is read from a file that was truncated meanwhile.
    Ok(read == 0 || last == *b"\n")
}

fn dup_to_stdio(file: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)?;
    Ok(())
}
