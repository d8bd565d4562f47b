//! Files in directories that other users may write to.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::denial::explain_denial;

/// How often a lock of another process is tried again. It is held for milliseconds.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Why a file cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A system call failed.
    Io {
        /// `opened` or `examined`.
        action: &'static str,
        source: io::Error,
    },
    /// It is not the kind of file that is wanted.
    Unusable(Defect),
}

/// Why an existing file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    SymbolicLink,
    Directory,
    /// A device, a FIFO or a socket.
    Special,
    OtherOwner,
    HardLinks,
}

impl Defect {
    /// Completes "the file …".
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::SymbolicLink => "is a symbolic link",
            Self::Directory => "is a directory, which is not a regular file",
            Self::Special => "is not a regular file",
            Self::OtherOwner => "belongs to another user",
            Self::HardLinks => "has more than one hard link",
        }
    }

    /// Completes "…choose another file". Nobody is advised to remove what may be in use.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::SymbolicLink => "remove the link, or ",
            Self::HardLinks => "remove its other name, or ",
            Self::Directory | Self::Special | Self::OtherOwner => "",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Opens a file without following a symbolic link, waiting for the other end of a FIFO, or
/// acquiring a controlling terminal.
///
/// # Errors
///
/// The system refused. The error is `ELOOP` when `path` is a symbolic link. It names a directory
/// that this user may not enter.
pub fn open_nofollow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| explain_denial(path, error))
}

/// Opens a regular file, as [`open_nofollow`] does.
///
/// # Errors
///
/// The system refused, or it is something else.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> Result<(File, Metadata), OpenError> {
    let file = open_nofollow(path, options).map_err(|source| {
        if source.raw_os_error() == Some(libc::ELOOP) {
            OpenError::Unusable(Defect::SymbolicLink)
        } else {
            OpenError::Io {
                action: "opened",
                source,
            }
        }
    })?;
    let metadata = file.metadata().map_err(|source| OpenError::Io {
        action: "examined",
        source,
    })?;
    if !metadata.is_file() {
        return Err(OpenError::Unusable(if metadata.is_dir() {
            Defect::Directory
        } else {
            Defect::Special
        }));
    }
    Ok((file, metadata))
}

/// Opens a regular file that belongs to this user and has no second name.
///
/// # Errors
///
/// The system refused, or it is something else.
pub fn open_owned(path: &Path, options: &mut OpenOptions) -> Result<(File, Metadata), OpenError> {
    let is_foreign = |file: &Metadata| file.uid() != nix::unistd::geteuid().as_raw();
    let (file, metadata) = open_private(path, options).map_err(|error| match error {
        // By its mode, or by `fs.protected_regular` in a directory such as `/tmp`.
        OpenError::Io { ref source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied
                && path.symlink_metadata().as_ref().is_ok_and(is_foreign) =>
        {
            OpenError::Unusable(Defect::OtherOwner)
        }
        other => other,
    })?;
    if is_foreign(&metadata) {
        return Err(OpenError::Unusable(Defect::OtherOwner));
    }
    Ok((file, metadata))
}

/// Opens a regular file that has no second name, under which another user may know it.
///
/// # Errors
///
/// The system refused, or it is something else.
pub fn open_private(path: &Path, options: &mut OpenOptions) -> Result<(File, Metadata), OpenError> {
    let (file, metadata) = open_regular(path, options)?;
    if metadata.nlink() > 1 {
        return Err(OpenError::Unusable(Defect::HardLinks));
    }
    Ok((file, metadata))
}

/// Whether this process trusts a file at `path` that this user owns: a file of itself, of root, or,
/// for root, of the owner of the directory.
#[must_use]
pub fn is_trusted_owner(path: &Path, owner: u32) -> bool {
    let me = nix::unistd::geteuid();
    [me.as_raw(), 0].contains(&owner) || me.is_root() && directory_owner(path) == Some(owner)
}

/// Creates a file beside `path` that only this user can read, to be renamed to it later: its own
/// path, and the file. The name ends with `.new`. If another user has taken that name, which this
/// user cannot remove from a directory such as `/tmp`, it is a random one.
///
/// # Errors
///
/// The system refused.
pub fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let create = |new: PathBuf| -> io::Result<(PathBuf, File)> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        match options.open(&new) {
            Ok(file) => Ok((new, file)),
            Err(error) => Err(explain_denial(&new, error)),
        }
    };
    let fixed = name(".new");
    // A process that was killed may have left it behind.
    let _ = std::fs::remove_file(&fixed);
    match create(fixed) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            create(name(&format!(".new-{}", uuid::Uuid::new_v4().simple())))
        }
        created => created,
    }
}

/// A file without a name, in the file system of this directory. It is removed when it is closed.
///
/// # Errors
///
/// The system refused.
pub fn unnamed_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let mut unnamed = options.clone();
    match unnamed
        .custom_flags(libc::O_TMPFILE | libc::O_EXCL)
        .open(directory)
    {
        // Some file systems cannot (NFS).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let path = directory.join(format!(".{}", uuid::Uuid::new_v4().simple()));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(path)?;
            Ok(file)
        }
        other => other,
    }
}

/// A file has another name.
#[derive(Debug)]
#[must_use]
pub enum Renamed {
    /// The name is on the disk.
    Synced,
    /// A power cut may bring the old name back.
    NotSynced(io::Error),
}

/// Renames a file within its directory, and waits until that is on the disk.
///
/// # Errors
///
/// The system refused. The file has its old name.
pub fn rename_synced(from: &Path, to: &Path) -> io::Result<Renamed> {
    // An error of the directory must not come after the change.
    let directory = to.parent().map(File::open).transpose()?;
    std::fs::rename(from, to)?;
    let synced = directory.map_or(Ok(()), |directory| directory.sync_all());
    Ok(synced.map_or_else(Renamed::NotSynced, |()| Renamed::Synced))
}

/// Renames a file.
///
/// # Errors
///
/// `to` exists, or the system refused.
pub fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot (NFS). There the file has two names for a moment.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// Exchanges the names of two files: at no moment is one of them free. `false` if the file system
/// cannot (NFS).
///
/// # Errors
///
/// One of them does not exist, or the system refused.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives a file that this process has just created the owner of the directory of `path`. Root may
/// work for another user, whose daemon has to read the file. A file that is found by its name must
/// not be given away: the owner of the directory may have put any other file there.
///
/// # Errors
///
/// The system refused.
pub fn adopt_owner(file: &File, path: &Path) -> io::Result<()> {
    match directory_owner(path) {
        Some(owner) if nix::unistd::geteuid().is_root() && file.metadata()?.uid() != owner => {
            std::os::unix::fs::fchown(file, Some(owner), None)
        }
        _ => Ok(()),
    }
}

fn directory_owner(path: &Path) -> Option<u32> {
    Some(path.parent()?.metadata().ok()?.uid())
}

/// A lock on a whole file, released when it is dropped.
pub struct FileLock<'a>(&'a File);

/// The same, without waiting.
fn try_lock(file: &File, exclusive: bool) -> io::Result<Option<FileLock<'_>>> {
    let kind = if exclusive {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
        Ok(_) => Ok(Some(FileLock(file))),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Locks a whole file for reading or writing. Waits for the lock of another open file; `None` if it
/// is still there after `timeout`.
///
/// # Errors
///
/// The file system has no locks.
pub fn lock_within(
    file: &File,
    exclusive: bool,
    timeout: Duration,
) -> io::Result<Option<FileLock<'_>>> {
    let deadline = Instant::now() + timeout;
    loop {
        let lock = try_lock(file, exclusive)?;
        if lock.is_some() || Instant::now() >= deadline {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_RETRY_INTERVAL);
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        // Closing the file releases the lock, too.
        let _ = fcntl(self.0, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
    }
}

/// A lock on a whole file ends before this byte. Beyond it are the marks of [`share_byte`].
pub const FIRST_MARK: i64 = 1 << 62;

fn whole_file(kind: libc::c_int) -> libc::flock {
    byte_range(kind, 0, FIRST_MARK)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the constants are small, but of another type than the field"
)]
fn byte_range(kind: libc::c_int, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

/// Locks one byte of a file until it is closed. The byte need not exist, and others may do the
/// same.
///
/// # Errors
///
/// The file is not open for reading, or the file system has no locks.
pub fn share_byte(file: &File, byte: i64) -> io::Result<()> {
    fcntl(
        file,
        FcntlArg::F_OFD_SETLK(&byte_range(libc::F_RDLCK, byte, 1)),
    )?;
    Ok(())
}

/// Whether another open file holds a lock on one of these bytes.
///
/// # Errors
///
/// The file system has no locks.
pub fn has_foreign_lock(file: &File, bytes: Range<i64>) -> io::Result<bool> {
    if bytes.is_empty() {
        return Ok(false);
    }
    let mut request = byte_range(libc::F_WRLCK, bytes.start, bytes.end - bytes.start);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut request))?;
    Ok(i32::from(request.l_type) != libc::F_UNLCK)
}

/// Whether both are the same file, regardless of their paths.
pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
