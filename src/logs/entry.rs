//! From the bytes of a line to an entry, and which entries a reader wants.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use memchr::memmem;
use serde_json::Value;
use thiserror::Error;
use tracing::Level;

use super::cursor::Cursor;
use crate::api::LogEntry;

/// What is kept of one line, in bytes. A longer line is cut, and says so.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A line as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawLine<'a> {
    pub cursor: Cursor,
    /// At most the first [`MAX_LINE_BYTES`], without the newline.
    pub bytes: &'a [u8],
    /// It ends with a newline: it is finished.
    pub terminated: bool,
}

impl<'a> RawLine<'a> {
    /// The line as a reader sees it: bytes that are not UTF-8 are replaced, and a cut is said.
    pub fn text(&self) -> Cow<'a, str> {
        let mut text = String::from_utf8_lossy(self.bytes);
        let length =
            usize::try_from(self.cursor.len).unwrap_or(usize::MAX) - usize::from(self.terminated);
        if length > self.bytes.len() {
            // Writing to a string does not fail.
            let _ = write!(
                text.to_mut(),
                " [cut: {} of {length} bytes shown]",
                self.bytes.len()
            );
        }
        text
    }

    pub fn entry(&self) -> LogEntry {
        let line = self.text();
        let parts = Parts::of(&line).unwrap_or_default();
        LogEntry {
            cursor: self.cursor.to_string(),
            timestamp: parts.timestamp.map(Cow::into_owned),
            level: parts.level.map(|level| level.to_string()),
            target: parts.target.map(Cow::into_owned),
            message: parts.message.map(Cow::into_owned),
            line: line.into_owned(),
        }
    }
}

/// What the daemon's own lines consist of; nothing is known of others.
#[derive(Default)]
struct Parts<'a> {
    timestamp: Option<Cow<'a, str>>,
    level: Option<Level>,
    target: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
}

impl<'a> Parts<'a> {
    fn of(line: &'a str) -> Option<Self> {
        if line.starts_with('{') {
            Self::of_json(line)
        } else {
            Self::of_text(line)
        }
    }

    /// `TIMESTAMP LEVEL target: message`
    fn of_text(line: &'a str) -> Option<Self> {
        let (timestamp, rest) = line.split_once(' ')?;
        timestamp.parse::<Timestamp>().ok()?;
        let (level, rest) = rest.trim_start().split_once(' ')?;
        let level: Level = level.parse().ok()?;
        let (target, message) = rest
            .split_once(": ")
            .or_else(|| Some((rest.strip_suffix(':')?, "")))?;
        Some(Self {
            timestamp: Some(timestamp.into()),
            level: Some(level),
            target: Some(target.into()),
            message: Some(message.into()),
        })
    }

    /// `{"timestamp":…,"level":…,"target":…,"message":…,…}`; the other fields follow the message as `key=value`.
    fn of_json(line: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
            return None;
        };
        let mut text = |name| match fields.shift_remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (timestamp, level, target) = (text("timestamp")?, text("level")?, text("target")?);
        let level: Level = level.parse().ok()?;
        let mut message = text("message").unwrap_or_default();
        for (name, value) in fields {
            if !message.is_empty() {
                message.push(' ');
            }
            let _ = write!(message, "{name}={value}");
        }
        Some(Self {
            timestamp: Some(timestamp.into()),
            level: Some(level),
            target: Some(target.into()),
            message: Some(message.into()),
        })
    }
}

/// Which entries a reader wants.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// This level and the more severe ones; lines without a level are left out.
    pub level: Option<Level>,
    /// Lines that contain this text, upper and lower case told apart.
    pub contains: Option<String>,
    /// Lines logged at or after this time, and lines without a time behind the first of them.
    pub since: Option<Timestamp>,
}

/// What a filter says about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wanted,
    Unwanted,
    /// Older than what is wanted, so that all lines before it are too.
    TooOld,
}

impl Filter {
    /// Whether every line passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.level.is_none() && self.contains.is_none() && self.since.is_none()
    }

    /// What it says about a line, of which it sees at most the first [`MAX_LINE_BYTES`].
    pub(super) fn judge(&self, line: &[u8]) -> Verdict {
        let has_text = self
            .contains
            .as_deref()
            .is_none_or(|text| memmem::find(line, text.as_bytes()).is_some());
        if !has_text && self.since.is_none() {
            // The cheap answer, which is the usual one in a search.
            return Verdict::Unwanted;
        }
        if self.level.is_none() && self.since.is_none() {
            return Verdict::Wanted;
        }
        let text = String::from_utf8_lossy(line);
        let parts = Parts::of(&text).unwrap_or_default();
        self.judge_parts(has_text, parts.timestamp.as_deref(), parts.level)
    }

    /// The same about a line that was taken apart already.
    pub(super) fn judge_entry(&self, entry: &LogEntry) -> Verdict {
        let mut text = self.contains.iter();
        let has_text = text.all(|text| entry.line.contains(text));
        let level = entry.level.as_deref().and_then(|level| level.parse().ok());
        self.judge_parts(has_text, entry.timestamp.as_deref(), level)
    }

    fn judge_parts(
        &self,
        has_text: bool,
        timestamp: Option<&str>,
        level: Option<Level>,
    ) -> Verdict {
        if let (Some(since), Some(timestamp)) = (self.since, timestamp)
            && timestamp
                .parse()
                .is_ok_and(|logged: Timestamp| logged < since)
        {
            return Verdict::TooOld;
        }
        let has_level = self
            .level
            .is_none_or(|wanted| level.is_some_and(|level| level <= wanted));
        if has_text && has_level {
            Verdict::Wanted
        } else {
            Verdict::Unwanted
        }
    }
}

/// A level, by the names of tracing or of Python.
fn level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some(Level::WARN),
        "critical" | "fatal" => Some(Level::ERROR),
        // A number would do for `tracing`, which nobody here would know.
        other if other.bytes().all(|b| b.is_ascii_alphabetic()) => other.parse().ok(),
        _ => None,
    }
}

/// A filter, as texts describe it.
#[derive(Debug, Clone, Default)]
pub struct FilterTexts<'a> {
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: Option<&'a str>,
    /// Text that lines contain; an empty one counts as none.
    pub contains: Option<&'a str>,
    /// RFC 3339 timestamp, or how long ago.
    pub since: Option<&'a str>,
}

/// A text that does not describe a filter.
#[derive(Debug, Error)]
#[error("`{name}` {reason}")]
pub struct FilterError {
    /// `level` or `since`.
    pub name: &'static str,
    /// What would be right.
    pub reason: &'static str,
}

impl TryFrom<FilterTexts<'_>> for Filter {
    type Error = FilterError;

    fn try_from(texts: FilterTexts<'_>) -> Result<Self, FilterError> {
        let level = texts.level.map(|text| {
            level(text).ok_or(FilterError {
                name: "level",
                reason: "is not one of error, warn, info, debug, trace",
            })
        });
        let since = texts.since.map(|text| {
            parse_since(text, Timestamp::now()).map_err(|reason| FilterError {
                name: "since",
                reason,
            })
        });
        Ok(Self {
            level: level.transpose()?,
            contains: texts
                .contains
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
            since: since.transpose()?,
        })
    }
}

/// Reads "since when": an RFC 3339 timestamp, or how long before `now`, such as `10m` or `2h 30m`.
fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    const EXPECTED: &str =
        "is neither an RFC 3339 timestamp (2026-01-31T09:00:00Z) nor how long ago (10m, 2h 30m)";
    if let Ok(timestamp) = text.parse() {
        return Ok(timestamp);
    }
    // `0` would be now, and whoever asks for it means the beginning.
    if text == "0" {
        return Err(EXPECTED);
    }
    let ago = humantime::parse_duration(text).map_err(|_| EXPECTED)?;
    // Longer ago than time goes back: everything.
    Ok(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::cursor::FileId;

    fn parse(line: &str) -> LogEntry {
        let cursor = Cursor {
            file: FileId::of(&std::fs::metadata("/").unwrap()),
            offset: 0,
            len: line.len() as u64,
        };
        let raw = RawLine {
            cursor,
            bytes: line.as_bytes(),
            terminated: false,
        };
        raw.entry()
    }

    #[test]
    fn own_lines_have_parts_and_foreign_lines_have_none() {
        let text = parse("2026-11-23T08:00:00.000001Z  WARN audit: stop asked subject=\"me\"");
        assert_eq!(text.level.as_deref(), Some("WARN"));
        assert_eq!(text.target.as_deref(), Some("audit"));
        assert_eq!(text.message.as_deref(), Some("stop asked subject=\"me\""));
        let json = parse(
            r#"{"timestamp":"2026-11-23T08:00:00Z","level":"INFO","message":"m","status":200,"target":"a::b"}"#,
        );
        assert_eq!(json.target.as_deref(), Some("a::b"));
        assert_eq!(json.message.as_deref(), Some("m status=200"));
        for foreign in [
            "thread 'main' panicked",
            "",
            "{",
            "{\"a\":1}",
            "2026-11-23T08:00:00Z LOUD a: b",
        ] {
            let entry = parse(foreign);
            assert_eq!(entry.line, foreign);
            assert!(
                entry.level.is_none() && entry.message.is_none(),
                "{foreign}"
            );
        }
    }

    #[test]
    fn a_level_means_at_least_as_severe() {
        let warn = "2026-11-23T08:00:00Z WARN a: disk";
        let judge = |level, line: &str| {
            let filter = Filter {
                level: Some(level),
                ..Filter::default()
            };
            filter.judge(line.as_bytes())
        };
        assert_eq!(judge(Level::INFO, warn), Verdict::Wanted);
        assert_eq!(judge(Level::WARN, warn), Verdict::Wanted);
        assert_eq!(judge(Level::ERROR, warn), Verdict::Unwanted);
        assert_eq!(judge(Level::TRACE, "panicked"), Verdict::Unwanted);
    }

    #[test]
    fn what_is_older_than_wanted_ends_a_search() {
        let filter = Filter {
            since: Some("2026-11-23T09:00:00Z".parse().unwrap()),
            contains: Some("x".into()),
            ..Filter::default()
        };
        let judge = |line: &str| filter.judge(line.as_bytes());
        assert_eq!(judge("2026-11-23T08:59:59Z INFO a: b"), Verdict::TooOld);
        assert_eq!(judge("2026-11-23T09:00:00Z INFO a: b"), Verdict::Unwanted);
        assert_eq!(judge("2026-11-23T09:00:00Z INFO a: x"), Verdict::Wanted);
        assert_eq!(judge("no time, x"), Verdict::Wanted);
    }
}
