//! Reading the lines that a query has found.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::filter::{Filter, FilterMatch};
use super::line::{Entry, RawLine};
use super::lines::{LineReader, Position};
use super::reverse::{BLOCK_BYTES, to_usize};
use super::scan::{FileRange, IncompleteFile, ScanResult};
use crate::logs::cursor::Cursor;
use crate::logs::files::{Segment, find};

/// How many bytes are read at once to parse them. Entries of short lines are far larger than the
/// text.
const ENTRIES_BLOCK_BYTES: u64 = 4 * 1024;

/// The lines that a query has found. Each line is read when the caller asks for it. One file is
/// open at a time, however many files the lines are in.
#[derive(Debug)]
pub struct QueryResult {
    /// Where the previous page ends; `None` if there are no lines before the first one.
    pub first: Option<Cursor>,
    /// Where the lines after the last one begin.
    pub next: Cursor,
    /// Compressed files of which lines are missing.
    pub incomplete: Vec<IncompleteFile>,
    path: PathBuf,
    filter: Filter,
    /// Oldest first.
    ranges: VecDeque<FileRange>,
    /// The file of the first range.
    oldest: Option<Arc<Segment>>,
    /// The file that is read, and the end of its range.
    current: Option<(LineReader, u64)>,
    buffer: Vec<u8>,
}

impl QueryResult {
    pub(crate) fn new(
        path: PathBuf,
        filter: Filter,
        found: ScanResult,
        mut ranges: VecDeque<FileRange>,
        oldest: Arc<Segment>,
    ) -> Self {
        ranges.retain(|range| range.start < range.end);
        Self {
            first: found.first,
            next: found.next,
            incomplete: Vec::new(),
            path,
            filter,
            oldest: (!ranges.is_empty()).then_some(oldest),
            ranges,
            current: None,
            buffer: Vec::new(),
        }
    }

    /// The text of the next lines, about one block; `None` at the end.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or a file of it was removed meanwhile.
    pub fn next_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        while text.is_empty() {
            let is_read = self.read_block(BLOCK_BYTES, |line| {
                text.extend_from_slice(line.to_text().as_bytes());
                text.push(b'\n');
            })?;
            if !is_read {
                return Ok(None);
            }
        }
        Ok(Some(text))
    }

    /// The text of all remaining lines.
    ///
    /// # Errors
    ///
    /// As [`Self::next_block`].
    pub fn read_text(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        while let Some(block) = self.next_block()? {
            text.extend(block);
        }
        Ok(text)
    }

    /// Passes the next few entries to `take`, perhaps none. Returns whether anything was left to
    /// read.
    ///
    /// # Errors
    ///
    /// As [`Self::next_block`].
    pub fn next_entries(&mut self, mut take: impl FnMut(Entry)) -> io::Result<bool> {
        self.read_block(ENTRIES_BLOCK_BYTES, |line| take(line.parse_entry()))
    }

    fn read_block(&mut self, block: u64, mut take: impl FnMut(&RawLine<'_>)) -> io::Result<bool> {
        let (lines, end) = if let Some(current) = &mut self.current {
            current
        } else {
            let Some(range) = self.ranges.pop_front() else {
                return Ok(false);
            };
            let segment = match self.oldest.take() {
                Some(oldest) => oldest,
                None => find(&self.path, range.file)?
                    .ok_or_else(|| io::Error::other("a log file was removed during the search"))?,
            };
            let lines = LineReader::new(Position::new(segment, range.start));
            self.current.insert((lines, range.end))
        };
        let wanted = to_usize(end.saturating_sub(lines.read_offset()).min(block));
        self.buffer.resize(wanted, 0);
        let filter = &self.filter;
        let mut take = |line: &RawLine<'_>| {
            if filter.evaluate(line) == FilterMatch::Match {
                take(line);
            }
        };
        if !lines.read_block(&mut self.buffer, Some(*end), &mut take)? {
            if lines.read_offset() < *end {
                return Err(io::Error::other(
                    "the log file was truncated during the search",
                ));
            }
            lines.finish(take);
            self.current = None;
        }
        Ok(true)
    }
}
