//! The log over HTTP: a page of it, and server-sent events.

use std::fmt::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use jiff::Timestamp;
use poem::http::{StatusCode, Version, header};
use poem::{Body, IntoResponse, Request, Response, ResponseBuilder};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type as _;
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::payload::Json;
use super::problem::Failure;
use super::readers::Seat;
use super::shutdown::Shutdown;
use crate::api::{LogEntry, LogPage, StreamEnd, StreamGap, event};
use crate::auth::Session;
use crate::logs::{
    self, Filter, FilterTexts, Follower, FoundLines, From, Item, TailError, Watcher,
};

/// A quiet stream says at least this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser that was cut off waits before it comes back.
const RECONNECT: Duration = Duration::from_secs(1);
/// The same when a successor serves already.
const RECONNECT_TO_SUCCESSOR: Duration = Duration::from_millis(50);

/// How much of a page is made at once.
const PIECE: usize = 64 * 1024;
/// Cursors of an answer that is no JSON.
const FIRST_CURSOR: &str = "X-First-Cursor";
const NEXT_CURSOR: &str = "X-Next-Cursor";

/// Lines of the log, in the form the client prefers.
pub enum Lines {
    /// JSON, made already.
    ShortPage(LogPage),
    /// JSON, made as the client takes it.
    Page(PageText, Seat),
    /// The raw lines, read already.
    ShortText(Vec<u8>, FoundLines),
    /// The raw lines, read as the client takes them.
    Text(FoundLines, Seat),
}

impl Lines {
    /// The lines if they can be had at once.
    pub fn at_hand(path: &Path, lines: usize, as_text: bool) -> Option<Self> {
        if as_text {
            let (text, lines) = logs::text_at_hand(path, lines)?;
            Some(Self::ShortText(text, lines))
        } else {
            let page = logs::last_lines_at_hand(path, lines)?;
            Some(Self::ShortPage(page.into()))
        }
    }
}

impl IntoResponse for Lines {
    fn into_response(self) -> Response {
        match self {
            Self::ShortPage(page) => Json(page).into_response(),
            Self::Page(page, seat) => Response::builder()
                .content_type("application/json")
                .body(in_blocks(page, seat, PageText::next_block)),
            Self::ShortText(text, lines) => text_response(&lines).body(text),
            Self::Text(lines, seat) => {
                text_response(&lines).body(in_blocks(lines, seat, FoundLines::next_block))
            }
        }
    }
}

fn text_response(lines: &FoundLines) -> ResponseBuilder {
    let response = Response::builder()
        .content_type("text/plain; charset=utf-8")
        .header(NEXT_CURSOR, lines.next.to_string());
    match &lines.first {
        Some(first) => response.header(FIRST_CURSOR, first.to_string()),
        None => response,
    }
}

/// A body that is read a block at a time, as the client takes it.
fn in_blocks<T: Send + 'static>(
    source: T,
    seat: Seat,
    next: fn(&mut T) -> std::io::Result<Option<Vec<u8>>>,
) -> Body {
    let blocks = stream::try_unfold((source, seat), move |(mut source, seat)| async move {
        let read = tokio::task::spawn_blocking(move || (next(&mut source), source)).await;
        let (block, source) = read.map_err(std::io::Error::other)?;
        let block = block.inspect_err(
            |error| tracing::error!(%error, "an answer with lines of the log ended early"),
        )?;
        Ok::<_, std::io::Error>(block.map(|block| (Bytes::from(block), (source, seat))))
    });
    Body::from_bytes_stream(blocks)
}

/// A [`LogPage`] as JSON, of which no more is in memory than a piece.
pub struct PageText {
    lines: FoundLines,
    /// What comes before the next entry.
    before: Vec<u8>,
    /// What follows the entries; taken at the end.
    end: Option<Vec<u8>>,
}

impl PageText {
    pub fn of(lines: FoundLines) -> Self {
        let page = LogPage {
            entries: Vec::new(),
            first_cursor: lines.first.map(|cursor| cursor.to_string()),
            next_cursor: lines.next.to_string(),
        };
        // Writing to memory does not fail, and neither does this type.
        let mut before = serde_json::to_vec(&page).unwrap_or_default();
        let entries = before.iter().position(|byte| *byte == b'[');
        let end = before.split_off(entries.map_or(0, |at| at + 1));
        Self {
            lines,
            before,
            end: Some(end),
        }
    }

    fn next_block(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let Some(end) = &self.end else {
            return Ok(None);
        };
        let mut text = Vec::new();
        while text.len() < PIECE {
            let is_read = self.lines.next_entries(|entry| {
                text.append(&mut self.before);
                let _ = serde_json::to_writer(&mut text, &entry);
                self.before.push(b',');
            })?;
            if !is_read {
                if self.before != b"," {
                    // There was no entry.
                    text.append(&mut self.before);
                }
                text.extend_from_slice(end);
                self.end = None;
                break;
            }
        }
        Ok(Some(text))
    }
}

impl ApiResponse for Lines {
    fn meta() -> MetaResponses {
        let mut meta = Json::<LogPage>::meta();
        for response in &mut meta.responses {
            response.content.push(MetaMediaType {
                content_type: "text/plain",
                schema: String::schema_ref(),
            });
            for (name, description) in [
                (FIRST_CURSOR, "`first_cursor`, with text/plain."),
                (NEXT_CURSOR, "`next_cursor`, with text/plain."),
            ] {
                response.headers.push(MetaHeader {
                    name: name.into(),
                    description: Some(description.into()),
                    required: false,
                    deprecated: false,
                    schema: String::schema_ref(),
                });
            }
        }
        meta
    }

    fn register(registry: &mut Registry) {
        LogPage::register(registry);
    }
}

/// Whether the client asked for plain text before JSON.
pub fn wants_text(request: &Request) -> bool {
    let accept = request.header(header::ACCEPT).unwrap_or_default();
    accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .find(|range| matches!(*range, "text/plain" | "application/json" | "*/*"))
        == Some("text/plain")
}

/// The filter that the query parameters describe.
pub fn filter(texts: FilterTexts<'_>) -> Result<Filter, Failure> {
    Filter::try_from(texts).map_err(|error| Failure::bad_parameter(error.name, error.reason))
}

/// The answer to a page that cannot be had.
pub fn unreadable(error: &TailError) -> Failure {
    match error {
        // Not 410: a cursor does not tell whether its place was ever there, or comes back with another LOG_FILE.
        TailError::Gone => Failure::new(StatusCode::NOT_FOUND, error.to_string()),
        TailError::Io { .. } => Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Reads of the file that may take long are not made on the threads that serve.
pub async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let result = tokio::task::spawn_blocking(read).await;
    result.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// The log as server-sent events: the body of an answer whose head hyper writes. Its pieces are written to the socket by
/// [`Self::run`]: hyper keeps 16 KiB of buffers a connection, which is more than all the rest of a follower.
pub struct LogStream {
    follower: Follower,
    shutdown: Shutdown,
    shutdown_begun: Pin<Box<WaitForCancellationFutureOwned>>,
    keep_alive: Interval,
    stage: Stage,
    is_chunked: bool,
    /// Set for a stream that lasts no longer than a session.
    session: Option<SessionEnd>,
    _seat: Seat,
}

/// The end of a session: signed out, or over.
struct SessionEnd {
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    expires_at: Instant,
}

impl SessionEnd {
    async fn reached(session: &mut Option<Self>) {
        match session {
            Some(session) => tokio::select! {
                () = session.ended.as_mut() => {}
                () = sleep_until(session.expires_at) => {}
            },
            None => std::future::pending().await,
        }
    }
}

/// A stream on its way from the operation to the connection.
#[derive(Clone)]
pub(super) struct Handover(Arc<Mutex<Option<LogStream>>>);

impl Handover {
    /// The stream, as a client of this version takes it; once.
    pub fn take(&self, version: Version) -> Option<LogStream> {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.map(|stream| LogStream {
            // Before HTTP/1.1, a body ends with its connection.
            is_chunked: version >= Version::HTTP_11,
            ..stream
        })
    }
}

enum Stage {
    Opening,
    Following,
    Ended,
}

impl LogStream {
    pub async fn new(
        log: Arc<Watcher>,
        from: From,
        filter: Filter,
        shutdown: &Shutdown,
        seat: Seat,
    ) -> Result<Self, Failure> {
        let path = log.path().to_owned();
        let follower = blocking(move || Follower::new(&log, from, filter)).await?;
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        // None is made up for after a client that did not read.
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            follower: follower.map_err(|source| unreadable(&TailError::Io { path, source }))?,
            shutdown: shutdown.clone(),
            shutdown_begun: Box::pin(shutdown.begun_owned()),
            keep_alive,
            stage: Stage::Opening,
            is_chunked: true,
            session: None,
            _seat: seat,
        })
    }

    /// The same stream, for as long as the session lasts.
    #[must_use]
    pub fn within(self, session: &Session) -> Self {
        let left = session.expires_at.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        Self {
            session: Some(SessionEnd {
                ended: Box::pin(session.ended.clone().cancelled_owned()),
                expires_at: Instant::now() + left,
            }),
            ..self
        }
    }

    /// Writes the stream to its end, which is that of the connection.
    ///
    /// # Errors
    ///
    /// The connection broke, or the log cannot be read.
    pub async fn run(mut self, mut socket: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        loop {
            let piece = self.next().await.inspect_err(|error| {
                tracing::error!(%error, "a log stream ends: the log cannot be read");
            })?;
            let Some(piece) = piece else {
                break;
            };
            if self.is_chunked {
                // RFC 9112, section 7.1.
                let head = format!("{:x}\r\n", piece.len());
                let mut chunk = head.as_bytes().chain(piece).chain(&b"\r\n"[..]);
                socket.write_all_buf(&mut chunk).await?;
            } else {
                socket.write_all(&piece).await?;
            }
        }
        if self.is_chunked {
            socket.write_all(b"0\r\n\r\n").await?;
        }
        socket.shutdown().await
    }

    /// The next piece of the stream; `None` after its end.
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Following;
                // Tells the client that it is connected, before there is anything to read.
                return Ok(Some(self.place(&format!(
                    ": connected\nretry: {}\n",
                    RECONNECT.as_millis()
                ))));
            }
            Stage::Following => {}
            Stage::Ended => return Ok(None),
        }
        tokio::select! {
            biased;
            () = self.shutdown_begun.as_mut() => {
                self.stage = Stage::Ended;
                self.last_words().map(Some)
            }
            () = SessionEnd::reached(&mut self.session) => {
                self.stage = Stage::Ended;
                Ok(Some(end(StreamEnd::SIGNED_OUT)))
            }
            batch = self.follower.next() => Ok(Some(batch?.encoded(encode_items))),
            _ = self.keep_alive.tick() => Ok(Some(self.place(": keep-alive\n"))),
        }
    }

    /// A comment with the id of the place that was reached: a client that is cut off resumes from there, also when the
    /// filter let nothing through for long.
    fn place(&self, comment: &str) -> Bytes {
        let mut text = comment.to_owned();
        if let Some(place) = self.follower.place() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "id: {place}");
        }
        text.push('\n');
        text.into()
    }

    /// What was logged up to now, and the `end` event.
    fn last_words(&mut self) -> std::io::Result<Bytes> {
        let mut text = BytesMut::from(encode_items(&self.follower.rest()?));
        if self.shutdown.has_successor() {
            let retry = format!("retry: {}\n", RECONNECT_TO_SUCCESSOR.as_millis());
            text.extend_from_slice(retry.as_bytes());
        }
        let reason = if self.shutdown.has_successor() {
            StreamEnd::RESTARTING
        } else {
            StreamEnd::STOPPING
        };
        text.extend_from_slice(&end(reason));
        Ok(text.freeze())
    }
}

/// The last event.
fn end(reason: &str) -> Bytes {
    let mut text = BytesMut::new();
    let end = StreamEnd {
        reason: reason.into(),
    };
    encode(&mut text, event::END, None, &end);
    text.freeze()
}

fn encode_items(items: &[Item]) -> Bytes {
    let mut text = BytesMut::new();
    for item in items {
        match item {
            Item::Entry(entry) => encode(&mut text, event::LOG, Some(&entry.cursor), entry),
            Item::Gap => encode(&mut text, event::GAP, None, &StreamGap {}),
        }
    }
    text.freeze()
}

/// One event. JSON has no bare line breaks, so nothing in it can end the event or begin a field.
fn encode(text: &mut BytesMut, name: &str, id: Option<&str>, data: &impl Serialize) {
    text.put_slice(b"event: ");
    text.put_slice(name.as_bytes());
    if let Some(id) = id {
        text.put_slice(b"\nid: ");
        text.put_slice(id.as_bytes());
    }
    text.put_slice(b"\ndata: ");
    // Writing to memory does not fail, and neither do these types.
    let _ = serde_json::to_writer(text.writer(), data);
    text.put_slice(b"\n\n");
}

impl IntoResponse for LogStream {
    fn into_response(self) -> Response {
        let mut response = Response::builder()
            .content_type("text/event-stream")
            .header(header::CACHE_CONTROL, "no-store")
            .body(Body::from_bytes_stream(stream::pending::<
                std::io::Result<Bytes>,
            >()));
        let handover = Handover(Arc::new(Mutex::new(Some(self))));
        response.extensions_mut().insert(handover);
        response
    }
}

/// `OpenAPI` before 3.2 has no word for the events of a stream. Of the generators that read it at all, most take the schema for
/// that of an event's data, so this is what it is; the names of the events are in the description.
fn data() -> MetaSchema {
    MetaSchema {
        description: Some(
            "The data of one event, by its name: `log` a LogEntry, `gap` a StreamGap, `end` a StreamEnd.",
        ),
        any_of: vec![
            LogEntry::schema_ref(),
            StreamGap::schema_ref(),
            StreamEnd::schema_ref(),
        ],
        ..MetaSchema::ANY
    }
}

impl ApiResponse for LogStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The stream.",
                status: Some(StatusCode::OK.as_u16()),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "text/event-stream",
                    schema: MetaSchemaRef::Inline(Box::new(data())),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        // What the events carry, so that clients have the types.
        LogEntry::register(registry);
        StreamEnd::register(registry);
        StreamGap::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_in_pieces_is_the_same_as_in_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let texts = [
            String::new(),
            "one\ntwo \"quoted\"\nnot finished".to_owned(),
            "a\n\n".repeat(20_000),
            "2026-01-31T12:00:00Z INFO test: it\n".repeat(5_000),
        ];
        for text in &texts {
            std::fs::write(&path, text).unwrap();
            for (lines, contains) in [(1, None), (10_000, None), (10_000, Some("o"))] {
                let filter = Filter::try_from(FilterTexts {
                    level: None,
                    contains,
                    since: None,
                });
                let filter = filter.unwrap();
                let page = logs::last_lines(&path, lines, &filter, None).unwrap();
                let found = logs::last_lines_found(&path, lines, filter, None).unwrap();
                let mut text = PageText::of(found);
                let mut whole = Vec::new();
                while let Some(piece) = text.next_block().unwrap() {
                    // Of short lines, entries are many times as large.
                    assert!(piece.len() < 16 * PIECE);
                    whole.extend(piece);
                }
                let expected = serde_json::to_vec(&LogPage::from(page)).unwrap();
                assert!(whole == expected, "{}", String::from_utf8_lossy(&whole));
            }
        }
    }
}
