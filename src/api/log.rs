//! Log lines and the log stream.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::logs::{Entry, IncompleteFile, Page};

/// One line of the log. A line that another program wrote has `null` in `timestamp`, `level`,
/// `target` and `message`.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct LogEntry {
    /// Permanent name of this line, for the parameters `before` and `after` and the header
    /// `Last-Event-ID`. An opaque text.
    pub cursor: String,
    /// Time of the event, as an RFC 3339 timestamp.
    pub timestamp: Option<String>,
    /// Severity of the event.
    pub level: Option<String>,
    /// Part of the program that logged the event, such as `fullon_master_api::daemon`.
    pub target: Option<String>,
    /// Message of the event, followed by its fields as `key=value`.
    pub message: Option<String>,
    /// The whole line without its newline. Bytes that are not UTF-8 are replaced; a line over 64
    /// KiB is cut.
    pub line: String,
}

impl From<Entry> for LogEntry {
    fn from(entry: Entry) -> Self {
        Self {
            cursor: entry.cursor.to_string(),
            timestamp: entry.timestamp,
            level: entry.level.map(|level| level.to_string()),
            target: entry.target,
            message: entry.message,
            line: entry.line,
        }
    }
}

/// Serializes an entry as a [`LogEntry`] without copying its text.
#[derive(Serialize)]
pub(crate) struct LogEntryRef<'a> {
    cursor: &'a str,
    timestamp: Option<&'a str>,
    level: Option<&'a str>,
    target: Option<&'a str>,
    message: Option<&'a str>,
    line: &'a str,
}

impl<'a> LogEntryRef<'a> {
    /// `cursor` is the text of the entry's cursor.
    pub fn new(entry: &'a Entry, cursor: &'a str) -> Self {
        Self {
            cursor,
            timestamp: entry.timestamp.as_deref(),
            level: entry.level.map(|level| level.as_str()),
            target: entry.target.as_deref(),
            message: entry.message.as_deref(),
            line: &entry.line,
        }
    }
}

/// The largest JSON page. Most clients hold a page in memory.
pub const MAX_PAGE_LINES: usize = 10_000;

/// A page of log lines, with cursors to read further in both directions.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct LogPage {
    /// Lines of the log, oldest first.
    pub entries: Vec<LogEntry>,
    /// Value of `before` for the page before this one, or `null` when this is the oldest page. A
    /// page has fewer lines than requested when it reaches 4 MiB, or when 64 MiB were searched.
    pub first_cursor: Option<String>,
    /// Value of `after` for the log stream to continue after this page.
    pub next_cursor: String,
    /// Compressed files of the log of which lines are missing in this page. The lines of all other
    /// files were found.
    #[serde(default)]
    pub incomplete_files: Vec<IncompleteLogFile>,
}

/// A compressed file of the log that is damaged, or that was not read.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct IncompleteLogFile {
    /// Path of the file.
    pub file: String,
    /// The missing part, and the cause.
    pub reason: String,
}

impl From<&IncompleteFile> for IncompleteLogFile {
    fn from(file: &IncompleteFile) -> Self {
        Self {
            file: file.path.display().to_string(),
            reason: file.reason.clone(),
        }
    }
}

impl From<Page> for LogPage {
    fn from(page: Page) -> Self {
        Self {
            entries: page.entries.into_iter().map(LogEntry::from).collect(),
            first_cursor: page.first.map(|cursor| cursor.to_string()),
            next_cursor: page.next.to_string(),
            incomplete_files: page.incomplete.iter().map(Into::into).collect(),
        }
    }
}

/// Names of the server-sent events of `GET /admin/logs/stream`.
pub mod event {
    /// A [`super::LogEntry`].
    pub const LOG: &str = "log";
    /// A [`super::LogStreamGap`]: lines are missing, and the oldest available ones follow.
    pub const GAP: &str = "gap";
    /// A [`super::LogStreamEnd`]: the last event of a stream.
    pub const END: &str = "end";
}

/// Data of the event `end`, the last one of a log stream.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct LogStreamEnd {
    /// `stopping`: the daemon stops. `restarting`: a new process serves; reconnect and continue
    /// after the last event. `signed_out`: the browser session that opened the stream has ended.
    /// `token_expired`: the token that opened the stream has expired, or was revoked.
    pub reason: String,
}

impl LogStreamEnd {
    /// The daemon is stopping.
    pub const STOPPING: &str = "stopping";
    /// A new process serves.
    pub const RESTARTING: &str = "restarting";
    /// The session that opened the stream was signed out or has expired.
    pub const SIGNED_OUT: &str = "signed_out";
    /// The token that opened the stream has expired, or was revoked.
    pub const TOKEN_EXPIRED: &str = "token_expired";
}

/// Data of the event `gap`: an empty object. Lines are missing here, because they were rotated
/// away.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct LogStreamGap {}
