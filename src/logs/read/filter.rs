//! Which lines a reader wants.

use jiff::Timestamp;
use thiserror::Error;
use tracing::Level;

use super::line::{Entry, ParsedLine, RawLine, parse_level_name};
use super::search_text::{MAX_SEARCH_TEXT, SearchText};

/// The conditions that a line has to meet.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// This level or a more severe one. Lines without a level do not match.
    pub level: Option<Level>,
    /// The line contains this text. Case-sensitive.
    pub contains: Option<SearchText>,
    /// The line was logged at or after this time. Lines without a time match if they follow the
    /// first line that does.
    pub since: Option<Timestamp>,
}

/// Whether a line meets the conditions of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterMatch {
    Match,
    NoMatch,
    /// The line is older than `since`, and so are all lines before it.
    TooOld,
}

impl Filter {
    /// Whether every line matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.level.is_none() && self.contains.is_none() && self.since.is_none()
    }

    /// Evaluates a line as it is in the file.
    pub(crate) fn evaluate(&self, line: &RawLine<'_>) -> FilterMatch {
        let has_text = self
            .contains
            .as_ref()
            .is_none_or(|text| line.contains(text));
        if !has_text && self.since.is_none() {
            // Most lines of a search end here, without parsing.
            return FilterMatch::NoMatch;
        }
        if self.level.is_none() && self.since.is_none() {
            return FilterMatch::Match;
        }
        let text = line.to_text();
        let parsed = ParsedLine::parse(&text).unwrap_or_default();
        self.evaluate_fields(has_text, parsed.timestamp.as_deref(), parsed.level)
    }

    /// Evaluates a line that is parsed already.
    pub(crate) fn evaluate_entry(&self, entry: &Entry) -> FilterMatch {
        let text = self.contains.as_ref();
        let has_text = text.is_none_or(|text| text.is_in(&entry.line));
        self.evaluate_fields(has_text, entry.timestamp.as_deref(), entry.level)
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

/// Parses a level by its name in `tracing` or in Python.
fn parse_level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some(Level::WARN),
        "critical" | "fatal" => Some(Level::ERROR),
        other => parse_level_name(other),
    }
}

/// The text form of a [`Filter`].
#[derive(Debug, Clone, Default)]
pub struct FilterParams<'a> {
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: Option<&'a str>,
    /// Text that lines contain, at most [`MAX_SEARCH_TEXT`] bytes. Empty text is ignored.
    pub contains: Option<&'a str>,
    /// An RFC 3339 timestamp, or a duration before now.
    pub since: Option<&'a str>,
}

/// A parameter of a filter is invalid.
#[derive(Debug, Error)]
#[error("`{name}` {reason}")]
pub struct FilterError {
    /// `level`, `contains` or `since`.
    pub name: &'static str,
    /// The valid forms.
    pub reason: &'static str,
}

impl TryFrom<FilterParams<'_>> for Filter {
    type Error = FilterError;

    fn try_from(params: FilterParams<'_>) -> Result<Self, FilterError> {
        let level = params.level.map(|text| {
            parse_level(text).ok_or(FilterError {
                name: "level",
                reason: "is not one of error, warn, info, debug, trace",
            })
        });
        let since = params.since.map(|text| {
            parse_since(text, Timestamp::now()).map_err(|reason| FilterError {
                name: "since",
                reason,
            })
        });
        let contains = params.contains.filter(|text| !text.is_empty());
        if contains.is_some_and(|text| text.len() > MAX_SEARCH_TEXT) {
            return Err(FilterError {
                name: "contains",
                reason: "is longer than 1024 bytes",
            });
        }
        Ok(Self {
            level: level.transpose()?,
            contains: contains.map(SearchText::from),
            since: since.transpose()?,
        })
    }
}

/// Parses an RFC 3339 timestamp, or a duration before `now` such as `10m` or `2h 30m`.
fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    const EXPECTED: &str = "is neither an RFC 3339 timestamp (2026-01-31T09:00:00Z) nor a duration before now (10m, 2h 30m)";
    if let Ok(timestamp) = text.parse() {
        return Ok(timestamp);
    }
    // `0` would mean now, but a user who passes it wants everything.
    if text == "0" {
        return Err(EXPECTED);
    }
    let ago = humantime::parse_duration(text).map_err(|_| EXPECTED)?;
    // A duration beyond the range of timestamps means everything.
    Ok(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::cursor::Cursor;
    use crate::logs::read::line::MAX_LINE_BYTES;

    fn raw(line: &(impl AsRef<[u8]> + ?Sized)) -> RawLine<'_> {
        let line = line.as_ref();
        let cursor: Cursor = "1-2-3-0".parse().unwrap();
        RawLine {
            cursor: Cursor {
                len: line.len() as u64,
                ..cursor
            },
            bytes: &line[..line.len().min(MAX_LINE_BYTES)],
            terminated: false,
        }
    }

    #[test]
    fn level_matches_more_severe_lines() {
        let warn = "2026-11-23T08:00:00Z WARN a: disk";
        let evaluate = |level, line: &str| {
            let filter = Filter {
                level: Some(level),
                ..Filter::default()
            };
            filter.evaluate(&raw(line))
        };
        assert_eq!(evaluate(Level::INFO, warn), FilterMatch::Match);
        assert_eq!(evaluate(Level::WARN, warn), FilterMatch::Match);
        assert_eq!(evaluate(Level::ERROR, warn), FilterMatch::NoMatch);
        assert_eq!(evaluate(Level::TRACE, "panicked"), FilterMatch::NoMatch);
    }

    #[test]
    fn numbers_are_not_levels() {
        let filter = |level| {
            Filter::try_from(FilterParams {
                level: Some(level),
                ..FilterParams::default()
            })
        };
        assert_eq!(filter("3").unwrap_err().name, "level");
        assert_eq!(filter("Critical").unwrap().level, Some(Level::ERROR));
    }

    /// New lines are filtered as entries, older lines as bytes.
    #[test]
    fn raw_lines_and_entries_are_filtered_alike() {
        let not_text = b"a\xffb".as_slice();
        let long = format!("2026-11-23T08:00:00Z INFO {}", "x".repeat(MAX_LINE_BYTES));
        let long = long.as_bytes();
        let filter = |level, text: &str| Filter {
            level,
            contains: Some(text.into()),
            since: None,
        };
        for (line, filter, expected) in [
            (not_text, filter(None, "\u{fffd}b"), FilterMatch::Match),
            (long, filter(None, "[truncated: "), FilterMatch::Match),
            (long, filter(Some(Level::INFO), "x"), FilterMatch::Match),
            (long, filter(None, "z"), FilterMatch::NoMatch),
        ] {
            let line = raw(line);
            assert_eq!(filter.evaluate_entry(&line.parse_entry()), expected);
            assert_eq!(filter.evaluate(&line), expected, "{filter:?}");
        }
    }

    #[test]
    fn line_before_since_is_too_old() {
        let filter = Filter {
            since: Some("2026-11-23T09:00:00Z".parse().unwrap()),
            contains: Some("x".into()),
            ..Filter::default()
        };
        let evaluate = |line: &str| filter.evaluate(&raw(line));
        let before = "2026-11-23T08:59:59Z INFO a: b";
        assert_eq!(evaluate(before), FilterMatch::TooOld);
        let other = "2026-11-23T09:00:00Z INFO a: b";
        assert_eq!(evaluate(other), FilterMatch::NoMatch);
        let wanted = "2026-11-23T09:00:00Z INFO a: x";
        assert_eq!(evaluate(wanted), FilterMatch::Match);
        assert_eq!(evaluate("no time, x"), FilterMatch::Match);
    }
}
