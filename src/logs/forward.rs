//! Reading a file of the log forward, a block at a time, line by line.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use memchr::memchr;

use super::cursor::Cursor;
use super::entry::{MAX_LINE_BYTES, RawLine};
use super::segments::Segment;

/// A place in a file from which lines are read.
#[derive(Debug)]
pub(super) struct LineReader {
    pub segment: Arc<Segment>,
    /// Where the line that is being read begins.
    line_start: u64,
    /// How much of that line was read so far, and its first bytes.
    line_len: u64,
    partial_line: Vec<u8>,
}

impl LineReader {
    pub fn new(segment: Arc<Segment>, line_start: u64) -> Self {
        Self {
            segment,
            line_start,
            line_len: 0,
            partial_line: Vec::new(),
        }
    }

    /// Where the line begins that comes next.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            file: self.segment.id,
            offset: self.line_start,
            len: 0,
        }
    }

    /// Up to where the file was read.
    pub fn read_offset(&self) -> u64 {
        self.line_start + self.line_len
    }

    /// Goes to another line of the same file.
    pub fn seek(&mut self, line_start: u64) {
        self.line_start = line_start;
        self.line_len = 0;
        self.partial_line.clear();
    }

    /// Reads the next block into the buffer, not beyond `end`, and gives the lines that end in it. Whether there was
    /// anything to read.
    pub fn read_block(
        &mut self,
        buffer: &mut [u8],
        end: Option<u64>,
        mut line: impl FnMut(&RawLine<'_>),
    ) -> io::Result<bool> {
        let reached = self.read_offset();
        let wanted = end.map_or(buffer.len(), |end| {
            let left = end.saturating_sub(reached);
            buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        let read = self.segment.file.read_at(&mut buffer[..wanted], reached)?;
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
            self.seek(self.line_start + self.line_len);
        }
        self.append_partial(rest);
        self.line_len += rest.len() as u64;
        Ok(read > 0)
    }

    /// Gives the last line of a file that does not end with a newline, once the file is known to be complete.
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
                file: self.segment.id,
                offset: self.line_start,
                len: self.line_len,
            },
            bytes,
            terminated,
        }
    }
}
