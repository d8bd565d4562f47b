//! Locks of another program.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Locks a whole file, except for the marks of its writers, until the returned one is dropped. Creates it if it does not exist.
pub fn lock_file(path: &Path) -> File {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true);
    let file = file.open(path).unwrap();
    let whole_file = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 0,
        l_len: 1 << 62,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file)).unwrap();
    file
}
