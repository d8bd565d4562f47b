//! Reading one file of the log forward, block by block, line by line.

use std::io;
use std::sync::Arc;

use memchr::memchr;

use super::line::{MAX_LINE_BYTES, RawLine};
use crate::logs::cursor::Cursor;
use crate::logs::files::Segment;

/// The beginning of a line in an open file.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub segment: Arc<Segment>,
    pub offset: u64,
}

impl Position {
    pub fn new(segment: Arc<Segment>, offset: u64) -> Self {
        Self { segment, offset }
    }

    pub fn cursor(&self) -> Cursor {
        Cursor {
            file: self.segment.id,
            offset: self.offset,
            len: 0,
        }
    }
}

/// Reads the lines of a file from a position on.
#[derive(Debug)]
pub(crate) struct LineReader {
    /// Where the line begins that is being read.
    pub position: Position,
    /// How many bytes of that line were read.
    line_len: u64,
    /// The first bytes of that line.
    partial_line: Vec<u8>,
}

impl LineReader {
    pub fn new(position: Position) -> Self {
        Self {
            position,
            line_len: 0,
            partial_line: Vec::new(),
        }
    }

    /// The offset up to which the file was read.
    pub fn read_offset(&self) -> u64 {
        self.position.offset + self.line_len
    }

    /// Continues with another line of the same file.
    pub fn seek(&mut self, line_start: u64) {
        self.position.offset = line_start;
        self.line_len = 0;
        self.partial_line.clear();
    }

    /// Reads the next block into the buffer, at most up to `end`, and passes the lines that end in
    /// it to `line`. Returns whether there was anything to read.
    pub fn read_block(
        &mut self,
        buffer: &mut [u8],
        end: Option<u64>,
        mut line: impl FnMut(&RawLine<'_>),
    ) -> io::Result<bool> {
        let offset = self.read_offset();
        let wanted = end.map_or(buffer.len(), |end| {
            let left = end.saturating_sub(offset);
            buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        let segment = &self.position.segment;
        let read = segment.read_at(&mut buffer[..wanted], offset)?;
        let mut rest = &buffer[..read];
        while let Some(newline) = memchr(b'\n', rest) {
            let (text, after) = (&rest[..newline], &rest[newline + 1..]);
            rest = after;
            let is_whole = self.line_len == 0;
            self.line_len += text.len() as u64 + 1;
            if is_whole {
                line(&self.raw_line(&text[..text.len().min(MAX_LINE_BYTES)], true));
            } else {
                self.append_partial(text);
                line(&self.raw_line(&self.partial_line, true));
            }
            self.seek(self.read_offset());
        }
        self.append_partial(rest);
        self.line_len += rest.len() as u64;
        Ok(read > 0)
    }

    /// Passes an incomplete last line to `line`. Called once the file is known to be complete.
    pub fn finish(&mut self, line: impl FnOnce(&RawLine<'_>)) {
        if self.line_len > 0 {
            line(&self.raw_line(&self.partial_line, false));
            self.seek(self.read_offset());
        }
    }

    fn append_partial(&mut self, text: &[u8]) {
        let room = MAX_LINE_BYTES - self.partial_line.len();
        self.partial_line
            .extend_from_slice(&text[..text.len().min(room)]);
    }

    fn raw_line<'a>(&self, bytes: &'a [u8], terminated: bool) -> RawLine<'a> {
        RawLine {
            cursor: Cursor {
                len: self.line_len,
                ..self.position.cursor()
            },
            bytes,
            terminated,
        }
    }
}
