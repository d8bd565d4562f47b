//! Followers: history and new lines as one sequence.
//!
//! A follower is a position in the log. A follower with history begins further back. One that
//! resumes begins at a position that the client has kept. Each follower reads as fast as its client
//! takes the items; a client that does not read costs only a position. Followers that have caught
//! up share what the broadcaster reads (see [`TailSnapshot`]): a new line is read and parsed once
//! for all of them, and encoded once for those without a filter.

use std::io;
use std::sync::Arc;

use super::broadcast::{LogBroadcaster, Subscription, TailSnapshot};
use crate::logs::cursor::Cursor;
use crate::logs::read::filter::{Filter, FilterMatch};
use crate::logs::read::reader::{Batch, LogItem, LogReader, ReadOutcome, StartAt};

/// How much a follower that is behind reads at once.
const BLOCK_BYTES: usize = 16 * 1024;
/// How many blocks [`Follower::read_available`] reads at most.
const MAX_AVAILABLE_BLOCKS: usize = 64;

/// Reads the log from a position on, without end.
#[derive(Debug)]
pub struct Follower {
    subscription: Subscription,
    reader: LogReader,
    filter: Filter,
}

impl Follower {
    /// Starts to follow. Must be called within a tokio runtime, and in a server not on a worker
    /// thread: this searches for the start of the history, which may be far back.
    ///
    /// # Errors
    ///
    /// The log exists but cannot be read.
    pub fn new(broadcaster: &LogBroadcaster, start: StartAt, filter: Filter) -> io::Result<Self> {
        Self::new_while(broadcaster, start, filter, &|| true)
    }

    /// As [`Self::new`], but ends the search early once `is_wanted` returns false.
    ///
    /// # Errors
    ///
    /// The log exists but cannot be read.
    pub fn new_while(
        broadcaster: &LogBroadcaster,
        start: StartAt,
        filter: Filter,
        is_wanted: &dyn Fn() -> bool,
    ) -> io::Result<Self> {
        let subscription = broadcaster.subscribe()?;
        let mut reader = broadcaster.reader();
        let tail = subscription.snapshot();
        reader.truncations = tail.truncations;
        reader.seek(start, &filter, is_wanted)?;
        reader.share_segment(tail.position.as_ref());
        Ok(Self {
            subscription,
            reader,
            filter,
        })
    }

    /// The current position. A client that resumes here misses and repeats nothing. `None` if there
    /// is no log yet, or the next item is a gap.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        (!self.reader.gap_pending)
            .then(|| self.reader.cursor())
            .flatten()
    }

    /// Waits for the next items, at least one. Cancel-safe.
    ///
    /// Reads on the calling thread: usually the block is in the page cache, and another thread
    /// would cost more.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub async fn next(&mut self) -> io::Result<Arc<Batch>> {
        loop {
            // Taken before reading, so that a change during the read ends the wait below.
            let tail = self.subscription.snapshot_and_update();
            match self.read_next(&tail)? {
                ReadOutcome::Batch(batch) if !batch.items.is_empty() => return Ok(batch),
                ReadOutcome::Batch(_) => tokio::task::yield_now().await,
                ReadOutcome::CaughtUp => self.subscription.changed().await?,
            }
        }
    }

    /// The next block of what the log contains now; it may have no items. `None` at the end.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn try_next(&mut self) -> io::Result<Option<Vec<LogItem>>> {
        Ok(match self.read_file(None)? {
            ReadOutcome::Batch(batch) => Some(batch.items.clone()),
            ReadOutcome::CaughtUp => None,
        })
    }

    /// The rest of what the log contains now, at most 1 MiB.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn read_available(&mut self) -> io::Result<Vec<LogItem>> {
        let mut available = Vec::new();
        for _ in 0..MAX_AVAILABLE_BLOCKS {
            match self.try_next()? {
                Some(items) => available.extend(items),
                None => break,
            }
        }
        Ok(available)
    }

    fn read_next(&mut self, tail: &TailSnapshot) -> io::Result<ReadOutcome> {
        let cursor = self.reader.cursor();
        if self.reader.gap_pending {
            return self.read_file(None);
        }
        if let Some(read) = tail.find_read(cursor, self.reader.truncations) {
            self.reader.jump_to(read.end.as_ref(), read.truncations);
            return Ok(ReadOutcome::Batch(if self.filter.is_empty() {
                Arc::clone(&read.batch)
            } else {
                let matching = read.batch.items.iter().filter(|item| self.matches(item));
                Batch::new(cursor, matching.cloned().collect())
            }));
        }
        if self.reader.truncations != tail.truncations {
            // The current file was truncated, or another one while this follower was elsewhere.
            self.reader
                .on_truncation(tail.position.as_ref(), tail.truncations);
            return Ok(ReadOutcome::Batch(Batch::new(cursor, vec![LogItem::Gap])));
        }
        match (cursor, &tail.position) {
            (Some(cursor), Some(end)) if cursor.file == end.segment.id => {
                if cursor.offset < end.offset {
                    self.read_file(Some(end.offset))
                } else {
                    Ok(ReadOutcome::CaughtUp)
                }
            }
            // The broadcaster reports when there is a log.
            (None, None) => Ok(ReadOutcome::CaughtUp),
            _ => self.read_file(None),
        }
    }

    fn read_file(&mut self, end: Option<u64>) -> io::Result<ReadOutcome> {
        let filter = &self.filter;
        let truncations = self.reader.truncations;
        let outcome = self.reader.read_block(BLOCK_BYTES, end, |line| {
            filter.evaluate(line) == FilterMatch::Match
        });
        // Only truncations that the broadcaster has seen are counted.
        self.reader.truncations = truncations;
        outcome
    }

    fn matches(&self, item: &LogItem) -> bool {
        match item {
            LogItem::Entry(entry) => self.filter.evaluate_entry(entry) == FilterMatch::Match,
            LogItem::Gap => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::logs::archive::Codec;
    use crate::logs::archive::tests::compress;
    use crate::logs::files::with_suffix;
    use crate::logs::read::line::MAX_LINE_BYTES;

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
        broadcaster: Arc<LogBroadcaster>,
    }

    impl Log {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            Self {
                broadcaster: LogBroadcaster::new(path.clone()),
                _directory: directory,
                path,
            }
        }

        fn append(&self, text: &str) {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        }

        fn follow(&self, start: StartAt) -> Follower {
            Follower::new(&self.broadcaster, start, Filter::default()).unwrap()
        }
    }

    async fn collect(follower: &mut Follower, count: usize) -> Vec<LogItem> {
        let mut items = Vec::new();
        while items.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(10), follower.next());
            let batch = next.await.expect("no line arrived").unwrap();
            items.extend(batch.items.iter().cloned());
        }
        items
    }

    fn texts(items: &[LogItem]) -> Vec<&str> {
        items
            .iter()
            .map(|item| match item {
                LogItem::Entry(entry) => entry.line.as_str(),
                LogItem::Gap => "(gap)",
            })
            .collect()
    }

    #[tokio::test]
    async fn history_and_new_lines_are_one_sequence() {
        let log = Log::new();
        log.append("1\n2\n3\nhalf");
        let mut follower = log.follow(StartAt::Last(2));
        log.append(" line\n5\n");
        let items = collect(&mut follower, 4).await;
        assert_eq!(texts(&items), ["2", "3", "half line", "5"]);
        log.append("6\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["6"]);
    }

    #[tokio::test]
    async fn history_can_begin_in_an_archive() {
        let log = Log::new();
        let archive = |number: u32, codec: Codec, text: &str| {
            let suffix = format!(".{number}{}", codec.suffix());
            let path = with_suffix(&log.path, suffix);
            std::fs::write(path, compress(codec, text.as_bytes())).unwrap();
        };
        archive(2, Codec::Gzip, "1\n2\n3\n");
        archive(1, Codec::Zstd, "4\n5\n");
        log.append("6\n");
        let mut follower = log.follow(StartAt::Last(5));
        let items = collect(&mut follower, 5).await;
        assert_eq!(texts(&items), ["2", "3", "4", "5", "6"]);
        log.append("7\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["7"]);
        for (at, item) in items.iter().enumerate() {
            let LogItem::Entry(entry) = item else {
                panic!("{item:?}")
            };
            let mut follower = log.follow(StartAt::After(entry.cursor));
            let rest = collect(&mut follower, 5 - at).await;
            assert_eq!(rest[..4 - at], items[at + 1..], "{at}");
        }
        // The newest line is in an archive.
        std::fs::write(&log.path, "").unwrap();
        let items = collect(&mut log.follow(StartAt::Last(1)), 1).await;
        assert_eq!(texts(&items), ["5"]);
        let mut follower = log.follow(StartAt::Last(0));
        log.append("8\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["8"]);
    }

    #[tokio::test]
    async fn follower_resumes_after_cursor() {
        let log = Log::new();
        log.append("1\n2\n3\n");
        let items = collect(&mut log.follow(StartAt::Last(3)), 3).await;
        for (at, item) in items.iter().enumerate() {
            let LogItem::Entry(entry) = item else {
                panic!("{item:?}")
            };
            let mut follower = log.follow(StartAt::After(entry.cursor));
            assert_eq!(follower.read_available().unwrap(), items[at + 1..], "{at}");
        }
    }

    #[tokio::test]
    async fn renamed_file_is_read_to_its_end_first() {
        let log = Log::new();
        log.append("1\n");
        let mut follower = log.follow(StartAt::Last(1));
        assert_eq!(texts(&collect(&mut follower, 1).await), ["1"]);
        let old = OpenOptions::new().append(true).open(&log.path).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        (&old).write_all(b"2\n").unwrap();
        log.append("3\n");
        assert_eq!(texts(&collect(&mut follower, 2).await), ["2", "3"]);
        log.append("4\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["4"]);
    }

    #[tokio::test]
    async fn follower_that_starts_without_a_current_file_sees_new_lines() {
        let log = Log::new();
        log.append("1\n");
        let old = OpenOptions::new().append(true).open(&log.path).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        let mut follower = log.follow(StartAt::Last(1));
        assert_eq!(texts(&collect(&mut follower, 1).await), ["1"]);
        for _ in 0..8 {
            // The broadcast task comes to its wait.
            tokio::task::yield_now().await;
        }
        // The writer has no other file yet.
        (&old).write_all(b"2\n").unwrap();
        assert_eq!(texts(&collect(&mut follower, 1).await), ["2"]);
    }

    #[tokio::test]
    async fn old_file_is_read_while_new_file_is_empty() {
        let log = Log::new();
        log.append("1\n");
        let mut follower = log.follow(StartAt::Last(1));
        collect(&mut follower, 1).await;
        let old = OpenOptions::new().append(true).open(&log.path).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        log.append("");
        assert_eq!(follower.read_available().unwrap(), []);
        // The writer does not know yet, as with `create` of logrotate.
        (&old).write_all(b"2\n").unwrap();
        assert_eq!(texts(&collect(&mut follower, 1).await), ["2"]);
        log.append("3\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["3"]);
        let filter = Filter {
            contains: Some("nothing has this".into()),
            ..Filter::default()
        };
        let mut follower = Follower::new(&log.broadcaster, StartAt::Last(1), filter).unwrap();
        assert_eq!(follower.read_available().unwrap(), []);
    }

    #[tokio::test]
    async fn missing_lines_are_a_gap_and_file_may_appear_later() {
        let log = Log::new();
        let mut follower = log.follow(StartAt::Last(5));
        log.append("1\n2\n");
        let items = collect(&mut follower, 2).await;
        let LogItem::Entry(second) = &items[1] else {
            panic!()
        };
        let cursor = second.cursor;
        std::fs::remove_file(&log.path).unwrap();
        log.append("new\n");
        let items = collect(&mut log.follow(StartAt::After(cursor)), 2).await;
        assert_eq!(texts(&items), ["(gap)", "new"]);

        let mut follower = log.follow(StartAt::Last(1));
        collect(&mut follower, 1).await;
        File::create(&log.path).unwrap();
        log.append("x\n");
        assert_eq!(texts(&collect(&mut follower, 2).await), ["(gap)", "x"]);
    }

    #[tokio::test]
    async fn truncation_is_one_gap_for_each_follower() {
        let log = Log::new();
        log.append("1\n2\n");
        let mut prompt = log.follow(StartAt::Last(2));
        let mut behind = log.follow(StartAt::Last(2));
        assert_eq!(texts(&collect(&mut prompt, 2).await), ["1", "2"]);
        log.append("3\n");
        assert_eq!(texts(&collect(&mut prompt, 1).await), ["3"]);
        File::create(&log.path).unwrap();
        assert_eq!(texts(&collect(&mut prompt, 1).await), ["(gap)"]);
        log.append("x\n");
        assert_eq!(texts(&collect(&mut prompt, 1).await), ["x"]);
        log.append("y\n");
        assert_eq!(texts(&collect(&mut prompt, 1).await), ["y"]);
        assert_eq!(texts(&collect(&mut behind, 3).await), ["(gap)", "x", "y"]);
        log.append("z\n");
        for follower in [&mut prompt, &mut behind] {
            assert_eq!(texts(&collect(follower, 1).await), ["z"]);
            assert_eq!(follower.read_available().unwrap(), []);
        }
    }

    #[tokio::test]
    async fn long_line_is_cut_and_next_line_is_whole() {
        let log = Log::new();
        let long = "x".repeat(MAX_LINE_BYTES * 3);
        let mut follower = log.follow(StartAt::Last(0));
        log.append(&format!("{long}\nnext\n"));
        let items = collect(&mut follower, 2).await;
        assert!(texts(&items)[0].ends_with("bytes shown]") && texts(&items)[1] == "next");
    }
}
