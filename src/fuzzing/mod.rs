//! The parsers of what comes from outside, each as a function of bytes that panics where the parser breaks a promise.
//!
//! `fuzz/` has a program for each, and what the fuzzer found worth keeping: the tests here run all of it again.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a promise that is broken has to panic"
)]

mod http;
mod place;
mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytesize::ByteSize;
use futures_util::FutureExt as _;
use jiff::Timestamp;

pub use http::{
    control_request_body, credentials, log_level_body, log_query, log_stream_resume, origin_check,
};
pub use place::log_read_at_cursor;
pub use token::token;

use crate::api::LogEntry;
use crate::client::events;
use crate::config::{
    DEFINITIONS, EnvFileChoice, Flags, InvalidSettings, MASK, Secret, Settings, Sources,
    parse_env_file,
};
use crate::health::redis;
use crate::instance::{HandoffPayload, StartupReport, StateFile, StoredSecret, pid_file};
use crate::logs::read::line::RawLine;
use crate::logs::{Cursor, Filter, FilterParams};

/// Takes what comes from outside, and panics where a promise is broken.
pub type FuzzTarget = fn(&[u8]);

/// All of them, by the names of their programs and corpora.
pub const TARGETS: [(&str, FuzzTarget); 18] = [
    ("control_request_body", control_request_body),
    ("credentials", credentials),
    ("env_file", env_file),
    ("event_stream", event_stream),
    ("handoff", handoff),
    ("log_cursor", log_cursor),
    ("log_filter", log_filter),
    ("log_level_body", log_level_body),
    ("log_line", log_line),
    ("log_query", log_query),
    ("log_read_at_cursor", log_read_at_cursor),
    ("log_stream_resume", log_stream_resume),
    ("origin_check", origin_check),
    ("pid_file", pid_file),
    ("redis_reply", redis_reply),
    ("settings", settings),
    ("state_file", state_file),
    ("token", token),
];

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// A cursor: four numbers as this crate writes them, and nothing else.
pub fn log_cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let numbers: Result<Vec<u64>, _> = text
        .split('-')
        .map(|number| u64::from_str_radix(number, 16))
        .collect();
    let is_one = numbers.is_ok_and(|numbers| {
        let texts: Vec<String> = numbers.iter().map(|n| format!("{n:x}")).collect();
        texts.len() == 4 && texts.join("-") == text
    });
    let parsed = text.parse::<Cursor>();
    assert_eq!(parsed.is_ok(), is_one);
    if let Ok(cursor) = parsed {
        assert_eq!(cursor.to_string(), text);
        assert!(cursor.end() >= cursor.offset);
    }
}

/// A line of the log, and filters: `LEVEL|SINCE|TEXT|LENGTH`, a line break, the line. All but `LENGTH` bytes are cut off.
pub fn log_line(bytes: &[u8]) {
    let (filter, line) = first_line(bytes);
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
    let (line, _) = first_line(line);
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

/// The texts of a filter, a line each: level, since, contains.
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
            assert_eq!(
                filter.contains.as_deref().unwrap_or_default(),
                texts.contains.unwrap_or_default()
            );
        }
        Err(error) => {
            assert_eq!(error.name == "level", !is_level);
            assert!(error.name == "level" || error.name == "since");
        }
    }
}

/// The text of an `.env` file.
pub fn env_file(bytes: &[u8]) {
    const HOME: &str = "/home/me";
    /// What references may add.
    const MAX_ADDED: usize = 1024 * 1024;
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let environment = |name: &str| (name == "HOME").then(|| HOME.to_owned());
    let (values, errors) = parse_env_file(text, environment);

    assert!(errors.is_sorted_by(|a, b| a.line < b.line));
    let lines = 1..=text.lines().count();
    assert!(errors.iter().all(|error| lines.contains(&error.line)));
    let mut written = String::new();
    let mut length = 0;
    for (name, value) in &values {
        length += value.len();
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        writeln!(written, "{name}='{value}'").unwrap();
    }
    assert!(length <= text.len() + MAX_ADDED);
    let (read, errors) = parse_env_file(&written, environment);
    assert_eq!((read, errors.len()), (values, 0));
}

/// What a PID file holds.
pub fn pid_file(bytes: &[u8]) {
    if let Some(pid) = pid_file::parse_pid(bytes) {
        let text = std::str::from_utf8(bytes).unwrap().trim();
        assert!(pid > 0);
        assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(text.trim_start_matches('0'), pid.to_string());
    }
    if let Some(number) = bytes.first_chunk() {
        let number = u32::from_le_bytes(*number);
        let text = pid_file::format_pid(number);
        assert_eq!(
            pid_file::parse_pid(text.as_bytes()),
            (number > 0).then_some(number)
        );
    }
}

/// What a state file holds.
pub fn state_file(bytes: &[u8]) {
    const KEY: &str = "key of a fuzzed daemon";
    let Ok(state) = StateFile::parse(bytes) else {
        return;
    };
    let json = serde_json::to_vec(&state).unwrap();
    let again = StateFile::parse(&*json).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), json);
    let state = StateFile {
        instance_key: StoredSecret::new(Secret::new(KEY.to_owned())),
        ..state
    };
    assert!(!format!("{state:?}").contains(KEY));
}

/// What two daemons tell each other at a handover.
pub fn handoff(bytes: &[u8]) {
    /// What of it is shown at most, with escapes.
    const MAX_SHOWN: usize = 2_000;
    let line = String::from_utf8_lossy(bytes);
    if let Err(reason) = HandoffPayload::check_hello(&line) {
        assert!(reason.len() <= MAX_SHOWN);
    }
    if let Ok(announcement) = StartupReport::parse(&line) {
        let json = serde_json::to_string(&announcement).unwrap();
        assert_eq!(StartupReport::parse(&json).unwrap(), announcement);
    }
    // More does not fit into the socket.
    let sent = &bytes[..bytes.len().min(100_000)];
    let (mut giver, heir) = UnixStream::pair().unwrap();
    giver.write_all(sent).unwrap();
    giver.shutdown(Shutdown::Write).unwrap();
    assert!(
        HandoffPayload::receive(&heir).is_err(),
        "there is no descriptor"
    );
}

/// An event stream, behind a byte that says into which pieces it is cut.
pub fn event_stream(bytes: &[u8]) {
    let Some((seed, stream)) = bytes.split_first() else {
        return;
    };
    let whole = parse_events([stream]);
    let mut pieces = Vec::new();
    let (mut rest, mut size) = (stream, usize::from(*seed));
    while !rest.is_empty() {
        size = (size * 5 + 3) % 61;
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    assert_eq!(parse_events(pieces), whole);
    for (id, event) in whole {
        assert!(!id.contains('\n'));
        if let Ok(Some(events::LogEvent::Entry(entry))) = event {
            serde_json::to_string(&entry).unwrap();
        }
    }
}

type ParsedEvent = (String, Result<Option<events::LogEvent>, String>);

fn parse_events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ParsedEvent> {
    let mut parser = events::EventParser::default();
    let mut received = Vec::new();
    for piece in pieces {
        parser.buffer.extend_from_slice(piece);
        while let Some(event) = parser.next().unwrap() {
            let decoded = events::decode_event(&event);
            received.push((event.id, decoded));
        }
    }
    received
}

/// Settings, as lines `NAME=TEXT`.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let flags: Flags = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // What is wrong with a secret is said without its characters.
    let mut hidden = flags.clone();
    for definition in DEFINITIONS.iter().filter(|definition| definition.is_secret) {
        if let Some(value) = hidden.get_mut(definition.name)
            && value != "your-secret-key"
        {
            *value = "x".repeat(value.len());
        }
    }
    let (loaded, hidden) = (load(&flags), load(&hidden));
    match (loaded, hidden) {
        (Ok(settings), Ok(hidden)) => {
            assert_eq!(settings.entries(), hidden.entries());
            assert!(settings.admin.ip().is_loopback());
            assert!(settings.shutdown_timeout.as_secs() <= 3600);
            let size = settings.log.max_size;
            assert!(size == ByteSize(0) || size >= ByteSize::kib(64));
            for (entry, definition) in settings.entries().iter().zip(&DEFINITIONS) {
                let value = entry.value.as_deref();
                assert!(!definition.is_secret || value.is_none_or(|value| value == MASK));
            }
        }
        (Err(problems), Err(hidden)) => assert_eq!(problems.to_string(), hidden.to_string()),
        (loaded, _) => panic!("a secret's characters count: {loaded:?}"),
    }
}

fn load(flags: &Flags) -> Result<Settings, InvalidSettings> {
    let file = EnvFileChoice::Explicit("/dev/null".into());
    Settings::load(&Sources::read(
        flags,
        &file,
        Path::new("/"),
        &BTreeMap::new(),
    ))
}

/// Up to the first line break, and what follows it.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// What Redis says to a `PING`: one line, of which nothing is shown that is not known, and behind which nothing is read.
pub fn redis_reply(bytes: &[u8]) {
    // There is nothing to wait for.
    let told = |mut bytes: &[u8]| {
        let answer = redis::expect_reply(&mut bytes, "+PONG").now_or_never();
        let text = answer.unwrap().map_err(|failure| failure.to_string());
        (text, bytes.len())
    };
    let (answer, left) = told(bytes);
    assert_eq!(answer.is_ok(), bytes.starts_with(b"+PONG\r\n"));
    let end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let line = end.map_or(bytes, |end| &bytes[..end + 2]);
    assert!(bytes.len() - left <= line.len());
    let Err(text) = answer else {
        return;
    };
    // What comes behind the first word of an error changes nothing, but for the one error that only its text tells.
    if let Some(error) = line.strip_suffix(b"\r\n")
        && error.starts_with(b"-")
        && !error.starts_with(b"-ERR ")
        && error.len() <= 1000
    {
        let word = error.split(|byte| *byte == b' ').next().unwrap();
        let (alone, _) = told(&[word, b"\r\n"].concat());
        assert_eq!(alone, Err(text.clone()));
    }
    assert!(text.len() < 100 && text.is_ascii(), "{text}");
}
