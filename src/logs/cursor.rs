//! A place in the log, for good.
//!
//! A cursor names the bytes of one line: the file by inode and birth time, which survive its renaming and
//! tell it from a later file that got the same inode, and in it the line's offset and length. So "before" and
//! "after" a line are both found without reading anything.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use thiserror::Error;

/// Which file, whatever it is called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not keep it.
    created: u64,
}

impl FileId {
    /// Whether it was made after another one; false where that is not known.
    pub(super) fn is_newer_than(self, other: Self) -> bool {
        other.created > 0 && self.created > other.created
    }

    /// The identity of an open file.
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
    /// The file.
    pub file: FileId,
    /// Where the line begins.
    pub offset: u64,
    /// How long it is, its newline included. 0 names the place itself.
    pub len: u64,
}

impl Cursor {
    /// Where the next line begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileId {
            inode,
            created: born,
        } = self.file;
        write!(f, "{inode:x}-{born:x}-{:x}-{:x}", self.offset, self.len)
    }
}

/// Not a cursor.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("is not a cursor of this log: pass one back as it was received")]
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
