//! File descriptors of this process: how many are open, and how many may be.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::limits::original_limits;

/// The soft limit on open descriptors; `None` when there is no limit.
pub fn fd_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the soft limit to the hard limit. The usual soft limit of 1024 is for programs that use
/// `select(2)`.
pub fn raise_fd_limit() {
    original_limits();
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // On failure the limit stays as it was.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// The bit of `O_CLOEXEC` in `proc_pid_fdinfo(5)`.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// Closes the descriptors beside stdin, stdout and stderr that the parent process had open, such as
/// the lock file of a script or the end of a pipe. Must be called before this process uses one of
/// them. Its own descriptors stay open: they are closed on exec, and inherited ones are not.
pub fn close_inherited_fds() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        if is_inheritable(fd) == Some(true) {
            // Linux closes it even if this fails.
            let _ = nix::unistd::close(fd);
        }
    }
}

/// Whether the descriptor stays open in a program that this process runs; `None` if it is not open.
fn is_inheritable(fd: RawFd) -> Option<bool> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & CLOSE_ON_EXEC == 0)
}

/// The file behind a descriptor that this process was started with.
pub fn inherited_file(fd: BorrowedFd) -> io::Result<Metadata> {
    File::from(fd.try_clone_to_owned()?).metadata()
}

/// A file in memory, which ends when nobody has it open.
///
/// # Errors
///
/// There is no memory, or no descriptor is free.
pub fn memory_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Opens a file for reading and writing that is open already. Locks of the two are separate.
///
/// # Errors
///
/// This user may not open it, or no descriptor is free.
pub fn reopen(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path)
}

/// The number of open descriptors.
pub fn open_fd_count() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}
