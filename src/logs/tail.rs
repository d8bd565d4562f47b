//! The last lines of the log, read backwards from the end in blocks, from file to file: the cost is that of what is
//! returned, and with a filter that of what is searched, which has a bound.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memrchr;
use thiserror::Error;

use super::cursor::Cursor;
use super::entry::{Filter, MAX_LINE_BYTES, RawLine, Verdict};
use super::forward::Forward;
use super::segments::{Segment, Segments, newest_first};
use crate::api::{LogEntry, LogPage};

const BLOCK: u64 = 64 * 1024;
/// The first block: enough for the usual 50 lines.
const FIRST_BLOCK: u64 = 16 * 1024;
/// What may be read on a thread that serves, and how many lines taken apart.
const AT_HAND_BYTES: u64 = 128 * 1024;
const AT_HAND_LINES: usize = 200;
/// A page ends early when its lines together exceed this, so that ten thousand long lines do not fill memory.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// A search ends early when it went through this much; the next one goes on where it ended.
const MAX_SEARCHED_BYTES: u64 = 64 * 1024 * 1024;

/// A page of the log.
#[derive(Debug)]
pub struct Page {
    /// The lines, oldest first.
    pub entries: Vec<LogEntry>,
    /// Where the page before this one ends; `None` when nothing lies before.
    pub first: Option<Cursor>,
    /// Where what follows begins.
    pub next: Cursor,
}

impl From<Page> for LogPage {
    fn from(page: Page) -> Self {
        Self {
            entries: page.entries,
            first_cursor: page.first.map(|cursor| cursor.to_string()),
            next_cursor: page.next.to_string(),
        }
    }
}

/// The log could not be read.
#[derive(Debug, Error)]
pub enum TailError {
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
    Gone,
}

impl TailError {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// The last `lines` lines that pass the filter, those before the line of `before` if it is given.
///
/// # Errors
///
/// The log cannot be read, or `before` is gone.
pub fn last_lines(
    path: &Path,
    lines: usize,
    filter: &Filter,
    before: Option<Cursor>,
) -> Result<Page, TailError> {
    let walk = Walk::new(path, before)?;
    page(walk, lines, filter).map_err(TailError::io(path))
}

/// The page of [`last_lines`] if little has to be read for it, which is done before another thread is awake. `None` says
/// nothing about the log.
#[must_use]
pub fn last_lines_at_hand(path: &Path, lines: usize) -> Option<Page> {
    let walk = Walk::at_hand(path, lines)?;
    page(walk, lines, &Filter::default()).ok()
}

fn page(mut walk: Walk<'_>, lines: usize, filter: &Filter) -> io::Result<Page> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let bound = Some(MAX_SEARCHED_BYTES);
    let found = walk.search(lines, filter, bound, |line| {
        let entry = line.entry();
        bytes += entry.line.len();
        entries.push(entry);
        bytes < MAX_PAGE_BYTES
    })?;
    entries.reverse();
    Ok(Page {
        entries,
        first: found.first,
        next: found.next,
    })
}

/// The lines of [`last_lines`] without a bound on their number: they are read when they are asked for. Only a search with
/// a filter has a bound.
///
/// # Errors
///
/// The log cannot be read, or `before` is gone.
pub fn last_lines_as_text(
    path: &Path,
    lines: usize,
    filter: Filter,
    before: Option<Cursor>,
) -> Result<TextLines, TailError> {
    let walk = Walk::new(path, before)?;
    text_lines(walk, lines, filter).map_err(TailError::io(path))
}

/// All the text of [`last_lines_as_text`], under the conditions of [`last_lines_at_hand`], and the lines without it.
#[must_use]
pub fn text_at_hand(path: &Path, lines: usize) -> Option<(Vec<u8>, TextLines)> {
    let walk = Walk::at_hand(path, lines)?;
    let mut lines = text_lines(walk, lines, Filter::default()).ok()?;
    let mut text = Vec::new();
    while let Some(block) = lines.next_block().ok()? {
        text.extend(block);
    }
    Some((text, lines))
}

fn text_lines(mut walk: Walk<'_>, lines: usize, filter: Filter) -> io::Result<TextLines> {
    let bound = (!filter.is_empty()).then_some(MAX_SEARCHED_BYTES);
    let found = walk.search(lines, &filter, bound, |_| true)?;
    Ok(TextLines {
        first: found.first,
        next: found.next,
        filter,
        parts: walk.parts,
        reading: None,
        buffer: Vec::new(),
    })
}

/// Where the last `lines` finished lines begin that pass the filter, as far as that is searched for; the files from there
/// on. `None` when there is no log yet.
pub(super) fn start_of_last(
    path: &Path,
    lines: usize,
    filter: &Filter,
) -> io::Result<Option<(Arc<Segment>, u64)>> {
    let Some(mut walk) = Walk::from_last_finished(path)? else {
        return Ok(None);
    };
    walk.search(lines, filter, Some(MAX_SEARCHED_BYTES), |_| true)?;
    let oldest = walk.parts.iter().position(|part| part.start < part.end);
    let oldest = oldest.unwrap_or(walk.parts.len() - 1);
    Ok(walk
        .parts
        .remove(oldest)
        .map(|part| (part.segment, part.start)))
}

/// Lines that were found and are read as they are asked for.
#[derive(Debug)]
pub struct TextLines {
    /// As in [`Page`].
    pub first: Option<Cursor>,
    /// As in [`Page`].
    pub next: Cursor,
    filter: Filter,
    /// Oldest first.
    parts: VecDeque<Part>,
    reading: Option<(Forward, u64)>,
    buffer: Vec<u8>,
}

impl TextLines {
    /// The next lines, about a block of them; `None` at the end.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn next_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some((forward, end)) = &mut self.reading else {
                let Some(part) = self.parts.pop_front() else {
                    return Ok(None);
                };
                self.reading = Some((Forward::new(part.segment, part.start), part.end));
                continue;
            };
            let wanted = to_usize((*end - forward.reached()).min(BLOCK));
            self.buffer.resize(wanted, 0);
            let mut text = Vec::new();
            let mut take = |line: &RawLine<'_>| {
                if self.filter.judge(line.bytes) == Verdict::Wanted {
                    text.extend_from_slice(line.text().as_bytes());
                    text.push(b'\n');
                }
            };
            if !forward.read(&mut self.buffer, Some(*end), &mut take)? {
                forward.finish(take);
                self.reading = None;
            }
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
    }
}

struct Found {
    /// The oldest line of those found, or the place that was reached; `None` when nothing lies before.
    first: Option<Cursor>,
    /// The newest of them, or the place where the search began.
    next: Cursor,
}

/// The range of a file in which all lines lie that were found in it; empty when there are none.
#[derive(Debug)]
struct Part {
    segment: Arc<Segment>,
    start: u64,
    end: u64,
}

/// Walks from a place towards the start of the log, one line at a time.
struct Walk<'a> {
    older: Segments<'a>,
    reader: Backwards,
    /// Oldest first; the first one is of the file it is in.
    parts: VecDeque<Part>,
    walked: u64,
}

impl<'a> Walk<'a> {
    fn new(path: &'a Path, before: Option<Cursor>) -> Result<Self, TailError> {
        let fail = TailError::io(path);
        let mut older = newest_first(path);
        loop {
            let segment = older.next().transpose().map_err(&fail)?;
            let segment = match (segment, before) {
                (Some(segment), _) => segment,
                (None, Some(_)) => return Err(TailError::Gone),
                (None, None) => return Err(fail(io::ErrorKind::NotFound.into())),
            };
            let len = segment.len().map_err(&fail)?;
            let end = match before {
                None => len,
                Some(cursor) if cursor.file != segment.id => continue,
                Some(cursor) if cursor.offset > len => return Err(TailError::Gone),
                Some(cursor) => cursor.offset,
            };
            return Ok(Self::at(older, segment, end));
        }
    }

    /// One that gives up when it would take long.
    fn at_hand(path: &'a Path, lines: usize) -> Option<Self> {
        if lines > AT_HAND_LINES {
            return None;
        }
        let mut walk = Self::new(path, None).ok()?;
        walk.reader.budget = Some(AT_HAND_BYTES);
        Some(walk)
    }

    /// From the end of the last line that is finished, in the newest file that has any content. `None` when there is no
    /// file.
    fn from_last_finished(path: &'a Path) -> io::Result<Option<Self>> {
        let mut older = newest_first(path);
        let Some(newest) = older.next().transpose()? else {
            return Ok(None);
        };
        let mut walk = Self::at(older, Arc::clone(&newest), newest.len()?);
        match walk.previous_line()? {
            None => walk = Self::at(newest_first(path), newest, 0),
            Some(line) => {
                let end = line.offset + if line.terminated { line.len } else { 0 };
                walk.step_to(end);
            }
        }
        Ok(Some(walk))
    }

    fn at(older: Segments<'a>, segment: Arc<Segment>, end: u64) -> Self {
        Self {
            older,
            reader: Backwards::new(Arc::clone(&segment), end),
            parts: VecDeque::from([Part {
                segment,
                start: end,
                end,
            }]),
            walked: 0,
        }
    }

    /// Makes this place of the file it is in the beginning of the walk.
    fn step_to(&mut self, end: u64) {
        self.parts.truncate(1);
        if let Some(part) = self.parts.front_mut() {
            (part.start, part.end) = (end, end);
        }
        self.reader.end = end;
        self.walked = 0;
    }

    fn place(&self) -> Cursor {
        Cursor {
            file: self.reader.segment.id,
            offset: self.reader.end,
            len: 0,
        }
    }

    fn search(
        &mut self,
        lines: usize,
        filter: &Filter,
        bound: Option<u64>,
        mut take: impl FnMut(&RawLine<'_>) -> bool,
    ) -> io::Result<Found> {
        let (mut first, mut last) = (None, None);
        let mut begin = self.place();
        let mut found = 0;
        let mut wants_more = true;
        let has_older = loop {
            if found >= lines || !wants_more || bound.is_some_and(|bound| self.walked >= bound) {
                break self.has_older()?;
            }
            let Some(line) = self.previous_line()? else {
                break false;
            };
            if self.walked == 0 && !line.terminated {
                // It may be finished later; what follows begins with it then.
                begin = self.place();
            }
            let raw = self.reader.raw(&line)?;
            match filter.judge(raw.bytes) {
                Verdict::TooOld => {
                    // Not part of what was found.
                    self.reader.end = line.offset + line.len;
                    break false;
                }
                Verdict::Wanted => {
                    first = Some(raw.cursor);
                    last = last.or(first);
                    found += 1;
                    wants_more = take(&raw);
                    if let Some(part) = self.parts.front_mut() {
                        part.start = line.offset;
                    }
                }
                Verdict::Unwanted => first = None,
            }
            self.walked += line.len;
        };
        Ok(Found {
            first: has_older.then_some(first.unwrap_or(self.place())),
            next: last.unwrap_or(begin),
        })
    }

    fn previous_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.reader.previous_line()? {
                return Ok(Some(line));
            }
            if !self.go_to_older()? {
                return Ok(None);
            }
        }
    }

    /// Whether anything lies before.
    fn has_older(&mut self) -> io::Result<bool> {
        while self.reader.end == 0 {
            if !self.go_to_older()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn go_to_older(&mut self) -> io::Result<bool> {
        if self.reader.budget.is_some() {
            // Directories have to be read for that.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(segment) = self.older.next().transpose()? else {
            return Ok(false);
        };
        let end = segment.len()?;
        self.reader = Backwards::new(Arc::clone(&segment), end);
        self.parts.push_front(Part {
            segment,
            start: end,
            end,
        });
        Ok(true)
    }
}

struct Line {
    offset: u64,
    /// With its newline.
    len: u64,
    terminated: bool,
}

/// The same within one file, holding one block of it.
struct Backwards {
    segment: Arc<Segment>,
    /// End of what has not been returned yet.
    end: u64,
    block: Vec<u8>,
    block_offset: u64,
    next_block: u64,
    /// How much may still be read, if that is limited.
    budget: Option<u64>,
}

impl Backwards {
    fn new(segment: Arc<Segment>, end: u64) -> Self {
        Self {
            segment,
            end,
            block: Vec::new(),
            block_offset: end,
            next_block: FIRST_BLOCK,
            budget: None,
        }
    }

    fn previous_line(&mut self) -> io::Result<Option<Line>> {
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
        let line = Line {
            offset: start,
            len: self.end - start,
            terminated,
        };
        self.end = start;
        Ok(Some(line))
    }

    fn raw(&mut self, line: &Line) -> io::Result<RawLine<'_>> {
        let cursor = Cursor {
            file: self.segment.id,
            offset: line.offset,
            len: line.len,
        };
        Ok(RawLine {
            cursor,
            bytes: self.content(line)?,
            terminated: line.terminated,
        })
    }

    /// At most the first [`MAX_LINE_BYTES`] of the line, without its newline.
    fn content(&mut self, line: &Line) -> io::Result<&[u8]> {
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
        let len = end.min(self.next_block);
        self.next_block = BLOCK;
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
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, content).unwrap();
        (directory, path)
    }

    fn numbered(count: usize) -> String {
        let lines: Vec<String> = (0..count).map(|n| format!("line {n}\n")).collect();
        lines.concat()
    }

    fn lines(path: &Path, count: usize) -> Vec<String> {
        let page = last_lines(path, count, &Filter::default(), None).unwrap();
        page.entries.into_iter().map(|entry| entry.line).collect()
    }

    #[test]
    fn agrees_with_splitting_the_whole_text() {
        let long = "x".repeat(to_usize(BLOCK) * 2 + 17);
        let exact = "y".repeat(to_usize(BLOCK) - 1);
        let contents = [
            String::new(),
            "\n".into(),
            "a".into(),
            "a\n".into(),
            "a\n\n\nb".into(),
            format!("{exact}\n{exact}\nend\n"),
            format!("first\n{}\nlast", "z".repeat(to_usize(BLOCK))),
            numbered(20_000),
        ];
        for content in &contents {
            let (_keep, path) = log(content.as_bytes());
            let all: Vec<&str> = content.lines().collect();
            for count in [1, 2, 50, 100_000] {
                let expected = &all[all.len().saturating_sub(count)..];
                assert_eq!(
                    lines(&path, count),
                    expected,
                    "{} bytes, {count}",
                    content.len()
                );
            }
        }
        let (_keep, path) = log(format!("first\n{long}\nlast\n").as_bytes());
        let found = lines(&path, 3);
        assert_eq!((found[0].as_str(), found[2].as_str()), ("first", "last"));
        assert!(found[1].ends_with(&format!(
            "[cut: {MAX_LINE_BYTES} of {} bytes shown]",
            long.len()
        )));
    }

    #[test]
    fn pages_back_without_gap_or_repeat() {
        let content = numbered(100);
        let (_keep, path) = log(content.as_bytes());
        let mut before = None;
        let mut collected = Vec::new();
        loop {
            let page = last_lines(&path, 7, &Filter::default(), before).unwrap();
            collected.splice(0..0, page.entries.into_iter().map(|entry| entry.line));
            before = page.first;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(collected.join("\n") + "\n", content);
    }

    #[test]
    fn what_is_at_hand_is_the_same_page_and_what_is_not_is_left() {
        let content = numbered(1_000);
        let (_keep, path) = log(content.as_bytes());
        for lines in [1, 50, AT_HAND_LINES] {
            let at_hand = last_lines_at_hand(&path, lines).unwrap();
            let page = last_lines(&path, lines, &Filter::default(), None).unwrap();
            assert_eq!(at_hand.entries, page.entries);
            assert_eq!((at_hand.first, at_hand.next), (page.first, page.next));
        }
        assert!(last_lines_at_hand(&path, AT_HAND_LINES + 1).is_none());
        let (_keep, path) = log(&vec![b'x'; 1_000_000]);
        assert!(last_lines_at_hand(&path, 1).is_none());
    }

    #[test]
    fn any_bytes_can_be_read() {
        let (_keep, path) = log(b"\xff\xfe\0\x1b[31m\nnext\r\n");
        assert_eq!(lines(&path, 5), ["\u{fffd}\u{fffd}\0\x1b[31m", "next\r"]);
    }
}
