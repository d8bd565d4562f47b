//! Following the log: history and what comes, as one sequence.
//!
//! A follower is a place in the log. History is nothing but a place further back, and a resumed follower one at a place
//! that the client kept. It reads as fast as its own reader takes what it finds; whoever does not read costs nothing but
//! that place. Those who have caught up share what the [`Tip`] reads, so that a new line is read and taken apart once for
//! all of them, and encoded once for those without a filter.

use std::io;
use std::sync::Arc;

use super::cursor::Cursor;
use super::entry::{Filter, Verdict};
use super::reader::{Batch, Item, Reader, StartAt, Step};
use super::tip::{Subscription, Tip, Watcher};

/// What a follower that is behind reads at once.
const BLOCK: usize = 16 * 1024;
/// How much [`Follower::rest`] reads at most, in blocks.
const REST_BLOCKS: usize = 64;

/// Reads the log from a place on, for ever.
#[derive(Debug)]
pub struct Follower {
    tip: Subscription,
    reader: Reader,
    filter: Filter,
}

impl Follower {
    /// Begins to follow. Must be called within a tokio runtime, in a server not on one of its workers: the history is
    /// searched here, and may lie far back.
    ///
    /// # Errors
    ///
    /// The log is there but cannot be read.
    pub fn new(watcher: &Watcher, from: StartAt, filter: Filter) -> io::Result<Self> {
        let tip = watcher.subscribe()?;
        let mut reader = Reader::new(watcher.path().to_owned());
        let tip_now = tip.look();
        reader.cuts = tip_now.cuts;
        reader.begin(from, &filter)?;
        reader.share(tip_now.place.as_ref());
        Ok(Self {
            tip,
            reader,
            filter,
        })
    }

    /// The place that it has reached: to resume from here is to miss and to repeat nothing. `None` as long as there is no
    /// log, or a gap to be told.
    #[must_use]
    pub fn place(&self) -> Option<Cursor> {
        (!self.reader.begins_with_gap)
            .then(|| self.reader.place())
            .flatten()
    }

    /// The next items, at least one, as soon as there are any. Nothing is lost when the future is dropped.
    ///
    /// A block is read where it is asked for: most often it is in memory, and handing it to another thread costs more.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub async fn next(&mut self) -> io::Result<Arc<Batch>> {
        loop {
            // Seen before anything is read, so that what arrives in between wakes us again.
            let tip = self.tip.see();
            match self.step(&tip)? {
                Step::Batch(batch) if !batch.items.is_empty() => return Ok(batch),
                Step::Batch(_) => tokio::task::yield_now().await,
                Step::Idle => self.tip.changed().await?,
            }
        }
    }

    /// A piece of what is there now and was not returned yet; it may have no items. `None` at the end.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn now(&mut self) -> io::Result<Option<Vec<Item>>> {
        Ok(match self.read(None)? {
            Step::Batch(batch) => Some(batch.items.clone()),
            Step::Idle => None,
        })
    }

    /// What is there now and was not returned yet, at most 1 MiB of it.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn rest(&mut self) -> io::Result<Vec<Item>> {
        let mut rest = Vec::new();
        for _ in 0..REST_BLOCKS {
            match self.now()? {
                Some(items) => rest.extend(items),
                None => break,
            }
        }
        Ok(rest)
    }

    fn step(&mut self, tip: &Tip) -> io::Result<Step> {
        let place = self.reader.place();
        if self.reader.begins_with_gap {
            return self.read(None);
        }
        if let Some(read) = tip.read_from(place, self.reader.cuts) {
            self.reader.take_over(read.to.as_ref(), read.cuts);
            return Ok(Step::Batch(if self.filter.is_empty() {
                Arc::clone(&read.batch)
            } else {
                let wanted = read.batch.items.iter().filter(|item| self.wants(item));
                Batch::new(place, wanted.cloned().collect())
            }));
        }
        if self.reader.cuts != tip.cuts {
            // A file was cut short that we did not get to, or while we were elsewhere in it.
            self.reader.miss_cut(tip.place.as_ref(), tip.cuts);
            return Ok(Step::Batch(Batch::new(place, vec![Item::Gap])));
        }
        match (place, &tip.place) {
            (Some(place), Some(tip_place)) if place.file == tip_place.segment.id => {
                if place.offset < tip_place.offset {
                    self.read(Some(tip_place.offset))
                } else {
                    Ok(Step::Idle)
                }
            }
            // The tip tells when there is a log.
            (None, None) => Ok(Step::Idle),
            _ => self.read(None),
        }
    }

    fn read(&mut self, end: Option<u64>) -> io::Result<Step> {
        let filter = &self.filter;
        let cuts = self.reader.cuts;
        let step = self
            .reader
            .step(BLOCK, end, |line| filter.judge(line) == Verdict::Wanted);
        // Only those count that the tip has seen.
        self.reader.cuts = cuts;
        step
    }

    fn wants(&self, item: &Item) -> bool {
        match item {
            Item::Entry(entry) => self.filter.judge_entry(entry) == Verdict::Wanted,
            Item::Gap => true,
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
    use crate::logs::entry::MAX_LINE_BYTES;

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
        watcher: Arc<Watcher>,
    }

    impl Log {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            Self {
                watcher: Watcher::new(path.clone()),
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

        fn follow(&self, from: StartAt) -> Follower {
            Follower::new(&self.watcher, from, Filter::default()).unwrap()
        }
    }

    async fn collect(follower: &mut Follower, count: usize) -> Vec<Item> {
        let mut items = Vec::new();
        while items.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(10), follower.next());
            let batch = next.await.expect("no line arrived").unwrap();
            items.extend(batch.items.iter().cloned());
        }
        items
    }

    fn texts(items: &[Item]) -> Vec<&str> {
        items
            .iter()
            .map(|item| match item {
                Item::Entry(entry) => entry.line.as_str(),
                Item::Gap => "(gap)",
            })
            .collect()
    }

    #[tokio::test]
    async fn history_and_live_lines_are_one_sequence() {
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
    async fn resumes_after_exactly_the_named_line() {
        let log = Log::new();
        log.append("1\n2\n3\n");
        let items = collect(&mut log.follow(StartAt::Last(3)), 3).await;
        for (at, item) in items.iter().enumerate() {
            let Item::Entry(entry) = item else {
                panic!("{item:?}")
            };
            let mut follower = log.follow(StartAt::After(entry.cursor.parse().unwrap()));
            assert_eq!(follower.rest().unwrap(), items[at + 1..], "{at}");
        }
    }

    #[tokio::test]
    async fn a_renamed_file_is_read_to_its_end_before_the_new_one() {
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
    async fn an_empty_successor_is_waited_for_and_the_old_file_still_read() {
        let log = Log::new();
        log.append("1\n");
        let mut follower = log.follow(StartAt::Last(1));
        collect(&mut follower, 1).await;
        let old = OpenOptions::new().append(true).open(&log.path).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        log.append("");
        assert_eq!(follower.rest().unwrap(), []);
        // The writer has not been told yet, as with `create` of logrotate.
        (&old).write_all(b"2\n").unwrap();
        assert_eq!(texts(&collect(&mut follower, 1).await), ["2"]);
        log.append("3\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["3"]);
        let filter = Filter {
            contains: Some("nothing has this".into()),
            ..Filter::default()
        };
        let mut follower = Follower::new(&log.watcher, StartAt::Last(1), filter).unwrap();
        assert_eq!(follower.rest().unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_gone_is_said_and_a_file_may_come_later() {
        let log = Log::new();
        let mut follower = log.follow(StartAt::Last(5));
        log.append("1\n2\n");
        let items = collect(&mut follower, 2).await;
        let Item::Entry(second) = &items[1] else {
            panic!()
        };
        let cursor = second.cursor.parse().unwrap();
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
    async fn a_file_that_is_cut_short_is_one_gap_for_each_follower() {
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
            assert_eq!(follower.rest().unwrap(), []);
        }
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let log = Log::new();
        let long = "x".repeat(MAX_LINE_BYTES * 3);
        let mut follower = log.follow(StartAt::Last(0));
        log.append(&format!("{long}\nnext\n"));
        let items = collect(&mut follower, 2).await;
        assert!(texts(&items)[0].ends_with("bytes shown]") && texts(&items)[1] == "next");
    }
}
