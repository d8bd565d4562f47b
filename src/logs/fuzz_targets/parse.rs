//! Parsers of cursors, lines and filters.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use jiff::Timestamp;

use crate::api::LogEntry;
use crate::fuzzing::split_first_line;
use crate::logs::read::line::RawLine;
use crate::logs::{Cursor, Filter, FilterParams, SearchText};

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// A cursor: four numbers in canonical form, and nothing else.
pub fn log_cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let numbers: Result<Vec<u64>, _> = text
        .split('-')
        .map(|number| u64::from_str_radix(number, 16))
        .collect();
    let is_canonical = numbers.is_ok_and(|numbers| {
        let texts: Vec<String> = numbers.iter().map(|n| format!("{n:x}")).collect();
        texts.len() == 4 && texts.join("-") == text
    });
    let parsed = text.parse::<Cursor>();
    assert_eq!(parsed.is_ok(), is_canonical);
    if let Ok(cursor) = parsed {
        assert_eq!(cursor.to_string(), text);
        assert!(cursor.end() >= cursor.offset);
    }
}

/// A filter and a line of the log: `LEVEL|SINCE|TEXT|LENGTH`, a newline, the line, which is cut after
/// `LENGTH` bytes.
pub fn log_line(bytes: &[u8]) {
    let (filter, line) = split_first_line(bytes);
    let filter = String::from_utf8_lossy(filter);
    let mut texts = filter.split('|');
    let mut next = || texts.next().filter(|text| !text.is_empty());
    let filter = Filter::try_from(FilterParams {
        level: next(),
        since: next(),
        contains: next(),
    })
    .unwrap_or_default();
    let kept = next().and_then(|length| length.parse().ok());
    let terminated = line.contains(&b'\n');
    let (line, _) = split_first_line(line);
    let kept = kept.unwrap_or(line.len()).min(line.len());
    let mut cursor: Cursor = "1-2-3-4".parse().unwrap();
    cursor.len = line.len() as u64 + u64::from(terminated);
    let raw = RawLine {
        cursor,
        bytes: &line[..kept],
        terminated,
    };

    let entry = raw.parse_entry();
    let shown = String::from_utf8_lossy(&line[..kept]);
    if kept == line.len() {
        assert_eq!(entry.line, shown);
    } else {
        assert!(entry.line.starts_with(&*shown) && entry.line.ends_with(" bytes shown]"));
    }
    assert!(!entry.line.contains('\n'));
    assert_eq!(entry.cursor, cursor);
    // Lines that were just written are filtered as entries, the others as bytes.
    assert_eq!(filter.evaluate(&raw), filter.evaluate_entry(&entry));
    let entry = LogEntry::from(entry);
    let LogEntry {
        timestamp,
        level,
        target,
        message,
        ..
    } = &entry;
    let is_own = level.is_some();
    assert!(
        [timestamp, target, message]
            .iter()
            .all(|part| part.is_some() == is_own)
    );
    if let (Some(timestamp), Some(level)) = (timestamp, level) {
        assert!(LEVELS.contains(&level.as_str()));
        assert!(timestamp.parse::<Timestamp>().is_ok());
        let named = LEVELS
            .map(str::to_ascii_lowercase)
            .iter()
            .any(|name| entry.line.to_ascii_lowercase().contains(name.as_str()));
        assert!(named || entry.line.starts_with('{'));
    }
    let json = serde_json::to_vec(&entry).unwrap();
    assert!(!json.contains(&b'\n'));
    assert_eq!(serde_json::from_slice::<LogEntry>(&json).unwrap(), entry);
}

/// The parameters of a filter, one a line: level, since, contains.
pub fn log_filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let texts = FilterParams {
        level: lines.next(),
        since: lines.next().filter(|text| !text.is_empty()),
        contains: lines.next(),
    };
    let level = texts.level.unwrap_or_default().to_ascii_uppercase();
    let is_level = LEVELS.contains(&level.as_str())
        || ["WARNING", "CRITICAL", "FATAL"].contains(&level.as_str());
    match Filter::try_from(texts.clone()) {
        Ok(filter) => {
            assert!(is_level && filter.level.is_some());
            assert_eq!(filter.since.is_some(), texts.since.is_some());
            if let (Some(since), Some(text)) = (filter.since, texts.since) {
                assert!(
                    text.parse().is_ok_and(|time: Timestamp| time == since)
                        || since <= Timestamp::now()
                );
            }
            let contains = filter.contains.as_ref().map(SearchText::as_bytes);
            assert_eq!(
                contains.unwrap_or_default(),
                texts.contains.unwrap_or_default().as_bytes()
            );
        }
        Err(error) => {
            assert_eq!(error.name == "level", !is_level);
            assert!(matches!(error.name, "level" | "since" | "contains"));
        }
    }
}
