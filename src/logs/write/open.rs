//! Opening the log file for writing: never through a link, never another user's file.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::logs::cursor::FileId;
use crate::sys::{Defect, OpenError, open_owned};

/// The log file cannot be used.
#[derive(Debug, Error)]
pub enum LogFileError {
    /// The system reports an error.
    #[error(
        "the log file {path} cannot be opened: {source}; set LOG_FILE to a file that this user can write to"
    )]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a regular file that only this user has.
    #[error("the log file {path} {defect}; {}choose another LOG_FILE", .defect.remedy())]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// The defect of the file.
        defect: Defect,
    },
}

/// The options to open files of the log for writing. The writer also reads, to see whether the last
/// line is complete.
pub(crate) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
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
    options: &mut OpenOptions,
) -> Result<(File, Metadata), LogFileError> {
    open_owned(path, options).map_err(|error| match error {
        OpenError::Io { source, .. } => LogFileError::Io {
            path: path.to_owned(),
            source,
        },
        OpenError::Unusable(defect) => LogFileError::Unusable {
            path: path.to_owned(),
            defect,
        },
    })
}
