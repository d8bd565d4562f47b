//! Appends records to the file, and rotates it.
//!
//! Both processes of a restart write. Each append opens the file, locks it, makes sure that it is
//! still the current one, and continues the chain from the last record that it finds there. A
//! process that dies at any moment leaves whole records, and at most one that is not.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use super::event::Event;
use super::files;
use super::read::Tail;
use super::record::{Head, Record, Torn};
use crate::logs::{WriterMark, rotate};
use crate::sys::{Defect, FileLock, OpenError, is_same_file, open_owned};

/// The size at which the file is rotated, in bytes.
pub(super) const MAX_SIZE: u64 = 10 * 1024 * 1024;
/// How many rotated files are kept.
pub(super) const KEEP: u32 = 20;

/// The audit file cannot be used.
#[derive(Debug, Error)]
pub enum AuditFileError {
    /// A system call failed.
    #[error(
        "the audit file {path} cannot be {action}: {source}; set AUDIT_FILE to a file that this user can write to"
    )]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// `opened` or `read`.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a regular file that only this user has.
    #[error("the audit file {path} {defect}; {}choose another AUDIT_FILE", .defect.remedy())]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// The defect of the file.
        defect: Defect,
    },
}

/// The file that records are appended to.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    max_size: u64,
    keep: u32,
    /// Why a full file could not be rotated.
    rotation_error: Mutex<Option<String>>,
    mark: Option<WriterMark>,
    /// The current file, open as long as it has the mark.
    marked: Mutex<Option<File>>,
}

impl AuditFile {
    /// Opens or creates the file with mode 0600.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is a link or not a regular file, or belongs to another user.
    pub fn open(path: &Path) -> Result<Self, AuditFileError> {
        let (file, metadata) = open_checked(path, true)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(|source| io_error(path, "opened", source))?;
        }
        Ok(Self {
            path: path.to_owned(),
            max_size: MAX_SIZE,
            keep: KEEP,
            rotation_error: Mutex::default(),
            mark: None,
            marked: Mutex::default(),
        })
    }

    /// Marks the files as those of one daemon. Without locks in their file system, they stay
    /// unmarked.
    #[must_use]
    pub fn with_mark(self, mark: Option<WriterMark>) -> Self {
        let marked = Self { mark, ..self };
        if let Ok((file, _)) = open_checked(&marked.path, false) {
            marked.mark_file(&file);
        }
        marked
    }

    fn mark_file(&self, file: &File) {
        let (Some(mark), Ok(metadata)) = (self.mark, file.metadata()) else {
            return;
        };
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |marked: Metadata| is_same_file(&marked, &metadata);
        if !marked
            .as_ref()
            .is_some_and(|it| it.metadata().is_ok_and(is_same))
            && let Ok(file) = file.try_clone()
            && mark.set(&file).is_ok()
        {
            *marked = Some(file);
        }
    }

    /// Whether the file exists and [`Self::open`] would accept it. Does not change anything.
    ///
    /// # Errors
    ///
    /// The file exists, and `open` would fail.
    pub fn check(path: &Path) -> Result<bool, AuditFileError> {
        match open_checked(path, false) {
            Ok(_) => Ok(true),
            Err(AuditFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The path of the current file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file is not rotated, and grows. `None` if it is not full.
    pub(super) fn rotation_error(&self) -> Option<String> {
        let error = self.rotation_error.lock();
        error.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_rotation_error(&self, error: Option<&io::Error>) {
        let text = error
            .map(|error| format!("cannot rotate the audit file, which keeps growing: {error}"));
        let current = self.rotation_error.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        if *current != text
            && let Some(text) = &text
        {
            tracing::error!("{text}");
        }
        *current = text;
    }

    /// The last record of the trail.
    pub(super) fn head(&self) -> io::Result<Head> {
        let (file, _) = open_checked(&self.path, true).map_err(io::Error::other)?;
        let _lock = self.lock(&file)?;
        let tail = Tail::read(&file, file.metadata()?.len())?;
        self.last_head(&tail)
    }

    /// Appends records, all or none, and waits until they are on the disk.
    ///
    /// `known` is the last record that this process knows of. If the file ends before it, or with
    /// another record of that number, somebody changed the file: the chain then continues after
    /// `known`, so that the change shows.
    pub(super) fn append(
        &self,
        events: &[Event],
        instance: &str,
        known: &Head,
    ) -> io::Result<Head> {
        let mut may_rotate = true;
        for _ in 0..files::MAX_ATTEMPTS {
            let (file, _) = open_checked(&self.path, true).map_err(|error| match error {
                AuditFileError::Io { source, .. } => source,
                other @ AuditFileError::Unusable { .. } => io::Error::other(other),
            })?;
            let _lock = self.lock(&file)?;
            if !files::is_at(&self.path, &file)? {
                continue;
            }
            self.mark_file(&file);
            let size = file.metadata()?.len();
            let tail = Tail::read(&file, size)?;
            let is_full = size >= self.max_size && tail.torn.is_empty();
            if may_rotate && (is_full || tail.is_junk) {
                let error = rotate(&self.path, &file, self.keep, Some(0o600)).err();
                may_rotate = error.is_none();
                self.set_rotation_error(error.as_ref());
                if may_rotate {
                    continue;
                }
            }
            let mut head = self.last_head(&tail)?;
            let was_rewritten = head.seq == known.seq && head != *known;
            if head.seq < known.seq || was_rewritten {
                head = known.clone();
            }
            return self.write(&file, size, events, instance, head, &tail);
        }
        Err(io::Error::other("the file was replaced again and again"))
    }

    /// Writes the records after what is in the file. After an error the file is as before, or it
    /// ends with a torn line, which the next record describes.
    fn write(
        &self,
        mut file: &File,
        size: u64,
        events: &[Event],
        instance: &str,
        mut head: Head,
        tail: &Tail,
    ) -> io::Result<Head> {
        let mut lines = Vec::new();
        let mut torn = tail.torn.clone();
        if tail.lacks_newline {
            lines.push(b'\n');
            if !torn.is_empty() {
                torn.push(b'\n');
            }
        }
        let mut torn = Torn::of(&torn);
        for event in events {
            let record = Record::new(event.clone(), instance, &head, torn.take());
            head = record.write_line(&mut lines)?;
        }
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            let _ = file.set_len(size);
            return Err(error);
        }
        if size == 0
            && let Some(directory) = self.path.parent()
        {
            // The name of a new file is on the disk when its directory is.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(head)
    }

    /// The last record before the end of the current file, which may be in a rotated one.
    fn last_head(&self, tail: &Tail) -> io::Result<Head> {
        if let Some(last) = &tail.last {
            return Ok(last.head());
        }
        let owner = nix::unistd::geteuid().as_raw();
        for rotated in files::open_rotated(&self.path, owner)?.files {
            let size = rotated.file.metadata()?.len();
            if let Some(last) = Tail::read(&rotated.file, size)?.last {
                return Ok(last.head());
            }
        }
        Ok(Head::empty())
    }

    fn lock<'a>(&self, file: &'a File) -> io::Result<FileLock<'a>> {
        files::lock(file, true)?.ok_or_else(|| {
            let message = format!("another process has locked {}", self.path.display());
            io::Error::new(io::ErrorKind::TimedOut, message)
        })
    }
}

fn open_checked(path: &Path, create: bool) -> Result<(File, Metadata), AuditFileError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600).create(create);
    open_owned(path, &mut options).map_err(|error| match error {
        OpenError::Io { action, source } => io_error(path, action, source),
        OpenError::Unusable(defect) => AuditFileError::Unusable {
            path: path.to_owned(),
            defect,
        },
    })
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> AuditFileError {
    AuditFileError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}
