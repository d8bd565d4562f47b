//! The events by which a log is measured: requests with a number. They are found again in what a
//! follower receives.
//!
//! A log line begins with its time and ends with the request ID, which is `e-` and a number here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem::{Finder, FinderRev};

const DAY: u64 = 24 * 60 * 60 * 1_000_000;
const DATA: &[u8] = b"data: ";

/// The ID of the request that causes an event.
pub fn request_id(number: u64) -> String {
    format!("e-{number}")
}

/// An access line like the daemon's, for programs that print it.
pub fn access_line(number: u64) -> String {
    format!(
        "{:.6}  INFO access: server=\"public\" method=GET path=\"/\" status=200 duration_us=35 peer=127.0.0.1:46548 request_id=\"{}\"",
        jiff::Timestamp::now(),
        request_id(number)
    )
}

/// Microseconds since midnight UTC, which is enough for the latency of an event.
#[derive(Debug, Clone, Copy)]
pub struct TimeOfDay(u64);

impl TimeOfDay {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since.unwrap_or(Duration::ZERO).as_micros() % u128::from(DAY);
        Self(u64::try_from(micros).unwrap_or(0))
    }

    /// Parses `2026-11-23T09:54:25.321251Z`, with at least six decimals.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text.get(..26)?).ok()?;
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let seconds = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
        Some(Self(seconds * 1_000_000 + number(20, 26)?))
    }

    /// Microseconds since `earlier`, of less than half a day.
    pub fn micros_since(self, earlier: Self) -> u32 {
        let micros = (self.0 + DAY - earlier.0) % DAY;
        // The clock may have been set back.
        let micros = if micros > DAY / 2 { 0 } else { micros };
        u32::try_from(micros).unwrap_or(u32::MAX)
    }
}

/// Finds events in the lines of a log and of server-sent events.
pub struct EventFinder {
    identifier: FinderRev<'static>,
    timestamp: Finder<'static>,
}

impl EventFinder {
    pub fn new() -> Self {
        Self {
            identifier: FinderRev::new("request_id="),
            timestamp: Finder::new("\"timestamp\":\""),
        }
    }

    /// The number and time of the event, if the line has a numbered one.
    pub fn find(&self, line: &[u8]) -> Option<(u64, TimeOfDay)> {
        let start = self.identifier.rfind(line)? + self.identifier.needle().len();
        let identifier = line.get(start..)?;
        // In JSON the quotation mark is escaped.
        let identifier = identifier.strip_prefix(b"\\").unwrap_or(identifier);
        let digits = identifier.strip_prefix(b"\"e-")?;
        let number = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        let timestamp = if line.starts_with(DATA) {
            self.timestamp.find(line)? + self.timestamp.needle().len()
        } else {
            0
        };
        Some((number, TimeOfDay::parse(line.get(timestamp..)?)?))
    }
}
