//! The files of the trail: the current one, and the rotated ones `.1` (the newest) and so on.
//!
//! Names of rotated files that others have taken are skipped, because a trail in `/tmp` has
//! neighbours.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::logs::{log_directory, numbered_path, rotated_numbers};
use crate::sys::{FileLock, OpenError, is_same_file, is_trusted_owner, lock_within, open_regular};

/// How long to wait for another process. An append takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a rotation of another process is followed.
pub(super) const MAX_ATTEMPTS: u32 = 100;

/// One file of the trail.
pub(super) struct TrailFile {
    pub path: PathBuf,
    pub file: File,
}

/// A file with the name of a rotated one that is not part of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IgnoredFile {
    pub path: PathBuf,
    /// The text completes "the file …".
    pub reason: &'static str,
}

impl fmt::Display for IgnoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, reason) = (self.path.display(), self.reason);
        write!(
            f,
            "{path} is not part of the audit trail: it {reason}; remove it"
        )
    }
}

/// All files of a trail.
#[derive(Default)]
pub(super) struct TrailFiles {
    /// Newest first.
    pub files: Vec<TrailFile>,
    pub ignored: Vec<IgnoredFile>,
}

/// The outcome of a look at one name.
enum Found {
    Nothing,
    /// In a directory such as `/tmp`, anybody can take the name.
    Ignored(&'static str),
    File(File),
}

/// The user whose trail is at `path`: this one. root also reads the trail of another user, who is
/// `daemon` if that is known, or else the owner of the directory.
#[must_use]
pub fn trail_owner(path: &Path, daemon: Option<u32>) -> u32 {
    let me = nix::unistd::geteuid();
    if !me.is_root() {
        return me.as_raw();
    }
    daemon.unwrap_or_else(|| {
        let found = path.symlink_metadata();
        let found = found.or_else(|_| log_directory(path).metadata());
        let owner = found.map(|found| found.uid());
        let is_trusted = |owner: &u32| is_trusted_owner(path, *owner);
        owner.ok().filter(is_trusted).unwrap_or(me.as_raw())
    })
}

/// The paths of the rotated files, newest first.
fn rotated_paths(path: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let mut numbers = rotated_numbers(path)?;
    numbers.sort_unstable();
    let paths = numbers.into_iter();
    Ok(paths.map(|number| numbered_path(path, number)))
}

/// Why a file is not part of the trail of `owner`: the writer would refuse it, too.
fn defect(metadata: &Metadata, owner: u32) -> Option<&'static str> {
    if metadata.is_symlink() {
        Some("is a symbolic link")
    } else if !metadata.is_file() {
        Some("is not a regular file")
    } else if metadata.uid() != owner {
        Some("belongs to another user")
    } else if metadata.nlink() > 1 {
        Some("has more than one hard link")
    } else {
        None
    }
}

/// Opens what has this name, unless it is another user's. Only a file of the trail can be an error.
fn find(path: &Path, owner: u32) -> io::Result<Found> {
    let with_path =
        |source: io::Error| io::Error::new(source.kind(), format!("{}: {source}", path.display()));
    let open = || match path.symlink_metadata().map(|found| defect(&found, owner))? {
        Some(reason) => Ok(Found::Ignored(reason)),
        None => match open_regular(path, OpenOptions::new().read(true)) {
            Ok((file, metadata)) => Ok(match defect(&metadata, owner) {
                Some(reason) => Found::Ignored(reason),
                None => Found::File(file),
            }),
            Err(OpenError::Io { source, .. }) => Err(source),
            Err(OpenError::Unusable(defect)) => Ok(Found::Ignored(defect.text())),
        },
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        found => found.map_err(with_path),
    }
}

/// Opens the current file; `None` if there is none.
///
/// # Errors
///
/// It cannot be opened, or it is not a file that `owner` writes to.
pub(super) fn open_current(path: &Path, owner: u32) -> io::Result<Option<TrailFile>> {
    match find(path, owner)? {
        Found::Nothing => Ok(None),
        Found::File(file) => Ok(Some(TrailFile {
            path: path.to_owned(),
            file,
        })),
        Found::Ignored(reason) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} {reason}: remove it, or choose another AUDIT_FILE",
                path.display()
            ),
        )),
    }
}

/// Opens the rotated files, newest first.
pub(super) fn open_rotated(path: &Path, owner: u32) -> io::Result<TrailFiles> {
    let mut all = TrailFiles::default();
    for path in rotated_paths(path)? {
        match find(&path, owner)? {
            Found::Nothing => {}
            Found::Ignored(reason) => all.ignored.push(IgnoredFile { path, reason }),
            Found::File(file) => all.files.push(TrailFile { path, file }),
        }
    }
    Ok(all)
}

/// Opens all files.
pub(super) fn open_all(path: &Path, owner: u32) -> io::Result<TrailFiles> {
    let current = open_current(path, owner)?;
    let rotated = open_rotated(path, owner)?;
    Ok(TrailFiles {
        files: current.into_iter().chain(rotated.files).collect(),
        ignored: rotated.ignored,
    })
}

/// Whether there is a trail of `owner`: the current file, or a rotated one.
///
/// # Errors
///
/// A file cannot be opened.
pub fn exists(path: &Path, owner: u32) -> io::Result<bool> {
    Ok(!open_all(path, owner)?.files.is_empty())
}

/// The files with the name of a rotated one that are not part of the trail of `owner`.
#[must_use]
pub fn ignored_files(path: &Path, owner: u32) -> Vec<IgnoredFile> {
    let paths = rotated_paths(path).into_iter().flatten();
    let ignored = paths.filter_map(|path| {
        let reason = defect(&path.symlink_metadata().ok()?, owner)?;
        Some(IgnoredFile { path, reason })
    });
    ignored.collect()
}

/// Locks a file, exclusively or shared with other readers. `None` if another process keeps its lock.
pub(super) fn lock(file: &File, is_exclusive: bool) -> io::Result<Option<FileLock<'_>>> {
    lock_within(file, is_exclusive, LOCK_TIMEOUT)
}

/// Whether the path names the open file.
pub(super) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) => Ok(is_same_file(&found, &file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
