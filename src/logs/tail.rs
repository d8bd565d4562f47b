//! The last lines of the log, read backwards from the end in blocks, from file to file: the cost is that of what is
//! returned, and with a filter that of what is searched, which has a bound.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::Cursor;
use super::entry::{Filter, FilterMatch, RawLine};
use super::forward::LineReader;
use super::segments::{Segment, find};
use super::walk::{BLOCK_BYTES, FileRange, ReadError, ReverseScan, to_usize};
use crate::api::{LogEntry, LogPage};

/// A page ends early when its lines together exceed this, so that ten thousand long lines do not fill memory.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// A search ends early when it went through this much; the next one goes on where it ended.
const MAX_SEARCH_BYTES: u64 = 64 * 1024 * 1024;

/// What is read at once to take it apart: of many short lines, entries are far larger than the text.
const ENTRIES_BLOCK_BYTES: u64 = 4 * 1024;

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
) -> Result<Page, ReadError> {
    let walk = ReverseScan::new(path, before)?;
    page(walk, lines, filter).map_err(ReadError::io(path))
}

/// The page of [`last_lines`] if little has to be read for it, which is done before another thread is awake. `None` says
/// nothing about the log.
#[must_use]
pub fn last_lines_at_hand(path: &Path, lines: usize) -> Option<Page> {
    let walk = ReverseScan::with_budget(path, lines)?;
    page(walk, lines, &Filter::default()).ok()
}

fn page(mut walk: ReverseScan<'_>, lines: usize, filter: &Filter) -> io::Result<Page> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    let bound = Some(MAX_SEARCH_BYTES);
    let found = walk.search(lines, filter, bound, |line| {
        let entry = line.parse_entry();
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

/// The page of [`last_lines`], whose lines are read when they are asked for.
///
/// # Errors
///
/// The log cannot be read, or `before` is gone.
pub fn last_lines_found(
    path: &Path,
    lines: usize,
    filter: Filter,
    before: Option<Cursor>,
) -> Result<QueryResult, ReadError> {
    let mut bytes = 0;
    let take = |line: &RawLine<'_>| {
        bytes += line.as_text().len();
        bytes < MAX_PAGE_BYTES
    };
    let walk = ReverseScan::new(path, before)?;
    let bound = Some(MAX_SEARCH_BYTES);
    QueryResult::search(walk, path, lines, filter, bound, take).map_err(ReadError::io(path))
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
) -> Result<QueryResult, ReadError> {
    let walk = ReverseScan::new(path, before)?;
    let bound = (!filter.is_empty()).then_some(MAX_SEARCH_BYTES);
    QueryResult::search(walk, path, lines, filter, bound, |_| true).map_err(ReadError::io(path))
}

/// All the text of [`last_lines_as_text`], under the conditions of [`last_lines_at_hand`], and the lines without it.
#[must_use]
pub fn text_at_hand(path: &Path, lines: usize) -> Option<(Vec<u8>, QueryResult)> {
    let walk = ReverseScan::with_budget(path, lines)?;
    let filter = Filter::default();
    let mut lines = QueryResult::search(walk, path, lines, filter, None, |_| true).ok()?;
    let mut text = Vec::new();
    while let Some(block) = lines.next_block().ok()? {
        text.extend(block);
    }
    Some((text, lines))
}

/// Where the last `lines` finished lines begin that pass the filter, as far as that is searched for; the files from there
/// on. `None` when there is no log yet.
pub(super) fn start_of_last_lines(
    path: &Path,
    lines: usize,
    filter: &Filter,
) -> io::Result<Option<(Arc<Segment>, u64)>> {
    let Some(mut walk) = ReverseScan::from_last_complete_line(path)? else {
        return Ok(None);
    };
    walk.search(lines, filter, Some(MAX_SEARCH_BYTES), |_| true)?;
    let oldest = walk.oldest;
    let part = walk.ranges.iter().find(|part| part.file == oldest.id);
    Ok(part.map(|part| (Arc::clone(&oldest), part.start)))
}

/// Lines that were found and are read as they are asked for. One file is open at a time, however many they are in.
#[derive(Debug)]
pub struct QueryResult {
    /// As in [`Page`].
    pub first: Option<Cursor>,
    /// As in [`Page`].
    pub next: Cursor,
    path: PathBuf,
    filter: Filter,
    /// Oldest first.
    ranges: VecDeque<FileRange>,
    /// The file of the first part.
    oldest: Option<Arc<Segment>>,
    current: Option<(LineReader, u64)>,
    buffer: Vec<u8>,
}

impl QueryResult {
    fn search(
        mut walk: ReverseScan<'_>,
        path: &Path,
        lines: usize,
        filter: Filter,
        bound: Option<u64>,
        take: impl FnMut(&RawLine<'_>) -> bool,
    ) -> io::Result<Self> {
        let found = walk.search(lines, &filter, bound, take)?;
        let mut parts = walk.ranges;
        parts.retain(|part| part.start < part.end);
        Ok(Self {
            first: found.first,
            next: found.next,
            path: path.to_owned(),
            filter,
            oldest: (!parts.is_empty()).then_some(walk.oldest),
            ranges: parts,
            current: None,
            buffer: Vec::new(),
        })
    }

    /// The next lines, about a block of them; `None` at the end.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or a file of it is gone meanwhile.
    pub fn next_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        while text.is_empty() {
            let is_read = self.read_block(BLOCK_BYTES, |line| {
                text.extend_from_slice(line.as_text().as_bytes());
                text.push(b'\n');
            })?;
            if !is_read {
                return Ok(None);
            }
        }
        Ok(Some(text))
    }

    /// The next entries, a few at once, perhaps none; whether anything was left to read.
    ///
    /// # Errors
    ///
    /// As [`Self::next_block`].
    pub fn next_entries(&mut self, mut take: impl FnMut(LogEntry)) -> io::Result<bool> {
        self.read_block(ENTRIES_BLOCK_BYTES, |line| take(line.parse_entry()))
    }

    fn read_block(&mut self, block: u64, mut take: impl FnMut(&RawLine<'_>)) -> io::Result<bool> {
        let (forward, end) = if let Some(reading) = &mut self.current {
            reading
        } else {
            let Some(part) = self.ranges.pop_front() else {
                return Ok(false);
            };
            let segment = match self.oldest.take() {
                Some(oldest) => oldest,
                None => find(&self.path, part.file)?
                    .ok_or_else(|| io::Error::other("a file of the log is gone meanwhile"))?,
            };
            let forward = LineReader::new(segment, part.start);
            self.current.insert((forward, part.end))
        };
        let wanted = to_usize(end.saturating_sub(forward.read_offset()).min(block));
        self.buffer.resize(wanted, 0);
        let filter = &self.filter;
        let mut take = |line: &RawLine<'_>| {
            if filter.evaluate(line) == FilterMatch::Match {
                take(line);
            }
        };
        if !forward.read_block(&mut self.buffer, Some(*end), &mut take)? {
            if forward.read_offset() < *end {
                return Err(io::Error::other("the log file was cut short meanwhile"));
            }
            forward.finish(take);
            self.current = None;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::logs::entry::MAX_LINE_BYTES;
    use crate::logs::segments::numbered_path as numbered_file;
    use crate::logs::walk::MAX_INLINE_LINES;

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
    fn last_lines_agree_with_splitting_the_whole_text() {
        let long = "x".repeat(to_usize(BLOCK_BYTES) * 2 + 17);
        let exact = "y".repeat(to_usize(BLOCK_BYTES) - 1);
        let contents = [
            String::new(),
            "\n".into(),
            "a".into(),
            "a\n".into(),
            "a\n\n\nb".into(),
            format!("{exact}\n{exact}\nend\n"),
            format!("first\n{}\nlast", "z".repeat(to_usize(BLOCK_BYTES))),
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
    fn pages_have_no_gap_and_no_repetition() {
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
    fn cursor_within_a_line_means_before_that_line() {
        let (_keep, path) = log(b"first\nsecond\nthird");
        let page = last_lines(&path, 3, &Filter::default(), None).unwrap();
        for (offset, expected) in [(0, 0), (3, 0), (6, 1), (12, 1), (13, 2), (15, 2)] {
            let before = Cursor {
                offset,
                ..page.next
            };
            let page = last_lines(&path, 3, &Filter::default(), Some(before)).unwrap();
            let lines: Vec<_> = page.entries.iter().map(|entry| &entry.line).collect();
            assert_eq!(lines, ["first", "second"][..expected], "{offset}");
        }
    }

    #[test]
    fn inline_page_is_the_same_and_large_reads_are_refused() {
        let content = numbered(1_000);
        let (_keep, path) = log(content.as_bytes());
        for lines in [1, 50, MAX_INLINE_LINES] {
            let at_hand = last_lines_at_hand(&path, lines).unwrap();
            let page = last_lines(&path, lines, &Filter::default(), None).unwrap();
            assert_eq!(at_hand.entries, page.entries);
            assert_eq!((at_hand.first, at_hand.next), (page.first, page.next));
        }
        assert!(last_lines_at_hand(&path, MAX_INLINE_LINES + 1).is_none());
        let (_keep, path) = log(&vec![b'x'; 1_000_000]);
        assert!(last_lines_at_hand(&path, 1).is_none());
    }

    #[test]
    fn arbitrary_bytes_can_be_read() {
        let (_keep, path) = log(b"\xff\xfe\0\x1b[31m\nnext\r\n");
        assert_eq!(lines(&path, 5), ["\u{fffd}\u{fffd}\0\x1b[31m", "next\r"]);
    }

    #[test]
    fn results_survive_rotation_and_fail_at_removed_files() {
        let (_keep, path) = log(b"three\n");
        let rotated = |number| numbered_file(&path, number);
        std::fs::write(rotated(1), "two\n").unwrap();
        std::fs::write(rotated(2), "one\n").unwrap();
        let find = || last_lines_as_text(&path, 10, Filter::default(), None).unwrap();
        let mut lines = find();
        for (from, to) in [(rotated(2), rotated(3)), (rotated(1), rotated(2))] {
            std::fs::rename(from, to).unwrap();
        }
        std::fs::rename(&path, rotated(1)).unwrap();
        std::fs::write(&path, "four\n").unwrap();
        // The oldest is the next to go, and is held.
        std::fs::remove_file(rotated(3)).unwrap();
        for text in ["one\n", "two\n", "three\n"] {
            let block = lines.next_block().unwrap().unwrap();
            assert_eq!(String::from_utf8(block).unwrap(), text);
        }
        assert!(lines.next_block().unwrap().is_none());
        let mut lines = find();
        std::fs::remove_file(rotated(1)).unwrap();
        assert!(lines.next_block().unwrap().is_some());
        assert!(lines.next_block().is_err());
    }
}
