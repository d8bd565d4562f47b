//! Opening the log file for writing: never through a link, never another user's file.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
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
    options.read(true).append(true).mode(PRIVATE);
    options
}

/// The mode of a new file, if nothing else is wanted.
const PRIVATE: u32 = 0o600;
/// The permissions that an existing file may have without `LOG_MODE`. logrotate creates files that
/// a group can read. The former Python launcher left files that everybody could read.
const KEPT: u32 = 0o640;
const GROUP_CAN_READ: u32 = 0o040;

/// Opens or creates the file, with the mode of `LOG_MODE` if that is set.
pub(crate) fn open_or_create(
    path: &Path,
    mode: Option<u32>,
) -> Result<(File, FileId), LogFileError> {
    let (file, metadata) = open_checked(path, open_options().create(true))?;
    set_mode(&file, mode).map_err(|source| LogFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    let id = FileId::from_metadata(&metadata);
    Ok((file, id))
}

/// Gives an existing file the mode of `LOG_MODE`, if that is set. Without it, the file keeps its
/// mode unless that allows more than reading by its group.
pub(crate) fn set_mode(file: &File, mode: Option<u32>) -> io::Result<()> {
    let current = permissions(file)?;
    let wanted = match mode {
        Some(mode) => mode,
        None if current & !KEPT != 0 => PRIVATE,
        None => return Ok(()),
    };
    if wanted == current {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(wanted))
}

/// Gives a new file the group and the mode of the file that it replaces, or the mode of `LOG_MODE`
/// if that is set.
pub(crate) fn copy_mode(new: &File, old: &File, mode: Option<u32>) -> io::Result<()> {
    let mut wanted = mode.unwrap_or((permissions(old)? & KEPT) | PRIVATE);
    if wanted & GROUP_CAN_READ != 0 {
        let group = old.metadata()?.gid();
        let has_group = new.metadata()?.gid() == group || fchown(new, None, Some(group)).is_ok();
        if !has_group {
            // This user is not in the group. Another group must not read the log instead.
            wanted &= !GROUP_CAN_READ;
        }
    }
    new.set_permissions(Permissions::from_mode(wanted))
}

fn permissions(file: &File) -> io::Result<u32> {
    Ok(file.metadata()?.mode() & 0o7777)
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
