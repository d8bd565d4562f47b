//! Server-sent events (HTML standard, section 9.2.6), as far as the log stream uses them.

use std::time::Duration;

use memchr::memchr;
use reqwest::Response;

use super::{ClientError, root_cause};
use crate::api::{LogEntry, StreamEnd, event};

/// How long a stream may be silent: the daemon says at least every 15 s that it is alive.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// What arrives on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A line.
    Entry(LogEntry),
    /// Lines are missing here.
    Gap,
    /// The daemon ends the stream.
    End(StreamEnd),
}

/// The events of one stream.
pub struct LogEvents {
    response: Response,
    base: String,
    parser: Parser,
    last_id: Option<String>,
}

impl LogEvents {
    pub(super) fn new(response: Response, base: String) -> Self {
        Self {
            response,
            base,
            parser: Parser::default(),
            last_id: None,
        }
    }

    /// The place in the log that this stream has reached: to resume there is to miss and to repeat nothing.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; `None` when the connection was closed without an `end`.
    ///
    /// # Errors
    ///
    /// The connection broke, or what arrives is not this stream.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, ClientError> {
        loop {
            while let Some(event) = self.parser.next() {
                if !event.id.is_empty() {
                    self.last_id = Some(event.id.clone());
                }
                if let Some(event) = decode(&event).map_err(|detail| ClientError::Stranger {
                    base: self.base.clone(),
                    detail,
                })? {
                    return Ok(Some(event));
                }
            }
            let unreachable = |reason| ClientError::Unreachable {
                base: self.base.clone(),
                reason,
            };
            let chunk = tokio::time::timeout(SILENCE_TIMEOUT, self.response.chunk()).await;
            let chunk = chunk
                .map_err(|_| unreachable(format!("nothing came within {SILENCE_TIMEOUT:?}")))?;
            match chunk.map_err(|error| unreachable(root_cause(&error)))? {
                Some(chunk) => self.parser.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// `None` for an event of a later version.
fn decode(raw: &RawEvent) -> Result<Option<LogEvent>, String> {
    let json = |error: serde_json::Error| format!("an event could not be read: {error}");
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
struct RawEvent {
    id: String,
    name: String,
    data: String,
}

#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
    read: usize,
    event: RawEvent,
}

impl Iterator for Parser {
    type Item = RawEvent;

    /// The next complete event of the buffer, or an id without one. The daemon ends lines with a bare newline.
    fn next(&mut self) -> Option<RawEvent> {
        while let Some(end) = memchr(b'\n', &self.buffer[self.read..]) {
            let line =
                String::from_utf8_lossy(&self.buffer[self.read..self.read + end]).into_owned();
            self.read += end + 1;
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() || !event.id.is_empty() {
                    return Some(event);
                }
                continue;
            }
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut self.event.name),
                Some(("data", data)) => self.event.data.push_str(data),
                Some(("id", id)) => id.clone_into(&mut self.event.id),
                // A comment.
                _ => {}
            }
        }
        self.buffer.drain(..self.read);
        self.read = 0;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut_into_pieces() {
        let text = ": connected\nid: 0\n\nevent: log\nid: 1\ndata: {\"a\":\"b: c\"}\n\n: keep-alive\n\nevent: end\ndata: {}\n\n";
        let whole = |parser: &mut Parser, bytes: &[u8]| {
            parser.buffer.extend_from_slice(bytes);
            parser.by_ref().collect::<Vec<_>>()
        };
        let expected = whole(&mut Parser::default(), text.as_bytes());
        assert_eq!(expected.len(), 3);
        assert_eq!(
            (expected[0].id.as_str(), expected[1].id.as_str()),
            ("0", "1")
        );
        assert_eq!(expected[1].data, "{\"a\":\"b: c\"}");
        for size in 1..20 {
            let mut parser = Parser::default();
            let pieces = text.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| whole(&mut parser, piece)).collect();
            assert_eq!(events, expected, "{size}");
        }
    }
}
