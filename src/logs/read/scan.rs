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
use crate::logs::files::{Segment, SegmentIter, with_archives};

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

/// A compressed file of the log of which not all lines were searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncompleteFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The damage, or why the file was not read at all.
    pub reason: String,
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
    /// The file after [`Self::lines`], if it is an archive that was not entered.
    next_older: Option<Arc<Segment>>,
    enters_archives: bool,
    lines: ReverseLines,
    /// Oldest first. The first one is of the current file.
    pub ranges: VecDeque<FileRange>,
    /// The file of the oldest line found, or else the file where the scan began. A rotation
    /// removes the oldest file first, so this one is held open.
    pub oldest: Arc<Segment>,
    scanned_bytes: u64,
    is_wanted: &'a dyn Fn() -> bool,
    /// The files that were not read, or not to their end.
    pub incomplete: Vec<IncompleteFile>,
}

impl<'a> ReverseScan<'a> {
    /// Begins before the line of the cursor, or else at the end of the log. The search ends early,
    /// as at its bound, once `is_wanted` returns false.
    pub fn new(
        path: &'a Path,
        before: Option<Cursor>,
        is_wanted: &'a dyn Fn() -> bool,
    ) -> Result<Self, ReadError> {
        let fail = ReadError::io(path);
        let mut older = with_archives(path);
        let mut incomplete = Vec::new();
        loop {
            let segment = older.next().transpose().map_err(&fail)?;
            let segment = match (segment, before) {
                (Some(segment), _) => segment,
                (None, Some(_)) => return Err(ReadError::CursorExpired),
                (None, None) => return Err(fail(io::ErrorKind::NotFound.into())),
            };
            if before.is_some_and(|cursor| cursor.file != segment.id) {
                continue;
            }
            let opened = open_lines(&segment, is_wanted, &mut incomplete).map_err(&fail)?;
            let Some(mut lines) = opened else {
                match before {
                    Some(_) => {
                        let reason = incomplete.pop().map_or(String::new(), |file| file.reason);
                        return Err(fail(io::Error::other(reason)));
                    }
                    None => continue,
                }
            };
            let len = lines.end;
            match before {
                Some(cursor) if cursor.offset > len => return Err(ReadError::CursorExpired),
                Some(cursor) => lines.seek(cursor.offset),
                None => {}
            }
            let is_within = (1..len).contains(&lines.end);
            let mut scan = Self::starting_at(older, lines, is_wanted);
            scan.incomplete = incomplete;
            if is_within {
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
    pub fn from_last_complete_line(
        path: &'a Path,
        is_wanted: &'a dyn Fn() -> bool,
    ) -> io::Result<Option<Self>> {
        let mut older = with_archives(path);
        let Some(newest) = older.next().transpose()? else {
            return Ok(None);
        };
        if newest.archive().is_some() {
            // Nothing can be followed yet.
            return Ok(None);
        }
        let open = || ReverseLines::open(Arc::clone(&newest), is_wanted);
        let mut scan = Self::starting_at(older, open()?, is_wanted);
        // Nobody writes to an archive, so its last line is complete.
        scan.enters_archives = false;
        match scan.previous_line()? {
            None => {
                let mut lines = open()?;
                lines.seek(0);
                scan = Self::starting_at(with_archives(path), lines, is_wanted);
            }
            Some(line) => {
                let end = line.offset + if line.terminated { line.len } else { 0 };
                scan.restart_at(end);
                scan.enters_archives = true;
            }
        }
        Ok(Some(scan))
    }

    fn starting_at(
        older: SegmentIter<'a>,
        lines: ReverseLines,
        is_wanted: &'a dyn Fn() -> bool,
    ) -> Self {
        let segment = Arc::clone(&lines.segment);
        Self {
            older,
            next_older: None,
            enters_archives: true,
            ranges: VecDeque::from([FileRange {
                file: segment.id,
                start: lines.end,
                end: lines.end,
            }]),
            lines,
            oldest: segment,
            scanned_bytes: 0,
            is_wanted,
            incomplete: Vec::new(),
        }
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

    /// Whether there are lines before the current position. An archive is not decompressed for that.
    fn has_older(&mut self) -> io::Result<bool> {
        let enters_archives = std::mem::replace(&mut self.enters_archives, false);
        while self.lines.end == 0 {
            if !self.open_older()? {
                break;
            }
        }
        self.enters_archives = enters_archives;
        Ok(self.lines.end > 0 || self.next_older.is_some())
    }

    /// Continues at the end of the next older file that can be read. Returns whether there is one.
    fn open_older(&mut self) -> io::Result<bool> {
        if self.lines.budget.is_some() {
            // The search for older files lists directories.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            let segment = match self.next_older.take() {
                None => self.older.next().transpose()?,
                next => next,
            };
            let Some(segment) = segment else {
                return Ok(false);
            };
            if segment.archive().is_some() && !self.enters_archives {
                self.next_older = Some(segment);
                return Ok(false);
            }
            if let Some(lines) = open_lines(&segment, self.is_wanted, &mut self.incomplete)? {
                self.lines = lines;
                break;
            }
        }
        let (file, end) = (self.lines.segment.id, self.lines.end);
        self.ranges.push_front(FileRange {
            file,
            start: end,
            end,
        });
        Ok(true)
    }
}

/// Opens a file at its end. `None` if it is an archive that cannot be read: its lines are missing,
/// but not those of the other files.
fn open_lines(
    segment: &Arc<Segment>,
    is_wanted: &dyn Fn() -> bool,
    incomplete: &mut Vec<IncompleteFile>,
) -> io::Result<Option<ReverseLines>> {
    let opened = ReverseLines::open(Arc::clone(segment), is_wanted);
    let (Some(archive), true) = (segment.archive(), is_wanted()) else {
        return opened.map(Some);
    };
    let reason = match &opened {
        Ok(lines) if !lines.is_damaged => None,
        Ok(_) => Some("the file is damaged: what follows the damage is missing".to_owned()),
        Err(error) => Some(format!("the file is not read: {error}")),
    };
    incomplete.extend(reason.map(|reason| IncompleteFile {
        path: archive.path().to_owned(),
        reason,
    }));
    Ok(opened.ok())
}
