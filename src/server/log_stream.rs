//! The log as server-sent events.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use jiff::Timestamp;
use poem::http::{StatusCode, Version, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type as _;
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::blocking::run_blocking;
use super::log_page::log_read_error;
use super::problem::ApiError;
use super::readers::ReaderPermit;
use super::shutdown::Shutdown;
use crate::api::{LogEntry, LogEntryRef, StreamEnd, StreamGap, event};
use crate::auth::Session;
use crate::logs::{Filter, Follower, LogBroadcaster, LogItem, ReadError, StartAt};

/// A quiet stream says at least this often that it is alive.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long a browser that was cut off waits before it comes back.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// The same when a successor serves already.
const RESTART_RECONNECT_DELAY: Duration = Duration::from_millis(50);

/// The log as server-sent events: the body of an answer whose head hyper writes. Its pieces are written to the socket by
/// [`Self::spawn`]: hyper keeps 16 KiB of buffers a connection, which is more than all the rest of a follower.
pub struct LogStream {
    follower: Follower,
    shutdown: Shutdown,
    shutdown_started: Pin<Box<WaitForCancellationFutureOwned>>,
    keep_alive: Interval,
    stage: Stage,
    is_chunked: bool,
    /// Set for a stream that lasts no longer than a session.
    session: Option<SessionExpiry>,
    _permit: ReaderPermit,
}

/// The end of a session: signed out, or over.
struct SessionExpiry {
    signed_out: Pin<Box<WaitForCancellationFutureOwned>>,
    expires_at: Instant,
}

impl SessionExpiry {
    async fn reached(session: &mut Option<Self>) {
        match session {
            Some(session) => tokio::select! {
                () = session.signed_out.as_mut() => {}
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
    Finished,
}

impl LogStream {
    pub async fn new(
        log: Arc<LogBroadcaster>,
        from: StartAt,
        filter: Filter,
        shutdown: &Shutdown,
        seat: ReaderPermit,
    ) -> Result<Self, ApiError> {
        let path = log.path().to_owned();
        let follower = run_blocking(move || Follower::new(&log, from, filter)).await?;
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
        // None is made up for after a client that did not read.
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            follower: follower.map_err(|source| log_read_error(&ReadError::Io { path, source }))?,
            shutdown: shutdown.clone(),
            shutdown_started: Box::pin(shutdown.started_owned()),
            keep_alive,
            stage: Stage::Opening,
            is_chunked: true,
            session: None,
            _permit: seat,
        })
    }

    /// The same stream, for as long as the session lasts.
    #[must_use]
    pub fn bound_to_session(self, session: &Session) -> Self {
        let left = session.expires_at.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        Self {
            session: Some(SessionExpiry {
                signed_out: Box::pin(session.revoked.clone().cancelled_owned()),
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
            let piece = self.next_chunk().await.inspect_err(|error| {
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
    async fn next_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Following;
                // Tells the client that it is connected, before there is anything to read.
                return Ok(Some(self.comment_with_cursor(&format!(
                    ": connected\nretry: {}\n",
                    RECONNECT_DELAY.as_millis()
                ))));
            }
            Stage::Following => {}
            Stage::Finished => return Ok(None),
        }
        tokio::select! {
            biased;
            () = self.shutdown_started.as_mut() => {
                self.stage = Stage::Finished;
                self.final_events().map(Some)
            }
            () = SessionExpiry::reached(&mut self.session) => {
                self.stage = Stage::Finished;
                Ok(Some(end_event(StreamEnd::SIGNED_OUT)))
            }
            batch = self.follower.next() => Ok(Some(batch?.encode_once(encode_items))),
            _ = self.keep_alive.tick() => Ok(Some(self.comment_with_cursor(": keep-alive\n"))),
        }
    }

    /// A comment with the id of the place that was reached: a client that is cut off resumes from there, also when the
    /// filter let nothing through for long.
    fn comment_with_cursor(&self, comment: &str) -> Bytes {
        let mut text = comment.to_owned();
        if let Some(place) = self.follower.cursor() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "id: {place}");
        }
        text.push('\n');
        text.into()
    }

    /// What was logged up to now, and the `end` event.
    fn final_events(&mut self) -> std::io::Result<Bytes> {
        let mut text = BytesMut::from(encode_items(&self.follower.read_available()?));
        if self.shutdown.has_successor() {
            let retry = format!("retry: {}\n", RESTART_RECONNECT_DELAY.as_millis());
            text.extend_from_slice(retry.as_bytes());
        }
        let reason = if self.shutdown.has_successor() {
            StreamEnd::RESTARTING
        } else {
            StreamEnd::STOPPING
        };
        text.extend_from_slice(&end_event(reason));
        Ok(text.freeze())
    }
}

/// The last event.
fn end_event(reason: &str) -> Bytes {
    let mut text = BytesMut::new();
    let end = StreamEnd {
        reason: reason.into(),
    };
    write_event(&mut text, event::END, None, &end);
    text.freeze()
}

fn encode_items(items: &[LogItem]) -> Bytes {
    let mut text = BytesMut::new();
    // Reused for the text of each cursor. Writing to it does not fail.
    let mut cursor = String::new();
    for item in items {
        match item {
            LogItem::Entry(entry) => {
                cursor.clear();
                let _ = write!(cursor, "{}", entry.cursor);
                let data = LogEntryRef::new(entry, &cursor);
                write_event(&mut text, event::LOG, Some(&cursor), &data);
            }
            LogItem::Gap => write_event(&mut text, event::GAP, None, &StreamGap {}),
        }
    }
    text.freeze()
}

/// One event. JSON has no bare line breaks, so nothing in it can end the event or begin a field.
fn write_event(text: &mut BytesMut, name: &str, id: Option<&str>, data: &impl Serialize) {
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
fn event_data_schema() -> MetaSchema {
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
                    schema: MetaSchemaRef::Inline(Box::new(event_data_schema())),
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
