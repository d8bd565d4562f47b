//! The file of revoked tokens: its state, its lock, and its replacement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::RevokeError;
use super::list::RevokedList;
use crate::sys::{
    OpenError, Renamed, adopt_owner, create_beside, is_trusted_owner, lock_within, open_private,
    rename_synced,
};

/// A larger file is not one of ours: 10,000 entries with the longest ids need 7 MB.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// How long a change waits for one of another process, which takes milliseconds.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    /// It has to be read.
    Unknown,
    Absent,
    Present(Stamp),
}

/// Identifies a state of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    pub fn of(path: &Path) -> Self {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Self::Present(Stamp {
                file: (metadata.dev(), metadata.ino()),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(_) => Self::Unknown,
        }
    }
}

/// The file while it is changed.
pub(super) struct LockedFile<'a> {
    path: &'a Path,
    pub list: RevokedList,
}

impl<'a> LockedFile<'a> {
    /// Changes the file under its lock, for which it waits at most for `patience`. `read` reads it.
    pub fn change<T>(
        path: &'a Path,
        patience: Duration,
        read: impl FnOnce(&Path) -> io::Result<RevokedList>,
        change: impl FnOnce(&mut Self) -> Result<T, RevokeError>,
    ) -> Result<T, RevokeError> {
        let failed = |source| RevokeError::Write {
            path: path.to_owned(),
            source,
        };
        // The file itself is replaced, so its lock is that of a file beside it, which stays.
        let lock_path = lock_path(path);
        let lock_file = open_lock_file(&lock_path).map_err(failed)?;
        let lock = lock_within(&lock_file, true, patience).map_err(failed)?;
        let _lock = lock.ok_or_else(|| RevokeError::Locked(lock_path.display().to_string()))?;
        let list = read(path).map_err(|source| RevokeError::Read {
            path: path.to_owned(),
            source,
        })?;
        change(&mut Self { path, list })
    }

    /// Replaces the file. If an error is returned, it is as before.
    pub fn write(&self) -> Result<Renamed, RevokeError> {
        let failed = |source| RevokeError::Write {
            path: self.path.to_owned(),
            source,
        };
        let text = serde_json::to_vec(&self.list).map_err(|error| failed(error.into()))?;
        if text.len() as u64 > MAX_SIZE {
            return Err(RevokeError::Full);
        }
        replace(self.path, &text).map_err(failed)
    }
}

/// Checks that the file of revoked tokens, if there is one, can be read.
///
/// # Errors
///
/// It cannot.
pub fn check_revocations(path: &Path) -> Result<(), io::Error> {
    read_list(path).map(drop)
}

/// Reads the file. No file is an empty list.
pub(super) fn read_list(path: &Path) -> io::Result<RevokedList> {
    let (file, metadata) = match open_private(path, OpenOptions::new().read(true)) {
        Ok(opened) => opened,
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(RevokedList::default());
        }
        Err(OpenError::Io { source, .. }) => return Err(source),
        Err(OpenError::Unusable(reason)) => return Err(io::Error::other(format!("it {reason}"))),
    };
    if !is_trusted_owner(path, metadata.uid()) {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("other users can write it"));
    }
    if metadata.size() > MAX_SIZE {
        return Err(io::Error::other("it is too large"));
    }
    let mut text = String::new();
    file.take(MAX_SIZE).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("revoked.lock")
}

fn open_lock_file(lock_path: &Path) -> io::Result<File> {
    let open = |options: &mut OpenOptions| {
        let opened = open_private(lock_path, options.write(true).mode(0o600));
        opened.map(|(file, _)| file).map_err(|error| match error {
            OpenError::Io { source, .. } => source,
            OpenError::Unusable(reason) => {
                io::Error::other(format!("the lock file {} {reason}", lock_path.display()))
            }
        })
    };
    match open(OpenOptions::new().create_new(true)) {
        Ok(file) => {
            adopt_owner(&file, lock_path)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(&mut OpenOptions::new()),
        Err(error) => Err(error),
    }
}

/// Replaces the file. If an error is returned, it is as before.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<Renamed> {
    let (temporary, mut file) = create_beside(path)?;
    let mut write = || {
        adopt_owner(&file, path)?;
        file.write_all(text)?;
        file.sync_all()?;
        rename_synced(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
