//! Rotation by size: `LOG` becomes `LOG.1`, `LOG.1` becomes `LOG.2`, and so on, as logrotate does it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::segments::{MAX_NUMBER, existing_numbers, numbered_path, with_suffix};
use super::writer::open_options;
use crate::config::LogSettings;

/// When to rotate, and what to keep. Can be changed while the log is written.
#[derive(Debug)]
pub(super) struct RotationPolicy {
    /// A file is rotated before it gets larger, in bytes; 0 for never.
    max_size: AtomicU64,
    /// How many rotated files are kept.
    keep: AtomicU32,
    /// Whether it is this process that rotates: of two that share a log, one does.
    enabled: AtomicBool,
}

impl RotationPolicy {
    pub fn new(settings: &LogSettings) -> Self {
        Self {
            max_size: settings.max_size.as_u64().into(),
            keep: u32::from(settings.keep).into(),
            enabled: true.into(),
        }
    }

    pub fn update(&self, settings: &LogSettings) {
        self.max_size
            .store(settings.max_size.as_u64(), Ordering::Relaxed);
        self.keep.store(settings.keep.into(), Ordering::Relaxed);
    }

    pub fn set_enabled(&self, is_ours: bool) {
        self.enabled.store(is_ours, Ordering::Release);
    }

    /// The size before which a file is rotated; `None` for never.
    pub fn max_size(&self) -> Option<u64> {
        let size = self.max_size.load(Ordering::Relaxed);
        (size > 0 && self.enabled.load(Ordering::Acquire)).then_some(size)
    }

    pub fn keep(&self) -> u32 {
        self.keep.load(Ordering::Relaxed)
    }
}

/// Puts an empty file in the place of the log and the old one behind it. After a failure the log is still in its place,
/// or nothing is.
///
/// From the oldest on, so that a reader who looks from the newest on misses none (see `segments`). What is not a file of this
/// user's stays where it is, and its number is left out: in `/tmp`, anybody may take it.
pub(super) fn rotate(path: &Path, keep: u32) -> io::Result<File> {
    // Made first: on a disk without room nothing is touched.
    let (new, file) = create_beside(path)?;
    let shifted = shift_numbered(path, keep).and_then(|last| rename(&new, path).map(|()| last));
    let last = shifted.inspect_err(|_| drop(fs::remove_file(&new)))?;
    for number in existing_numbers(path).unwrap_or_default() {
        let old = numbered_path(path, number);
        if number > last && name_status(&old) == NameStatus::OwnFile {
            // What cannot be removed is tried again next time.
            let _ = fs::remove_file(old);
        }
    }
    Ok(file)
}

/// What has a name.
#[derive(Debug, PartialEq, Eq)]
enum NameStatus {
    Free,
    /// A file of this user's.
    OwnFile,
    /// Anything else.
    Taken,
}

fn name_status(path: &Path) -> NameStatus {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() && found.uid() == nix::unistd::geteuid().as_raw() => {
            NameStatus::OwnFile
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => NameStatus::Free,
        _ => NameStatus::Taken,
    }
}

/// An empty file beside the log.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let make = |new: PathBuf| match open_options().create_new(true).open(&new) {
        Ok(file) => Ok((new, file)),
        Err(error) => Err(with_path(&new, &error)),
    };
    let new = with_suffix(path, ".new");
    if name_status(&new) == NameStatus::OwnFile {
        // A crash left it behind.
        fs::remove_file(&new).map_err(|error| with_path(&new, &error))?;
    }
    match make(new) {
        // Nobody can be there first when nobody knows the name.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let random = uuid::Uuid::new_v4().simple();
            make(with_suffix(path, format!(".new-{random}")))
        }
        made => made,
    }
}

/// Moves the log to the first number that can be had, and those that have one to the next. The last number that a file may have.
fn shift_numbered(path: &Path, keep: u32) -> io::Result<u32> {
    let mut to_shift = vec![path.to_owned()];
    let mut has_room = false;
    let mut last = 0;
    let mut kept = 0;
    for number in 1..=MAX_NUMBER {
        if kept == keep {
            break;
        }
        let old = numbered_path(path, number);
        let state = name_status(&old);
        if state == NameStatus::Taken {
            continue;
        }
        kept += 1;
        last = number;
        if !has_room {
            to_shift.push(old);
            has_room = state == NameStatus::Free || kept == keep;
        }
    }
    if keep > 0 && kept == 0 {
        let error = io::Error::other("every number that a rotated file may have is taken");
        return Err(with_path(path, &error));
    }
    for pair in to_shift.windows(2).rev() {
        rename(&pair[0], &pair[1])?;
    }
    Ok(last)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let why = |error: io::Error| {
        let (from, to) = (from.display(), to.display());
        io::Error::new(error.kind(), format!("{from} to {to}: {error}"))
    };
    fs::rename(from, to).map_err(why)
}

/// The same error with the file that is in the way.
fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: &Path) -> Vec<String> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut all = vec![read(path.to_owned())];
        let highest = existing_numbers(path)
            .unwrap()
            .into_iter()
            .max()
            .unwrap_or(0);
        all.extend((1..=highest).map(|number| read(numbered_path(path, number))));
        all
    }

    #[test]
    fn rotation_keeps_the_wanted_number_and_fills_holes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for text in ["a", "b", "c", "d"] {
            fs::write(&path, text).unwrap();
            rotate(&path, 3).unwrap();
        }
        assert_eq!(content(&path), ["", "d", "c", "b"]);
        fs::remove_file(numbered_path(&path, 2)).unwrap();
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
    fn rotation_skips_names_that_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let planted = [".1", ".3", ".new"].map(|suffix| with_suffix(&path, suffix));
        for planted in &planted {
            fs::create_dir(planted).unwrap();
        }
        for text in ["a", "b", "c"] {
            fs::write(&path, text).unwrap();
            rotate(&path, 2).unwrap();
        }
        assert_eq!(content(&path), ["", "", "c", "", "b"]);
        assert!(planted.iter().all(|planted| planted.is_dir()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 6);
        fs::remove_dir(&planted[0]).unwrap();
        fs::write(&path, "d").unwrap();
        rotate(&path, 2).unwrap();
        assert_eq!(content(&path), ["", "d", "c", ""]);
    }

    #[test]
    fn rotation_without_a_free_name_fails_and_keeps_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a").unwrap();
        for number in 1..=MAX_NUMBER {
            fs::create_dir(numbered_path(&path, number)).unwrap();
        }
        let error = rotate(&path, 1).unwrap_err().to_string();
        assert!(error.contains("taken"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
        assert!(!with_suffix(&path, ".new").exists());
    }
}
