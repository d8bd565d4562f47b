//! The files of the log: the current one and the rotated ones.
//!
//! Rotated files are `LOG.1` (the newest), `LOG.2` and so on, as the daemon and logrotate name
//! them, and `LOG-20260131` and the like (logrotate's `dateext`). If there are both, their times
//! tell which are newer. Files of another user than the log's owner, and files with a second hard
//! link, are ignored, because a log in `/tmp` has neighbours.
//!
//! Rotated files may be compressed (`.gz` or `.zst`). While the uncompressed file exists, the
//! archive beside it may be incomplete and is not used.
//!
//! A rotation may happen during a listing. It renames upwards, beginning with the oldest file, and
//! a listing goes upwards too. So a listing can meet a file twice but never misses one. A file is
//! recognized by its identity, and once it is compressed, by its first lines.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;

use super::archive::{Archive, Codec};
use super::cursor::FileId;
use super::history::FileHistory;
use crate::sys::{OpenError, open_owned, open_private};

/// The largest number of a rotated file, and the largest `LOG_KEEP`. A larger number may be a year.
pub(crate) const MAX_NUMBER: u32 = 1_000;

/// How much of the beginning of a file tells whether an archive has the same content: the time of
/// its first line.
const PREFIX_BYTES: usize = 256;
const MIN_PREFIX_BYTES: usize = 24;

/// One file of the log, held open: it stays readable after a rename or removal.
#[derive(Debug)]
pub(crate) struct Segment {
    content: Content,
    pub id: FileId,
    owner: u32,
    /// Nanoseconds since 1970.
    modified: i128,
}

#[derive(Debug)]
enum Content {
    Plain(File),
    Compressed(Box<Archive>),
}

impl Segment {
    /// `None` if there is no such file. With a codec, it is a compressed file.
    fn open(path: &Path, codec: Option<Codec>) -> io::Result<Option<Arc<Self>>> {
        match open_for_reading(path) {
            Ok((file, metadata)) => Ok(Some(Arc::new(Self {
                id: FileId::from_metadata(&metadata),
                owner: metadata.uid(),
                modified: i128::from(metadata.mtime()) * 1_000_000_000
                    + i128::from(metadata.mtime_nsec()),
                content: match codec {
                    None => Content::Plain(file),
                    Some(codec) => {
                        Content::Compressed(Box::new(Archive::new(file, codec, path.to_owned())))
                    }
                },
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The archive, if the file is compressed.
    pub fn archive(&self) -> Option<&Archive> {
        match &self.content {
            Content::Plain(_) => None,
            Content::Compressed(archive) => Some(archive),
        }
    }

    /// `None` for an archive, whose length is not known before it is decompressed.
    pub fn len(&self) -> io::Result<Option<u64>> {
        Ok(match &self.content {
            Content::Plain(file) => Some(file.metadata()?.len()),
            Content::Compressed(_) => None,
        })
    }

    /// Reads the content, of an archive from its beginning: see [`Archive::read_at`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.content {
            Content::Plain(file) => file.read_at(buffer, offset),
            Content::Compressed(archive) => archive.read_at(buffer, offset),
        }
    }

    /// Less at the end of the file, or if it cannot be read.
    fn prefix(&self) -> Vec<u8> {
        let mut prefix = vec![0; PREFIX_BYTES];
        let read = match &self.content {
            Content::Plain(file) => file.read_at(&mut prefix, 0),
            Content::Compressed(archive) => archive.prefix(&mut prefix),
        };
        prefix.truncate(read.unwrap_or(0));
        prefix
    }

    /// Whether this file is newer than another one with another kind of name.
    fn is_newer_than(&self, other: &Self) -> bool {
        if self.archive().is_some() || other.archive().is_some() {
            // An archive is created late, and has the time of its content.
            return self.modified > other.modified;
        }
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

/// Lists the files of the log that are not compressed, newest first. Each file is opened when the
/// iterator reaches it.
pub(crate) fn newest_first(path: &Path) -> SegmentIter<'_> {
    SegmentIter {
        path,
        with_archives: false,
        stage: ListingStage::Current,
        seen: Vec::new(),
        prefixes: Vec::new(),
        owner: None,
    }
}

/// The same, with the compressed files.
pub(crate) fn with_archives(path: &Path) -> SegmentIter<'_> {
    SegmentIter {
        with_archives: true,
        ..newest_first(path)
    }
}

/// Finds one file of the log; `None` if it was removed.
pub(crate) fn find(path: &Path, id: FileId) -> io::Result<Option<Arc<Segment>>> {
    with_archives(path)
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
        let len = segment.len()?.unwrap_or(0);
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

/// Finds the file after `previous`. Files that the reader has `finished` are not considered.
pub(crate) fn next_segment_after(
    path: &Path,
    previous: &Segment,
    finished: &VecDeque<FileId>,
    history: &FileHistory,
) -> io::Result<NextSegment> {
    let id = previous.id;
    let mut newer = Vec::new();
    // Another file may have the same identity: where creation times are not known, or if it was
    // created within a tick of the clock. So a reader that passes over one reports a gap.
    let mut passed_over = false;
    for segment in with_archives(path) {
        let segment = segment?;
        if segment.id == id {
            return Ok(match newer.pop() {
                Some(next) if passed_over => NextSegment::Unknown(next),
                Some(next) => NextSegment::Next(next),
                None => NextSegment::None,
            });
        }
        if segment.len()? == Some(0) {
            continue;
        }
        // After the current file there is none to which a reader could return.
        if finished.contains(&segment.id) && current_file(path) != Some(segment.id) {
            passed_over = true;
        } else {
            newer.push(segment);
        }
    }
    if previous.archive().is_some() {
        // It was removed: the oldest file that is left comes next.
        newer.retain(|segment| segment.modified >= previous.modified);
        return Ok(newer.pop().map_or(NextSegment::None, NextSegment::Unknown));
    }
    // An archive may be this file, and is created later than files that are newer.
    newer.retain(|segment| segment.archive().is_none());
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
    with_archives: bool,
    stage: ListingStage,
    seen: Vec<FileId>,
    /// The beginnings of the files that are not compressed.
    prefixes: Vec<Vec<u8>>,
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
    /// Whether the numbers after the last one were tried, without success.
    has_tried_beyond: bool,
    with_archives: bool,
    /// The paths still to try, the newest last, without the suffixes of archives.
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
                let numbers = listed_numbers(path, self.with_archives)?.into_iter();
                let near = numbers.flat_map(|number| number.saturating_sub(1)..=number + 2);
                let near: BTreeSet<u32> = near.filter(|number| *number > self.number).collect();
                if near.is_empty() && !std::mem::replace(&mut self.has_tried_beyond, true) {
                    // Many files may be renamed during one listing.
                    self.candidates.extend(self.number + 1..=self.number + 2);
                }
                self.candidates.extend(near);
            }
            let Some(number) = self.candidates.pop_front() else {
                return Ok(None);
            };
            self.number = number;
            if let Some(segment) = self.open(&numbered_path(path, number), owner) {
                self.has_tried_beyond = false;
                return Ok(Some(segment));
            }
        }
    }

    fn open_dated(&mut self, owner: &mut Option<u32>) -> Option<Arc<Segment>> {
        while let Some(path) = self.dated.pop() {
            if let Some(segment) = self.open(&path, owner) {
                return Some(segment);
            }
        }
        None
    }

    /// Opens the rotated file, or else its archive: that is complete once the file was removed.
    fn open(&self, path: &Path, owner: &mut Option<u32>) -> Option<Arc<Segment>> {
        let plain = open_of_owner(path, None, owner);
        let mut codecs = Codec::ALL.into_iter().filter(|_| self.with_archives);
        plain.or_else(|| {
            codecs.find_map(|codec| {
                open_of_owner(&with_suffix(path, codec.suffix()), Some(codec), owner)
            })
        })
    }
}

/// Opens a rotated file. `None` if it was removed, or if it is a link, a directory, an unreadable
/// file or another user's: such a file is not part of the log.
fn open_of_owner(
    path: &Path,
    codec: Option<Codec>,
    owner: &mut Option<u32>,
) -> Option<Arc<Segment>> {
    let segment = Segment::open(path, codec).ok().flatten()?;
    (*owner.get_or_insert(segment.owner) == segment.owner).then_some(segment)
}

impl SegmentIter<'_> {
    fn next_segment(&mut self) -> io::Result<Option<Arc<Segment>>> {
        loop {
            let segment = match &mut self.stage {
                ListingStage::Current => {
                    let current = Segment::open(self.path, None)?;
                    self.owner = current.as_ref().map(|segment| segment.owner);
                    self.stage = ListingStage::Listing;
                    match current {
                        Some(current) => current,
                        None => continue,
                    }
                }
                ListingStage::Listing => {
                    let with_archives = self.with_archives;
                    self.stage = ListingStage::Rotated(RotatedFiles {
                        dated: dated_paths(self.path, with_archives)?,
                        with_archives,
                        ..RotatedFiles::default()
                    });
                    continue;
                }
                ListingStage::Rotated(rotated) => match rotated.next(self.path, &mut self.owner)? {
                    Some(segment) => segment,
                    None => return Ok(None),
                },
            };
            if !self.seen.contains(&segment.id) && !self.is_listed_already(&segment) {
                self.seen.push(segment.id);
                return Ok(Some(segment));
            }
        }
    }

    /// Whether the file is an archive of one that was listed before it was compressed.
    fn is_listed_already(&mut self, segment: &Segment) -> bool {
        if !self.with_archives {
            return false;
        }
        let prefix = segment.prefix();
        if segment.archive().is_some() {
            return self.prefixes.iter().any(|of| prefix.starts_with(of));
        }
        if prefix.len() >= MIN_PREFIX_BYTES {
            self.prefixes.push(prefix);
        }
        false
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

/// The numbers of the existing rotated files that are not compressed, in no order.
pub(crate) fn existing_numbers(path: &Path) -> io::Result<Vec<u32>> {
    listed_numbers(path, false)
}

fn listed_numbers(path: &Path, with_archives: bool) -> io::Result<Vec<u32>> {
    let suffixes = sibling_suffixes(path)?;
    let numbers = suffixes.iter().filter_map(|suffix| {
        let suffix = rotated_suffix(suffix, with_archives)?;
        let digits = std::str::from_utf8(suffix).ok()?.strip_prefix('.')?;
        let number: u32 = digits.parse().ok()?;
        // Neither `01` nor `+1`.
        let is_canonical = number.to_string() == digits;
        (is_canonical && (1..=MAX_NUMBER).contains(&number)).then_some(number)
    });
    Ok(numbers.collect())
}

/// The paths of the files `LOG-YYYYMMDD…`, the newest last.
fn dated_paths(path: &Path, with_archives: bool) -> io::Result<Vec<PathBuf>> {
    let is_date = |suffix: &&[u8]| {
        suffix.strip_prefix(b"-").is_some_and(|date| {
            date.len() >= 8 && date.iter().all(|b| b.is_ascii_digit() || *b == b'-')
        })
    };
    let suffixes = sibling_suffixes(path)?;
    let dates: BTreeSet<&[u8]> = suffixes
        .iter()
        .filter_map(|suffix| rotated_suffix(suffix, with_archives))
        .filter(is_date)
        .collect();
    let dates = dates.into_iter().map(OsStr::from_bytes);
    Ok(dates.map(|suffix| with_suffix(path, suffix)).collect())
}

/// The suffix without that of an archive; `None` for an archive that is not wanted.
fn rotated_suffix(suffix: &OsStr, with_archives: bool) -> Option<&[u8]> {
    let suffix = suffix.as_bytes();
    let mut codecs = Codec::ALL.into_iter();
    match codecs.find_map(|codec| suffix.strip_suffix(codec.suffix().as_bytes())) {
        Some(rotated) => with_archives.then_some(rotated),
        None => Some(suffix),
    }
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
    use crate::logs::archive::tests::compress;

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

    fn content(segment: &Segment) -> String {
        let mut content = vec![0; 1000];
        let read = segment.read_at(&mut content, 0).unwrap();
        content.truncate(read);
        String::from_utf8(content).unwrap()
    }

    fn suffixes(path: &Path) -> Vec<String> {
        let contents = newest_first(path).map(|segment| content(&segment.unwrap()));
        contents
            .map(|name| name.strip_prefix("log").unwrap().to_owned())
            .collect()
    }

    fn segments(path: &Path) -> Vec<Arc<Segment>> {
        with_archives(path)
            .map(|segment| segment.unwrap())
            .collect()
    }

    fn next_after(path: &Path, previous: &Segment) -> NextSegment {
        let history = FileHistory::default();
        next_segment_after(path, previous, &VecDeque::new(), &history).unwrap()
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
        std::fs::remove_file(with_suffix(&path, ".1.gz")).unwrap();
        let all = segments(&path);
        let ids: Vec<FileId> = all.iter().map(|segment| segment.id).collect();
        assert!(matches!(next_after(&path, &all[0]), NextSegment::None));
        let next = next_after(&path, &all[4]);
        assert!(matches!(next, NextSegment::Next(next) if next.id == ids[3]));
        std::fs::remove_file(numbered_path(&path, 10)).unwrap();
        let next = next_after(&path, &all[4]);
        assert!(matches!(next, NextSegment::Unknown(next) if next.id == ids[3]));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(next_after(&path, &all[0]), NextSegment::None));
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

    #[test]
    fn archives_are_listed_in_the_place_of_their_files() {
        let (_directory, path) = create(&["", "-20260103", ".1"]);
        let archive = |suffix: &str, codec, content: &str| {
            let file = with_suffix(&path, suffix);
            std::fs::write(&file, compress(codec, content.as_bytes())).unwrap();
            file
        };
        archive("-20260101.gz", Codec::Gzip, "the oldest");
        let second = archive(".2.zst", Codec::Zstd, "second");
        // They are created last, but have the times of the files.
        let time = |hours| std::time::UNIX_EPOCH + std::time::Duration::from_hours(hours);
        let oldest = with_suffix(&path, "-20260101.gz");
        for (file, hours) in [(&oldest, 1), (&second, 2)] {
            let file = File::options().append(true).open(file).unwrap();
            file.set_modified(time(hours)).unwrap();
        }
        // Each may be incomplete.
        archive(".1.gz", Codec::Gzip, "log");
        archive("-20260103.zst", Codec::Zstd, "log");
        let contents = || {
            segments(&path)
                .iter()
                .map(|it| content(it))
                .collect::<Vec<_>>()
        };
        let all = ["log", "log-20260103", "log.1", "second", "the oldest"];
        assert_eq!(contents(), all);
        let plain = newest_first(&path).map(|segment| content(&segment.unwrap()));
        assert_eq!(plain.collect::<Vec<_>>(), all[..3]);
        assert_eq!(existing_numbers(&path).unwrap(), [1]);

        let before = segments(&path);
        let next = next_after(&path, &before[4]);
        assert!(matches!(next, NextSegment::Next(next) if next.id == before[3].id));
        std::fs::remove_file(oldest).unwrap();
        let next = next_after(&path, &before[4]);
        assert!(matches!(next, NextSegment::Unknown(next) if next.id == before[3].id));
        // An archive takes the place of a file that is being followed.
        let time = std::fs::metadata(numbered_path(&path, 1))
            .unwrap()
            .modified();
        let compressed = File::options()
            .append(true)
            .open(with_suffix(&path, ".1.gz"));
        compressed.unwrap().set_modified(time.unwrap()).unwrap();
        std::fs::remove_file(numbered_path(&path, 1)).unwrap();
        assert_eq!(contents(), ["log", "log-20260103", "log", "second"]);
        let next = next_after(&path, &before[2]);
        assert!(matches!(next, NextSegment::Unknown(next) if next.id == before[1].id));
    }

    /// The rotation and the compression happened during the listing.
    #[test]
    fn archive_of_a_file_that_was_listed_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let line = "2026-11-30T19:56:07.998648Z  INFO a: one\n";
        std::fs::write(&path, line).unwrap();
        let mut listing = with_archives(&path);
        assert!(listing.next().is_some());
        let whole = format!("{line}{line}");
        let archive = compress(Codec::Gzip, whole.as_bytes());
        std::fs::write(with_suffix(&path, ".1.gz"), archive).unwrap();
        assert!(listing.next().is_none());
        std::fs::write(&path, "another\n").unwrap();
        assert_eq!(segments(&path).len(), 2);
    }

    /// Whatever confuses the order, a reader comes to an end.
    #[test]
    fn finished_file_is_not_read_again() {
        let (_directory, path) = create(&["", ".1", ".2"]);
        let all = segments(&path);
        let ids: Vec<FileId> = all.iter().map(|segment| segment.id).collect();
        let next = |finished: &[FileId]| {
            let finished = finished.iter().copied().collect();
            next_segment_after(&path, &all[2], &finished, &FileHistory::default()).unwrap()
        };
        assert!(matches!(next(&[]), NextSegment::Next(next) if next.id == ids[1]));
        assert!(matches!(next(&[ids[1]]), NextSegment::Unknown(next) if next.id == ids[0]));
    }

    #[test]
    fn file_that_left_the_log_is_continued_by_what_the_writer_opened_next() {
        let (_directory, path) = create(&["", ".1", ".2"]);
        let all = segments(&path);
        let ids: Vec<FileId> = all.iter().map(|segment| segment.id).collect();
        let history = FileHistory::default();
        let next = |history: &FileHistory, previous| {
            next_segment_after(&path, previous, &VecDeque::new(), history).unwrap()
        };
        history.continue_in(ids[2], 0, 0);
        std::fs::remove_file(numbered_path(&path, 2)).unwrap();
        // A copy, which logrotate makes later than the new file, is not a successor.
        assert!(matches!(next(&history, &all[2]), NextSegment::Next(next) if next.id == ids[0]));
        history.continue_in(ids[0], 0, 10);
        assert!(matches!(next(&history, &all[2]), NextSegment::Next(next) if next.id == ids[0]));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(next(&history, &all[2]), NextSegment::None));
        history.continue_in(ids[1], 0, 5);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(next(&history, &all[2]), NextSegment::Unknown(next) if next.id == ids[1]));
    }
}
