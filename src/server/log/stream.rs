//! The log as server-sent events.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use poem::http::{StatusCode, Version, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type as _;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::access_end::AccessEnd;
use super::page::log_read_error;
use super::reader_limit::ReaderPermit;
use crate::api::{LogEntry, LogEntryRef, LogStreamEnd, LogStreamGap, event};
use crate::logs::{Filter, Follower, LogBroadcaster, LogItem, ReadError, StartAt};
use crate::server::http::problem::Result;
use crate::server::pool::{ClientSocket, DetachedResponse, DetachedSocket};
use crate::server::shutdown::Shutdown;

/// The interval of comments in a stream without events.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long a browser waits before it reconnects.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// The same if a new process already serves.
const RESTART_RECONNECT_DELAY: Duration = Duration::from_millis(50);

/// The log as server-sent events. It is written as a detached body, see [`DetachedResponse`].
pub struct LogStream {
    follower: Follower,
    shutdown: Shutdown,
    shutdown_started: Pin<Box<WaitForCancellationFutureOwned>>,
    keep_alive: Interval,
    stage: StreamStage,
    access: AccessEnd,
    _permit: ReaderPermit,
}

enum StreamStage {
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
        permit: ReaderPermit,
        access: AccessEnd,
        client: ClientSocket,
    ) -> Result<Self> {
        let path = log.path().to_owned();
        let follower = spawn_blocking(move || {
            Follower::new_while(&log, from, filter, &|| client.is_connected())
        });
        let follower = follower.await?;
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
        // After a pause of the client, missed comments are not caught up.
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            follower: follower.map_err(|source| log_read_error(&ReadError::Io { path, source }))?,
            shutdown: shutdown.clone(),
            shutdown_started: Box::pin(shutdown.started_owned()),
            keep_alive,
            stage: StreamStage::Opening,
            access,
            _permit: permit,
        })
    }

    /// Writes the stream to its end. Fails if the connection breaks or the log cannot be read.
    async fn run(mut self, mut socket: DetachedSocket, version: Version) -> std::io::Result<()> {
        // Before HTTP/1.1 the end of the connection is the end of the body.
        let is_chunked = version >= Version::HTTP_11;
        loop {
            let chunk = self.next_chunk().await.inspect_err(|error| {
                tracing::error!(%error, "a log stream ends: the log cannot be read");
            })?;
            let Some(chunk) = chunk else {
                break;
            };
            if is_chunked {
                // RFC 9112, section 7.1.
                let size = format!("{:x}\r\n", chunk.len());
                let mut framed = size.as_bytes().chain(chunk).chain(&b"\r\n"[..]);
                socket.write_all_buf(&mut framed).await?;
            } else {
                socket.write_all(&chunk).await?;
            }
        }
        if is_chunked {
            socket.write_all(b"0\r\n\r\n").await?;
        }
        socket.shutdown().await
    }

    /// The next part of the stream; `None` after its end.
    async fn next_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        match self.stage {
            StreamStage::Opening => {
                self.stage = StreamStage::Following;
                // Shows that the connection works before the first event.
                return Ok(Some(self.comment_with_cursor(&format!(
                    ": connected\nretry: {}\n",
                    RECONNECT_DELAY.as_millis()
                ))));
            }
            StreamStage::Following => {}
            StreamStage::Finished => return Ok(None),
        }
        tokio::select! {
            biased;
            () = self.shutdown_started.as_mut() => {
                self.stage = StreamStage::Finished;
                self.final_events().map(Some)
            }
            reason = self.access.reached() => {
                self.stage = StreamStage::Finished;
                Ok(Some(end_event(reason)))
            }
            batch = self.follower.next() => Ok(Some(batch?.encode_once(encode_items))),
            _ = self.keep_alive.tick() => Ok(Some(self.comment_with_cursor(": keep-alive\n"))),
        }
    }

    /// A comment with the current cursor as id. A client that reconnects resumes there, also if the
    /// filter has let nothing through for a long time.
    fn comment_with_cursor(&self, comment: &str) -> Bytes {
        let mut text = comment.to_owned();
        if let Some(cursor) = self.follower.cursor() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "id: {cursor}");
        }
        text.push('\n');
        text.into()
    }

    /// All events up to now, and the `end` event.
    fn final_events(&mut self) -> std::io::Result<Bytes> {
        let mut text = BytesMut::from(encode_items(&self.follower.read_available()?));
        if self.shutdown.has_successor() {
            let retry = format!("retry: {}\n", RESTART_RECONNECT_DELAY.as_millis());
            text.extend_from_slice(retry.as_bytes());
        }
        let reason = if self.shutdown.has_successor() {
            LogStreamEnd::RESTARTING
        } else {
            LogStreamEnd::STOPPING
        };
        text.extend_from_slice(&end_event(reason));
        Ok(text.freeze())
    }
}

fn end_event(reason: &str) -> Bytes {
    let mut text = BytesMut::new();
    let end = LogStreamEnd {
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
            LogItem::Gap => write_event(&mut text, event::GAP, None, &LogStreamGap {}),
        }
    }
    text.freeze()
}

/// Appends one event. JSON contains no line breaks, so `data` can neither end the event nor start
/// another field.
fn write_event(text: &mut BytesMut, name: &str, id: Option<&str>, data: &impl Serialize) {
    text.put_slice(b"event: ");
    text.put_slice(name.as_bytes());
    if let Some(id) = id {
        text.put_slice(b"\nid: ");
        text.put_slice(id.as_bytes());
    }
    text.put_slice(b"\ndata: ");
    // Neither the buffer nor these types can fail.
    let _ = serde_json::to_writer(text.writer(), data);
    text.put_slice(b"\n\n");
}

impl IntoResponse for LogStream {
    fn into_response(self) -> Response {
        let mut response = Response::builder()
            .content_type("text/event-stream")
            .header(header::CACHE_CONTROL, "no-store")
            // nginx would hold events back until its buffer is full.
            .header("X-Accel-Buffering", "no")
            .body(Body::from_bytes_stream(stream::pending::<
                std::io::Result<Bytes>,
            >()));
        let detached = DetachedResponse::new(|version, socket| Box::pin(self.run(socket, version)));
        response.extensions_mut().insert(detached);
        response
    }
}

/// The schema of an event's data. OpenAPI before 3.2 cannot describe the events of a stream, and
/// most generators that support streams take the schema for that of the data. The description lists
/// the names of the events.
fn event_data_schema() -> MetaSchema {
    MetaSchema {
        description: Some(
            "The data of one event, by the name of the event: `log` a LogEntry, `gap` a LogStreamGap, `end` a LogStreamEnd.",
        ),
        any_of: vec![
            LogEntry::schema_ref(),
            LogStreamGap::schema_ref(),
            LogStreamEnd::schema_ref(),
        ],
        ..MetaSchema::ANY
    }
}

impl ApiResponse for LogStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "A stream of server-sent events, which ends when the client disconnects or after the event `end`.",
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
        // Generated clients need the types of the data.
        LogEntry::register(registry);
        LogStreamEnd::register(registry);
        LogStreamGap::register(registry);
    }
}
