//! Scanning the log from a position towards its beginning, from file to file.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::filter::{Filter, FilterMatch};
use super::line::RawLine;
use super::reverse::{LineSpan, ReverseLines};
use crate::logs::cursor::{Cursor, FileId};
use crate::logs::files::{Segment, SegmentIter, newest_first};

/// The log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system reports an error.
    #[error("the log file {path} cannot be read: {source}")]
    Io {
        /// The path of the log.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The line of the cursor no longer exists.
    #[error("the line that the cursor names is no longer in the log")]
    CursorExpired,
}

impl ReadError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// The bounds of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanResult {
    /// The oldest line found, or else the position that was reached; `None` if nothing precedes.
    pub first: Option<Cursor>,
    /// The newest line found, or else the position where the search began.
    pub next: Cursor,
}

/// The part of a file that contains all lines found in it. Empty if there are none.
#[derive(Debug)]
pub(crate) struct FileRange {
    pub file: FileId,
    pub start: u64,
    pub end: u64,
}

/// How many bytes are scanned between two checks whether the result is still wanted.
const WANTED_CHECK_BYTES: u64 = 256 * 1024;

/// Scans the log backwards, line by line.
pub(crate) struct ReverseScan<'a> {
    older: SegmentIter<'a>,
    lines: ReverseLines,
    /// Oldest first. The first one is of the current file.
    pub ranges: VecDeque<FileRange>,
    /// The file of the oldest line found, or else the file where the scan began. A rotation
    /// removes the oldest file first, so this one is held open.
    pub oldest: Arc<Segment>,
    scanned_bytes: u64,
    is_wanted: &'a dyn Fn() -> bool,
}

impl<'a> ReverseScan<'a> {
    /// Begins before the line of the cursor, or else at the end of the log.
    pub fn new(path: &'a Path, before: Option<Cursor>) -> Result<Self, ReadError> {
        let fail = ReadError::io(path);
        let mut older = newest_first(path);
        loop {
            let segment = older.next().transpose().map_err(&fail)?;
            let segment = match (segment, before) {
                (Some(segment), _) => segment,
                (None, Some(_)) => return Err(ReadError::CursorExpired),
                (None, None) => return Err(fail(io::ErrorKind::NotFound.into())),
            };
            let len = segment.len().map_err(&fail)?;
            let end = match before {
                None => len,
                Some(cursor) if cursor.file != segment.id => continue,
                Some(cursor) if cursor.offset > len => return Err(ReadError::CursorExpired),
                Some(cursor) => cursor.offset,
            };
            let mut scan = Self::starting_at(older, segment, end);
            if (1..len).contains(&end) {
                scan.skip_partial_line().map_err(&fail)?;
            }
            return Ok(scan);
        }
    }

    /// Fails with `WouldBlock` if more than `bytes` or another file would have to be read.
    pub fn with_budget(mut self, bytes: u64) -> Self {
        self.lines.budget = Some(bytes);
        self
    }

    /// Begins after the last complete line of the newest file that has content. `None` if there is
    /// no file.
    pub fn from_last_complete_line(path: &'a Path) -> io::Result<Option<Self>> {
        let mut older = newest_first(path);
        let Some(newest) = older.next().transpose()? else {
            return Ok(None);
        };
        let mut scan = Self::starting_at(older, Arc::clone(&newest), newest.len()?);
        match scan.previous_line()? {
            None => scan = Self::starting_at(newest_first(path), newest, 0),
            Some(line) => {
                let end = line.offset + if line.terminated { line.len } else { 0 };
                scan.restart_at(end);
            }
        }
        Ok(Some(scan))
    }

    fn starting_at(older: SegmentIter<'a>, segment: Arc<Segment>, end: u64) -> Self {
        Self {
            older,
            lines: ReverseLines::new(Arc::clone(&segment), end),
            ranges: VecDeque::from([FileRange {
                file: segment.id,
                start: end,
                end,
            }]),
            oldest: segment,
            scanned_bytes: 0,
            is_wanted: &|| true,
        }
    }

    /// Ends the search early, as at its bound, once `is_wanted` returns false.
    pub fn while_wanted(mut self, is_wanted: &'a dyn Fn() -> bool) -> Self {
        self.is_wanted = is_wanted;
        self
    }

    /// Moves from within a line to its beginning. The offset of a cursor can be within a line if
    /// the file was truncated and written again.
    fn skip_partial_line(&mut self) -> io::Result<()> {
        if self.lines.byte_before(self.lines.end)? != b'\n' {
            self.lines.previous_line()?;
            self.restart_at(self.lines.end);
        }
        Ok(())
    }

    /// Begins at this offset of the current file.
    fn restart_at(&mut self, end: u64) {
        self.ranges.truncate(1);
        if let Some(range) = self.ranges.front_mut() {
            (range.start, range.end) = (end, end);
        }
        self.oldest = Arc::clone(&self.lines.segment);
        self.lines.end = end;
        self.scanned_bytes = 0;
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            file: self.lines.segment.id,
            offset: self.lines.end,
            len: 0,
        }
    }

    /// Passes the matching lines to `take`, newest first, until there are `lines` of them, `take`
    /// returns false, or `bound` bytes were scanned.
    pub fn search(
        &mut self,
        lines: usize,
        filter: &Filter,
        bound: Option<u64>,
        mut take: impl FnMut(&RawLine<'_>) -> bool,
    ) -> io::Result<ScanResult> {
        let (mut first, mut last) = (None, None);
        let mut begin = self.cursor();
        let mut found = 0;
        let mut wants_more = true;
        let mut next_check = 0;
        let has_older = loop {
            if self.scanned_bytes >= next_check {
                next_check = self.scanned_bytes + WANTED_CHECK_BYTES;
                if !(self.is_wanted)() {
                    tracing::debug!("a search of the log ended early: the client has disconnected");
                    wants_more = false;
                }
            }
            if found >= lines
                || !wants_more
                || bound.is_some_and(|bound| self.scanned_bytes >= bound)
            {
                break self.has_older()?;
            }
            let Some(line) = self.previous_line()? else {
                break false;
            };
            if self.scanned_bytes == 0 && !line.terminated {
                // The line may be completed later. Then it is the first line of what follows.
                begin = self.cursor();
            }
            let raw = self.lines.raw_line(&line)?;
            match filter.evaluate(&raw) {
                FilterMatch::TooOld => {
                    // The line is not part of the result.
                    self.lines.end = line.offset + line.len;
                    break false;
                }
                FilterMatch::Match => {
                    first = Some(raw.cursor);
                    last = last.or(first);
                    found += 1;
                    wants_more = take(&raw);
                    if let Some(range) = self.ranges.front_mut() {
                        range.start = line.offset;
                    }
                    if self.oldest.id != self.lines.segment.id {
                        self.oldest = Arc::clone(&self.lines.segment);
                    }
                }
                FilterMatch::NoMatch => first = None,
            }
            self.scanned_bytes += line.len;
        };
        Ok(ScanResult {
            first: has_older.then_some(first.unwrap_or(self.cursor())),
            next: last.unwrap_or(begin),
        })
    }

    fn previous_line(&mut self) -> io::Result<Option<LineSpan>> {
        loop {
            if let Some(line) = self.lines.previous_line()? {
                return Ok(Some(line));
            }
            if !self.open_older()? {
                return Ok(None);
            }
        }
    }

    /// Whether there are lines before the current position.
    fn has_older(&mut self) -> io::Result<bool> {
        while self.lines.end == 0 {
            if !self.open_older()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Continues at the end of the next older file. Returns whether there is one.
    fn open_older(&mut self) -> io::Result<bool> {
        if self.lines.budget.is_some() {
            // The search for older files lists directories.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(segment) = self.older.next().transpose()? else {
            return Ok(false);
        };
        let end = segment.len()?;
        self.ranges.push_front(FileRange {
            file: segment.id,
            start: end,
            end,
        });
        self.lines = ReverseLines::new(segment, end);
        Ok(true)
    }
}
