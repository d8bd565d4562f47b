//! Reads and follows the log.

use std::sync::Arc;

use poem::Request;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Query};
use tokio::task::spawn_blocking;

use super::line_count::LineCount;
use super::state::{LOG_ON_STDOUT, StateHandle};
use super::tag::AdminTag;
use crate::api::MAX_PAGE_LINES;
use crate::logs::{Cursor, Filter, FilterParams, StartAt, TailQuery};
use crate::server::auth::{Auth, Follow, Logs};
use crate::server::http::compress::Compressible;
use crate::server::http::negotiate::preferred;
use crate::server::http::problem::{ApiError, Result};
use crate::server::log::access_end::AccessEnd;
use crate::server::log::page::{LogLinesResponse, log_read_error};
use crate::server::log::stream::LogStream;
use crate::server::openapi::{DocumentedError, Operation};
use crate::server::pool::ClientSocket;

const LINE_GONE: DocumentedError = DocumentedError::new(
    404,
    "The line of the cursor is no longer in the log.",
    "the line of this cursor is no longer in the log: it was rotated away",
);
const READERS_FULL: DocumentedError = DocumentedError::new(
    503,
    "The limit of clients that read the log, or of connections, is reached; or the log file cannot be read.",
    "the limit of clients that read the log is reached: try again",
);

/// The most lines of a response with `text/plain`.
const MAX_TEXT_LINES: u32 = 10_000_000;

pub const OPERATIONS: [Operation; 2] = [
    Operation::query("get_logs", &[LINE_GONE, LOG_ON_STDOUT, READERS_FULL]),
    Operation::query("stream_logs", &[LOG_ON_STDOUT, READERS_FULL]),
];

pub struct LogsApi(pub StateHandle);

#[OpenApi]
impl LogsApi {
    /// Get the last lines of the log.
    ///
    /// Returns JSON, or the raw lines with `Accept: text/plain`. Rotated files are part of the log.
    /// All filters apply together. To read further back, pass `first_cursor` as `before`.
    #[oai(
        path = "/admin/logs",
        method = "get",
        operation_id = "get_logs",
        tag = "AdminTag::Log"
    )]
    #[allow(
        clippy::too_many_arguments,
        reason = "every parameter of the operation is an argument"
    )]
    async fn logs(
        &self,
        caller: Auth<Logs>,
        request: &Request,
        /// Maximum number of lines, 1 to 10,000; with `text/plain` up to 10,000,000.
        #[oai(default)]
        lines: Query<LineCount<1, MAX_TEXT_LINES>>,
        /// Only lines of this level or a more severe one.
        level: Query<Option<String>>,
        /// Only lines that contain this text, at most 1,024 bytes; case-sensitive.
        contains: Query<Option<String>>,
        /// Only lines since this time: an RFC 3339 timestamp (`2026-01-31T09:00:00Z`), or a
        /// duration before now (`10m`, `2h 30m`).
        since: Query<Option<String>>,
        /// Only lines before the line with this cursor: the `cursor` of an entry, or
        /// `first_cursor`.
        before: Query<Option<String>>,
    ) -> Result<Compressible<LogLinesResponse>> {
        let state = self.0.get()?;
        let path = state.require_log()?.path().to_owned();
        let filter = parse_filter(&level, &contains, &since)?;
        let before = parse_cursor("before", before.0.as_deref())?;
        let (lines, wants_text) = (lines.get(), prefers_text(request));
        if lines > MAX_PAGE_LINES && !wants_text {
            return Err(ApiError::invalid_parameter(
                "lines",
                "is more than 10,000: use `Accept: text/plain` for more lines",
            ));
        }
        if filter.is_empty()
            && before.is_none()
            && let Some(response) =
                LogLinesResponse::try_inline(TailQuery::new(&path, lines), wants_text)
        {
            return Ok(Compressible(response));
        }
        let permit = state.log_readers.acquire()?;
        let access = AccessEnd::new(&state.auth, caller.claims, caller.session.as_ref());
        let mut query = TailQuery::new(path, lines).filter(filter).before(before);
        if wants_text {
            query = query.unlimited();
        }
        let found = {
            let _search = state.log_readers.acquire_search().await;
            let client = ClientSocket::of(request);
            spawn_blocking(move || query.find_while(&|| client.is_connected())).await?
        };
        let found = found.map_err(|error| log_read_error(&error))?;
        for file in &found.incomplete {
            tracing::warn!(
                "lines of the log are missing in a response: {}: {}",
                file.path.display(),
                file.reason
            );
        }
        Ok(Compressible(if wants_text {
            LogLinesResponse::text(found, permit, access)
        } else {
            LogLinesResponse::json(found, permit, access)
        }))
    }

    /// Follow the log as server-sent events.
    ///
    /// The events (HTML standard, section 9.2) are `log` with a `LogEntry` and its cursor as id:
    /// the last lines first, then each new line; `gap` with a `LogStreamGap` where lines are
    /// missing, because they were rotated away; and `end` with a `LogStreamEnd` when the daemon
    /// stops or is replaced, or the browser session or the token ends. A comment with the current cursor as id
    /// comes at the beginning and at least every 15 s.
    #[oai(
        path = "/admin/logs/stream",
        method = "get",
        operation_id = "stream_logs",
        tag = "AdminTag::Log"
    )]
    #[allow(
        clippy::too_many_arguments,
        reason = "every parameter of the operation is an argument"
    )]
    async fn stream(
        &self,
        caller: Auth<Follow>,
        request: &Request,
        /// Number of last lines to send first, 0 to 10,000.
        #[oai(default)]
        lines: Query<LineCount<0, 10_000>>,
        /// Only lines of this level or a more severe one.
        level: Query<Option<String>>,
        /// Only lines that contain this text, at most 1,024 bytes; case-sensitive.
        contains: Query<Option<String>>,
        /// Only lines since this time: an RFC 3339 timestamp (`2026-01-31T09:00:00Z`), or a
        /// duration before now (`10m`, `2h 30m`).
        since: Query<Option<String>>,
        /// Continue after the line with this cursor; `lines` is ignored. `lastEventId`, which an
        /// `EventSource` polyfill sends when it reconnects, does the same and takes precedence.
        after: Query<Option<String>>,
        #[oai(name = "lastEventId")] last_event_id_parameter: Query<Option<String>>,
        /// Continue after the line with this cursor, as `after` does; takes precedence over both
        /// parameters. An `EventSource` sends it when it reconnects.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<LogStream> {
        let filter = parse_filter(&level, &contains, &since)?;
        if request.headers().contains_key("last-event-id") && last_event_id.0.is_none() {
            return Err(ApiError::invalid_parameter("Last-Event-ID", "is not text"));
        }
        let resume = [
            ("Last-Event-ID", &last_event_id.0),
            ("lastEventId", &last_event_id_parameter.0),
        ];
        let resume = resume.into_iter().find_map(|(name, id)| {
            let id = id.as_deref().filter(|id| !id.is_empty())?;
            Some((name, id))
        });
        let resume = match resume {
            Some((name, id)) => parse_cursor(name, Some(id))?,
            None => parse_cursor("after", after.0.as_deref())?,
        };
        let from = resume.map_or(StartAt::Last(lines.get()), StartAt::After);
        let state = self.0.get()?;
        let log = Arc::clone(state.require_log()?);
        let permit = state.log_readers.acquire()?;
        let access = AccessEnd::new(&state.auth, caller.claims, caller.session.as_ref());
        // The start of the history is found by a search.
        let search = match from {
            StartAt::Last(_) => state.log_readers.acquire_search().await,
            StartAt::After(_) => None,
        };
        let client = ClientSocket::of(request);
        let stream =
            LogStream::new(log, from, filter, &state.shutdown, permit, access, client).await?;
        drop(search);
        Ok(stream)
    }
}

fn parse_cursor(name: &str, text: Option<&str>) -> Result<Option<Cursor>> {
    text.map(|text| {
        text.parse()
            .map_err(|error| ApiError::invalid_parameter(name, error))
    })
    .transpose()
}

/// Whether the client prefers plain text to JSON.
fn prefers_text(request: &Request) -> bool {
    preferred(request.headers(), &["application/json", "text/plain"]) == Some("text/plain")
}

fn parse_filter(
    level: &Query<Option<String>>,
    contains: &Query<Option<String>>,
    since: &Query<Option<String>>,
) -> Result<Filter> {
    let params = FilterParams {
        level: level.as_deref(),
        contains: contains.as_deref(),
        since: since.as_deref(),
    };
    Filter::try_from(params).map_err(|error| ApiError::invalid_parameter(error.name, error.reason))
}
