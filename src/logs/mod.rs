//! The log: written, read from the end, followed. Knows no HTTP.
//!
//! The file is the truth and the buffer. The daemon's events reach it through [`LogFile`]; whatever else reaches
//! its stdout or stderr is appended by the system; readers, in the daemon or in the command line, take what they
//! need from the file at their own pace.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

mod cursor;
mod entry;
mod follow;
mod format;
mod tail;
mod watch;
mod writer;

pub use cursor::Cursor;
pub use entry::{Filter, FilterError, FilterTexts};
pub use follow::{Follower, From, Item};
pub use format::{InstallError, InstalledLog, Stdout, install};
pub use tail::{Page, TailError, last_lines};
pub use watch::Watcher;
pub use writer::{LogFile, LogFileError, LogHealth};

/// Opens the log to read it: a regular file and nothing that could block or lead elsewhere.
fn open_for_reading(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok(file)
}
