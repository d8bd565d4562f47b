//! Fuzz target of the event stream.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use super::events::{EventParser, LogEvent, decode_event};

/// A byte that determines the sizes of the chunks, and an event stream.
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
        if let Ok(Some(LogEvent::Entry(entry))) = event {
            serde_json::to_string(&entry).unwrap();
        }
    }
}

type ParsedEvent = (String, Result<Option<LogEvent>, String>);

fn parse_events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ParsedEvent> {
    let mut parser = EventParser::default();
    let mut received = Vec::new();
    for piece in pieces {
        parser.buffer.extend_from_slice(piece);
        while let Some(event) = parser.next().unwrap() {
            let decoded = decode_event(&event);
            received.push((event.id, decoded));
        }
    }
    received
}
