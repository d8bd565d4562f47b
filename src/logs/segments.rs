//! Which files are the log: the one that has its name now, and those that were rotated away.
//!
//! Rotated files are `LOG.1` (the newest), `LOG.2`, …, as the daemon and logrotate name them, and before those
//! `LOG-20260131` and the like, logrotate's `dateext`. Compressed ones are not read. A file of another user than the
//! log's does not count: a log in `/tmp` has neighbours.
//!
//! A rotation may happen at any moment of a look. It renames upwards, from the oldest on, and a look goes upwards too,
//! so that it can meet a file twice but never miss one.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::FileId;

/// A larger number is none of a rotated file (`LOG_KEEP` goes so far) but perhaps a year.
pub(super) const MAX_NUMBER: u32 = 1_000;

/// One file of the log, held open: whatever it is called later, or whether it is removed, it can be read.
#[derive(Debug)]
pub(super) struct Segment {
    pub file: File,
    pub id: FileId,
    owner: u32,
}

impl Segment {
    /// `None` when there is no such file.
    fn open(path: &Path) -> io::Result<Option<Arc<Self>>> {
        match open_for_reading(path) {
            Ok(file) => {
                let metadata = file.metadata()?;
                Ok(Some(Arc::new(Self {
                    id: FileId::from_metadata(&metadata),
                    owner: metadata.uid(),
                    file,
                })))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// The files of the log, newest first; each is opened when it is asked for.
pub(super) fn newest_first(path: &Path) -> SegmentIter<'_> {
    SegmentIter {
        path,
        stage: Stage::Current,
        seen: Vec::new(),
        owner: None,
    }
}

/// One file of the log. `None` when it is gone.
pub(super) fn find(path: &Path, id: FileId) -> io::Result<Option<Arc<Segment>>> {
    newest_first(path)
        .find(|segment| segment.as_ref().map_or(true, |segment| segment.id == id))
        .transpose()
}

/// What follows a file. Empty files do not count: an outside rotation makes one before the daemon writes to it.
pub(super) enum NextSegment {
    /// Nothing: it is the newest.
    None,
    /// This file.
    Next(Arc<Segment>),
    /// It is not known: the file is no longer part of the log. This is what [`nearest_newer`] gives.
    Unknown(Arc<Segment>),
}

pub(super) fn next_segment_after(path: &Path, of: FileId) -> io::Result<NextSegment> {
    let mut newer = Vec::new();
    for segment in newest_first(path) {
        let segment = segment?;
        if segment.id == of {
            return Ok(newer.pop().map_or(NextSegment::None, NextSegment::Next));
        }
        if segment.len()? > 0 {
            newer.push(segment);
        }
    }
    Ok(nearest_newer(&newer, of).map_or(NextSegment::None, NextSegment::Unknown))
}

/// Of files from the newest on, the oldest that was made after one that is gone; the oldest of all where that is not known.
pub(super) fn nearest_newer(newest_first: &[Arc<Segment>], gone: FileId) -> Option<Arc<Segment>> {
    let is_younger = |segment: &&Arc<Segment>| segment.id.is_newer_than(gone);
    let mut oldest_first = newest_first.iter().rev();
    let nearest = oldest_first.find(is_younger).or(newest_first.last());
    nearest.cloned()
}

/// See [`newest_first`].
pub(super) struct SegmentIter<'a> {
    path: &'a Path,
    stage: Stage,
    seen: Vec<FileId>,
    /// Whose files count.
    owner: Option<u32>,
}

enum Stage {
    Current,
    /// The last number that was tried, and those to try that the directory had when it was last read.
    Numbered(u32, VecDeque<u32>),
    /// Names that are left, the newest last.
    Dated(Vec<PathBuf>),
}

impl SegmentIter<'_> {
    fn next_name(&mut self) -> io::Result<Option<PathBuf>> {
        match &mut self.stage {
            Stage::Current => {
                self.stage = Stage::Numbered(0, VecDeque::new());
                Ok(Some(self.path.to_owned()))
            }
            Stage::Numbered(last, waiting) => {
                if waiting.is_empty() {
                    // While files are renamed, reading a directory may miss one: its neighbours tell where it can be.
                    let near = existing_numbers(self.path)?.into_iter();
                    let near = near.flat_map(|number| number.saturating_sub(1)..=number + 2);
                    let near: BTreeSet<u32> = near.filter(|number| number > last).collect();
                    waiting.extend(near);
                }
                let Some(next) = waiting.pop_front() else {
                    self.stage = Stage::Dated(dated_paths(self.path)?);
                    return self.next_name();
                };
                *last = next;
                Ok(Some(numbered_path(self.path, next)))
            }
            Stage::Dated(names) => Ok(names.pop()),
        }
    }

    fn next_segment(&mut self) -> io::Result<Option<Arc<Segment>>> {
        while let Some(name) = self.next_name()? {
            let is_current = name == self.path;
            let segment = match Segment::open(&name) {
                Ok(Some(segment)) => segment,
                Err(error) if is_current => return Err(error),
                // Gone, or a link, a directory, a file that we may not read: no file of the log.
                Ok(None) | Err(_) => continue,
            };
            if !self.seen.contains(&segment.id)
                && *self.owner.get_or_insert(segment.owner) == segment.owner
            {
                self.seen.push(segment.id);
                return Ok(Some(segment));
            }
        }
        Ok(None)
    }
}

impl Iterator for SegmentIter<'_> {
    type Item = io::Result<Arc<Segment>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_segment().transpose()
    }
}

/// `LOG.1` and so on.
pub(super) fn numbered_path(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, format!(".{number}"))
}

pub(super) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Those of the rotated files there are, in no order.
pub(super) fn existing_numbers(path: &Path) -> io::Result<Vec<u32>> {
    let numbers = sibling_suffixes(path)?.into_iter().filter_map(|suffix| {
        let digits = suffix.to_str()?.strip_prefix('.')?;
        let number: u32 = digits.parse().ok()?;
        // Neither `01` nor `+1`.
        let is_canonical = number.to_string() == digits;
        (is_canonical && (1..=MAX_NUMBER).contains(&number)).then_some(number)
    });
    Ok(numbers.collect())
}

fn dated_paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_date = |suffix: &OsString| {
        suffix.as_bytes().strip_prefix(b"-").is_some_and(|date| {
            date.len() >= 8 && date.iter().all(|b| b.is_ascii_digit() || *b == b'-')
        })
    };
    let mut names: Vec<PathBuf> = sibling_suffixes(path)?
        .into_iter()
        .filter(is_date)
        .map(|suffix| with_suffix(path, suffix))
        .collect();
    names.sort();
    Ok(names)
}

/// Where the log is.
pub(super) fn log_directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What follows the log's name in the names of its directory.
fn sibling_suffixes(path: &Path) -> io::Result<Vec<OsString>> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut suffixes = Vec::new();
    let entries = match std::fs::read_dir(log_directory(path)) {
        Ok(entries) => entries,
        // Names can be opened in a directory that cannot be listed; what is rotated is out of sight then.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
            ) =>
        {
            return Ok(suffixes);
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let sibling = entry?.file_name();
        if let Some(suffix) = sibling.as_bytes().strip_prefix(name)
            && !suffix.is_empty()
        {
            suffixes.push(OsStr::from_bytes(suffix).to_owned());
        }
    }
    Ok(suffixes)
}

/// Opens a file of the log to read it: a regular file and nothing that could block or lead elsewhere.
fn open_for_reading(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let ours = ["", ".1", ".2", ".9", ".10", "-20260102", "-20260101"];
        let others = [".0", ".01", ".1.gz", ".new", "-2", "x", ".1001", ".-1"];
        for suffix in ours.iter().chain(&others) {
            std::fs::write(with_suffix(&path, suffix), suffix).unwrap();
        }
        std::os::unix::fs::symlink("log", with_suffix(&path, ".3")).unwrap();
        std::fs::create_dir(with_suffix(&path, ".4")).unwrap();
        let found: Vec<String> = newest_first(&path)
            .map(|segment| io::read_to_string(&segment.unwrap().file).unwrap())
            .collect();
        assert_eq!(found, ours);
        let ids: Vec<FileId> = newest_first(&path)
            .map(|segment| segment.unwrap().id)
            .collect();
        assert!(matches!(
            next_segment_after(&path, ids[0]).unwrap(),
            NextSegment::None
        ));
        let next = next_segment_after(&path, ids[4]).unwrap();
        assert!(matches!(next, NextSegment::Next(next) if next.id == ids[3]));
        std::fs::remove_file(numbered_path(&path, 10)).unwrap();
        let next = next_segment_after(&path, ids[4]).unwrap();
        assert!(matches!(next, NextSegment::Unknown(next) if next.id == ids[6]));
        std::fs::remove_file(&path).unwrap();
        let next = next_segment_after(&path, ids[0]).unwrap();
        assert!(matches!(next, NextSegment::Unknown(next) if next.id == ids[6]));
        let all: Vec<_> = newest_first(&path).map(|s| s.unwrap()).collect();
        // Of those that were made after it.
        std::fs::write(&path, "new").unwrap();
        let new = newest_first(&path).next().unwrap().unwrap();
        let segments = [vec![Arc::clone(&new)], all].concat();
        assert_eq!(nearest_newer(&segments, ids[6]).unwrap().id, new.id);
    }
}
