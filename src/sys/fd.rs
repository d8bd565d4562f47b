//! File descriptors of this process: how many are open, and how many may be.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit on open descriptors; `None` when there is no limit.
pub fn fd_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the soft limit to the hard limit. The usual soft limit of 1024 is for programs that use
/// `select(2)`.
pub fn raise_fd_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // On failure the limit stays as it was.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// The number of open descriptors.
pub fn open_fd_count() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}
