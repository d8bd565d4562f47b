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
const ALL_CAN_READ: u32 = 0o004;
/// Marks a file that could not get the group of the file before it. `LOG_MODE` does not let its
/// group read it, also not after the next rotation or start. This bit has no effect on a file on
/// Linux, and a `chmod` of the administrator removes it.
const LOST_GROUP: u32 = 0o1000;

/// Opens or creates the file, with the mode of `LOG_MODE` if that is set. A file that is created in
/// the place of `old` gets the group of that one, as at a rotation.
pub(crate) fn open_or_create(
    path: &Path,
    mode: Option<u32>,
    old: Option<&File>,
) -> Result<(File, FileId), LogFileError> {
    let failed = |source| LogFileError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(old) = old.filter(|_| mode.is_some())
        && let Ok((file, metadata)) = open_checked(path, open_options().create_new(true))
    {
        copy_mode(&file, old, mode).map_err(failed)?;
        return Ok((file, FileId::from_metadata(&metadata)));
    }
    let (file, metadata) = open_checked(path, open_options().create(true))?;
    set_mode(&file, mode).map_err(failed)?;
    Ok((file, FileId::from_metadata(&metadata)))
}

/// Gives an existing file the mode of `LOG_MODE`, if that is set. Without it, the file keeps its
/// mode unless that allows more than reading by its group.
pub(crate) fn set_mode(file: &File, mode: Option<u32>) -> io::Result<()> {
    let current = permissions(file)?;
    let is_lost = is_group_lost(current);
    let wanted = match mode {
        Some(mode) if is_lost => without_group(mode),
        Some(mode) => mode,
        None if is_lost => without_group(PRIVATE),
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
    let current = permissions(old)?;
    let mut wanted = mode.unwrap_or((current & KEPT) | PRIVATE);
    let has_group = || -> io::Result<bool> {
        let group = old.metadata()?.gid();
        Ok(new.metadata()?.gid() == group || fchown(new, None, Some(group)).is_ok())
    };
    // This user is not in the group. Another group must not read the log instead.
    if is_group_lost(current) || wanted & GROUP_CAN_READ != 0 && !has_group()? {
        wanted = without_group(wanted);
    }
    new.set_permissions(Permissions::from_mode(wanted))
}

/// The mode of a file that has lost its group. If all users can read it, so can every group.
fn without_group(mode: u32) -> u32 {
    if mode & ALL_CAN_READ != 0 {
        return mode;
    }
    (mode & !GROUP_CAN_READ) | LOST_GROUP
}

fn is_group_lost(mode: u32) -> bool {
    mode & (LOST_GROUP | GROUP_CAN_READ) == LOST_GROUP
}

/// Whether a rotation could not keep the group of the file, so that no group can read it.
pub(crate) fn has_lost_group(metadata: &Metadata) -> bool {
    is_group_lost(metadata.mode())
}

/// Describes a file that has lost its group.
#[must_use]
pub fn describe_lost_group(path: &Path) -> String {
    let shown = path.display();
    format!(
        "no group can read {shown}: the daemon's user is not in the group of the file before it, so a rotation could not keep that group"
    )
}

/// The repair of a file that has lost its group.
pub const LOST_GROUP_HINT: &str = "add the user to the group and restart the daemon, then run chgrp and chmod 640 on the file; to let the file's present group read it, run chmod 640 on it";

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
