//! The last lines of the log, read backwards from the end in blocks: the cost is that of what is returned, and with a
//! filter that of what is searched, which has a bound.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use memchr::memrchr;
use thiserror::Error;

use super::cursor::{Cursor, FileId};
use super::entry::{Filter, MAX_LINE_BYTES, entry};
use super::open_for_reading;
use crate::api::{LogEntry, LogPage};

const BLOCK: usize = 64 * 1024;
/// A page ends early when its lines together exceed this, so that ten thousand long lines do not fill memory.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// A page ends early when this much was searched; the next one goes on where it ended.
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

impl std::convert::From<Page> for LogPage {
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

/// The last `lines` lines that pass the filter, those before the line of `before` if it is given.
///
/// # Errors
///
/// The file cannot be read, or `before` is gone.
pub fn last_lines(
    path: &Path,
    lines: usize,
    filter: &Filter,
    before: Option<Cursor>,
) -> Result<Page, TailError> {
    let fail = |source| TailError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open_for_reading(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let id = FileId::of(&metadata);
    let end = match before {
        None => metadata.len(),
        Some(cursor) if cursor.file == id && cursor.offset <= metadata.len() => cursor.offset,
        Some(_) => return Err(TailError::Gone),
    };
    let found = search(&file, id, end, lines, filter).map_err(fail)?;
    let place = |offset| Cursor {
        file: id,
        offset,
        len: 0,
    };
    Ok(Page {
        next: found.last.unwrap_or(place(end)),
        first: (found.reached > 0).then_some(found.first.unwrap_or(place(found.reached))),
        entries: found.entries,
    })
}

/// Where the last `lines` complete lines begin that pass the filter, as far as that is searched for.
pub(super) fn start_of_last(file: &File, lines: usize, filter: &Filter) -> io::Result<u64> {
    let metadata = file.metadata()?;
    let mut end = metadata.len();
    if let Some(last) = Backwards::new(file, end).previous_line()?
        && !last.terminated
    {
        end = last.offset;
    }
    let mut start = end;
    let mut left = lines;
    let mut reader = Backwards::new(file, end);
    while left > 0
        && end - reader.end < MAX_SEARCHED_BYTES
        && let Some(line) = reader.previous_line()?
    {
        if !filter.is_empty() {
            let entry = reader.entry(&line, FileId::of(&metadata))?;
            if filter.is_too_old(&entry) {
                break;
            }
            if !filter.wants(&entry) {
                continue;
            }
        }
        start = line.offset;
        left -= 1;
    }
    Ok(start)
}

struct Found {
    /// Oldest first.
    entries: Vec<LogEntry>,
    /// The oldest of them, when the page is full: the next one goes on before it.
    first: Option<Cursor>,
    last: Option<Cursor>,
    /// How far back was searched.
    reached: u64,
}

fn search(file: &File, id: FileId, end: u64, lines: usize, filter: &Filter) -> io::Result<Found> {
    let mut reader = Backwards::new(file, end);
    let mut found = Found {
        entries: Vec::new(),
        first: None,
        last: None,
        reached: end,
    };
    let mut bytes = 0;
    while found.entries.len() < lines
        && bytes < MAX_PAGE_BYTES
        && end - found.reached < MAX_SEARCHED_BYTES
        && let Some(line) = reader.previous_line()?
    {
        let cursor = line.cursor(id);
        let entry = reader.entry(&line, id)?;
        if filter.is_too_old(&entry) {
            found.reached = 0;
            break;
        }
        found.reached = line.offset;
        if filter.wants(&entry) {
            bytes += entry.line.len();
            found.first = Some(cursor);
            found.last = found.last.or(Some(cursor));
            found.entries.push(entry);
        } else {
            found.first = None;
        }
    }
    found.entries.reverse();
    Ok(found)
}

struct Line {
    offset: u64,
    /// With its newline.
    len: u64,
    terminated: bool,
}

impl Line {
    fn cursor(&self, file: FileId) -> Cursor {
        Cursor {
            file,
            offset: self.offset,
            len: self.len,
        }
    }
}

/// Walks from a place towards the start of the file, one line at a time, holding one block.
struct Backwards<'a> {
    file: &'a File,
    /// End of what has not been returned yet.
    end: u64,
    block: Vec<u8>,
    block_offset: u64,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a File, end: u64) -> Self {
        Self {
            file,
            end,
            block: Vec::new(),
            block_offset: end,
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

    fn entry(&mut self, line: &Line, file: FileId) -> io::Result<LogEntry> {
        Ok(entry(
            line.cursor(file),
            self.content(line)?,
            line.terminated,
        ))
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
        let len = end.min(BLOCK as u64);
        self.load(end - len, to_usize(len))
    }

    fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.block.resize(len, 0);
        self.block_offset = offset;
        self.file.read_exact_at(&mut self.block, offset)
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
        let long = "x".repeat(BLOCK * 2 + 17);
        let exact = "y".repeat(BLOCK - 1);
        let contents = [
            String::new(),
            "\n".into(),
            "a".into(),
            "a\n".into(),
            "a\n\n\nb".into(),
            format!("{exact}\n{exact}\nend\n"),
            format!("first\n{}\nlast", "z".repeat(BLOCK)),
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
    fn any_bytes_can_be_read() {
        let (_keep, path) = log(b"\xff\xfe\0\x1b[31m\nnext\r\n");
        assert_eq!(lines(&path, 5), ["\u{fffd}\u{fffd}\0\x1b[31m", "next\r"]);
    }
}
