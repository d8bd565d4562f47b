//! Tests of the log file.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;

use bytesize::ByteSize;

use super::*;
use crate::config::LogTarget;
use crate::logs::files::{MAX_NUMBER, numbered_path};

struct Log {
    _directory: tempfile::TempDir,
    path: PathBuf,
    file: LogFile,
}

impl Log {
    fn new(max_size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Self {
            file: open_with(&path, max_size).unwrap(),
            _directory: directory,
            path,
        }
    }

    /// Writes each line as an event, and flushes once.
    fn log(&mut self, lines: &[&str]) {
        for line in lines {
            self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        self.file.flush().unwrap();
    }

    fn lines(&self, number: u32) -> Vec<String> {
        let path = match number {
            0 => self.path.clone(),
            number => numbered_path(&self.path, number),
        };
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn failure(&self) -> Option<String> {
        self.file.health.failure()
    }
}

fn open_with(path: &Path, max_size: u64) -> Result<LogFile, LogFileError> {
    let settings = LogSettings {
        filter: "info".into(),
        format: LogFormat::Text,
        target: LogTarget::File(path.to_owned()),
        max_size: ByteSize(max_size),
        keep: 3,
        mode: None,
    };
    LogFile::open(path, &settings)
}

#[test]
fn file_is_rotated_before_it_exceeds_max_size() {
    let mut log = Log::new(10);
    log.log(&["1234", "5678", "90", "a line that is too long for any", "b"]);
    assert_eq!(log.lines(0), ["b"]);
    assert_eq!(log.lines(1), ["a line that is too long for any"]);
    assert_eq!(log.lines(2), ["90"]);
    assert_eq!(log.lines(3), ["1234", "5678"]);
    assert_eq!(std::fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);
    log.log(&["c", "d", "e", "f", "g"]);
    assert_eq!(log.lines(0), ["g"]);
    assert_eq!(log.lines(1), ["b", "c", "d", "e", "f"]);
}

#[test]
fn failed_rotation_is_reported_and_file_grows() {
    let mut log = Log::new(10);
    for number in 1..=MAX_NUMBER {
        std::fs::create_dir(numbered_path(&log.path, number)).unwrap();
    }
    log.log(&["12345678", "90", "more"]);
    let failure = log.failure().unwrap();
    assert!(failure.contains("cannot rotate"), "{failure}");
    let lines = log.lines(0);
    assert_eq!((lines.len(), lines[1].as_str()), (4, "90"), "{lines:?}");
    std::fs::remove_dir(numbered_path(&log.path, 1)).unwrap();
    log.file.retry_rotation_at = Some(Instant::now());
    log.file.flush().unwrap();
    assert_eq!((log.lines(0), log.failure()), (Vec::new(), None));
    assert_eq!(log.lines(1), lines);
}

#[test]
fn renamed_file_is_left_for_the_new_file() {
    let mut log = Log::new(0);
    log.log(&["one"]);
    std::fs::rename(&log.path, numbered_path(&log.path, 1)).unwrap();
    // The rotation may be about to create a new file.
    log.log(&["two"]);
    assert!(!log.path.exists());
    File::create(&log.path).unwrap();
    log.log(&["three"]);
    assert_eq!(log.lines(1), ["one", "two"]);
    assert_eq!(log.lines(0), ["three"]);
    std::fs::rename(&log.path, numbered_path(&log.path, 2)).unwrap();
    log.file.health.request_reopen();
    log.log(&["four"]);
    std::fs::rename(&log.path, numbered_path(&log.path, 3)).unwrap();
    log.log(&["five"]);
    log.file.name_missing_since = Instant::now().checked_sub(NAME_MISSING_TIMEOUT);
    log.log(&["six"]);
    assert_eq!(log.lines(3), ["four", "five"]);
    assert_eq!(log.lines(0), ["six"]);
    std::fs::remove_file(&log.path).unwrap();
    log.file.flush().unwrap();
    assert_eq!(log.lines(0), [""; 0]);
    assert_eq!(std::fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);
}

/// As with two rotations while only another process logs, such as the old one after a restart.
#[test]
fn file_that_only_another_process_has_written_is_part_of_the_succession() {
    let mut log = Log::new(0);
    log.log(&["1"]);
    let first = log.file.id;
    std::fs::rename(&log.path, numbered_path(&log.path, 2)).unwrap();
    let skipped = numbered_path(&log.path, 1);
    std::fs::write(&skipped, "2\n").unwrap();
    log.file.health().request_reopen();
    log.log(&["3"]);
    let skipped = FileId::from_metadata(&skipped.metadata().unwrap());
    let successors = log.file.history.successors(first).into_iter();
    let successors: Vec<_> = successors.map(|it| (it.file, it.is_direct)).collect();
    assert_eq!(successors, [(skipped, true), (log.file.id, false)]);
}

#[test]
fn full_disk_fills_buffer_then_drops_and_counts_lines() {
    let mut log = Log::new(0);
    log.log(&["before"]);
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let good = std::mem::replace(&mut log.file.file, full);
    let long = "x".repeat(MAX_BUFFER_BYTES / 2);
    log.log(&["a"]);
    log.log(&["b", &long, &long, "c"]);
    let failure = log.failure().unwrap();
    assert!(failure.contains("No space left"), "{failure}");
    assert!(
        failure.contains("3 lines are buffered, 2 were lost"),
        "{failure}"
    );
    log.file.file = good;
    log.log(&["d"]);
    assert_eq!(log.failure(), None);
    let lines = log.lines(0);
    assert_eq!(lines[..4], ["before", "a", "b", &long]);
    assert!(
        lines[4].contains(" 2 lines are missing here") && lines.len() == 6,
        "{lines:?}"
    );
    assert_eq!(lines[5], "d");
}

#[test]
fn unfinished_line_of_another_process_is_not_mixed() {
    let mut log = Log::new(0);
    let mut other = OpenOptions::new().append(true).open(&log.path).unwrap();
    other.write_all(b"cut o").unwrap();
    log.log(&["one", "two"]);
    other.write_all(b"a library says\n").unwrap();
    log.log(&["three"]);
    other.write_all(b"torn").unwrap();
    log.file = open_with(&log.path, 0).unwrap();
    log.log(&["four"]);
    let expected = [
        "cut o",
        "one",
        "two",
        "a library says",
        "three",
        "torn",
        "four",
    ];
    assert_eq!(log.lines(0), expected);
}

#[test]
fn partially_written_line_is_completed_or_rewritten() {
    let mut log = Log::new(0);
    for (is_interrupted, expected) in [(false, vec!["begun"]), (true, vec!["begother", "begun"])] {
        std::fs::write(&log.path, "beg").unwrap();
        log.file.buffer = b"begun\n".to_vec();
        log.file.partial_write = Some((3, 3));
        if is_interrupted {
            std::fs::write(&log.path, "begother").unwrap();
        }
        log.file.flush().unwrap();
        assert_eq!(log.lines(0), expected);
    }
}

#[test]
fn failed_reopen_is_reported_and_retried() {
    let mut log = Log::new(0);
    let old = numbered_path(&log.path, 1);
    std::fs::rename(&log.path, &old).unwrap();
    std::os::unix::fs::symlink("elsewhere", &log.path).unwrap();
    log.log(&["one"]);
    log.log(&["two"]);
    assert!(log.failure().unwrap().contains("symbolic link"));
    std::fs::remove_file(&log.path).unwrap();
    log.file.health.request_reopen();
    log.log(&["three"]);
    assert_eq!(log.failure(), None);
    let lines = log.lines(1);
    assert!(
        lines[1].contains("writing to the previous file instead"),
        "{lines:?}"
    );
    assert_eq!((lines.len(), lines[2].as_str()), (3, "two"));
    assert_eq!(log.lines(0), ["three"]);
}

#[test]
fn links_and_special_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
    let refusal = |path: &Path| open_with(path, 0).unwrap_err().to_string();
    assert!(refusal(&link).contains("symbolic link"));
    assert!(!directory.path().join("target").exists());
    refusal(directory.path());
    assert!(refusal(Path::new("/dev/null")).contains("regular"));
}
