//! Rotation by size, as logrotate does it: `LOG` becomes `LOG.1`, `LOG.1` becomes `LOG.2` and so on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::open::{copy_mode, open_options};
use crate::config::LogSettings;
use crate::logs::files::{MAX_NUMBER, existing_numbers, numbered_path, with_suffix};
use crate::sys::{exchange, open_nofollow, rename_without_replacing};

/// How often other users may take a name that was free a moment before.
const MAX_ATTEMPTS: u32 = 100;

/// When to rotate, and how many files to keep. It can change while the log is written.
#[derive(Debug)]
pub(crate) struct RotationPolicy {
    /// The size in bytes that a file may not exceed; 0 for no limit.
    max_size: AtomicU64,
    /// How many rotated files are kept.
    keep: AtomicU32,
    /// The mode of the file; 0 without one.
    mode: AtomicU32,
    /// Whether this process rotates the file. Of two processes that share a log, only one does.
    enabled: AtomicBool,
}

impl RotationPolicy {
    pub fn new(settings: &LogSettings) -> Self {
        Self {
            max_size: settings.max_size.as_u64().into(),
            keep: u32::from(settings.keep).into(),
            mode: settings.mode.unwrap_or_default().into(),
            enabled: true.into(),
        }
    }

    pub fn update(&self, settings: &LogSettings) {
        self.max_size
            .store(settings.max_size.as_u64(), Ordering::Relaxed);
        self.keep.store(settings.keep.into(), Ordering::Relaxed);
        let mode = settings.mode.unwrap_or_default();
        self.mode.store(mode, Ordering::Relaxed);
    }

    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
    }

    /// The size that a file may not exceed; `None` if the file is not rotated.
    pub fn max_size(&self) -> Option<u64> {
        let size = self.max_size.load(Ordering::Relaxed);
        (size > 0 && self.enabled.load(Ordering::Acquire)).then_some(size)
    }

    pub fn keep(&self) -> u32 {
        self.keep.load(Ordering::Relaxed)
    }

    /// `LOG_MODE`, if it is set.
    pub fn mode(&self) -> Option<u32> {
        let mode = self.mode.load(Ordering::Relaxed);
        (mode > 0).then_some(mode)
    }
}

/// Replaces the log by an empty file and renames the old one to `LOG.1`. The new file has the group
/// and the mode of the old one, or this `mode`. The name of the log is never
/// free: in `/tmp`, another user would take it. After an error, nothing is lost.
///
/// It renames the oldest file first, so that a reader, who looks for the newest first, misses none
/// (see [`files`](crate::logs::files)). Names that are not regular files of this user are skipped:
/// in `/tmp`, anybody can take them.
pub(crate) fn rotate(
    path: &Path,
    current: &File,
    keep: u32,
    mode: Option<u32>,
) -> io::Result<File> {
    // The new file comes first: if the disk is full, nothing is renamed.
    let (new, file) = create_beside(path)?;
    copy_mode(&file, current, mode).inspect_err(|_| drop(fs::remove_file(&new)))?;
    let mut attempts = 0..MAX_ATTEMPTS;
    let last = loop {
        let replaced = shift_numbered(path, keep)
            .and_then(|Shifted { first, last }| replace(path, &new, first).map(|()| last));
        match replaced {
            // Another user took a name meanwhile, which is then skipped.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && attempts.next().is_some() => {}
            other => break other,
        }
    };
    let last = last.inspect_err(|_| drop(fs::remove_file(&new)))?;
    remove_after(path, last);
    Ok(file)
}

/// Puts the new file in the place of the log, which gets the number `first`, or is removed. After an
/// error, both have their names.
fn replace(path: &Path, new: &Path, first: Option<u32>) -> io::Result<()> {
    let Some(first) = first else {
        return rename(new, path);
    };
    let first = numbered_path(path, first);
    // For a moment, the new file has the number. Then both files change their names at once.
    rename_numbered(new, &first)?;
    match exchange(&first, path) {
        Ok(true) => Ok(()),
        Ok(false) => rename(&first, new)
            .and_then(|()| rename_numbered(path, &first))
            .and_then(|()| {
                rename_numbered(new, path).inspect_err(|_| drop(rename_numbered(&first, path)))
            }),
        Err(error) => {
            let error = with_paths(path, &first, &error);
            rename(&first, new)?;
            Err(error)
        }
    }
}

/// Removes the rotated files with larger numbers.
fn remove_after(path: &Path, last: u32) {
    for number in existing_numbers(path).unwrap_or_default() {
        let old = numbered_path(path, number);
        if number > last && name_status(&old) == NameStatus::OwnFile {
            // If it cannot be removed, the next rotation retries.
            let _ = fs::remove_file(old);
        }
    }
}

/// Whether a name is in use.
#[derive(Debug, PartialEq, Eq)]
enum NameStatus {
    Free,
    /// A regular file of this user.
    OwnFile,
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

/// Creates an empty file beside the log.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let create = |new: PathBuf| match open_nofollow(&new, open_options().create_new(true)) {
        Ok(file) => Ok((new, file)),
        Err(error) => Err(with_path(&new, &error)),
    };
    let new = with_suffix(path, ".new");
    if name_status(&new) == NameStatus::OwnFile {
        // A crash left it behind.
        fs::remove_file(&new).map_err(|error| with_path(&new, &error))?;
    }
    match create(new) {
        // Nobody can have taken a random name.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let random = uuid::Uuid::new_v4().simple();
            create(with_suffix(path, format!(".new-{random}")))
        }
        created => created,
    }
}

/// The outcome of [`shift_numbered`].
struct Shifted {
    /// The number for the log, which is free; `None` if no file is kept.
    first: Option<u32>,
    /// The largest number that a kept file may have.
    last: u32,
}

/// Renames the file with the first number that is not taken to the next such number, and so on, up
/// to the first free one.
///
/// No file is replaced: a surplus one gets a larger number, and is removed after the rotation. If
/// it fails, nothing is lost. It also fails if a file would be surplus only because other users have
/// taken names: they could have all old lines removed.
fn shift_numbered(path: &Path, keep: u32) -> io::Result<Shifted> {
    let mut to_shift = vec![path.to_owned()];
    let mut first = None;
    let mut has_room = false;
    let mut last = 0;
    let mut kept = 0;
    for number in 1..=MAX_NUMBER {
        if kept == keep {
            break;
        }
        let old = numbered_path(path, number);
        let status = name_status(&old);
        if status == NameStatus::Taken {
            continue;
        }
        kept += 1;
        last = number;
        first.get_or_insert(number);
        if !has_room {
            to_shift.push(old);
            has_room = status == NameStatus::Free || kept == keep;
        }
    }
    if kept < keep && !has_room {
        let reason = "the names of rotated files are in use: remove the files of other users";
        return Err(with_path(path, &io::Error::other(reason)));
    }
    if keep > 0 && name_status(&numbered_path(path, last)) == NameStatus::OwnFile {
        let mut larger = (last + 1..=MAX_NUMBER).map(|number| numbered_path(path, number));
        let is_last = to_shift.last() == Some(&numbered_path(path, last));
        to_shift.extend(larger.find(|path| is_last && name_status(path) == NameStatus::Free));
    }
    to_shift.iter().try_for_each(|path| check_renamable(path))?;
    // The log itself is exchanged.
    for pair in to_shift[1..].windows(2).rev() {
        rename_numbered(&pair[0], &pair[1])?;
    }
    Ok(Shifted { first, last })
}

/// Fails for a file that nobody can rename. Other reasons are found when it is renamed.
fn check_renamable(path: &Path) -> io::Result<()> {
    let flags = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    // Without this call, or without the file, nothing is known.
    let Ok(found) = statx(CWD, path, flags.0, flags.1) else {
        return Ok(());
    };
    let attributes = found.stx_attributes;
    let (kind, reason) = if attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let reason = "it is a mount point; mount its directory instead";
        (io::ErrorKind::ResourceBusy, reason)
    } else if attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        let reason = "it has the attribute `i` or `a`; remove that with chattr";
        (io::ErrorKind::PermissionDenied, reason)
    } else {
        return Ok(());
    };
    Err(with_path(path, &io::Error::new(kind, reason)))
}

/// Renames a file. In `/tmp`, another user may have taken the name since it was found free: that is
/// an error, also for root, who could replace that file.
fn rename_numbered(from: &Path, to: &Path) -> io::Result<()> {
    if name_status(to) == NameStatus::OwnFile {
        // Another user cannot remove it.
        return rename(from, to);
    }
    rename_without_replacing(from, to).map_err(|error| with_paths(from, to, &error))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|error| with_paths(from, to, &error))
}

fn with_paths(from: &Path, to: &Path, error: &io::Error) -> io::Error {
    let (from, to) = (from.display(), to.display());
    io::Error::new(error.kind(), format!("{from} to {to}: {error}"))
}

/// Adds the path to the text of an error.
fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotate_now(path: &Path, keep: u32) -> io::Result<File> {
        let current = File::open(path).or_else(|_| File::open("/dev/null"));
        rotate(path, &current?, keep, None)
    }

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
            rotate_now(&path, 3).unwrap();
        }
        assert_eq!(content(&path), ["", "d", "c", "b"]);
        fs::remove_file(numbered_path(&path, 2)).unwrap();
        fs::write(&path, "e").unwrap();
        rotate_now(&path, 3).unwrap();
        assert_eq!(content(&path), ["", "e", "d", "b"]);
        fs::write(&path, "f").unwrap();
        rotate_now(&path, 1).unwrap();
        assert_eq!(content(&path), ["", "f"]);
        fs::write(&path, "g").unwrap();
        rotate_now(&path, 0).unwrap();
        assert_eq!(content(&path), [""]);
    }

    #[test]
    fn rotation_skips_names_that_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let taken = [".1", ".3", ".new"].map(|suffix| with_suffix(&path, suffix));
        for taken in &taken {
            fs::create_dir(taken).unwrap();
        }
        for text in ["a", "b", "c"] {
            fs::write(&path, text).unwrap();
            rotate_now(&path, 2).unwrap();
        }
        assert_eq!(content(&path), ["", "", "c", "", "b"]);
        assert!(taken.iter().all(|taken| taken.is_dir()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 6);
        fs::remove_dir(&taken[0]).unwrap();
        fs::write(&path, "d").unwrap();
        rotate_now(&path, 2).unwrap();
        assert_eq!(content(&path), ["", "d", "c", ""]);
    }

    /// Another user takes the name after it was found free. Root could replace that file.
    #[test]
    fn name_that_is_taken_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let number = |number| numbered_path(&path, number);
        fs::write(&path, "a").unwrap();
        fs::create_dir(number(1)).unwrap();
        std::os::unix::fs::symlink("elsewhere", number(2)).unwrap();
        for taken in [1, 2] {
            let error = rename_numbered(&path, &number(taken)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        }
        rotate_now(&path, 2).unwrap();
        assert_eq!(content(&path), ["", "", "", "a"]);
    }

    #[test]
    fn failed_rotation_loses_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (number, text) in [(1, "c"), (2, "b"), (3, "a")] {
            fs::write(numbered_path(&path, number), text).unwrap();
        }
        // There is nothing to rename.
        for _ in 0..2 {
            rotate_now(&path, 3).unwrap_err();
            assert_eq!(content(&path), ["", "", "c", "b", "a"]);
        }
        fs::write(&path, "d").unwrap();
        rotate_now(&path, 3).unwrap();
        assert_eq!(content(&path), ["", "d", "c", "b"]);
    }

    #[test]
    fn rotation_without_a_free_name_fails_and_keeps_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a").unwrap();
        for number in 1..=MAX_NUMBER {
            fs::create_dir(numbered_path(&path, number)).unwrap();
        }
        let error = rotate_now(&path, 1).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
        assert!(!with_suffix(&path, ".new").exists());
    }

    /// Another user takes each name that is free for a moment. In `/tmp` it would not come back.
    #[test]
    fn name_of_the_log_is_never_free() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "").unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    if File::create_new(&path).is_ok() {
                        return true;
                    }
                }
                false
            });
            for number in 0..500 {
                fs::OpenOptions::new()
                    .append(true)
                    .open(&path)
                    .and_then(|mut log| {
                        io::Write::write_all(&mut log, number.to_string().as_bytes())
                    })
                    .unwrap();
                rotate_now(&path, 2).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
            assert!(!taker.join().unwrap());
        });
        assert_eq!(content(&path), ["", "499", "498"]);
    }

    /// Otherwise other users could have all old lines removed.
    #[test]
    fn no_file_is_removed_because_names_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a").unwrap();
        for number in (1..=MAX_NUMBER).filter(|number| *number != 500) {
            fs::create_dir(numbered_path(&path, number)).unwrap();
        }
        rotate_now(&path, 2).unwrap();
        fs::write(&path, "b").unwrap();
        let error = rotate_now(&path, 2).unwrap_err().to_string();
        assert!(error.contains("files of other users"), "{error}");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!([read(&path), read(&numbered_path(&path, 500))], ["b", "a"]);
        assert!(!with_suffix(&path, ".new").exists());
        // This many are kept.
        rotate_now(&path, 1).unwrap();
        assert_eq!([read(&path), read(&numbered_path(&path, 500))], ["", "b"]);
    }
}
