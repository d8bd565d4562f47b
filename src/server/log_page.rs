//! A page of the log over HTTP, as JSON or as it is.

use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use poem::http::StatusCode;
use poem::{Body, IntoResponse, Response, ResponseBuilder};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponses, Registry};
use poem_openapi::types::Type as _;

use super::payload::Json;
use super::problem::Failure;
use super::readers::Seat;
use crate::api::LogPage;
use crate::logs::{self, FoundLines, TailError};

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

/// The answer to a page that cannot be had.
pub fn unreadable(error: &TailError) -> Failure {
    match error {
        // Not 410: a cursor does not tell whether its place was ever there, or comes back with another LOG_FILE.
        TailError::Gone => Failure::new(StatusCode::NOT_FOUND, error.to_string()),
        TailError::Io { .. } => Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Filter, FilterTexts};

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
