//! Walking from a place in the log towards its start, line by line and from file to file.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memrchr;
use thiserror::Error;

use super::cursor::{Cursor, FileId};
use super::entry::{Filter, FilterMatch, MAX_LINE_BYTES, RawLine};
use super::segments::{Segment, SegmentIter, newest_first};

/// What is read at once.
pub(super) const BLOCK_BYTES: u64 = 64 * 1024;
/// The first block: enough for the usual 50 lines.
const FIRST_BLOCK_BYTES: u64 = 16 * 1024;
/// What may be read on a thread that serves, and how many lines taken apart.
const MAX_INLINE_BYTES: u64 = 128 * 1024;
pub(super) const MAX_INLINE_LINES: usize = 200;

/// The log could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused.
    #[error("the log file {path} cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cursor names a line that is no longer there.
    #[error("the line that the cursor names is no longer in the log")]
    CursorExpired,
}

impl ReadError {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// What a search came to.
pub(super) struct ScanResult {
    /// The oldest line of those found, or the place that was reached; `None` when nothing lies before.
    pub first: Option<Cursor>,
    /// The newest of them, or the place where the search began.
    pub next: Cursor,
}

/// The range of a file in which all lines lie that were found in it; empty when there are none.
#[derive(Debug)]
pub(super) struct FileRange {
    pub file: FileId,
    pub start: u64,
    pub end: u64,
}

/// Walks from a place towards the start of the log, one line at a time.
pub(super) struct ReverseScan<'a> {
    older: SegmentIter<'a>,
    lines: ReverseLines,
    /// Oldest first; the first one is of the file it is in.
    pub ranges: VecDeque<FileRange>,
    /// The file of the oldest line that was found, or that where the walk begins: the next that a rotation may remove. No other
    /// is held open behind the one that is read.
    pub oldest: Arc<Segment>,
    scanned_bytes: u64,
}

impl<'a> ReverseScan<'a> {
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
            let mut walk = Self::starting_at(older, segment, end);
            if (1..len).contains(&end) {
                walk.skip_partial_line().map_err(&fail)?;
            }
            return Ok(walk);
        }
    }

    /// One that gives up when it would take long.
    pub fn with_budget(path: &'a Path, lines: usize) -> Option<Self> {
        if lines > MAX_INLINE_LINES {
            return None;
        }
        let mut walk = Self::new(path, None).ok()?;
        walk.lines.budget = Some(MAX_INLINE_BYTES);
        Some(walk)
    }

    /// From the end of the last line that is finished, in the newest file that has any content. `None` when there is no
    /// file.
    pub fn from_last_complete_line(path: &'a Path) -> io::Result<Option<Self>> {
        let mut older = newest_first(path);
        let Some(newest) = older.next().transpose()? else {
            return Ok(None);
        };
        let mut walk = Self::starting_at(older, Arc::clone(&newest), newest.len()?);
        match walk.previous_line()? {
            None => walk = Self::starting_at(newest_first(path), newest, 0),
            Some(line) => {
                let end = line.offset + if line.terminated { line.len } else { 0 };
                walk.restart_at(end);
            }
        }
        Ok(Some(walk))
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
        }
    }

    /// A place within a line, which a cursor can name after its file was cut short and written anew, is before that line.
    fn skip_partial_line(&mut self) -> io::Result<()> {
        if self.lines.byte_before(self.lines.end)? != b'\n' {
            self.lines.previous_line()?;
            self.restart_at(self.lines.end);
        }
        Ok(())
    }

    /// Makes this place of the file it is in the beginning of the walk.
    fn restart_at(&mut self, end: u64) {
        self.ranges.truncate(1);
        if let Some(part) = self.ranges.front_mut() {
            (part.start, part.end) = (end, end);
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
        let has_older = loop {
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
                // It may be finished later; what follows begins with it then.
                begin = self.cursor();
            }
            let raw = self.lines.raw_line(&line)?;
            match filter.evaluate(&raw) {
                FilterMatch::TooOld => {
                    // Not part of what was found.
                    self.lines.end = line.offset + line.len;
                    break false;
                }
                FilterMatch::Match => {
                    first = Some(raw.cursor);
                    last = last.or(first);
                    found += 1;
                    wants_more = take(&raw);
                    if let Some(part) = self.ranges.front_mut() {
                        part.start = line.offset;
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

    /// Whether anything lies before.
    fn has_older(&mut self) -> io::Result<bool> {
        while self.lines.end == 0 {
            if !self.open_older()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn open_older(&mut self) -> io::Result<bool> {
        if self.lines.budget.is_some() {
            // Directories have to be read for that.
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

struct LineSpan {
    offset: u64,
    /// With its newline.
    len: u64,
    terminated: bool,
}

/// The same within one file, holding one block of it.
struct ReverseLines {
    segment: Arc<Segment>,
    /// End of what has not been returned yet.
    end: u64,
    block: Vec<u8>,
    block_offset: u64,
    next_block_len: u64,
    /// How much may still be read, if that is limited.
    budget: Option<u64>,
}

impl ReverseLines {
    fn new(segment: Arc<Segment>, end: u64) -> Self {
        Self {
            segment,
            end,
            block: Vec::new(),
            block_offset: end,
            next_block_len: FIRST_BLOCK_BYTES,
            budget: None,
        }
    }

    fn previous_line(&mut self) -> io::Result<Option<LineSpan>> {
        if self.end == 0 {
            return Ok(None);
        }
        let terminated = self.byte_before(self.end)? == b'\n';
        let mut searched = self.end - u64::from(terminated);
        let start = loop {
            if searched == 0 {
                break 0;
            }
            if searched <= self.block_offset {
                self.load_before(searched)?;
            }
            let within = to_usize(searched - self.block_offset);
            match memrchr(b'\n', &self.block[..within]) {
                Some(at) => break self.block_offset + at as u64 + 1,
                None => searched = self.block_offset,
            }
        };
        let line = LineSpan {
            offset: start,
            len: self.end - start,
            terminated,
        };
        self.end = start;
        Ok(Some(line))
    }

    fn raw_line(&mut self, line: &LineSpan) -> io::Result<RawLine<'_>> {
        let cursor = Cursor {
            file: self.segment.id,
            offset: line.offset,
            len: line.len,
        };
        Ok(RawLine {
            cursor,
            bytes: self.line_bytes(line)?,
            terminated: line.terminated,
        })
    }

    /// At most the first [`MAX_LINE_BYTES`] of the line, without its newline.
    fn line_bytes(&mut self, line: &LineSpan) -> io::Result<&[u8]> {
        let wanted = to_usize(line.len - u64::from(line.terminated)).min(MAX_LINE_BYTES);
        let loaded = self.block_offset + self.block.len() as u64;
        if line.offset < self.block_offset || line.offset + wanted as u64 > loaded {
            self.load(line.offset, wanted)?;
        }
        let start = to_usize(line.offset - self.block_offset);
        Ok(&self.block[start..start + wanted])
    }

    fn byte_before(&mut self, place: u64) -> io::Result<u8> {
        if place <= self.block_offset || place > self.block_offset + self.block.len() as u64 {
            self.load_before(place)?;
        }
        Ok(self.block[to_usize(place - 1 - self.block_offset)])
    }

    fn load_before(&mut self, end: u64) -> io::Result<()> {
        let len = end.min(self.next_block_len);
        self.next_block_len = BLOCK_BYTES;
        self.load(end - len, to_usize(len))
    }

    fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        if let Some(budget) = &mut self.budget {
            let left = budget.checked_sub(len as u64);
            *budget = left.ok_or(io::ErrorKind::WouldBlock)?;
        }
        self.block.resize(len, 0);
        self.block_offset = offset;
        self.segment.file.read_exact_at(&mut self.block, offset)
    }
}

/// Differences of offsets that are at most a block apart, or lengths that are capped afterwards.
pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
