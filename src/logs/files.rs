//! The files of the log: the current one and the rotated ones.
//!
//! Rotated files are `LOG.1` (the newest), `LOG.2` and so on, as the daemon and logrotate name
//! them, and `LOG-20260131` and the like (logrotate's `dateext`). If there are both, their times
//! tell which are newer. Compressed files are not read. Files of another user than the log's owner,
//! and files with a second hard link, are ignored, because a log in `/tmp` has neighbours.
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
use super::history::FileHistory;
use crate::sys::{OpenError, open_owned, open_private};

/// The largest number of a rotated file, and the largest `LOG_KEEP`. A larger number may be a year.
pub(crate) const MAX_NUMBER: u32 = 1_000;

/// One file of the log, held open: it stays readable after a rename or removal.
#[derive(Debug)]
pub(crate) struct Segment {
    pub file: File,
    pub id: FileId,
    owner: u32,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Segment {
    /// `None` if there is no such file.
    fn open(path: &Path) -> io::Result<Option<Arc<Self>>> {
        match open_for_reading(path) {
            Ok((file, metadata)) => Ok(Some(Arc::new(Self {
                id: FileId::from_metadata(&metadata),
                owner: metadata.uid(),
                modified: i128::from(metadata.mtime()) * 1_000_000_000
                    + i128::from(metadata.mtime_nsec()),
                file,
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether this file is newer than another one with another kind of name.
    fn is_newer_than(&self, other: &Self) -> bool {
        match (
            self.id.is_newer_than(other.id),
            other.id.is_newer_than(self.id),
        ) {
            (false, false) => self.modified > other.modified,
            (is_newer, _) => is_newer,
        }
    }
}

/// The file that has the log's name.
pub(crate) fn current_file(path: &Path) -> Option<FileId> {
    let metadata = path.symlink_metadata().ok()?;
    Some(FileId::from_metadata(&metadata))
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

/// The files with lines between two files of the log, the oldest first. Empty if the older file is
/// no longer part of the log: the files that are newer may be copies of it.
pub(crate) fn files_between(
    path: &Path,
    older: FileId,
    newer: FileId,
) -> io::Result<Vec<(FileId, u64)>> {
    let mut between = Vec::new();
    for segment in newest_first(path) {
        let segment = segment?;
        if segment.id == older {
            between.reverse();
            return Ok(between);
        }
        let len = segment.len()?;
        if segment.id != newer && len > 0 {
            between.push((segment.id, len));
        }
    }
    Ok(Vec::new())
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

/// Finds the file after `id`. Files that the reader has `finished` are not considered.
pub(crate) fn next_segment_after(
    path: &Path,
    id: FileId,
    finished: &VecDeque<FileId>,
    history: &FileHistory,
) -> io::Result<NextSegment> {
    let mut newer = Vec::new();
    // Another file may have the same identity: where creation times are not known, or if it was
    // created within a tick of the clock. So a reader that passes over one reports a gap.
    let mut passed_over = false;
    for segment in newest_first(path) {
        let segment = segment?;
        if segment.id == id {
            return Ok(match newer.pop() {
                Some(next) if passed_over => NextSegment::Unknown(next),
                Some(next) => NextSegment::Next(next),
                None => NextSegment::None,
            });
        }
        if segment.len()? == 0 {
            continue;
        }
        // After the current file there is none to which a reader could return.
        if finished.contains(&segment.id) && current_file(path) != Some(segment.id) {
            passed_over = true;
        } else {
            newer.push(segment);
        }
    }
    let find = |id| newer.iter().find(|segment| segment.id == id).cloned();
    if history.is_current(id) {
        // It was renamed to another name than those of the log. A copy of it may have one.
        let next = current_file(path).and_then(find);
        return Ok(next.map_or(NextSegment::None, NextSegment::Next));
    }
    let successors = history.successors(id);
    for successor in &successors {
        if let Some(segment) = find(successor.file) {
            return Ok(if successor.is_direct {
                NextSegment::Next(segment)
            } else {
                NextSegment::Unknown(segment)
            });
        }
    }
    if successors
        .last()
        .is_some_and(|last| history.is_current(last.file))
    {
        // Nothing was written to it yet.
        return Ok(NextSegment::None);
    }
    Ok(nearest_newer(path, &newer, id).map_or(NextSegment::None, NextSegment::Unknown))
}

/// The oldest file created after a removed one, or else the current one: the clock may have been
/// set back. If the creation times are not known, the oldest file.
pub(crate) fn nearest_newer(
    path: &Path,
    newest_first: &[Arc<Segment>],
    removed: FileId,
) -> Option<Arc<Segment>> {
    let is_newer = |segment: &&Arc<Segment>| segment.id.is_newer_than(removed);
    let nearest = newest_first.iter().rev().find(is_newer);
    let nearest = nearest.or_else(|| {
        let has_times = |segment: &Arc<Segment>| segment.id.has_creation_time();
        if removed.has_creation_time() && newest_first.iter().all(has_times) {
            let current = current_file(path)?;
            newest_first.iter().find(|segment| segment.id == current)
        } else {
            newest_first.last()
        }
    });
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
    /// The directory is listed only if more than the current file is needed.
    Listing,
    Rotated(RotatedFiles),
}

/// The files that are still to be listed, by the kind of their names.
#[derive(Default)]
struct RotatedFiles {
    /// The last number tried, and the numbers still to try of the last directory listing.
    number: u32,
    candidates: VecDeque<u32>,
    /// The paths still to try, the newest last.
    dated: Vec<PathBuf>,
    /// The newest of each kind, if they are to be compared.
    next_numbered: Option<Arc<Segment>>,
    next_dated: Option<Arc<Segment>>,
}

impl RotatedFiles {
    fn next(&mut self, path: &Path, owner: &mut Option<u32>) -> io::Result<Option<Arc<Segment>>> {
        if self.next_numbered.is_none() {
            self.next_numbered = self.open_numbered(path, owner)?;
        }
        if self.next_dated.is_none() {
            self.next_dated = self.open_dated(owner);
        }
        Ok(match (&self.next_numbered, &self.next_dated) {
            (Some(numbered), Some(dated)) if dated.is_newer_than(numbered) => {
                self.next_dated.take()
            }
            (Some(_), _) => self.next_numbered.take(),
            (None, _) => self.next_dated.take(),
        })
    }

    fn open_numbered(
        &mut self,
        path: &Path,
        owner: &mut Option<u32>,
    ) -> io::Result<Option<Arc<Segment>>> {
        loop {
            if self.candidates.is_empty() {
                // A directory listing may miss a file that is renamed meanwhile. Its neighbours
                // tell where it can be.
                let numbers = existing_numbers(path)?.into_iter();
                let near = numbers.flat_map(|number| number.saturating_sub(1)..=number + 2);
                let near: BTreeSet<u32> = near.filter(|number| *number > self.number).collect();
                self.candidates.extend(near);
            }
            let Some(number) = self.candidates.pop_front() else {
                return Ok(None);
            };
            self.number = number;
            if let Some(segment) = open_of_owner(&numbered_path(path, number), owner) {
                return Ok(Some(segment));
            }
        }
    }

    fn open_dated(&mut self, owner: &mut Option<u32>) -> Option<Arc<Segment>> {
        while let Some(path) = self.dated.pop() {
            if let Some(segment) = open_of_owner(&path, owner) {
                return Some(segment);
            }
        }
        None
    }
}

/// Opens a rotated file. `None` if it was removed, or if it is a link, a directory, an unreadable
/// file or another user's: such a file is not part of the log.
fn open_of_owner(path: &Path, owner: &mut Option<u32>) -> Option<Arc<Segment>> {
    let segment = Segment::open(path).ok().flatten()?;
    (*owner.get_or_insert(segment.owner) == segment.owner).then_some(segment)
}

impl SegmentIter<'_> {
    fn next_segment(&mut self) -> io::Result<Option<Arc<Segment>>> {
        loop {
            let segment = match &mut self.stage {
                ListingStage::Current => {
                    let current = Segment::open(self.path)?;
                    self.owner = current.as_ref().map(|segment| segment.owner);
                    self.stage = ListingStage::Listing;
                    match current {
                        Some(current) => current,
                        None => continue,
                    }
                }
                ListingStage::Listing => {
                    let dated = dated_paths(self.path)?;
                    self.stage = ListingStage::Rotated(RotatedFiles {
                        dated,
                        ..RotatedFiles::default()
                    });
                    continue;
                }
                ListingStage::Rotated(rotated) => match rotated.next(self.path, &mut self.owner)? {
                    Some(segment) => segment,
                    None => return Ok(None),
                },
            };
            if !self.seen.contains(&segment.id) {
                self.seen.push(segment.id);
                return Ok(Some(segment));
            }
        }
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
        OpenError::Unusable(defect) => io::Error::new(io::ErrorKind::InvalidInput, defect.text()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when a new file is newer than this one.
    fn wait_for_later_time(path: &Path) {
        let created = |path: &Path| FileId::from_metadata(&path.metadata().unwrap());
        let probe = path.with_file_name("probe");
        let before = created(path);
        loop {
            std::fs::write(&probe, "").unwrap();
            let is_later = created(&probe).is_newer_than(before);
            std::fs::remove_file(&probe).unwrap();
            if is_later {
                return;
            }
        }
    }

    /// Creates files whose content is their name, the last one first.
    fn create(suffixes: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for suffix in suffixes.iter().rev() {
            let file = with_suffix(&path, suffix);
            std::fs::write(&file, format!("log{suffix}")).unwrap();
            wait_for_later_time(&file);
        }
        (directory, path)
    }

    fn ids(path: &Path) -> Vec<FileId> {
        let segments = newest_first(path);
        segments.map(|segment| segment.unwrap().id).collect()
    }

    fn suffixes(path: &Path) -> Vec<String> {
        newest_first(path)
            .map(|segment| io::read_to_string(&segment.unwrap().file).unwrap())
            .map(|name| name.strip_prefix("log").unwrap().to_owned())
            .collect()
    }

    fn next_after(path: &Path, id: FileId) -> NextSegment {
        let history = FileHistory::default();
        next_segment_after(path, id, &VecDeque::new(), &history).unwrap()
    }

    #[test]
    fn files_are_listed_newest_first() {
        let ours = ["", ".1", ".2", ".9", ".10", "-20260102", "-20260101"];
        let (_directory, path) = create(&ours);
        let others = [".0", ".01", ".1.gz", ".new", "-2", "x", ".1001", ".-1"];
        for suffix in others {
            std::fs::write(with_suffix(&path, suffix), suffix).unwrap();
        }
        std::os::unix::fs::symlink("log", with_suffix(&path, ".3")).unwrap();
        std::fs::create_dir(with_suffix(&path, ".4")).unwrap();
        assert_eq!(suffixes(&path), ours);
        let ids = ids(&path);
        assert!(matches!(next_after(&path, ids[0]), NextSegment::None));
        let next = next_after(&path, ids[4]);
        assert!(matches!(next, NextSegment::Next(next) if next.id == ids[3]));
        std::fs::remove_file(numbered_path(&path, 10)).unwrap();
        let next = next_after(&path, ids[4]);
        assert!(matches!(next, NextSegment::Unknown(next) if next.id == ids[3]));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(next_after(&path, ids[0]), NextSegment::None));
        let all: Vec<_> = newest_first(&path).map(|s| s.unwrap()).collect();
        // Files created after the removed one come first.
        std::fs::write(&path, "new").unwrap();
        let new = newest_first(&path).next().unwrap().unwrap();
        let segments = [vec![Arc::clone(&new)], all].concat();
        assert_eq!(nearest_newer(&path, &segments, ids[1]).unwrap().id, new.id);
    }

    #[test]
    fn files_with_both_kinds_of_names_are_listed_by_their_times() {
        let ours = ["", "-20260103", ".1", ".2", "-20260102", "-20260101", ".3"];
        let (_directory, path) = create(&ours);
        assert_eq!(suffixes(&path), ours);
    }

    /// Whatever confuses the order, a reader comes to an end.
    #[test]
    fn finished_file_is_not_read_again() {
        let (_directory, path) = create(&["", ".1", ".2"]);
        let ids = ids(&path);
        let next = |finished: &[FileId]| {
            let finished = finished.iter().copied().collect();
            next_segment_after(&path, ids[2], &finished, &FileHistory::default()).unwrap()
        };
        assert!(matches!(next(&[]), NextSegment::Next(next) if next.id == ids[1]));
        assert!(matches!(next(&[ids[1]]), NextSegment::Unknown(next) if next.id == ids[0]));
    }

    #[test]
    fn file_that_left_the_log_is_continued_by_what_the_writer_opened_next() {
        let (_directory, path) = create(&["", ".1", ".2"]);
        let ids = ids(&path);
        let history = FileHistory::default();
        let next = |history: &FileHistory, id| {
            next_segment_after(&path, id, &VecDeque::new(), history).unwrap()
        };
        history.continue_in(ids[2], 0, 0);
        std::fs::remove_file(numbered_path(&path, 2)).unwrap();
        // A copy, which logrotate makes later than the new file, is not a successor.
        assert!(matches!(next(&history, ids[2]), NextSegment::Next(next) if next.id == ids[0]));
        history.continue_in(ids[0], 0, 10);
        assert!(matches!(next(&history, ids[2]), NextSegment::Next(next) if next.id == ids[0]));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(next(&history, ids[2]), NextSegment::None));
        history.continue_in(ids[1], 0, 5);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(next(&history, ids[2]), NextSegment::Unknown(next) if next.id == ids[1]));
    }
}
