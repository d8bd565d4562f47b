//! Reading the log at a cursor that a client made up.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::fuzzing::split_first_line;
use crate::logs::{
    Cursor, Filter, Follower, LogBroadcaster, LogItem, ReadError, StartAt, TailQuery,
};

/// The files, oldest first. The last line is incomplete.
const FILES: [&str; 3] = [
    "first\n2026-11-23T08:00:00Z  INFO a: second\n\nfourth\n",
    "fifth\nsixth without an end",
    "seventh\n{\"eighth\":8}\n\nun",
];

/// A log of three files.
pub(crate) struct TestLog {
    directory: PathBuf,
    pub path: PathBuf,
}

impl TestLog {
    pub fn new() -> Self {
        let name = format!("fullon-fuzzed-{}", uuid::Uuid::new_v4().simple());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        for (suffix, content) in [".2", ".1", ""].into_iter().zip(FILES) {
            std::fs::write(directory.join(format!("log{suffix}")), content).unwrap();
        }
        let path = directory.join("log");
        Self { directory, path }
    }

    /// The cursor of the first line of each file, oldest first.
    pub fn cursors(&self) -> Vec<Cursor> {
        let page = TailQuery::new(&self.path, 100).page().unwrap();
        let cursors = page.entries.iter().map(|entry| entry.cursor);
        cursors.filter(|cursor| cursor.offset == 0).collect()
    }
}

impl Drop for TestLog {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

struct LogFixture {
    log: TestLog,
    files: Vec<String>,
    watcher: Arc<LogBroadcaster>,
    /// As long as there is one follower, the next one needs no new inotify instance.
    _follower: Follower,
    runtime: Runtime,
}

impl LogFixture {
    fn new() -> Self {
        let log = TestLog::new();
        let files = log.cursors().into_iter().map(|cursor| {
            let text = cursor.to_string();
            let mut parts = text.splitn(3, '-');
            format!("{}-{}", parts.next().unwrap(), parts.next().unwrap())
        });
        let files = files.collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let watcher = LogBroadcaster::new(log.path.clone());
        let entered = runtime.enter();
        let follower = Follower::new(&watcher, StartAt::Last(0), Filter::default()).unwrap();
        drop(entered);
        Self {
            log,
            files,
            watcher,
            _follower: follower,
            runtime,
        }
    }
}

thread_local! {
    static FIXTURE: LogFixture = LogFixture::new();
}

/// `FILE-OFFSET-LEN`, where file `0` is the newest, a newline, and a byte with the number of lines.
pub fn log_read_at_cursor(bytes: &[u8]) {
    let (place, lines) = split_first_line(bytes);
    let lines = usize::from(lines.first().copied().unwrap_or(3));
    let Ok(place) = std::str::from_utf8(place) else {
        return;
    };
    FIXTURE.with(|reading| {
        let place = match place.split_once('-') {
            Some((file @ ("0" | "1" | "2"), place)) => {
                let file: usize = file.parse().unwrap();
                format!("{}-{place}", reading.files[2 - file])
            }
            _ => place.to_owned(),
        };
        if let Ok(cursor) = place.parse() {
            reading.page_before(cursor, lines);
            reading.rest_after(cursor);
        }
    });
}

impl LogFixture {
    fn page_before(&self, cursor: Cursor, lines: usize) {
        let query = TailQuery::new(&self.log.path, lines).before(Some(cursor));
        let page = match query.page() {
            Err(ReadError::CursorExpired) => return,
            page => page.unwrap(),
        };
        assert!(page.entries.len() <= lines);
        assert_consecutive_lines(page.entries.iter().map(|entry| entry.line.as_str()));
        for entry in &page.entries {
            let line = entry.cursor;
            assert!(line.file != cursor.file || line.end() <= cursor.offset);
        }
        let mut text = query.unlimited().find().unwrap();
        assert_eq!((text.first, text.next), (page.first, page.next));
        let all = text.read_text().unwrap();
        let lines = page.entries.iter().map(|entry| format!("{}\n", entry.line));
        assert_eq!(String::from_utf8(all).unwrap(), lines.collect::<String>());
    }

    fn rest_after(&self, cursor: Cursor) {
        let _entered = self.runtime.enter();
        let from = StartAt::After(cursor);
        let mut follower = Follower::new(&self.watcher, from, Filter::default()).unwrap();
        let items = follower.read_available().unwrap();
        let entries: Vec<_> = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| match item {
                LogItem::Entry(entry) => Some(entry),
                LogItem::Gap => {
                    assert_eq!(at, 0, "only the requested line may be missing");
                    None
                }
            })
            .collect();
        assert_consecutive_lines(entries.iter().map(|entry| entry.line.as_str()));
        if let Some(last) = entries.last() {
            assert_eq!(last.line, "");
        }
    }
}

/// Asserts that these are consecutive lines of the log.
fn assert_consecutive_lines<'a>(lines: impl Iterator<Item = &'a str>) {
    let lines: Vec<_> = lines.collect();
    let all: Vec<_> = FILES.iter().flat_map(|file| file.lines()).collect();
    assert!(
        lines.is_empty() || all.windows(lines.len()).any(|window| window == lines),
        "{lines:?}"
    );
}
