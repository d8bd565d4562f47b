//! The files of the log: the current one and the rotated ones.
//!
//! Rotated files are `LOG.1` (the newest), `LOG.2` and so on, as the daemon and logrotate name
//! them. Older still are `LOG-20260131` and the like (logrotate's `dateext`). Compressed files are
//! not read. Files of another user than the log's owner, and files with a second hard link, are
//! ignored, because a log in `/tmp` has neighbours.
//!
//! A rotation may happen during a listing. It renames upwards, beginning with the oldest file, and
//! a listing goes upwards too. So a listing can meet a file twice but never misses one.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;

use super::cursor::FileId;
use crate::sys::{OpenError, open_owned, open_private};

/// The largest number of a rotated file, and the largest `LOG_KEEP`. A larger number may be a year.
pub(crate) const MAX_NUMBER: u32 = 1_000;

/// One file of the log, held open: it stays readable after a rename or removal.
#[derive(Debug)]
pub(crate) struct Segment {
    pub file: File,
    pub id: FileId,
    owner: u32,
}

impl Segment {
    /// `None` if there is no such file.
    fn open(path: &Path) -> io::Result<Option<Arc<Self>>> {
        match open_for_reading(path) {
            Ok((file, metadata)) => Ok(Some(Arc::new(Self {
                id: FileId::from_metadata(&metadata),
                owner: metadata.uid(),
                file,
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Lists the files of the log, newest first. Each file is opened when the iterator reaches it.
pub(crate) fn newest_first(path: &Path) -> SegmentIter<'_> {
    SegmentIter {
        path,
        stage: ListingStage::Current,
        seen: Vec::new(),
        owner: None,
    }
}

/// Finds one file of the log; `None` if it was removed.
pub(crate) fn find(path: &Path, id: FileId) -> io::Result<Option<Arc<Segment>>> {
    newest_first(path)
        .find(|segment| segment.as_ref().map_or(true, |segment| segment.id == id))
        .transpose()
}

/// The file that follows another one. Empty files are skipped: an external rotation creates one
/// before the daemon writes to it.
pub(crate) enum NextSegment {
    /// The file is the newest one.
    None,
    Next(Arc<Segment>),
    /// The file is no longer part of the log. This is the best guess of [`nearest_newer`].
    Unknown(Arc<Segment>),
}

pub(crate) fn next_segment_after(path: &Path, id: FileId) -> io::Result<NextSegment> {
    let mut newer = Vec::new();
    for segment in newest_first(path) {
        let segment = segment?;
        if segment.id == id {
            return Ok(newer.pop().map_or(NextSegment::None, NextSegment::Next));
        }
        if segment.len()? > 0 {
            newer.push(segment);
        }
    }
    Ok(nearest_newer(&newer, id).map_or(NextSegment::None, NextSegment::Unknown))
}

/// The oldest file created after a removed one. If the creation times do not tell, the oldest file.
pub(crate) fn nearest_newer(
    newest_first: &[Arc<Segment>],
    removed: FileId,
) -> Option<Arc<Segment>> {
    let is_newer = |segment: &&Arc<Segment>| segment.id.is_newer_than(removed);
    let mut oldest_first = newest_first.iter().rev();
    let nearest = oldest_first.find(is_newer).or(newest_first.last());
    nearest.cloned()
}

/// Iterates over the files of the log; see [`newest_first`].
pub(crate) struct SegmentIter<'a> {
    path: &'a Path,
    stage: ListingStage,
    seen: Vec<FileId>,
    /// The owner of the newest file. Files of other users are skipped.
    owner: Option<u32>,
}

enum ListingStage {
    Current,
    /// The last number tried, and the numbers still to try of the last directory listing.
    Numbered(u32, VecDeque<u32>),
    /// The paths still to try, the newest last.
    Dated(Vec<PathBuf>),
}

impl SegmentIter<'_> {
    fn next_path(&mut self) -> io::Result<Option<PathBuf>> {
        match &mut self.stage {
            ListingStage::Current => {
                self.stage = ListingStage::Numbered(0, VecDeque::new());
                Ok(Some(self.path.to_owned()))
            }
            ListingStage::Numbered(last, candidates) => {
                if candidates.is_empty() {
                    // A directory listing may miss a file that is renamed meanwhile. Its
                    // neighbours tell where it can be.
                    let numbers = existing_numbers(self.path)?.into_iter();
                    let near = numbers.flat_map(|number| number.saturating_sub(1)..=number + 2);
                    let near: BTreeSet<u32> = near.filter(|number| number > last).collect();
                    candidates.extend(near);
                }
                let Some(next) = candidates.pop_front() else {
                    self.stage = ListingStage::Dated(dated_paths(self.path)?);
                    return self.next_path();
                };
                *last = next;
                Ok(Some(numbered_path(self.path, next)))
            }
            ListingStage::Dated(paths) => Ok(paths.pop()),
        }
    }

    fn next_segment(&mut self) -> io::Result<Option<Arc<Segment>>> {
        while let Some(path) = self.next_path()? {
            let is_current = path == self.path;
            let segment = match Segment::open(&path) {
                Ok(Some(segment)) => segment,
                Err(error) if is_current => return Err(error),
                // Removed, or a link, a directory or an unreadable file: not part of the log.
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

/// The path of the rotated file `LOG.number`.
pub(crate) fn numbered_path(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, format!(".{number}"))
}

pub(crate) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The numbers of the existing rotated files, in no order.
pub(crate) fn existing_numbers(path: &Path) -> io::Result<Vec<u32>> {
    let numbers = sibling_suffixes(path)?.into_iter().filter_map(|suffix| {
        let digits = suffix.to_str()?.strip_prefix('.')?;
        let number: u32 = digits.parse().ok()?;
        // Neither `01` nor `+1`.
        let is_canonical = number.to_string() == digits;
        (is_canonical && (1..=MAX_NUMBER).contains(&number)).then_some(number)
    });
    Ok(numbers.collect())
}

/// The paths of the files `LOG-YYYYMMDD…`, the newest last.
fn dated_paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_date = |suffix: &OsString| {
        suffix.as_bytes().strip_prefix(b"-").is_some_and(|date| {
            date.len() >= 8 && date.iter().all(|b| b.is_ascii_digit() || *b == b'-')
        })
    };
    let mut paths: Vec<PathBuf> = sibling_suffixes(path)?
        .into_iter()
        .filter(is_date)
        .map(|suffix| with_suffix(path, suffix))
        .collect();
    paths.sort();
    Ok(paths)
}

/// The directory of the log.
pub(crate) fn log_directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The suffixes of the files in the log's directory whose names begin with the log's name.
fn sibling_suffixes(path: &Path) -> io::Result<Vec<OsString>> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut suffixes = Vec::new();
    let entries = match std::fs::read_dir(log_directory(path)) {
        Ok(entries) => entries,
        // A file can be opened by name in a directory that cannot be listed. Rotated files cannot
        // be found then.
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

/// Opens a file for reading that the writer would not refuse: a regular file with one name, which
/// belongs to this user. root also reads the logs of other users.
fn open_for_reading(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.read(true);
    let opened = if geteuid().is_root() {
        open_private(path, &mut options)
    } else {
        open_owned(path, &mut options)
    };
    opened.map_err(|error| match error {
        OpenError::Io { source, .. } => source,
        OpenError::Unusable(reason) => io::Error::new(io::ErrorKind::InvalidInput, reason),
    })
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
        // Files created after the removed one come first.
        std::fs::write(&path, "new").unwrap();
        let new = newest_first(&path).next().unwrap().unwrap();
        let segments = [vec![Arc::clone(&new)], all].concat();
        assert_eq!(nearest_newer(&segments, ids[6]).unwrap().id, new.id);
    }
}
