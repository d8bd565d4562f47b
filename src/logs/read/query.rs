//! Queries for the last lines of the log.
//!
//! The log is searched backwards from its end, from file to file. The cost is that of the returned
//! lines, and with a filter that of the searched bytes, which are limited.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filter::Filter;
use super::line::{Entry, RawLine};
use super::lines::Position;
use super::result::QueryResult;
use super::scan::{IncompleteFile, ReadError, ReverseScan, ScanResult};
use crate::logs::cursor::Cursor;
use crate::logs::files::current_file;

/// A page ends early if its lines exceed this size together, so that ten thousand long lines do not
/// fill the memory.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// A search ends early after this many bytes. The next page continues there.
const MAX_SEARCH_BYTES: u64 = 64 * 1024 * 1024;
/// How many bytes may be read on a thread that serves requests, and how many lines parsed.
const MAX_INLINE_BYTES: u64 = 128 * 1024;
const MAX_INLINE_LINES: usize = 200;

/// A query for the last lines of the log.
#[derive(Debug, Clone)]
pub struct TailQuery {
    path: PathBuf,
    lines: usize,
    filter: Filter,
    before: Option<Cursor>,
    max_bytes: Option<usize>,
    inline: bool,
}

impl TailQuery {
    /// The last `lines` lines of the log at `path`, limited to one page.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, lines: usize) -> Self {
        Self {
            path: path.into(),
            lines,
            filter: Filter::default(),
            before: None,
            max_bytes: Some(MAX_PAGE_BYTES),
            inline: false,
        }
    }

    /// Only lines that match the filter.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// Only lines before the line of this cursor.
    #[must_use]
    pub fn before(self, before: Option<Cursor>) -> Self {
        Self { before, ..self }
    }

    /// Does not limit the size of the lines. Only a search with a filter is limited.
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self {
            max_bytes: None,
            ..self
        }
    }

    /// Fails with `WouldBlock` if much would have to be read. A query that does not fail takes less
    /// time than another thread needs to wake up.
    #[must_use]
    pub fn inline(self) -> Self {
        Self {
            inline: true,
            ..self
        }
    }

    /// Reads the lines.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or the line of `before` no longer exists.
    pub fn page(&self) -> Result<Page, ReadError> {
        let mut entries = Vec::new();
        let mut scan = self.scan(&|| true)?;
        let found = self.search(&mut scan, |line| {
            let entry = line.parse_entry();
            let len = entry.line.len();
            entries.push(entry);
            len
        })?;
        entries.reverse();
        Ok(Page {
            entries,
            first: found.first,
            next: found.next,
            incomplete: scan.incomplete,
        })
    }

    /// Finds the lines, and reads them when the caller asks for them.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or the line of `before` no longer exists.
    pub fn find(self) -> Result<QueryResult, ReadError> {
        self.find_while(&|| true)
    }

    /// As [`Self::find`], but ends the search early, as at its bound, once `is_wanted` returns
    /// false.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or the line of `before` no longer exists.
    pub fn find_while(self, is_wanted: &dyn Fn() -> bool) -> Result<QueryResult, ReadError> {
        let mut scan = self.scan(is_wanted)?;
        let found = self.search(&mut scan, |line| match self.max_bytes {
            Some(_) => line.to_text().len(),
            None => 0,
        })?;
        let ReverseScan {
            ranges,
            oldest,
            incomplete,
            ..
        } = scan;
        let mut result = QueryResult::new(self.path, self.filter, found, ranges, oldest);
        result.incomplete = incomplete;
        Ok(result)
    }

    fn scan<'a>(&'a self, is_wanted: &'a dyn Fn() -> bool) -> Result<ReverseScan<'a>, ReadError> {
        if !self.inline {
            return ReverseScan::new(&self.path, self.before, is_wanted);
        }
        // Without the current file, an archive may be the newest.
        if self.lines > MAX_INLINE_LINES || current_file(&self.path).is_none() {
            return Err(ReadError::io(&self.path)(io::ErrorKind::WouldBlock.into()));
        }
        let scan = ReverseScan::new(&self.path, self.before, is_wanted)?;
        Ok(scan.with_budget(MAX_INLINE_BYTES))
    }

    /// Passes the lines to `take`, newest first. `take` returns the size of the line.
    fn search(
        &self,
        scan: &mut ReverseScan<'_>,
        mut take: impl FnMut(&RawLine<'_>) -> usize,
    ) -> Result<ScanResult, ReadError> {
        let is_limited = self.max_bytes.is_some() || !self.filter.is_empty();
        let bound = is_limited.then_some(MAX_SEARCH_BYTES);
        let mut bytes = 0;
        scan.search(self.lines, &self.filter, bound, |line| {
            bytes += take(line);
            self.max_bytes.is_none_or(|max| bytes < max)
        })
        .map_err(ReadError::io(&self.path))
    }
}

/// A page of the log.
#[derive(Debug)]
pub struct Page {
    /// The lines, oldest first.
    pub entries: Vec<Entry>,
    /// Where the previous page ends; `None` if there are no lines before this page.
    pub first: Option<Cursor>,
    /// Where the lines after this page begin.
    pub next: Cursor,
    /// Compressed files of which lines are missing.
    pub incomplete: Vec<IncompleteFile>,
}

/// The position where the last `lines` complete lines that match the filter begin, as far as the
/// log is searched. `None` if there is no log yet.
pub(crate) fn start_of_last_lines(
    path: &Path,
    lines: usize,
    filter: &Filter,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<Option<Position>> {
    let Some(mut scan) = ReverseScan::from_last_complete_line(path, is_wanted)? else {
        return Ok(None);
    };
    scan.search(lines, filter, Some(MAX_SEARCH_BYTES), |_| true)?;
    let oldest = scan.oldest;
    let range = scan.ranges.iter().find(|range| range.file == oldest.id);
    Ok(range.map(|range| Position::new(Arc::clone(&oldest), range.start)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::logs::archive::Codec;
    use crate::logs::archive::tests::compress;
    use crate::logs::files::{numbered_path, with_suffix};
    use crate::logs::read::line::MAX_LINE_BYTES;
    use crate::logs::read::reverse::{BLOCK_BYTES, to_usize};

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

    fn inline_page(path: &Path, lines: usize) -> Result<Page, ReadError> {
        TailQuery::new(path, lines).inline().page()
    }

    fn lines(path: &Path, count: usize) -> Vec<String> {
        let page = TailQuery::new(path, count).page().unwrap();
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
            "[truncated: {MAX_LINE_BYTES} of {} bytes shown]",
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
            let page = TailQuery::new(&path, 7).before(before).page().unwrap();
            collected.splice(0..0, page.entries.into_iter().map(|entry| entry.line));
            before = page.first;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(collected.join("\n") + "\n", content);
    }

    /// Lines in a log of which all files but the two newest are compressed.
    fn log_with_archives() -> (tempfile::TempDir, PathBuf, Vec<String>) {
        let (directory, path) = log(b"");
        let all: Vec<String> = (0..60)
            .map(|n| format!("line {n} of a log with archives"))
            .collect();
        for (number, lines) in (0..).zip(all.rchunks(12)) {
            let content = lines.join("\n") + "\n";
            let (suffix, bytes) = match number {
                0 => (String::new(), content.into_bytes()),
                1 => (".1".into(), content.into_bytes()),
                _ => {
                    let codec = Codec::ALL[number % 2];
                    let bytes = compress(codec, content.as_bytes());
                    (format!(".{number}{}", codec.suffix()), bytes)
                }
            };
            std::fs::write(with_suffix(&path, suffix), bytes).unwrap();
        }
        (directory, path, all)
    }

    #[test]
    fn pages_go_back_through_archives() {
        let (_directory, path, all) = log_with_archives();
        for page_lines in [1, 7, 12, 100] {
            let mut before = None;
            let mut collected = Vec::new();
            loop {
                let query = TailQuery::new(&path, page_lines).before(before);
                let page = query.page().unwrap();
                let mut found = query.unlimited().find().unwrap();
                let entries = page.entries.iter().map(|entry| format!("{}\n", entry.line));
                let text = found.read_text().unwrap();
                assert_eq!(
                    String::from_utf8(text).unwrap(),
                    entries.collect::<String>()
                );
                collected.splice(0..0, page.entries.into_iter().map(|entry| entry.line));
                before = page.first;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(collected, all);
        }
        let filter = Filter {
            contains: Some("line 1 ".into()),
            ..Filter::default()
        };
        let page = TailQuery::new(&path, 5).filter(filter).page().unwrap();
        assert_eq!(page.entries.len(), 1);
        // The cursor stays valid in the next rotation.
        let renamed = with_suffix(&path, ".5.gz");
        std::fs::rename(with_suffix(&path, ".4.gz"), renamed).unwrap();
        let line = page.entries[0].cursor;
        let page = TailQuery::new(&path, 5).before(Some(line)).page().unwrap();
        assert_eq!(page.entries.len(), 1);
        assert!(page.entries[0].line.starts_with("line 0 "));
        // The client has disconnected before an archive is entered, but not the newer files.
        let found = TailQuery::new(&path, 24)
            .unlimited()
            .find_while(&|| true)
            .unwrap();
        assert!(found.first.is_some());
    }

    /// Compression, as by logrotate, never hides a line, and never shows one twice.
    #[test]
    fn pages_are_whole_while_files_are_compressed() {
        const ROUNDS: usize = 60;
        let (_directory, path) = log(b"");
        let suffixed = |suffix: String| with_suffix(&path, suffix);
        let write = |round: usize| {
            let lines = (3 * round..3 * round + 3).map(|n| format!("line {n} with enough text\n"));
            std::fs::write(&path, lines.collect::<String>()).unwrap();
        };
        write(0);
        let rounds = AtomicUsize::new(0);
        let (begin, begins) = std::sync::mpsc::sync_channel(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A rotation for each listing.
                for (round, ()) in (0..ROUNDS).zip(begins) {
                    for number in (1..=round).rev() {
                        let from = suffixed(format!(".{number}.gz"));
                        std::fs::rename(from, suffixed(format!(".{}.gz", number + 1))).unwrap();
                    }
                    let rotated = numbered_path(&path, 1);
                    std::fs::rename(&path, &rotated).unwrap();
                    write(round + 1);
                    rounds.store(round + 1, Ordering::SeqCst);
                    let archive = compress(Codec::Gzip, &std::fs::read(&rotated).unwrap());
                    // It is incomplete at first.
                    let mut file = File::create(suffixed(".1.gz".into())).unwrap();
                    file.write_all(&archive[..20]).unwrap();
                    file.write_all(&archive[20..]).unwrap();
                    std::fs::remove_file(rotated).unwrap();
                }
            });
            // Dropped if an assertion fails.
            let begin = begin;
            while begin.send(()).is_ok() {
                let at_least = 3 * (rounds.load(Ordering::SeqCst) + 1);
                let found = lines(&path, 10_000);
                let expected = (0..found.len()).map(|n| format!("line {n} with enough text"));
                assert_eq!(found, expected.collect::<Vec<_>>());
                assert!(found.len() >= at_least, "{} of {at_least}", found.len());
            }
        });
        assert_eq!(lines(&path, 10_000).len(), 3 * (ROUNDS + 1));
    }

    #[test]
    fn cursor_within_a_line_means_before_that_line() {
        let (_keep, path) = log(b"first\nsecond\nthird");
        let page = TailQuery::new(&path, 3).page().unwrap();
        for (offset, expected) in [(0, 0), (3, 0), (6, 1), (12, 1), (13, 2), (15, 2)] {
            let before = Cursor {
                offset,
                ..page.next
            };
            let page = TailQuery::new(&path, 3)
                .before(Some(before))
                .page()
                .unwrap();
            let lines: Vec<_> = page.entries.iter().map(|entry| &entry.line).collect();
            assert_eq!(lines, ["first", "second"][..expected], "{offset}");
        }
    }

    #[test]
    fn inline_page_is_the_same_and_large_reads_are_refused() {
        let content = numbered(1_000);
        let (_keep, path) = log(content.as_bytes());
        for lines in [1, 50, MAX_INLINE_LINES] {
            let inlined = inline_page(&path, lines).unwrap();
            let page = TailQuery::new(&path, lines).page().unwrap();
            assert_eq!(inlined.entries, page.entries);
            assert_eq!((inlined.first, inlined.next), (page.first, page.next));
        }
        assert!(inline_page(&path, MAX_INLINE_LINES + 1).is_err());
        let (_keep, path) = log(&vec![b'x'; 1_000_000]);
        assert!(inline_page(&path, 1).is_err());
    }

    #[test]
    fn arbitrary_bytes_can_be_read() {
        let (_keep, path) = log(b"\xff\xfe\0\x1b[31m\nnext\r\n");
        assert_eq!(lines(&path, 5), ["\u{fffd}\u{fffd}\0\x1b[31m", "next\r"]);
    }

    #[test]
    fn results_survive_rotation_and_fail_at_removed_files() {
        let (_keep, path) = log(b"three\n");
        let rotated = |number| numbered_path(&path, number);
        std::fs::write(rotated(1), "two\n").unwrap();
        std::fs::write(rotated(2), "one\n").unwrap();
        let find = || TailQuery::new(&path, 10).unlimited().find().unwrap();
        let mut lines = find();
        for (from, to) in [(rotated(2), rotated(3)), (rotated(1), rotated(2))] {
            std::fs::rename(from, to).unwrap();
        }
        std::fs::rename(&path, rotated(1)).unwrap();
        std::fs::write(&path, "four\n").unwrap();
        // The oldest file is the next to be removed, and is held open.
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
