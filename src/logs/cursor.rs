//! Permanent names of lines in the log.
//!
//! A cursor names the bytes of one line: the file by inode and creation time, and the offset and
//! length of the line in it. Inode and creation time survive a rename, and tell the file from a
//! later one with the same inode. The lines before and after it are found without an index.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use thiserror::Error;

/// Identifies a file whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    inode: u64,
    /// Nanoseconds since 1970; 0 if the file system does not record it.
    created: u64,
}

impl FileId {
    pub(crate) fn has_creation_time(self) -> bool {
        self.created > 0
    }

    /// Whether this file was created after the other one; false if that is not known.
    pub(crate) fn is_newer_than(self, other: Self) -> bool {
        other.created > 0 && self.created > other.created
    }

    /// The identity of the file with this metadata.
    #[must_use]
    pub fn from_metadata(metadata: &Metadata) -> Self {
        let created = metadata
            .created()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or(0);
        Self {
            inode: metadata.ino(),
            created,
        }
    }
}

/// Names a line. Opaque to clients: hexadecimal numbers with `-` between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The file that contains the line.
    pub file: FileId,
    /// Where the line begins, in bytes.
    pub offset: u64,
    /// Length in bytes, including the newline. 0 names the position at `offset`, not a line.
    pub len: u64,
}

impl Cursor {
    /// The offset of the next line.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileId { inode, created } = self.file;
        write!(f, "{inode:x}-{created:x}-{:x}-{:x}", self.offset, self.len)
    }
}

/// The text is not a valid cursor.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("is not a valid cursor: pass a cursor back exactly as received")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let mut parts = text.split('-').map(|part| {
            let is_canonical = !part.is_empty()
                && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                && (part.len() == 1 || !part.starts_with('0'));
            is_canonical
                .then(|| u64::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(CursorError)
        });
        let mut next = || parts.next().unwrap_or(Err(CursorError));
        let cursor = Self {
            file: FileId {
                inode: next()?,
                created: next()?,
            },
            offset: next()?,
            len: next()?,
        };
        if parts.next().is_some() {
            return Err(CursorError);
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_and_malformed_text_is_rejected() {
        let cursor = Cursor {
            file: FileId {
                inode: 0,
                created: u64::MAX,
            },
            offset: 1 << 40,
            len: 7,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in [
            "",
            "1",
            "1-2-3",
            "1-2-3-4-5",
            "1-2-3-",
            "1-2-3-G",
            "1-2-3-04",
            "1-2-3-+4",
            "1-2--4",
            "1-2-3-FF",
            "11111111111111111-2-3-4",
            "1-2-3-4\n",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad:?}");
        }
    }
}
