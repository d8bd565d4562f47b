//! The events of the log stream: the part of server-sent events (HTML standard, section 9.2.6) that
//! it uses.

use std::time::Duration;

use memchr::memchr;
use reqwest::{Response, Url};

use super::error::ClientError;
use super::transport::root_cause;
use crate::api::{LogEntry, LogStreamEnd, event};

/// How long a stream may be silent. The daemon sends a comment at least every 15 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// The largest event in bytes. The daemon cuts lines at 64 KiB; an event contains one twice, as
/// JSON, in less than 1 MiB.
const MAX_EVENT_SIZE: usize = 4 * 1024 * 1024;

/// An event of the log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A line of the log.
    Entry(LogEntry),
    /// Lines are missing at this place.
    Gap,
    /// The daemon ends the stream.
    End(LogStreamEnd),
}

/// The events of one stream.
pub struct LogEvents {
    response: Response,
    base: Url,
    parser: EventParser,
    last_id: Option<String>,
}

impl LogEvents {
    pub(super) fn new(response: Response, base: Url) -> Self {
        Self {
            response,
            base,
            parser: EventParser::default(),
            last_id: None,
        }
    }

    /// Cursor of the last event. A stream that resumes there misses and repeats nothing.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; `None` when the connection was closed without an `end`.
    ///
    /// # Errors
    ///
    /// The connection failed, or the response is not a log stream.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, ClientError> {
        let unexpected = |detail| ClientError::unexpected_server(&self.base, detail);
        let unreachable = |reason| ClientError::unreachable(&self.base, reason);
        loop {
            while let Some(event) = self.parser.next().map_err(unexpected)? {
                if !event.id.is_empty() {
                    self.last_id = Some(event.id.clone());
                }
                if let Some(event) = decode_event(&event).map_err(unexpected)? {
                    return Ok(Some(event));
                }
            }
            let chunk = tokio::time::timeout(SILENCE_TIMEOUT, self.response.chunk()).await;
            let chunk =
                chunk.map_err(|_| unreachable(format!("no data within {SILENCE_TIMEOUT:?}")))?;
            match chunk.map_err(|error| unreachable(root_cause(&error)))? {
                Some(chunk) => self.parser.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Decodes an event. `None` stands for an event that a newer daemon sends.
pub(crate) fn decode_event(raw: &RawEvent) -> Result<Option<LogEvent>, String> {
    let json = |error: serde_json::Error| format!("invalid event: {error}");
    Ok(match raw.name.as_str() {
        event::LOG => Some(LogEvent::Entry(
            serde_json::from_str(&raw.data).map_err(json)?,
        )),
        event::GAP => Some(LogEvent::Gap),
        event::END => Some(LogEvent::End(
            serde_json::from_str(&raw.data).map_err(json)?,
        )),
        _ => None,
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RawEvent {
    pub id: String,
    pub name: String,
    pub data: String,
}

#[derive(Default)]
pub(crate) struct EventParser {
    pub buffer: Vec<u8>,
    /// Bytes of the buffer whose lines were parsed.
    consumed: usize,
    /// Bytes of the buffer that were searched for the end of the next line.
    searched: usize,
    event: RawEvent,
    /// Bytes of the lines of the current event so far.
    event_length: usize,
}

impl EventParser {
    /// The next complete event of the buffer, or an id without an event. The daemon ends lines with
    /// LF only.
    pub fn next(&mut self) -> Result<Option<RawEvent>, String> {
        while let Some(end) = memchr(b'\n', &self.buffer[self.searched..]) {
            let end = self.searched + end;
            self.check_length(end - self.consumed)?;
            let line = String::from_utf8_lossy(&self.buffer[self.consumed..end]);
            self.event_length += end - self.consumed;
            self.consumed = end + 1;
            self.searched = self.consumed;
            if line.is_empty() {
                self.event_length = 0;
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() || !event.id.is_empty() {
                    return Ok(Some(event));
                }
                continue;
            }
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut self.event.name),
                Some(("data", data)) => self.event.data.push_str(data),
                Some(("id", id)) => id.clone_into(&mut self.event.id),
                // Comments.
                _ => {}
            }
        }
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.searched = self.buffer.len();
        self.check_length(self.buffer.len())?;
        Ok(None)
    }

    /// Checks that the event may grow by `more` bytes.
    fn check_length(&self, more: usize) -> Result<(), String> {
        if self.event_length + more > MAX_EVENT_SIZE {
            return Err(format!("an event is longer than {MAX_EVENT_SIZE} bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversized_event_is_rejected() {
        for piece in ["x", "data: x\n", ": x\n"] {
            let piece = piece.repeat(64 * 1024);
            let mut parser = EventParser::default();
            let rejected_after = (0..100).find(|_| {
                parser.buffer.extend_from_slice(piece.as_bytes());
                parser.next().is_err()
            });
            assert!(rejected_after.unwrap() * piece.len() <= MAX_EVENT_SIZE + MAX_EVENT_SIZE / 2);
        }
    }

    #[test]
    fn chunk_boundaries_do_not_change_events() {
        let text = ": connected\nid: 0\n\nevent: log\nid: 1\ndata: {\"a\":\"b: c\"}\n\n: keep-alive\n\nevent: end\ndata: {}\n\n";
        let whole = |parser: &mut EventParser, bytes: &[u8]| {
            parser.buffer.extend_from_slice(bytes);
            std::iter::from_fn(|| parser.next().unwrap()).collect::<Vec<_>>()
        };
        let expected = whole(&mut EventParser::default(), text.as_bytes());
        assert_eq!(expected.len(), 3);
        assert_eq!(
            (expected[0].id.as_str(), expected[1].id.as_str()),
            ("0", "1")
        );
        assert_eq!(expected[1].data, "{\"a\":\"b: c\"}");
        for size in 1..20 {
            let mut parser = EventParser::default();
            let pieces = text.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| whole(&mut parser, piece)).collect();
            assert_eq!(events, expected, "{size}");
        }
    }
}
