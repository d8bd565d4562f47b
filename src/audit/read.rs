//! Reads records backwards.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use memchr::{memchr, memrchr};

use super::files;
use super::record::Record;

const CHUNK_BYTES: u64 = 64 * 1024;
/// A longer line is no record, and more bytes between two records are no torn lines. A writer may be
/// interrupted in a batch of records.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;
/// After so many bytes without a record, the rest of a file is not read.
pub(super) const MAX_JUNK_BYTES: u64 = 256 * 1024 * 1024;

/// The last `count` records of the trail of `owner`, oldest first: before the record with the number
/// `before`, if it is given. Lines that are no records are skipped.
///
/// # Errors
///
/// A file cannot be read.
pub fn last_records(
    path: &Path,
    owner: u32,
    count: usize,
    before: Option<u64>,
) -> io::Result<Vec<Record>> {
    retry_if_shortened(|| read_last(path, owner, count, before))
}

/// Reads again if a file was shortened meanwhile. A writer does that once, to remove a torn line.
fn retry_if_shortened<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match read() {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => read(),
        result => result,
    }
}

fn read_last(
    path: &Path,
    owner: u32,
    count: usize,
    before: Option<u64>,
) -> io::Result<Vec<Record>> {
    let mut found = Vec::new();
    // A file that is rotated meanwhile may be found twice.
    let mut before = before.unwrap_or(u64::MAX);
    for file in files::open_all(path, owner)?.files {
        if found.len() >= count {
            break;
        }
        let size = file.file.metadata()?.len();
        let first = first_record(&file.file)?;
        if first.is_some_and(|first| first.seq >= before) {
            continue;
        }
        let mut lines = LinesBackwards::new(&file.file, size, MAX_JUNK_BYTES);
        let mut junk_end = size;
        while found.len() < count
            && junk_end - lines.position() <= MAX_JUNK_BYTES
            && let Some(line) = lines.next_line()?
        {
            let Some(record) = Record::parse(&line.text) else {
                continue;
            };
            junk_end = lines.position();
            if record.seq < before {
                before = record.seq;
                found.push(record);
            }
        }
    }
    found.reverse();
    Ok(found)
}

/// The record in the first line.
fn first_record(file: &File) -> io::Result<Option<Record>> {
    let mut bytes = vec![0; 32 * 1024];
    let len = file.read_at(&mut bytes, 0)?;
    let line = memchr(b'\n', &bytes[..len]).map(|end| &bytes[..end]);
    Ok(line.and_then(Record::parse))
}

/// The end of a file: its last record, and what follows it.
pub(super) struct Tail {
    pub last: Option<Record>,
    /// Bytes after the last record.
    pub torn: Vec<u8>,
    /// Whether the file ends in the middle of a line, or only the newline of its last record is
    /// missing.
    pub lacks_newline: bool,
    /// More bytes follow the last record than a writer leaves. They are not read.
    pub is_junk: bool,
}

impl Tail {
    pub fn read(file: &File, size: u64) -> io::Result<Self> {
        let mut lines = LinesBackwards::new(file, size, MAX_LINE_BYTES as u64);
        let mut last = None;
        let mut end = 0;
        let mut lacks_newline = false;
        while let Some(line) = lines.next_line()? {
            lacks_newline |= !line.is_complete;
            if let Some(record) = Record::parse(&line.text) {
                last = Some(record);
                end = line.end;
                break;
            }
            if size - lines.position() > MAX_LINE_BYTES as u64 {
                return Ok(Self {
                    last: None,
                    torn: Vec::new(),
                    lacks_newline,
                    is_junk: true,
                });
            }
        }
        let len = usize::try_from(size - end).unwrap_or(usize::MAX);
        let mut torn = vec![0; len];
        file.read_exact_at(&mut torn, end)?;
        Ok(Self {
            last,
            torn,
            lacks_newline,
            is_junk: false,
        })
    }
}

/// A line without its newline.
pub(super) struct Line {
    /// Empty if the line is longer than a record.
    pub text: Vec<u8>,
    /// The offset after its newline.
    pub end: u64,
    /// Whether it has a newline.
    pub is_complete: bool,
}

/// Reads the lines of a file from its end.
pub(super) struct LinesBackwards<'a> {
    file: &'a File,
    /// The offset of `buffer`.
    start: u64,
    buffer: Vec<u8>,
    /// A line that is longer ends the search.
    max_skipped: u64,
}

impl<'a> LinesBackwards<'a> {
    pub fn new(file: &'a File, size: u64, max_skipped: u64) -> Self {
        Self {
            file,
            start: size,
            buffer: Vec::new(),
            max_skipped,
        }
    }

    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let is_complete = self.buffer.last() == Some(&b'\n');
            let text_end = self.buffer.len() - usize::from(is_complete);
            let newline = memrchr(b'\n', &self.buffer[..text_end]);
            if newline.is_none() && text_end > MAX_LINE_BYTES {
                return self.skip_line(is_complete).map(Some);
            }
            if newline.is_none() && self.start > 0 {
                self.read_chunk()?;
                continue;
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let line_start = newline.map_or(0, |at| at + 1);
            let line = Line {
                text: self.buffer[line_start..text_end].to_vec(),
                end: self.start + self.buffer.len() as u64,
                is_complete,
            };
            self.buffer.truncate(line_start);
            return Ok(Some(line));
        }
    }

    /// The offset that has been reached: lines before it have not been returned.
    pub fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Skips a line that is too long for memory, of which `buffer` has the end.
    fn skip_line(&mut self, is_complete: bool) -> io::Result<Line> {
        let end = self.position();
        loop {
            self.buffer.clear();
            if self.start == 0 || end - self.start > self.max_skipped {
                self.start = 0;
                break;
            }
            self.read_chunk()?;
            if let Some(at) = memrchr(b'\n', &self.buffer) {
                self.buffer.truncate(at + 1);
                break;
            }
        }
        Ok(Line {
            text: Vec::new(),
            end,
            is_complete,
        })
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        // A long line is read in larger and larger chunks.
        let wanted = CHUNK_BYTES.max(self.buffer.len() as u64);
        let len = wanted.min(self.start);
        let mut chunk = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut chunk, self.start - len)?;
        self.start -= len;
        chunk.append(&mut self.buffer);
        self.buffer = chunk;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_shortened_meanwhile_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        std::fs::write(&path, "torn").unwrap();
        let file = File::open(&path).unwrap();
        let read = || {
            let size = file.metadata()?.len();
            let mut lines = LinesBackwards::new(&file, size, MAX_JUNK_BYTES);
            std::fs::write(&path, "")?;
            Ok(lines.next_line()?.is_none())
        };
        assert!(retry_if_shortened(read).unwrap());
    }
}
