//! Log lines and the log stream.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::logs::{Entry, Page};

/// One line of the log. What the daemon did not write itself has `null` for the fields it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct LogEntry {
    /// Names this line for good: pass it as `before`, `after` or `Last-Event-ID`. Opaque.
    pub cursor: String,
    /// When it was logged.
    pub timestamp: Option<String>,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: Option<String>,
    /// The part of the program that logged it.
    pub target: Option<String>,
    /// The message with its fields.
    pub message: Option<String>,
    /// The line as it stands in the file, without its end; bytes that are not UTF-8 are replaced.
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

/// Answer of `GET /admin/logs`.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines, oldest first.
    pub entries: Vec<LogEntry>,
    /// Pass it as `before` for the page before this one; `null` when nothing lies before. A page may have fewer lines than
    /// asked for although something does: it ends after 4 MiB of lines, or 64 MiB that were searched.
    pub first_cursor: Option<String>,
    /// Pass it as `after` of the stream to go on from here.
    pub next_cursor: String,
}

impl From<Page> for LogPage {
    fn from(page: Page) -> Self {
        Self {
            entries: page.entries.into_iter().map(LogEntry::from).collect(),
            first_cursor: page.first.map(|cursor| cursor.to_string()),
            next_cursor: page.next.to_string(),
        }
    }
}

/// Names of the server-sent events of `GET /admin/logs/stream`.
pub mod event {
    /// A [`super::LogEntry`].
    pub const LOG: &str = "log";
    /// A [`super::StreamGap`]: lines are missing, and the oldest available ones follow.
    pub const GAP: &str = "gap";
    /// A [`super::StreamEnd`]: the last event of a stream.
    pub const END: &str = "end";
}

/// Data of the `end` event.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct StreamEnd {
    /// `stopping`: the daemon stops. `restarting`: its successor goes on where this stream ends. `signed_out`: the session that
    /// opened it has ended.
    pub reason: String,
}

impl StreamEnd {
    /// The daemon is stopping.
    pub const STOPPING: &str = "stopping";
    /// A new process serves.
    pub const RESTARTING: &str = "restarting";
    /// The session that opened the stream was signed out or has expired.
    pub const SIGNED_OUT: &str = "signed_out";
}

/// Data of the `gap` event: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct StreamGap {}
