//! The succession of the log's files, as their writer saw it.
//!
//! A reader can read a file that it holds open to its end, also after logrotate has compressed it,
//! moved it to another directory or truncated it. The directory does not tell which file continues
//! it, and whether there was another one in between. The writer in the same process knows. A reader
//! in another process has an empty history.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cursor::FileId;

/// How many files are remembered.
const MAX_ENDS: usize = 64;

/// Shared by the writer of a log and its readers.
#[derive(Debug, Default)]
pub(crate) struct FileHistory(Mutex<Succession>);

#[derive(Debug, Default)]
struct Succession {
    /// The file that is written, and its size after the last write.
    current: Option<(FileId, u64)>,
    /// In their order. Without truncations, each begins with the file that continued the last one.
    ends: VecDeque<FileEnd>,
}

impl Succession {
    /// Whether only one file had this identity. A file system may reuse it within a tick of its
    /// clock.
    fn is_unique(&self, file: FileId) -> bool {
        let is_current = self.current.is_some_and(|(current, _)| current == file);
        let ends = self.ends.iter();
        let ended = ends.filter(|end| end.file == file && end.next != file);
        ended.count() + usize::from(is_current) <= 1
    }
}

/// The writer left a file, or found it truncated.
#[derive(Debug)]
struct FileEnd {
    file: FileId,
    /// The size that the file had.
    len: u64,
    /// The file that continues it: itself after a truncation.
    next: FileId,
}

/// A file that continued another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Successor {
    pub file: FileId,
    /// Whether no lines are in between.
    pub is_direct: bool,
}

impl Successor {
    pub fn direct(file: FileId) -> Self {
        Self {
            file,
            is_direct: true,
        }
    }
}

impl FileHistory {
    /// The writer writes to this file from now on. The one before, if any, had this size.
    pub fn continue_in(&self, file: FileId, size: u64, len_before: u64) {
        let mut succession = self.lock();
        let previous = succession.current.replace((file, size));
        if let Some((previous, _)) = previous {
            if succession.ends.len() == MAX_ENDS {
                succession.ends.pop_front();
            }
            succession.ends.push_back(FileEnd {
                file: previous,
                len: len_before,
                next: file,
            });
        }
    }

    /// The file has this size after a write.
    pub fn set_size(&self, size: u64) {
        if let Some((_, current)) = &mut self.lock().current {
            *current = size;
        }
    }

    pub fn is_current(&self, file: FileId) -> bool {
        self.lock()
            .current
            .is_some_and(|(current, _)| current == file)
    }

    /// The files that continued this one, in order.
    pub fn successors(&self, file: FileId) -> Vec<Successor> {
        let succession = self.lock();
        let mut successors: Vec<Successor> = Vec::new();
        let mut ends = succession.ends.iter();
        let Some(start) = ends.position(|end| end.file == file && end.next != file) else {
            return successors;
        };
        let mut is_direct = succession.is_unique(file);
        for end in succession.ends.range(start..) {
            is_direct &= end.file == file || end.len == 0;
            if end.next != end.file {
                successors.push(Successor {
                    file: end.next,
                    is_direct,
                });
            }
        }
        successors
    }

    /// Whether the writer wrote nothing after this offset before it left the file, or if it is the
    /// current one, up to now.
    pub fn ends_before(&self, file: FileId, offset: u64) -> bool {
        let succession = self.lock();
        if !succession.is_unique(file) {
            return false;
        }
        let current = succession.current.filter(|(current, _)| *current == file);
        let len = current.map(|(_, size)| size).or_else(|| {
            let mut ends = succession.ends.iter().rev();
            ends.find(|end| end.file == file && end.next != file)
                .map(|end| end.len)
        });
        len.is_some_and(|len| len <= offset)
    }

    /// Whether the writer wrote nothing after this offset before the file was truncated. `size`
    /// returns its present size.
    pub fn ended_before_truncation(
        &self,
        file: FileId,
        offset: u64,
        size: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<bool> {
        // While this is locked, the writer does not notice the truncation.
        let succession = self.lock();
        let size = size()?;
        let len = match succession.current {
            Some((current, len)) if current == file && len > size => Some(len),
            _ => {
                let mut ends = succession.ends.iter().rev();
                ends.find(|end| end.file == file && end.next == file)
                    .map(|end| end.len)
            }
        };
        Ok(len.is_some_and(|len| len <= offset))
    }

    fn lock(&self) -> MutexGuard<'_, Succession> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32) -> FileId {
        let cursor: crate::logs::Cursor = format!("{number:x}-1-0-0").parse().unwrap();
        cursor.file
    }

    fn successors(history: &FileHistory, number: u32) -> Vec<(FileId, bool)> {
        let all = history.successors(file(number)).into_iter();
        all.map(|next| (next.file, next.is_direct)).collect()
    }

    #[test]
    fn successor_is_direct_if_only_empty_files_are_in_between() {
        let history = FileHistory::default();
        history.continue_in(file(1), 0, 0);
        assert_eq!(successors(&history, 1), []);
        history.continue_in(file(2), 0, 10);
        history.continue_in(file(3), 0, 0);
        history.continue_in(file(4), 0, 5);
        let expected = [(file(2), true), (file(3), true), (file(4), false)];
        assert_eq!(successors(&history, 1), expected);
        assert_eq!(successors(&history, 3), [(file(4), true)]);
        assert!(history.is_current(file(4)) && !history.is_current(file(3)));
        assert!(history.ends_before(file(3), 5) && !history.ends_before(file(3), 4));
        assert!(!history.ends_before(file(9), 100));
    }

    #[test]
    fn truncation_is_compared_with_what_was_written() {
        let history = FileHistory::default();
        history.continue_in(file(1), 100, 0);
        let ended = |offset, size| {
            history
                .ended_before_truncation(file(1), offset, || Ok(size))
                .unwrap()
        };
        // The writer does not know yet.
        assert!(ended(100, 0) && !ended(99, 0));
        history.continue_in(file(1), 0, 100);
        history.set_size(30);
        assert!(ended(100, 30) && !ended(99, 30) && !ended(50, 30));
        assert_eq!(successors(&history, 1), []);
        history.continue_in(file(2), 0, 30);
        assert_eq!(successors(&history, 1), [(file(2), true)]);
    }
}
