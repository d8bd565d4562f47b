//! From the bytes of a line to an entry, and which entries a reader wants.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;
use tracing::Level;

use super::cursor::Cursor;
use crate::api::LogEntry;

/// What is kept of one line, in bytes. A longer line is cut, and says so.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// The entry of a line. `bytes` is at most the first [`MAX_LINE_BYTES`] of the line, without its newline.
pub(super) fn entry(cursor: Cursor, bytes: &[u8], terminated: bool) -> LogEntry {
    let length = usize::try_from(cursor.len).unwrap_or(usize::MAX) - usize::from(terminated);
    let mut line = String::from_utf8_lossy(bytes).into_owned();
    if length > bytes.len() {
        // Writing to a string does not fail.
        let _ = write!(line, " [cut: {} of {length} bytes shown]", bytes.len());
    }
    let parts = if line.starts_with('{') {
        parse_json(&line)
    } else {
        parse_text(&line)
    }
    .unwrap_or_default();
    LogEntry {
        cursor: cursor.to_string(),
        timestamp: parts.timestamp,
        level: parts.level,
        target: parts.target,
        message: parts.message,
        line,
    }
}

#[derive(Default)]
struct Parts {
    timestamp: Option<String>,
    level: Option<String>,
    target: Option<String>,
    message: Option<String>,
}

/// `TIMESTAMP LEVEL target: message`
fn parse_text(line: &str) -> Option<Parts> {
    let (timestamp, rest) = line.split_once(' ')?;
    timestamp.parse::<Timestamp>().ok()?;
    let (level, rest) = rest.trim_start().split_once(' ')?;
    let level: Level = level.parse().ok()?;
    let (target, message) = rest
        .split_once(": ")
        .or_else(|| Some((rest.strip_suffix(':')?, "")))?;
    Some(Parts {
        timestamp: Some(timestamp.to_owned()),
        level: Some(level.to_string()),
        target: Some(target.to_owned()),
        message: Some(message.to_owned()),
    })
}

/// `{"timestamp":…,"level":…,"target":…,"message":…,…}`; the other fields follow the message as `key=value`.
fn parse_json(line: &str) -> Option<Parts> {
    let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
        return None;
    };
    let mut text = |name| match fields.shift_remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (timestamp, level, target) = (text("timestamp")?, text("level")?, text("target")?);
    let mut message = text("message").unwrap_or_default();
    for (name, value) in fields {
        if !message.is_empty() {
            message.push(' ');
        }
        let _ = write!(message, "{name}={value}");
    }
    Some(Parts {
        timestamp: Some(timestamp),
        level: Some(level),
        target: Some(target),
        message: Some(message),
    })
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

impl Filter {
    /// Whether every line passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.level.is_none() && self.contains.is_none() && self.since.is_none()
    }

    /// Whether the entry's level and text pass.
    #[must_use]
    pub fn wants(&self, entry: &LogEntry) -> bool {
        let level_passes = self.level.is_none_or(|wanted| {
            let level = entry
                .level
                .as_deref()
                .and_then(|level| level.parse::<Level>().ok());
            level.is_some_and(|level| level <= wanted)
        });
        let text_passes = self
            .contains
            .as_deref()
            .is_none_or(|text| entry.line.contains(text));
        level_passes && text_passes
    }

    /// Whether the entry is older than what is wanted, so that all before it are too.
    #[must_use]
    pub fn is_too_old(&self, entry: &LogEntry) -> bool {
        let Some(since) = self.since else {
            return false;
        };
        let logged = entry
            .timestamp
            .as_deref()
            .and_then(|text| text.parse::<Timestamp>().ok());
        logged.is_some_and(|logged| logged < since)
    }
}

/// A level, by the names of tracing or of Python.
fn level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some(Level::WARN),
        "critical" | "fatal" => Some(Level::ERROR),
        other => other.parse().ok(),
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
    let ago = humantime::parse_duration(text).map_err(|_| EXPECTED)?;
    now.checked_sub(ago).map_err(|_| EXPECTED)
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
        entry(cursor, line.as_bytes(), false)
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
        let warn = parse("2026-11-23T08:00:00Z WARN a: disk");
        let filter = |level| Filter {
            level: Some(level),
            ..Filter::default()
        };
        assert!(filter(Level::INFO).wants(&warn) && filter(Level::WARN).wants(&warn));
        assert!(!filter(Level::ERROR).wants(&warn));
        assert!(!filter(Level::TRACE).wants(&parse("panicked")));
    }
}
