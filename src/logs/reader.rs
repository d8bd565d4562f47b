//! Reading the log forward from a place on, from file to file.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::cursor::Cursor;
use super::entry::{Filter, RawLine};
use super::forward::LineReader;
use super::segments::{NextSegment, Segment, nearest_newer, newest_first, next_segment_after};
use super::tail;
use crate::api::LogEntry;

/// A place, and the file it is in.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub segment: Arc<Segment>,
    pub offset: u64,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub enum StartAt {
    /// With this many of the last lines.
    Last(usize),
    /// With the line after this one.
    After(Cursor),
}

/// What a follower sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A line.
    Entry(LogEntry),
    /// Lines are missing here: the place is gone, or the file was cut short.
    Gap,
}

/// What lies between two places.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the log.
    pub items: Vec<LogItem>,
    /// `None` for the time before there was a log.
    pub(super) start: Option<Cursor>,
    encoded: OnceLock<Bytes>,
}

impl Batch {
    pub(super) fn new(from: Option<Cursor>, items: Vec<LogItem>) -> Arc<Self> {
        Arc::new(Self {
            items,
            start: from,
            encoded: OnceLock::new(),
        })
    }

    /// The items as `encode` makes bytes of them, which is asked once.
    pub fn encode_once(&self, encode: impl FnOnce(&[LogItem]) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.items)).clone()
    }
}

/// What reading one block came to.
pub(super) enum ReadOutcome {
    /// It may be empty: nothing was wanted, and there may be more.
    Batch(Arc<Batch>),
    /// The end, for now.
    CaughtUp,
}

/// Reads the log from a place on, from file to file.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    pub gap_pending: bool,
    lines: Option<LineReader>,
    /// A newer file has content, so this one gets no more; it is read to its end once more since that was seen.
    was_replaced: bool,
    /// How often a file was seen to be cut short.
    pub truncations: u64,
}

impl LogReader {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            gap_pending: false,
            lines: None,
            was_replaced: false,
            truncations: 0,
        }
    }

    pub fn seek(&mut self, from: StartAt, filter: &Filter) -> io::Result<()> {
        let start = match from {
            // What follows is read forward from there, as its reader takes it.
            StartAt::Last(lines) => tail::start_of_last_lines(&self.path, lines, filter)?,
            StartAt::After(cursor) => {
                let (start, is_exact) = resume_position(&self.path, cursor)?;
                self.gap_pending = !is_exact;
                start
            }
        };
        self.lines = start.map(|(segment, offset)| LineReader::new(segment, offset));
        Ok(())
    }

    /// Uses the file that somebody else has open where it is the same.
    pub fn share_segment(&mut self, other: Option<&Position>) {
        if let (Some(at), Some(other)) = (&mut self.lines, other)
            && at.segment.id == other.segment.id
        {
            at.segment = Arc::clone(&other.segment);
        }
    }

    pub fn cursor(&self) -> Option<Cursor> {
        self.lines.as_ref().map(LineReader::cursor)
    }

    pub fn position(&self) -> Option<Position> {
        self.lines.as_ref().map(|at| Position {
            segment: Arc::clone(&at.segment),
            offset: at.cursor().offset,
        })
    }

    pub fn jump_to(&mut self, place: Option<&Position>, cuts: u64) {
        self.was_replaced = false;
        self.truncations = cuts;
        self.lines = place.map(|place| LineReader::new(Arc::clone(&place.segment), place.offset));
    }

    /// Learns that a file was cut short; if it is the one of this place, begins it anew.
    pub fn on_truncation(&mut self, file: Option<&Position>, cuts: u64) {
        self.truncations = cuts;
        if let (Some(at), Some(file)) = (&mut self.lines, file)
            && at.segment.id == file.segment.id
        {
            at.seek(0);
        }
    }

    /// Reads the next block, not beyond `end`.
    pub fn read_block(
        &mut self,
        block: usize,
        end: Option<u64>,
        wants: impl Fn(&RawLine<'_>) -> bool,
    ) -> io::Result<ReadOutcome> {
        let from = self.cursor();
        let batch = |items| Ok(ReadOutcome::Batch(Batch::new(from, items)));
        if std::mem::take(&mut self.gap_pending) {
            return batch(vec![LogItem::Gap]);
        }
        let Some(at) = &mut self.lines else {
            let Some(oldest) = oldest_segment(&self.path)? else {
                return Ok(ReadOutcome::CaughtUp);
            };
            self.lines = Some(LineReader::new(oldest, 0));
            return batch(Vec::new());
        };
        let mut items = Vec::new();
        let mut take = |line: &RawLine<'_>| {
            if wants(line) {
                items.push(LogItem::Entry(line.parse_entry()));
            }
        };
        if at.read_block(&mut vec![0; block], end, &mut take)? {
            return batch(items);
        }
        if end.is_some() {
            // Cut short: the tip will tell.
            return Ok(ReadOutcome::CaughtUp);
        }
        if at.segment.len()? < at.read_offset() {
            // Cut short in place.
            at.seek(0);
            self.truncations += 1;
            return batch(vec![LogItem::Gap]);
        }
        let (newer, is_known) = match next_segment_after(&self.path, at.segment.id)? {
            NextSegment::Next(newer) => (newer, true),
            NextSegment::Unknown(newer) => (newer, false),
            NextSegment::None => return Ok(ReadOutcome::CaughtUp),
        };
        if !std::mem::replace(&mut self.was_replaced, true) {
            // It may have got its last lines since it was read; from now on it gets none.
            return batch(items);
        }
        at.finish(take);
        if !is_known {
            items.push(LogItem::Gap);
        }
        self.was_replaced = false;
        self.lines = Some(LineReader::new(newer, 0));
        batch(items)
    }
}

fn oldest_segment(path: &Path) -> io::Result<Option<Arc<Segment>>> {
    newest_first(path).last().transpose()
}

type Start = Option<(Arc<Segment>, u64)>;

/// Where the line after the cursor's begins, and true; or the place nearest behind what is gone, and false.
fn resume_position(path: &Path, cursor: Cursor) -> io::Result<(Start, bool)> {
    let mut newer = Vec::new();
    for segment in newest_first(path) {
        let segment = segment?;
        if segment.id == cursor.file {
            let start = resume_offset(&segment, !newer.is_empty(), cursor)?;
            // Otherwise it was cut short.
            return Ok((Some((segment, start.unwrap_or(0))), start.is_some()));
        }
        newer.push(segment);
    }
    let nearest = nearest_newer(&newer, cursor.file);
    Ok((nearest.map(|nearest| (nearest, 0)), false))
}

fn resume_offset(segment: &Segment, is_complete: bool, cursor: Cursor) -> io::Result<Option<u64>> {
    let len = segment.len()?;
    let ends_a_line = |place: u64| {
        let mut byte = [0];
        place == 0
            || is_complete && place == len
            || segment.file.read_exact_at(&mut byte, place - 1).is_ok() && byte == *b"\n"
    };
    Ok(if ends_a_line(cursor.end()) {
        Some(cursor.end())
    } else {
        // The line was not finished when it was read: it comes again, whole.
        ends_a_line(cursor.offset).then_some(cursor.offset)
    })
}
