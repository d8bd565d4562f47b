//! Opening the log file for writing: never through a link, never another user's file.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use thiserror::Error;

use crate::logs::cursor::FileId;

/// The log file cannot be used.
#[derive(Debug, Error)]
pub enum LogFileError {
    /// The system reports an error.
    #[error(
        "the log file {path} cannot be opened: {source}; set LOG_FILE to a file that this user may write"
    )]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a regular file that only this user has.
    #[error("the log file {path} {reason}; remove it or choose another LOG_FILE")]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: &'static str,
    },
}

/// The options to open files of the log for writing. The writer also reads, to see whether the last
/// line is complete.
pub(crate) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Opens or creates the file with mode 0600.
pub(crate) fn open_or_create(path: &Path) -> Result<(File, FileId), LogFileError> {
    let (file, metadata) = open_checked(path, open_options().create(true))?;
    if metadata.mode() & 0o077 != 0 {
        // The former Python launcher left files that everybody could read.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(|source| LogFileError::Io {
                path: path.to_owned(),
                source,
            })?;
    }
    let id = FileId::from_metadata(&metadata);
    Ok((file, id))
}

/// Opens the file, and checks that it is a regular file that only this user has.
pub(crate) fn open_checked(
    path: &Path,
    options: &OpenOptions,
) -> Result<(File, Metadata), LogFileError> {
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
