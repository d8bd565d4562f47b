//! Reading the log forward from a place on, from file to file.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::cursor::Cursor;
use super::entry::{Filter, RawLine};
use super::forward::Forward;
use super::segments::{Segment, Successor, nearest, newest_first, successor};
use super::tail;
use crate::api::LogEntry;

/// A place, and the file it is in.
#[derive(Debug, Clone)]
pub(super) struct Place {
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
pub enum Item {
    /// A line.
    Entry(LogEntry),
    /// Lines are missing here: the place is gone, or the file was cut short.
    Gap,
}

/// What lies between two places.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the log.
    pub items: Vec<Item>,
    /// `None` for the time before there was a log.
    pub(super) from: Option<Cursor>,
    encoded: OnceLock<Bytes>,
}

impl Batch {
    pub(super) fn new(from: Option<Cursor>, items: Vec<Item>) -> Arc<Self> {
        Arc::new(Self {
            items,
            from,
            encoded: OnceLock::new(),
        })
    }

    /// The items as `encode` makes bytes of them, which is asked once.
    pub fn encoded(&self, encode: impl FnOnce(&[Item]) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.items)).clone()
    }
}

/// What reading one block came to.
pub(super) enum Step {
    /// It may be empty: nothing was wanted, and there may be more.
    Batch(Arc<Batch>),
    /// The end, for now.
    Idle,
}

/// Reads the log from a place on, from file to file.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    pub begins_with_gap: bool,
    at: Option<Forward>,
    /// A newer file has content, so this one gets no more; it is read to its end once more since that was seen.
    is_left: bool,
    /// How often a file was seen to be cut short.
    pub cuts: u64,
}

impl Reader {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            begins_with_gap: false,
            at: None,
            is_left: false,
            cuts: 0,
        }
    }

    pub fn begin(&mut self, from: StartAt, filter: &Filter) -> io::Result<()> {
        let start = match from {
            // What follows is read forward from there, as its reader takes it.
            StartAt::Last(lines) => tail::start_of_last(&self.path, lines, filter)?,
            StartAt::After(cursor) => {
                let (start, is_exact) = resume(&self.path, cursor)?;
                self.begins_with_gap = !is_exact;
                start
            }
        };
        self.at = start.map(|(segment, offset)| Forward::new(segment, offset));
        Ok(())
    }

    /// Uses the file that somebody else has open where it is the same.
    pub fn share(&mut self, other: Option<&Place>) {
        if let (Some(at), Some(other)) = (&mut self.at, other)
            && at.segment.id == other.segment.id
        {
            at.segment = Arc::clone(&other.segment);
        }
    }

    pub fn place(&self) -> Option<Cursor> {
        self.at.as_ref().map(Forward::place)
    }

    pub fn shared_place(&self) -> Option<Place> {
        self.at.as_ref().map(|at| Place {
            segment: Arc::clone(&at.segment),
            offset: at.place().offset,
        })
    }

    pub fn take_over(&mut self, place: Option<&Place>, cuts: u64) {
        self.is_left = false;
        self.cuts = cuts;
        self.at = place.map(|place| Forward::new(Arc::clone(&place.segment), place.offset));
    }

    /// Learns that a file was cut short; if it is the one of this place, begins it anew.
    pub fn miss_cut(&mut self, file: Option<&Place>, cuts: u64) {
        self.cuts = cuts;
        if let (Some(at), Some(file)) = (&mut self.at, file)
            && at.segment.id == file.segment.id
        {
            at.move_to(0);
        }
    }

    /// Reads the next block, not beyond `end`.
    pub fn step(
        &mut self,
        block: usize,
        end: Option<u64>,
        wants: impl Fn(&RawLine<'_>) -> bool,
    ) -> io::Result<Step> {
        let from = self.place();
        let batch = |items| Ok(Step::Batch(Batch::new(from, items)));
        if std::mem::take(&mut self.begins_with_gap) {
            return batch(vec![Item::Gap]);
        }
        let Some(at) = &mut self.at else {
            let Some(oldest) = oldest(&self.path)? else {
                return Ok(Step::Idle);
            };
            self.at = Some(Forward::new(oldest, 0));
            return batch(Vec::new());
        };
        let mut items = Vec::new();
        let mut take = |line: &RawLine<'_>| {
            if wants(line) {
                items.push(Item::Entry(line.entry()));
            }
        };
        if at.read(&mut vec![0; block], end, &mut take)? {
            return batch(items);
        }
        if end.is_some() {
            // Cut short: the tip will tell.
            return Ok(Step::Idle);
        }
        if at.segment.len()? < at.reached() {
            // Cut short in place.
            at.move_to(0);
            self.cuts += 1;
            return batch(vec![Item::Gap]);
        }
        let (newer, is_known) = match successor(&self.path, at.segment.id)? {
            Successor::Next(newer) => (newer, true),
            Successor::Unknown(newer) => (newer, false),
            Successor::None => return Ok(Step::Idle),
        };
        if !std::mem::replace(&mut self.is_left, true) {
            // It may have got its last lines since it was read; from now on it gets none.
            return batch(items);
        }
        at.finish(take);
        if !is_known {
            items.push(Item::Gap);
        }
        self.is_left = false;
        self.at = Some(Forward::new(newer, 0));
        batch(items)
    }
}

fn oldest(path: &Path) -> io::Result<Option<Arc<Segment>>> {
    newest_first(path).last().transpose()
}

type Start = Option<(Arc<Segment>, u64)>;

/// Where the line after the cursor's begins, and true; or the place nearest behind what is gone, and false.
fn resume(path: &Path, cursor: Cursor) -> io::Result<(Start, bool)> {
    let mut newer = Vec::new();
    for segment in newest_first(path) {
        let segment = segment?;
        if segment.id == cursor.file {
            let start = resume_at(&segment, !newer.is_empty(), cursor)?;
            // Otherwise it was cut short.
            return Ok((Some((segment, start.unwrap_or(0))), start.is_some()));
        }
        newer.push(segment);
    }
    let nearest = nearest(&newer, cursor.file);
    Ok((nearest.map(|nearest| (nearest, 0)), false))
}

fn resume_at(segment: &Segment, is_complete: bool, cursor: Cursor) -> io::Result<Option<u64>> {
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
