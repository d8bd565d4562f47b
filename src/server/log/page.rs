//! A page of the log over HTTP, as JSON or as plain text.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::stream;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse, Response, ResponseBuilder};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponses, Registry};
use poem_openapi::types::Type as _;

use super::access_end::AccessEnd;
use super::reader_limit::ReaderPermit;
use crate::api::{IncompleteLogFile, LogEntryRef, LogPage};
use crate::logs::{QueryResult, ReadError, TailQuery};
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::ApiError;

/// The minimum size of a block, in bytes.
const BLOCK_SIZE: usize = 64 * 1024;
/// Headers of a plain-text response, which has no other place for the cursors.
const FIRST_CURSOR_HEADER: &str = "X-First-Cursor";
const NEXT_CURSOR_HEADER: &str = "X-Next-Cursor";
const INCOMPLETE_HEADER: &str = "X-Incomplete-File";

/// Lines of the log, in the form that the client prefers.
pub struct LogLinesResponse(Response);

impl LogLinesResponse {
    /// The lines, if little has to be read for them.
    pub fn try_inline(query: TailQuery, as_text: bool) -> Option<Self> {
        let query = query.inline();
        Some(Self(if as_text {
            let mut lines = query.unlimited().find().ok()?;
            let text = lines.read_text().ok()?;
            text_response(&lines).body(text)
        } else {
            JsonResponse::<_, 200>(LogPage::from(query.page().ok()?)).into_response()
        }))
    }

    /// A JSON page, serialized as the client reads it.
    pub fn json(lines: QueryResult, permit: ReaderPermit, access: AccessEnd) -> Self {
        let page = JsonPageStream::new(lines);
        Self(
            Response::builder()
                .content_type("application/json")
                .body(stream_blocks(
                    page,
                    permit,
                    access,
                    JsonPageStream::next_block,
                )),
        )
    }

    /// The raw lines, read as the client reads them.
    pub fn text(lines: QueryResult, permit: ReaderPermit, access: AccessEnd) -> Self {
        let response = text_response(&lines);
        Self(response.body(stream_blocks(
            lines,
            permit,
            access,
            QueryResult::next_block,
        )))
    }
}

impl IntoResponse for LogLinesResponse {
    fn into_response(mut self) -> Response {
        let vary = HeaderValue::from_static("Accept");
        self.0.headers_mut().insert(header::VARY, vary);
        self.0
    }
}

fn text_response(lines: &QueryResult) -> ResponseBuilder {
    let mut response = Response::builder()
        .content_type("text/plain; charset=utf-8")
        .header(NEXT_CURSOR_HEADER, lines.next.to_string());
    for file in lines.incomplete.iter().map(IncompleteLogFile::from) {
        let text = format!("{}: {}", file.file, file.reason);
        // A path may have characters that no header has.
        let text: String = text
            .chars()
            .map(|c| {
                if c == ' ' || c.is_ascii_graphic() {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        response = response.header(INCOMPLETE_HEADER, text);
    }
    match &lines.first {
        Some(first) => response.header(FIRST_CURSOR_HEADER, first.to_string()),
        None => response,
    }
}

/// A body that reads its next block once the client has read the one before. It breaks off when the
/// right to read the log ends, so the client sees that the response is incomplete.
fn stream_blocks<T: Send + 'static>(
    source: T,
    permit: ReaderPermit,
    access: AccessEnd,
    next: fn(&mut T) -> std::io::Result<Option<Vec<u8>>>,
) -> Body {
    let start = (source, permit, access);
    let blocks = stream::try_unfold(start, move |(mut source, permit, access)| async move {
        if access.is_reached() {
            tracing::info!(
                "a response with log lines ends: its token or session is no longer valid"
            );
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        let read = tokio::task::spawn_blocking(move || (next(&mut source), source)).await;
        let (block, source) = read.map_err(std::io::Error::other)?;
        let block = block.inspect_err(
            |error| tracing::error!(%error, "a response with log lines ended early"),
        )?;
        Ok::<_, std::io::Error>(block.map(|block| (Bytes::from(block), (source, permit, access))))
    });
    Body::from_bytes_stream(blocks)
}

/// A [`LogPage`] as JSON, of which only one block at a time is in memory.
struct JsonPageStream {
    lines: QueryResult,
    /// The JSON before the next entry: the start of the page, then a comma.
    separator: Vec<u8>,
    /// The JSON after the last entry; `None` once it was returned.
    suffix: Option<Vec<u8>>,
    /// Reused for the text of each cursor.
    cursor: String,
}

impl JsonPageStream {
    fn new(lines: QueryResult) -> Self {
        let page = LogPage {
            entries: Vec::new(),
            first_cursor: lines.first.map(|cursor| cursor.to_string()),
            next_cursor: lines.next.to_string(),
            incomplete_files: lines.incomplete.iter().map(Into::into).collect(),
        };
        // Neither the buffer nor this type can fail.
        let mut separator = serde_json::to_vec(&page).unwrap_or_default();
        let entries = separator.iter().position(|byte| *byte == b'[');
        let end = separator.split_off(entries.map_or(0, |at| at + 1));
        Self {
            lines,
            separator,
            suffix: Some(end),
            cursor: String::new(),
        }
    }

    fn next_block(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let Some(end) = &self.suffix else {
            return Ok(None);
        };
        let mut text = Vec::new();
        while text.len() < BLOCK_SIZE {
            let is_read = self.lines.next_entries(|entry| {
                text.append(&mut self.separator);
                self.cursor.clear();
                let _ = write!(self.cursor, "{}", entry.cursor);
                let data = LogEntryRef::new(&entry, &self.cursor);
                let _ = serde_json::to_writer(&mut text, &data);
                self.separator.push(b',');
            })?;
            if !is_read {
                if self.separator != b"," {
                    // There was no entry.
                    text.append(&mut self.separator);
                }
                text.extend_from_slice(end);
                self.suffix = None;
                break;
            }
        }
        Ok(Some(text))
    }
}

impl ApiResponse for LogLinesResponse {
    fn meta() -> MetaResponses {
        let mut meta = JsonResponse::<LogPage>::meta();
        for response in &mut meta.responses {
            response.content.push(MetaMediaType {
                content_type: "text/plain",
                schema: String::schema_ref(),
            });
            for (name, description) in [
                (
                    FIRST_CURSOR_HEADER,
                    "With `text/plain`: `first_cursor` of the page. Absent for the oldest page.",
                ),
                (
                    NEXT_CURSOR_HEADER,
                    "With `text/plain`: `next_cursor` of the page.",
                ),
                (
                    INCOMPLETE_HEADER,
                    "With `text/plain`: a compressed file of which lines are missing, and why. One header for each file.",
                ),
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

/// The response to a page that cannot be read.
pub fn log_read_error(error: &ReadError) -> ApiError {
    match error {
        // Not 410: a cursor does not show whether its line ever existed, or returns with another
        // LOG_FILE.
        ReadError::CursorExpired => ApiError::new(StatusCode::NOT_FOUND, error.to_string()),
        ReadError::Io { .. } => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Filter, FilterParams};

    #[test]
    fn streamed_page_equals_serialized_page() {
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
                let filter = Filter::try_from(FilterParams {
                    level: None,
                    contains,
                    since: None,
                });
                let filter = filter.unwrap();
                let query = TailQuery::new(&path, lines).filter(filter);
                let page = query.page().unwrap();
                let found = query.find().unwrap();
                let mut text = JsonPageStream::new(found);
                let mut whole = Vec::new();
                while let Some(piece) = text.next_block().unwrap() {
                    // JSON entries of short lines are many times as large as the lines.
                    assert!(piece.len() < 16 * BLOCK_SIZE);
                    whole.extend(piece);
                }
                let expected = serde_json::to_vec(&LogPage::from(page)).unwrap();
                assert!(whole == expected, "{}", String::from_utf8_lossy(&whole));
            }
        }
    }
}
