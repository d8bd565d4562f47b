//! The log: written, read from the end, followed. Knows no HTTP.
//!
//! The file is the truth and the buffer. The daemon's events reach it through [`LogFile`]; whatever else reaches
//! its stdout or stderr is appended by the system; readers, in the daemon or in the command line, take what they
//! need from the file at their own pace.

mod condition;
mod cursor;
pub(crate) mod entry;
mod follow;
mod format;
mod forward;
mod level;
mod queue;
mod reader;
mod rotation;
mod segments;
#[cfg(test)]
mod sequence_tests;
mod tail;
mod tip;
mod walk;
mod watch;
mod writer;

pub use condition::{LogHealth, LogStats};
pub use cursor::Cursor;
pub use entry::{Filter, FilterError, FilterParams};
pub use follow::Follower;
pub use format::{InstallError, InstalledLog, StdoutOptions, install};
pub use level::{LevelControl, LevelStatus, names_audit};
pub use reader::{Batch, LogItem, StartAt};
pub use tail::{
    Page, QueryResult, last_lines, last_lines_as_text, last_lines_at_hand, last_lines_found,
    text_at_hand,
};
pub use tip::LogBroadcaster;
pub use walk::ReadError;
pub use writer::{LogFile, LogFileError};
