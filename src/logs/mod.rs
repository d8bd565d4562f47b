//! The log: written, read from the end, followed. Knows no HTTP.
//!
//! The file is the truth and the buffer. The daemon's events reach it through [`LogFile`]; whatever else reaches
//! its stdout or stderr is appended by the system; readers, in the daemon or in the command line, take what they
//! need from the file at their own pace.

mod cursor;
mod entry;
mod follow;
mod format;
mod tail;
mod watch;
mod writer;

pub use cursor::{Cursor, CursorError};
pub use entry::{Filter, MAX_LINE_BYTES, parse_since};
pub use follow::{Follower, From, Item};
pub use format::{InstallError, Stdout, install};
pub use tail::{Page, TailError, last_lines};
pub use watch::Watcher;
pub use writer::{LogFile, LogFileError, LogHealth};
