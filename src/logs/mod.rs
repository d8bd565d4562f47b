//! The log: writing it, reading the last lines, following it.
//!
//! The file is both the record and the buffer. Events of the daemon reach it through [`LogFile`].
//! Everything else on stdout or stderr is appended by the system. Readers, in the daemon or in the
//! command line, read the file at their own pace.

mod archive;
mod cursor;
mod files;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod history;
mod install;
mod read;
#[cfg(test)]
mod sequence_tests;
mod write;

pub use cursor::Cursor;
pub(crate) use files::{existing_numbers as rotated_numbers, log_directory, numbered_path};
pub use follow::broadcast::LogBroadcaster;
pub use follow::follower::Follower;
pub use install::{InstallError, InstalledLog, install};
pub use read::filter::{Filter, FilterError, FilterParams};
pub use read::line::Entry;
pub use read::query::{Page, TailQuery};
pub use read::reader::{Batch, LogItem, StartAt};
pub use read::result::QueryResult;
pub use read::scan::{IncompleteFile, ReadError};
pub use read::search_text::{MAX_SEARCH_TEXT, SearchText};
pub use write::file::LogFile;
pub use write::format::StdoutOptions;
pub use write::health::{LogHealth, LogStats};
pub use write::level::{AUDIT_TARGET, LevelControl, LevelError, LevelStatus, names_audit};
pub(crate) use write::open::has_lost_group;
pub use write::open::{LOST_GROUP_HINT, LogFileError, describe_lost_group};
pub(crate) use write::queue::in_bulk;
pub(crate) use write::rotate::rotate;
pub use write::writer_mark::{WriterMark, has_other_writer};
