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
pub(crate) struct RawLine<'a> {
    pub cursor: Cursor,
    /// At most the first [`MAX_LINE_BYTES`], without the newline.
    pub bytes: &'a [u8],
    /// It ends with a newline: it is finished.
    pub terminated: bool,
}

impl<'a> RawLine<'a> {
    /// How long it is without its newline.
    fn full_len(&self) -> usize {
        usize::try_from(self.cursor.len).unwrap_or(usize::MAX) - usize::from(self.terminated)
    }

    /// Whether the text is in [`Self::any_text`], which need not be made for most lines.
    fn contains(&self, text: &str) -> bool {
        if memmem::find(self.bytes, text.as_bytes()).is_some() {
            return true;
        }
        let is_cut = self.full_len() > self.bytes.len();
        (is_cut || text.contains(char::REPLACEMENT_CHARACTER)) && self.as_text().contains(text)
    }

    /// The line as a reader sees it: bytes that are not UTF-8 are replaced, and a cut is said.
    pub fn as_text(&self) -> Cow<'a, str> {
        let mut text = String::from_utf8_lossy(self.bytes);
        let length = self.full_len();
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

    pub fn parse_entry(&self) -> LogEntry {
        let line = self.as_text();
        let parts = ParsedLine::parse(&line).unwrap_or_default();
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
struct ParsedLine<'a> {
    timestamp: Option<Cow<'a, str>>,
    level: Option<Level>,
    target: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
}

impl<'a> ParsedLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('{') {
            Self::parse_json(line)
        } else {
            Self::parse_text(line)
        }
    }

    /// `TIMESTAMP LEVEL target: message`
    fn parse_text(line: &'a str) -> Option<Self> {
        let (timestamp, rest) = line.split_once(' ')?;
        timestamp.parse::<Timestamp>().ok()?;
        let (level, rest) = rest.trim_start().split_once(' ')?;
        let level = parse_level_name(level)?;
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
    fn parse_json(line: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
            return None;
        };
        let mut text = |name| match fields.shift_remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (timestamp, level, target) = (text("timestamp")?, text("level")?, text("target")?);
        timestamp.parse::<Timestamp>().ok()?;
        let level = parse_level_name(&level)?;
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
pub(crate) enum FilterMatch {
    Match,
    NoMatch,
    /// Older than what is wanted, so that all lines before it are too.
    TooOld,
}

impl Filter {
    /// Whether every line passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.level.is_none() && self.contains.is_none() && self.since.is_none()
    }

    /// What it says about a line as a reader sees it.
    pub(crate) fn evaluate(&self, line: &RawLine<'_>) -> FilterMatch {
        let has_text = self
            .contains
            .as_deref()
            .is_none_or(|text| line.contains(text));
        if !has_text && self.since.is_none() {
            // The cheap answer, which is the usual one in a search.
            return FilterMatch::NoMatch;
        }
        if self.level.is_none() && self.since.is_none() {
            return FilterMatch::Match;
        }
        let text = line.as_text();
        let parts = ParsedLine::parse(&text).unwrap_or_default();
        self.evaluate_fields(has_text, parts.timestamp.as_deref(), parts.level)
    }

    /// The same about a line that was taken apart already.
    pub(crate) fn evaluate_entry(&self, entry: &LogEntry) -> FilterMatch {
        let mut text = self.contains.iter();
        let has_text = text.all(|text| entry.line.contains(text));
        let level = entry.level.as_deref().and_then(|level| level.parse().ok());
        self.evaluate_fields(has_text, entry.timestamp.as_deref(), level)
    }

    fn evaluate_fields(
        &self,
        has_text: bool,
        timestamp: Option<&str>,
        level: Option<Level>,
    ) -> FilterMatch {
        if let (Some(since), Some(timestamp)) = (self.since, timestamp)
            && timestamp
                .parse()
                .is_ok_and(|logged: Timestamp| logged < since)
        {
            return FilterMatch::TooOld;
        }
        let has_level = self
            .level
            .is_none_or(|wanted| level.is_some_and(|level| level <= wanted));
        if has_text && has_level {
            FilterMatch::Match
        } else {
            FilterMatch::NoMatch
        }
    }
}

/// A level, by the names of tracing or of Python.
fn parse_level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some(Level::WARN),
        "critical" | "fatal" => Some(Level::ERROR),
        other => parse_level_name(other),
    }
}

/// A level by its name in tracing, which also knows numbers: in a log they count something else.
fn parse_level_name(text: &str) -> Option<Level> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| text.parse().ok()).flatten()
}

/// A filter, as texts describe it.
#[derive(Debug, Clone, Default)]
pub struct FilterParams<'a> {
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

impl TryFrom<FilterParams<'_>> for Filter {
    type Error = FilterError;

    fn try_from(texts: FilterParams<'_>) -> Result<Self, FilterError> {
        let level = texts.level.map(|text| {
            parse_level(text).ok_or(FilterError {
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

    fn raw(line: &(impl AsRef<[u8]> + ?Sized)) -> RawLine<'_> {
        let line = line.as_ref();
        let cursor = Cursor {
            file: FileId::from_metadata(&std::fs::metadata("/").unwrap()),
            offset: 0,
            len: line.len() as u64,
        };
        RawLine {
            cursor,
            bytes: &line[..line.len().min(MAX_LINE_BYTES)],
            terminated: false,
        }
    }

    fn parse(line: &str) -> LogEntry {
        raw(line).parse_entry()
    }

    #[test]
    fn own_lines_have_fields_and_foreign_lines_have_none() {
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
    fn level_matches_more_severe_lines() {
        let warn = "2026-11-23T08:00:00Z WARN a: disk";
        let judge = |level, line: &str| {
            let filter = Filter {
                level: Some(level),
                ..Filter::default()
            };
            filter.evaluate(&raw(line))
        };
        assert_eq!(judge(Level::INFO, warn), FilterMatch::Match);
        assert_eq!(judge(Level::WARN, warn), FilterMatch::Match);
        assert_eq!(judge(Level::ERROR, warn), FilterMatch::NoMatch);
        assert_eq!(judge(Level::TRACE, "panicked"), FilterMatch::NoMatch);
    }

    #[test]
    fn numbers_are_not_levels() {
        let entry = parse("2026-11-23T08:00:00Z 3 files: gone");
        assert!(entry.level.is_none() && entry.target.is_none());
        let filter = |level| {
            Filter::try_from(FilterParams {
                level: Some(level),
                ..FilterParams::default()
            })
        };
        assert_eq!(filter("3").unwrap_err().name, "level");
        assert_eq!(filter("Critical").unwrap().level, Some(Level::ERROR));
    }

    #[test]
    fn line_with_invalid_timestamp_is_foreign() {
        let line = r#"{"timestamp":"yesterday","level":"INFO","message":"m","target":"a"}"#;
        assert_eq!(parse(line).timestamp, None);
    }

    /// Who follows gets lines taken apart, who pages back gets them as they stand in the file.
    #[test]
    fn raw_lines_and_entries_are_filtered_alike() {
        let not_text = b"a\xffb".as_slice();
        let long = format!("2026-11-23T08:00:00Z INFO {}", "x".repeat(MAX_LINE_BYTES));
        let filter = |level, text: &str| Filter {
            level,
            contains: Some(text.into()),
            since: None,
        };
        for (line, filter, verdict) in [
            (not_text, filter(None, "\u{fffd}b"), FilterMatch::Match),
            (long.as_bytes(), filter(None, "[cut: "), FilterMatch::Match),
            (
                long.as_bytes(),
                filter(Some(Level::INFO), "x"),
                FilterMatch::Match,
            ),
            (long.as_bytes(), filter(None, "z"), FilterMatch::NoMatch),
        ] {
            let line = raw(line);
            assert_eq!(filter.evaluate_entry(&line.parse_entry()), verdict);
            assert_eq!(filter.evaluate(&line), verdict, "{filter:?}");
        }
    }

    #[test]
    fn line_before_since_is_too_old() {
        let filter = Filter {
            since: Some("2026-11-23T09:00:00Z".parse().unwrap()),
            contains: Some("x".into()),
            ..Filter::default()
        };
        let judge = |line: &str| filter.evaluate(&raw(line));
        assert_eq!(judge("2026-11-23T08:59:59Z INFO a: b"), FilterMatch::TooOld);
        assert_eq!(
            judge("2026-11-23T09:00:00Z INFO a: b"),
            FilterMatch::NoMatch
        );
        assert_eq!(judge("2026-11-23T09:00:00Z INFO a: x"), FilterMatch::Match);
        assert_eq!(judge("no time, x"), FilterMatch::Match);
    }
}
