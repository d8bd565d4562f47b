//! Rotation by size: `LOG` becomes `LOG.1`, `LOG.1` becomes `LOG.2`, and so on, as logrotate does it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::segments::{numbered, numbers, with_suffix};
use super::writer::write_options;
use crate::config::LogSettings;

/// When to rotate, and what to keep. Can be changed while the log is written.
#[derive(Debug)]
pub(super) struct Rotation {
    /// A file is rotated before it gets larger, in bytes; 0 for never.
    max_size: AtomicU64,
    /// How many rotated files are kept.
    keep: AtomicU32,
    /// Whether it is this process that rotates: of two that share a log, one does.
    is_ours: AtomicBool,
}

impl Rotation {
    pub fn new(settings: &LogSettings) -> Self {
        Self {
            max_size: settings.max_size.as_u64().into(),
            keep: u32::from(settings.keep).into(),
            is_ours: true.into(),
        }
    }

    pub fn set(&self, settings: &LogSettings) {
        self.max_size
            .store(settings.max_size.as_u64(), Ordering::Relaxed);
        self.keep.store(settings.keep.into(), Ordering::Relaxed);
    }

    pub fn set_ours(&self, is_ours: bool) {
        self.is_ours.store(is_ours, Ordering::Release);
    }

    /// The size before which a file is rotated; `None` for never.
    pub fn max_size(&self) -> Option<u64> {
        let size = self.max_size.load(Ordering::Relaxed);
        (size > 0 && self.is_ours.load(Ordering::Acquire)).then_some(size)
    }

    pub fn keep(&self) -> u32 {
        self.keep.load(Ordering::Relaxed)
    }
}

/// Puts an empty file in the place of the log and the old one behind it. After a failure the log is still in its place,
/// or nothing is.
///
/// From the oldest on, so that a reader who looks from the newest on misses none (see `segments`).
pub(super) fn rotate(path: &Path, keep: u32) -> io::Result<File> {
    let new = with_suffix(path, ".new");
    // One that a crash left behind.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(name(&new, &error)),
        _ => {}
    }
    // Made first: on a disk without room nothing is touched.
    let file = write_options()
        .create_new(true)
        .open(&new)
        .map_err(|error| name(&new, &error))?;
    if let Err(error) = shift(path, keep).and_then(|()| rename(&new, path)) {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    for number in numbers(path).unwrap_or_default() {
        if number > keep {
            // What cannot be removed is tried again next time.
            let _ = fs::remove_file(numbered(path, number));
        }
    }
    Ok(file)
}

fn shift(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return Ok(());
    }
    let mut last = keep;
    for number in 1..=keep {
        match numbered(path, number).symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                let error = io::Error::other("it is not a regular file");
                return Err(name(&numbered(path, number), &error));
            }
            Err(_) => {
                last = number;
                break;
            }
        }
    }
    for number in (1..last).rev() {
        rename(&numbered(path, number), &numbered(path, number + 1))?;
    }
    rename(path, &numbered(path, 1))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let why = |error: io::Error| {
        let (from, to) = (from.display(), to.display());
        io::Error::new(error.kind(), format!("{from} to {to}: {error}"))
    };
    fs::rename(from, to).map_err(why)
}

/// The same error with the file that is in the way.
fn name(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: &Path) -> Vec<String> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut all = vec![read(path.to_owned())];
        let highest = numbers(path).unwrap().into_iter().max().unwrap_or(0);
        all.extend((1..=highest).map(|number| read(numbered(path, number))));
        all
    }

    #[test]
    fn keeps_as_many_as_wanted_and_fills_holes_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for text in ["a", "b", "c", "d"] {
            fs::write(&path, text).unwrap();
            rotate(&path, 3).unwrap();
        }
        assert_eq!(content(&path), ["", "d", "c", "b"]);
        fs::remove_file(numbered(&path, 2)).unwrap();
        fs::write(&path, "e").unwrap();
        rotate(&path, 3).unwrap();
        assert_eq!(content(&path), ["", "e", "d", "b"]);
        fs::write(&path, "f").unwrap();
        rotate(&path, 1).unwrap();
        assert_eq!(content(&path), ["", "f"]);
        fs::write(&path, "g").unwrap();
        rotate(&path, 0).unwrap();
        assert_eq!(content(&path), [""]);
    }

    #[test]
    fn what_is_in_the_way_is_named_and_the_log_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a").unwrap();
        fs::create_dir(numbered(&path, 1)).unwrap();
        let error = rotate(&path, 1).unwrap_err().to_string();
        assert!(error.contains("log.1"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
        assert!(!with_suffix(&path, ".new").exists());
    }
}
