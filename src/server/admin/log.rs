//! Reading the log, and following it.

use std::sync::Arc;

use poem::Request;
use poem::http::header;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Query};

use super::{Result, StateHandle, Tag};
use crate::logs::{self, Cursor, Filter, FilterParams, StartAt};
use crate::server::blocking::run_blocking;
use crate::server::guard::{Auth, Logs};
use crate::server::log_page::{JsonPageStream, LogLinesResponse, log_read_error};
use crate::server::log_stream::LogStream;
use crate::server::problem::ApiError;

/// Operations on the log.
pub struct LogsApi(pub StateHandle);

#[OpenApi]
impl LogsApi {
    /// The last lines of the log.
    ///
    /// As JSON, or with `Accept: text/plain` the raw lines, however many: they are sent as they are read. Rotated files
    /// that are still there are part of the log.
    #[oai(
        path = "/admin/logs",
        method = "get",
        operation_id = "get_logs",
        tag = "Tag::Log"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn logs(
        &self,
        _caller: Auth<Logs>,
        request: &Request,
        /// How many lines at most; with text/plain up to 10,000,000.
        #[oai(
            default = "default_lines",
            validator(minimum(value = "1"), maximum(value = "10000000"))
        )]
        lines: Query<u32>,
        /// Only lines of this level or a more severe one: error, warn, info, debug, trace.
        level: Query<Option<String>>,
        /// Only lines that contain this text.
        contains: Query<Option<String>>,
        /// Only lines since then: an RFC 3339 timestamp, or how long ago, such as `10m`.
        since: Query<Option<String>>,
        /// Only lines before the line with this cursor.
        before: Query<Option<String>>,
    ) -> Result<LogLinesResponse> {
        let context = self.0.get()?;
        let path = context.require_log()?.path().to_owned();
        let filter = parse_filter(FilterParams {
            level: level.0.as_deref(),
            contains: contains.0.as_deref(),
            since: since.0.as_deref(),
        })?;
        let before = parse_cursor("before", before.0.as_deref())?;
        let (lines, wants_text) = (lines.0 as usize, prefers_text(request));
        if lines > MAX_PAGE_LINES && !wants_text {
            return Err(ApiError::invalid_parameter(
                "lines",
                "is more than 10000: with text/plain it may be",
            ));
        }
        if filter.is_empty()
            && before.is_none()
            && let Some(lines) = LogLinesResponse::try_inline(&path, lines, wants_text)
        {
            return Ok(lines);
        }
        let seat = context.log_readers.acquire()?;
        let search = move || {
            if wants_text {
                logs::last_lines_as_text(&path, lines, filter, before)
            } else {
                logs::last_lines_found(&path, lines, filter, before)
            }
        };
        let found = {
            let _turn = context.log_readers.acquire_search().await;
            run_blocking(search).await?
        };
        let found = found.map_err(|error| log_read_error(&error))?;
        Ok(if wants_text {
            LogLinesResponse::StreamedText(found, seat)
        } else {
            LogLinesResponse::StreamedJson(JsonPageStream::new(found), seat)
        })
    }

    /// Follow the log.
    ///
    /// Server-sent events (HTML standard, section 9.2): `log` with a `LogEntry` as data and its cursor as id, first
    /// the last lines and then each new one; `gap` where lines are missing, because the place asked for is gone or a
    /// rotated file was removed before it was read; `end` with a `StreamEnd` when the daemon stops or is replaced, or the session that opened it ends. At the beginning and
    /// at least every 15 s a comment, with the id of the place that was reached.
    #[oai(
        path = "/admin/logs/stream",
        method = "get",
        operation_id = "stream_logs",
        tag = "Tag::Log"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn stream(
        &self,
        caller: Auth<Logs>,
        request: &Request,
        /// How many of the last lines come first.
        #[oai(
            default = "default_lines",
            validator(minimum(value = "0"), maximum(value = "10000"))
        )]
        lines: Query<u32>,
        /// Only lines of this level or a more severe one: error, warn, info, debug, trace.
        level: Query<Option<String>>,
        /// Only lines that contain this text.
        contains: Query<Option<String>>,
        /// Only lines since then: an RFC 3339 timestamp, or how long ago, such as `10m`.
        since: Query<Option<String>>,
        /// Go on after the line with this cursor; `lines` does not count then.
        after: Query<Option<String>>,
        /// As `after`, which it beats: what an `EventSource` sends when it reconnects.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<LogStream> {
        let filter = parse_filter(FilterParams {
            level: level.0.as_deref(),
            contains: contains.0.as_deref(),
            since: since.0.as_deref(),
        })?;
        if request.headers().contains_key("last-event-id") && last_event_id.0.is_none() {
            return Err(ApiError::invalid_parameter("Last-Event-ID", "is not text"));
        }
        let resume = match last_event_id.0.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => parse_cursor("Last-Event-ID", Some(id))?,
            None => parse_cursor("after", after.0.as_deref())?,
        };
        let from = resume.map_or(StartAt::Last(lines.0 as usize), StartAt::After);
        let context = self.0.get()?;
        let log = Arc::clone(context.require_log()?);
        let seat = context.log_readers.acquire()?;
        // Where the history begins is searched for.
        let turn = match from {
            StartAt::Last(_) => context.log_readers.acquire_search().await,
            StartAt::After(_) => None,
        };
        let stream = LogStream::new(log, from, filter, &context.shutdown, seat).await?;
        drop(turn);
        Ok(match &caller.session {
            Some(session) => stream.bound_to_session(session),
            None => stream,
        })
    }
}

/// Of a page of JSON, which most clients have in memory whole.
pub const MAX_PAGE_LINES: usize = 10_000;

fn default_lines() -> u32 {
    50
}

fn parse_cursor(name: &str, text: Option<&str>) -> Result<Option<Cursor>> {
    text.map(|text| {
        text.parse()
            .map_err(|error| ApiError::invalid_parameter(name, error))
    })
    .transpose()
}

/// Whether the client asked for plain text before JSON.
fn prefers_text(request: &Request) -> bool {
    let accept = request.header(header::ACCEPT).unwrap_or_default();
    accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .find(|range| matches!(*range, "text/plain" | "application/json" | "*/*"))
        == Some("text/plain")
}

/// The filter that the query parameters describe.
fn parse_filter(texts: FilterParams<'_>) -> Result<Filter> {
    Filter::try_from(texts).map_err(|error| ApiError::invalid_parameter(error.name, error.reason))
}
