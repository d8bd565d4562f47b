//! Reading one file of the log backwards, block by block, line by line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use memchr::memrchr;

use super::line::{MAX_LINE_BYTES, RawLine};
use crate::logs::cursor::Cursor;
use crate::logs::files::Segment;

pub(crate) const BLOCK_BYTES: u64 = 64 * 1024;
/// The size of the first block: enough for the usual 50 lines.
const FIRST_BLOCK_BYTES: u64 = 16 * 1024;

/// The bytes of a line.
pub(crate) struct LineSpan {
    pub offset: u64,
    /// Including the newline.
    pub len: u64,
    pub terminated: bool,
}

/// Reads the lines of a file backwards. Holds one block of the file.
pub(crate) struct ReverseLines {
    pub segment: Arc<Segment>,
    /// The content of an archive.
    extracted: Option<File>,
    /// The content of the archive ends at a damage.
    pub is_damaged: bool,
    /// The lines before this offset were not returned yet.
    pub end: u64,
    block: Vec<u8>,
    block_offset: u64,
    next_block_len: u64,
    /// How many bytes may still be read; `None` for no limit.
    pub budget: Option<u64>,
}

impl ReverseLines {
    /// Begins at the end of the file. An archive is decompressed, unless `is_wanted` returns false.
    pub fn open(segment: Arc<Segment>, is_wanted: &dyn Fn() -> bool) -> io::Result<Self> {
        let (extracted, end, is_damaged) = match segment.archive() {
            None => (None, segment.len()?.unwrap_or(0), false),
            Some(archive) => {
                let content = archive.extract(is_wanted)?;
                (Some(content.file), content.len, content.is_damaged)
            }
        };
        Ok(Self {
            segment,
            extracted,
            is_damaged,
            end,
            block: Vec::new(),
            block_offset: end,
            next_block_len: FIRST_BLOCK_BYTES,
            budget: None,
        })
    }

    /// Continues before this offset.
    pub fn seek(&mut self, end: u64) {
        self.end = end;
        self.block.clear();
        self.block_offset = end;
    }

    pub fn previous_line(&mut self) -> io::Result<Option<LineSpan>> {
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

    pub fn raw_line(&mut self, line: &LineSpan) -> io::Result<RawLine<'_>> {
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

    /// The first [`MAX_LINE_BYTES`] of the line at most, without its newline.
    fn line_bytes(&mut self, line: &LineSpan) -> io::Result<&[u8]> {
        let wanted = to_usize(line.len - u64::from(line.terminated)).min(MAX_LINE_BYTES);
        let loaded = self.block_offset + self.block.len() as u64;
        if line.offset < self.block_offset || line.offset + wanted as u64 > loaded {
            self.load(line.offset, wanted)?;
        }
        let start = to_usize(line.offset - self.block_offset);
        Ok(&self.block[start..start + wanted])
    }

    pub fn byte_before(&mut self, offset: u64) -> io::Result<u8> {
        if offset <= self.block_offset || offset > self.block_offset + self.block.len() as u64 {
            self.load_before(offset)?;
        }
        Ok(self.block[to_usize(offset - 1 - self.block_offset)])
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
        if let Some(extracted) = &self.extracted {
            return extracted.read_exact_at(&mut self.block, offset);
        }
        // Less is there if the file was truncated.
        match self.segment.read_at(&mut self.block, offset)? {
            read if read == len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Converts differences of offsets within a block, and lengths that are capped afterwards.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
