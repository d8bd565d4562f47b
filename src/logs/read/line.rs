//! Parsing the bytes of a line into an entry.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;
use tracing::Level;

use super::search_text::SearchText;
use crate::logs::cursor::Cursor;

/// How many bytes of a line are kept. The text of a longer line says that it is truncated.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;

/// One line of the log. Lines of other programs have no `timestamp`, `level`, `target` and
/// `message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names the line.
    pub cursor: Cursor,
    /// The time as it is written in the line.
    pub timestamp: Option<String>,
    /// The severity.
    pub level: Option<Level>,
    /// The part of the program that logged the line.
    pub target: Option<String>,
    /// The message and its fields.
    pub message: Option<String>,
    /// The whole line without its newline. Bytes that are not UTF-8 are replaced.
    pub line: String,
}

/// The bytes of a line in the file.
#[derive(Debug)]
pub(crate) struct RawLine<'a> {
    pub cursor: Cursor,
    /// The first [`MAX_LINE_BYTES`] at most, without the newline.
    pub bytes: &'a [u8],
    /// Whether the line is complete: it ends with a newline.
    pub terminated: bool,
}

impl<'a> RawLine<'a> {
    /// The length in the file without the newline.
    fn full_len(&self) -> usize {
        usize::try_from(self.cursor.len).unwrap_or(usize::MAX) - usize::from(self.terminated)
    }

    /// Whether [`Self::to_text`] contains the text. Most lines are searched without conversion.
    pub fn contains(&self, text: &SearchText) -> bool {
        if text.is_in(self.bytes) {
            return true;
        }
        let is_cut = self.full_len() > self.bytes.len();
        (is_cut || text.has_replacement()) && text.is_in(&*self.to_text())
    }

    /// The line as text. Bytes that are not UTF-8 are replaced, and a truncated line says so.
    pub fn to_text(&self) -> Cow<'a, str> {
        let mut text = String::from_utf8_lossy(self.bytes);
        let len = self.full_len();
        if len > self.bytes.len() {
            // Writing to a string does not fail.
            let _ = write!(
                text.to_mut(),
                " [truncated: {} of {len} bytes shown]",
                self.bytes.len()
            );
        }
        text
    }

    pub fn parse_entry(&self) -> Entry {
        let line = self.to_text();
        let parsed = ParsedLine::parse(&line).unwrap_or_default();
        Entry {
            cursor: self.cursor,
            timestamp: parsed.timestamp.map(Cow::into_owned),
            level: parsed.level,
            target: parsed.target.map(Cow::into_owned),
            message: parsed.message.map(Cow::into_owned),
            line: line.into_owned(),
        }
    }
}

/// Whether the text is an RFC 3339 timestamp. Another program may write a JSON line with another form
/// of ISO 8601, which clients of the API could not read.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let has_offset = matches!(bytes, [.., b'Z'] | [.., b'+' | b'-', _, _, b':', _, _]);
    has_offset
        && separators
            .iter()
            .all(|(at, byte)| bytes.get(*at) == Some(byte))
        && !bytes.contains(&b',')
        && text.parse::<Timestamp>().is_ok()
}

/// The fields of a line that the daemon wrote.
#[derive(Default)]
pub(crate) struct ParsedLine<'a> {
    pub timestamp: Option<Cow<'a, str>>,
    pub level: Option<Level>,
    target: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
}

impl<'a> ParsedLine<'a> {
    /// `None` for a line of another program.
    pub fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('{') {
            Self::parse_json(line)
        } else {
            Self::parse_text(line)
        }
    }

    /// `TIMESTAMP LEVEL target: message`
    fn parse_text(line: &'a str) -> Option<Self> {
        let (timestamp, rest) = line.split_once(' ')?;
        if !is_rfc3339(timestamp) {
            return None;
        }
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

    /// `{"timestamp":…,"level":…,"target":…,"message":…,…}`. Other fields are appended to the
    /// message as `key=value`.
    fn parse_json(line: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
            return None;
        };
        let mut text = |name| match fields.shift_remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (timestamp, level, target) = (text("timestamp")?, text("level")?, text("target")?);
        if !is_rfc3339(&timestamp) {
            return None;
        }
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

/// Parses the name of a level. `tracing` would also accept numbers, which have another meaning in
/// a log.
pub(crate) fn parse_level_name(text: &str) -> Option<Level> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Entry {
        let cursor: Cursor = "1-2-3-0".parse().unwrap();
        let raw = RawLine {
            cursor: Cursor {
                len: line.len() as u64,
                ..cursor
            },
            bytes: line.as_bytes(),
            terminated: false,
        };
        raw.parse_entry()
    }

    #[test]
    fn own_lines_have_fields_and_foreign_lines_have_none() {
        let text = parse("2026-11-23T08:00:00.000001Z  WARN audit: stop asked subject=\"me\"");
        assert_eq!(text.level, Some(Level::WARN));
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
            "2026-11-23T08:00:00Z 3 files: gone",
            r#"{"timestamp":"yesterday","level":"INFO","message":"m","target":"a"}"#,
            r#"{"timestamp":"2026-11-23 08:00:00Z","level":"INFO","message":"m","target":"a"}"#,
            r#"{"timestamp":"20261123T080000Z","level":"INFO","message":"m","target":"a"}"#,
            r#"{"timestamp":"2026-11-23T08:00:00,5Z","level":"INFO","message":"m","target":"a"}"#,
            r#"{"timestamp":"2026-11-23T08:00:00Z[UTC]","level":"INFO","message":"m","target":"a"}"#,
        ] {
            let entry = parse(foreign);
            assert_eq!(entry.line, foreign);
            let is_foreign = entry.timestamp.is_none()
                && entry.level.is_none()
                && entry.target.is_none()
                && entry.message.is_none();
            assert!(is_foreign, "{foreign}");
        }
    }
}
