//! Reading the log forward from a position, from file to file.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::filter::Filter;
use super::line::{Entry, RawLine};
use super::lines::{LineReader, Position};
use super::query::start_of_last_lines;
use crate::logs::cursor::{Cursor, FileId};
use crate::logs::files::{
    NextSegment, Segment, current_file, nearest_newer, newest_first, next_segment_after,
    with_archives,
};
use crate::logs::history::{FileHistory, Successor};

/// How many of the files that were read are remembered.
const MAX_FINISHED: usize = 64;

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub enum StartAt {
    /// With this many of the last lines.
    Last(usize),
    /// With the line after this one.
    After(Cursor),
}

/// An item that a follower receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A line.
    Entry(Entry),
    /// Lines are missing: they were removed, or their file was truncated.
    Gap,
}

/// The items between two positions.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the log.
    pub items: Vec<LogItem>,
    /// `None` if there was no log yet.
    pub(crate) start: Option<Cursor>,
    encoded: OnceLock<Bytes>,
}

impl Batch {
    pub(crate) fn new(start: Option<Cursor>, items: Vec<LogItem>) -> Arc<Self> {
        Arc::new(Self {
            items,
            start,
            encoded: OnceLock::new(),
        })
    }

    /// The result of `encode` for the items. It is called once for all followers.
    pub fn encode_once(&self, encode: impl FnOnce(&[LogItem]) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.items)).clone()
    }
}

/// The result of reading one block.
pub(crate) enum ReadOutcome {
    /// May be empty if no line matched. There may be more to read.
    Batch(Arc<Batch>),
    /// The end of the log, for now.
    CaughtUp,
}

/// Reads the log from a position on, from file to file.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    history: Arc<FileHistory>,
    /// The files that were read to their end last. None of them is read again, whatever their names
    /// and times are then.
    finished: VecDeque<FileId>,
    /// The next batch is a gap.
    pub gap_pending: bool,
    lines: Option<LineReader>,
    /// A newer file has content, so this file does not grow any more. It still has to be read to
    /// its end once.
    was_replaced: bool,
    /// How many truncations of files were seen.
    pub truncations: u64,
}

impl LogReader {
    pub fn new(path: PathBuf, history: Arc<FileHistory>) -> Self {
        Self {
            path,
            history,
            finished: VecDeque::new(),
            gap_pending: false,
            lines: None,
            was_replaced: false,
            truncations: 0,
        }
    }

    /// The search for the last lines ends early once `is_wanted` returns false.
    pub fn seek(
        &mut self,
        start: StartAt,
        filter: &Filter,
        is_wanted: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        let position = match start {
            // The lines are read forward from there.
            StartAt::Last(lines) => start_of_last_lines(&self.path, lines, filter, is_wanted)?,
            StartAt::After(cursor) => {
                let (position, is_exact) = resume_position(&self.path, cursor, &self.history)?;
                self.gap_pending = !is_exact;
                position
            }
        };
        if let Some(Position { segment, offset }) = &position {
            // An archive is decompressed up to there. Later reads are short.
            segment.read_at(&mut [], *offset)?;
        }
        self.lines = position.map(LineReader::new);
        Ok(())
    }

    /// Uses the open file of another reader if it is the same file.
    pub fn share_segment(&mut self, other: Option<&Position>) {
        if let (Some(lines), Some(other)) = (&mut self.lines, other)
            && lines.position.segment.id == other.segment.id
        {
            lines.position.segment = Arc::clone(&other.segment);
        }
    }

    pub fn cursor(&self) -> Option<Cursor> {
        self.lines.as_ref().map(|lines| lines.position.cursor())
    }

    pub fn position(&self) -> Option<Position> {
        self.lines.as_ref().map(|lines| lines.position.clone())
    }

    pub fn jump_to(&mut self, position: Option<&Position>, truncations: u64) {
        self.was_replaced = false;
        self.truncations = truncations;
        self.lines = position.cloned().map(LineReader::new);
    }

    /// Records a truncation. If `truncated` is the current file, starts again at its beginning.
    pub fn on_truncation(&mut self, truncated: Option<&Position>, truncations: u64) {
        self.truncations = truncations;
        if let (Some(lines), Some(truncated)) = (&mut self.lines, truncated)
            && lines.position.segment.id == truncated.segment.id
        {
            lines.seek(0);
        }
    }

    /// Reads the next block, at most up to `end` in the current file.
    pub fn read_block(
        &mut self,
        block: usize,
        end: Option<u64>,
        matches: impl Fn(&RawLine<'_>) -> bool,
    ) -> io::Result<ReadOutcome> {
        let start = self.cursor();
        let batch = |items| Ok(ReadOutcome::Batch(Batch::new(start, items)));
        if std::mem::take(&mut self.gap_pending) {
            return batch(vec![LogItem::Gap]);
        }
        let Some(lines) = &mut self.lines else {
            let Some(oldest) = oldest_segment(&self.path)? else {
                return Ok(ReadOutcome::CaughtUp);
            };
            self.lines = Some(LineReader::new(Position::new(oldest, 0)));
            return batch(Vec::new());
        };
        let mut items = Vec::new();
        let mut take = |line: &RawLine<'_>| {
            if matches(line) {
                items.push(LogItem::Entry(line.parse_entry()));
            }
        };
        let unreadable = match lines.read_block(&mut vec![0; block], end, &mut take) {
            Ok(true) => return batch(items),
            Ok(false) => None,
            // An archive that cannot be decompressed.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Some(error),
            Err(error) => return Err(error),
        };
        if end.is_some() {
            // The file was truncated. The broadcaster reports that.
            return Ok(ReadOutcome::CaughtUp);
        }
        let segment = &lines.position.segment;
        if segment.len()?.is_some_and(|len| len < lines.read_offset()) {
            let offset = lines.position.offset;
            let size = || Ok(segment.len()?.unwrap_or(0));
            let has_all = self
                .history
                .ended_before_truncation(segment.id, offset, size)?;
            lines.seek(0);
            self.truncations += 1;
            return batch(if has_all {
                Vec::new()
            } else {
                vec![LogItem::Gap]
            });
        }
        let id = segment.id;
        let next = next_segment_after(&self.path, segment, &self.finished, &self.history)?;
        let (newer, is_known) = match next {
            NextSegment::Next(newer) => (newer, true),
            NextSegment::Unknown(newer) => (newer, false),
            NextSegment::None => return Ok(ReadOutcome::CaughtUp),
        };
        if !std::mem::replace(&mut self.was_replaced, true) {
            // Its last lines may have come after it was read. From now on it gets no more.
            return batch(items);
        }
        lines.finish(take);
        if let Some(error) = &unreadable {
            tracing::warn!("lines of the log are missing in a stream: {error}");
        }
        if !is_known || unreadable.is_some() {
            items.push(LogItem::Gap);
        }
        self.was_replaced = false;
        self.lines = Some(LineReader::new(Position::new(newer, 0)));
        if self.finished.len() == MAX_FINISHED {
            self.finished.pop_front();
        }
        self.finished.push_back(id);
        batch(items)
    }
}

fn oldest_segment(path: &Path) -> io::Result<Option<Arc<Segment>>> {
    newest_first(path).last().transpose()
}

/// The position of the line after the cursor's, and true. If the cursor's line no longer exists,
/// the position of the nearest later line, and false.
fn resume_position(
    path: &Path,
    cursor: Cursor,
    history: &FileHistory,
) -> io::Result<(Option<Position>, bool)> {
    let mut newer = Vec::new();
    for segment in with_archives(path) {
        let segment = segment?;
        if segment.id == cursor.file {
            // Without an offset, the file was truncated.
            let offset = resume_offset(&segment, !newer.is_empty(), cursor)?;
            let position = Position::new(segment, offset.unwrap_or(0));
            return Ok((Some(position), offset.is_some()));
        }
        if segment.archive().is_none() {
            newer.push(segment);
        }
    }
    if history.ends_before(cursor.file, cursor.end()) {
        // The file is no longer part of the log, but the client has all of its lines.
        let mut next = history.successors(cursor.file);
        if next.is_empty() {
            // The writer has not reopened the file yet.
            next.extend(current_file(path).map(Successor::direct));
        }
        for next in next.into_iter().filter(|next| next.is_direct) {
            if let Some(segment) = newer.iter().find(|segment| segment.id == next.file) {
                return Ok((Some(Position::new(Arc::clone(segment), 0)), true));
            }
        }
    }
    let nearest = nearest_newer(path, &newer, cursor.file);
    Ok((nearest.map(|segment| Position::new(segment, 0)), false))
}

fn resume_offset(segment: &Segment, is_complete: bool, cursor: Cursor) -> io::Result<Option<u64>> {
    let is_line_start = |offset: u64| {
        let Some(before) = offset.checked_sub(1) else {
            return Ok(true);
        };
        if i64::try_from(offset.saturating_add(1)).is_err() {
            // No file is that long.
            return Ok(false);
        }
        let mut bytes = [0; 2];
        io::Result::Ok(match segment.read_at(&mut bytes, before)? {
            0 => false,
            read => bytes[0] == b'\n' || is_complete && read == 1,
        })
    };
    Ok(if is_line_start(cursor.end())? {
        Some(cursor.end())
    } else {
        // The line was incomplete when it was read. It is read again as a whole.
        is_line_start(cursor.offset)?.then_some(cursor.offset)
    })
}
