//! The files of the trail: the current one, and the rotated ones `.1` (the newest) and so on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::logs::{numbered_path, rotated_numbers};
use crate::sys::{FileLock, OpenError, is_same_file, open_regular, try_lock};

/// How long to wait for another process. An append takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// How often a rotation of another process is followed.
pub(super) const MAX_ATTEMPTS: u32 = 100;

/// One file of the trail.
pub(super) struct TrailFile {
    pub path: PathBuf,
    pub file: File,
}

/// The paths of the rotated files, newest first.
pub(super) fn rotated_paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbers = rotated_numbers(path)?;
    numbers.sort_unstable();
    let paths = numbers.into_iter();
    Ok(paths.map(|number| numbered_path(path, number)).collect())
}

/// Opens a file of the trail; `None` if there is none. A file of another user, a link or anything
/// else that is not a regular file is not part of the trail.
pub(super) fn open(path: &Path, owner: Option<u32>) -> io::Result<Option<TrailFile>> {
    match open_regular(path, OpenOptions::new().read(true)) {
        Ok((_, metadata)) if owner.is_some_and(|owner| owner != metadata.uid()) => Ok(None),
        Ok((file, _)) => Ok(Some(TrailFile {
            path: path.to_owned(),
            file,
        })),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(OpenError::Io { source, .. }) => Err(io::Error::new(
            source.kind(),
            format!("{}: {source}", path.display()),
        )),
        Err(OpenError::Unusable(reason)) if owner.is_none() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} {reason}", path.display()),
        )),
        Err(OpenError::Unusable(_)) => Ok(None),
    }
}

/// Whether there is a trail: the current file, or a rotated one.
///
/// # Errors
///
/// The file cannot be opened.
pub fn exists(path: &Path) -> io::Result<bool> {
    Ok(!open_all(path)?.is_empty())
}

/// Opens all files, newest first.
pub(super) fn open_all(path: &Path) -> io::Result<Vec<TrailFile>> {
    let mut files = Vec::new();
    let mut owner = None;
    if let Some(current) = open(path, None)? {
        owner = Some(current.file.metadata()?.uid());
        files.push(current);
    }
    for rotated in rotated_paths(path)? {
        if let Some(file) = open(&rotated, owner)? {
            owner.get_or_insert(file.file.metadata()?.uid());
            files.push(file);
        }
    }
    Ok(files)
}

/// Locks a file, exclusively or shared with other readers. `None` if another process keeps its lock.
pub(super) fn lock(file: &File, is_exclusive: bool) -> io::Result<Option<FileLock<'_>>> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let lock = try_lock(file, is_exclusive)?;
        if lock.is_some() || Instant::now() >= deadline {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_RETRY_INTERVAL);
    }
}

/// Whether the path names the open file.
pub(super) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) => Ok(is_same_file(&found, &file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
