//! Marks of the daemons that write to a log or an audit file, so that a second one is noticed.
//!
//! Each process of a daemon has a shared lock on one byte of the file, far beyond its end. The byte
//! depends on the PID file, so the processes of a restart have the same. A lock on another byte of
//! the range is another daemon's. The kernel releases the locks however a process ends, and they
//! affect neither readers nor logrotate.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::sys::{FIRST_MARK, has_foreign_lock, open_nofollow, share_byte};

const BYTES: i64 = 1 << 40;

/// The byte that the processes of one daemon lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterMark(i64);

impl WriterMark {
    /// The mark of the daemon with this PID file. `None` if there is no such file.
    #[must_use]
    pub fn of_pid_file(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        // FNV-1a: the next version of the program must find the same byte.
        let bytes = [metadata.dev(), metadata.ino()].map(u64::to_le_bytes);
        let hash = bytes
            .iter()
            .flatten()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        let offset = i64::try_from(hash % BYTES.unsigned_abs()).ok()?;
        Some(Self(FIRST_MARK + offset))
    }

    /// Marks the file until it is closed.
    ///
    /// # Errors
    ///
    /// The file system has no locks.
    pub(crate) fn set(self, file: &File) -> io::Result<()> {
        share_byte(file, self.0)
    }
}

/// Whether a daemon with another mark writes to the file.
///
/// # Errors
///
/// The file cannot be opened, or its file system has no locks.
pub fn has_other_writer(path: &Path, own: Option<WriterMark>) -> io::Result<bool> {
    is_marked_by_another(&open_nofollow(path, OpenOptions::new().read(true))?, own)
}

pub(crate) fn is_marked_by_another(file: &File, own: Option<WriterMark>) -> io::Result<bool> {
    let end = FIRST_MARK + BYTES;
    let Some(WriterMark(byte)) = own else {
        return has_foreign_lock(file, FIRST_MARK..end);
    };
    Ok(has_foreign_lock(file, FIRST_MARK..byte)? || has_foreign_lock(file, byte + 1..end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_of_another_daemon_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let named = |name: &str| directory.path().join(name);
        for name in ["log", "a.pid", "b.pid"] {
            std::fs::write(named(name), "").unwrap();
        }
        let [a, b] = ["a.pid", "b.pid"].map(|name| WriterMark::of_pid_file(&named(name)));
        assert!(a.is_some() && a != b);
        assert_eq!(WriterMark::of_pid_file(&named("c.pid")), None);
        let open = || {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).append(true).open(named("log")).unwrap()
        };
        let (first, successor) = (open(), open());
        let is_shared = |own| has_other_writer(&named("log"), own).unwrap();
        assert!(!is_shared(None));
        a.unwrap().set(&first).unwrap();
        a.unwrap().set(&successor).unwrap();
        assert!(!is_shared(a) && is_shared(b) && is_shared(None));
        drop(first);
        assert!(is_shared(b));
        drop(successor);
        assert!(!is_shared(b));
    }
}
