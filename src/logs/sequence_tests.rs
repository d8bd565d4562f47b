//! A follower receives every line in order, whatever sequence of writes, rotations and restarts
//! happens.

use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::archive::Codec;
use super::archive::tests::compress;
use super::files::{existing_numbers, numbered_path, with_suffix};
use super::{
    Batch, Cursor, Filter, Follower, LogBroadcaster, LogFile, LogItem, StartAt, TailQuery,
};
use crate::config::{LogFormat, LogSettings, LogTarget};

/// How often the receiver yields before it concludes that nothing is available.
const MAX_YIELDS: u32 = 8;
/// How long the last line may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(5);
const GAP: &str = "(gap)";

#[derive(Debug, Clone)]
enum Step {
    /// The daemon logs this many events, and the writer writes them together.
    Write(usize),
    /// Another program writes to stdout, bypassing the writer.
    WriteOutside,
    /// Writes the first part of a line, as a library does that writes in pieces.
    WritePartialLine,
    /// An external rotation renames the file, and creates a new one or notifies the daemon.
    RenameOutside { creates: bool },
    /// The daemon exits, and another one starts.
    Restart { killed_within_a_line: bool },
    /// The client receives at most this many items.
    Receive(usize),
    /// The connection breaks, and the client resumes from the last id it received.
    Reconnect,
    /// The connection breaks, and the client resumes when it next receives.
    Disconnect,
    /// Another follower comes and goes, so that the broadcast task may start and stop.
    Visit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..12_usize).prop_map(Step::Write),
        2 => Just(Step::WriteOutside),
        1 => Just(Step::WritePartialLine),
        2 => any::<bool>().prop_map(|creates| Step::RenameOutside { creates }),
        2 => any::<bool>().prop_map(|killed_within_a_line| Step::Restart { killed_within_a_line }),
        5 => (1..4_usize).prop_map(Step::Receive),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Visit),
    ];
    prop::collection::vec(step, 1..40)
}

struct Scenario {
    _directory: tempfile::TempDir,
    path: PathBuf,
    settings: LogSettings,
    writer: LogFile,
    broadcaster: Arc<LogBroadcaster>,
    follower: Option<Follower>,
    /// The last id that the client received.
    cursor: Option<Cursor>,
    written: Vec<String>,
    partial_line: String,
    received: Vec<String>,
    /// A batch that was received in part, and the index of its next item.
    pending: Option<(Arc<Batch>, usize)>,
    counter: usize,
}

impl Scenario {
    fn new(max_size: u64, keep: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let settings = LogSettings {
            filter: "info".into(),
            format: LogFormat::Text,
            target: LogTarget::File(path.clone()),
            max_size: ByteSize(max_size),
            keep,
            mode: None,
        };
        let writer = LogFile::open(&path, &settings).unwrap();
        let mut scenario = Self {
            broadcaster: LogBroadcaster::with_history(path.clone(), writer.history()),
            writer,
            _directory: directory,
            path,
            settings,
            follower: None,
            cursor: None,
            written: Vec::new(),
            partial_line: String::new(),
            received: Vec::new(),
            pending: None,
            counter: 0,
        };
        scenario.connect();
        scenario
    }

    fn line(&mut self) -> String {
        self.counter += 1;
        // Many lengths, so that lines end at any offset within blocks and files.
        format!("{} {}", self.counter, "x".repeat(self.counter * 37 % 90))
    }

    fn connect(&mut self) {
        self.pending = None;
        let start = self.cursor.map_or(StartAt::Last(0), StartAt::After);
        let follower = Follower::new(&self.broadcaster, start, Filter::default()).unwrap();
        // A stream begins with the id of its position.
        self.cursor = follower.cursor().or(self.cursor);
        self.follower = Some(follower);
    }

    fn append(&self, text: &str) {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// A partial line ends where the writer begins a line.
    fn end_partial_line(&mut self) {
        if !self.partial_line.is_empty() {
            let partial = std::mem::take(&mut self.partial_line);
            self.written.push(partial);
        }
    }

    async fn apply(&mut self, step: &Step) {
        match step {
            Step::Write(count) => {
                self.end_partial_line();
                for _ in 0..*count {
                    let line = self.line();
                    self.writer
                        .write_all(format!("{line}\n").as_bytes())
                        .unwrap();
                    self.written.push(line);
                }
                self.writer.flush().unwrap();
            }
            Step::WriteOutside => {
                let line = self.line();
                self.append(&format!("{line}\n"));
                let partial = std::mem::take(&mut self.partial_line);
                self.written.push(partial + line.as_str());
            }
            Step::WritePartialLine => {
                let line = self.line();
                self.append(&line);
                self.partial_line += &line;
            }
            Step::RenameOutside { creates } => {
                self.end_partial_line();
                for number in (1..500).rev() {
                    let from = numbered_path(&self.path, number);
                    if from.exists() {
                        std::fs::rename(from, numbered_path(&self.path, number + 1)).unwrap();
                    }
                }
                std::fs::rename(&self.path, numbered_path(&self.path, 1)).unwrap();
                if *creates {
                    self.append("");
                } else {
                    self.writer.health().request_reopen();
                    self.writer.flush().unwrap();
                }
            }
            Step::Restart {
                killed_within_a_line,
            } => {
                if *killed_within_a_line {
                    let line = self.line();
                    self.append(&line);
                    self.partial_line += &line;
                }
                self.writer = LogFile::open(&self.path, &self.settings).unwrap();
                self.broadcaster =
                    LogBroadcaster::with_history(self.path.clone(), self.writer.history());
                self.connect();
            }
            Step::Receive(pieces) => {
                if self.follower.is_none() {
                    self.connect();
                }
                for _ in 0..*pieces {
                    self.receive().await;
                }
            }
            Step::Reconnect => self.connect(),
            Step::Disconnect => self.follower = None,
            Step::Visit => {
                let visitor = Follower::new(&self.broadcaster, StartAt::Last(3), Filter::default());
                drop(visitor.unwrap());
            }
        }
    }

    /// Receives one item. Returns whether there was one.
    async fn receive(&mut self) -> bool {
        if self.pending.is_none() {
            let follower = self.follower.as_mut().unwrap();
            for _ in 0..MAX_YIELDS {
                if let Some(batch) = follower.next().now_or_never() {
                    self.pending = Some((batch.unwrap(), 0));
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let Some((batch, next)) = &mut self.pending else {
            return false;
        };
        let item = batch.items[*next].clone();
        *next += 1;
        if *next == batch.items.len() {
            self.pending = None;
        }
        match item {
            LogItem::Entry(entry) => {
                self.cursor = Some(entry.cursor);
                self.received.push(entry.line);
            }
            LogItem::Gap => self.received.push(GAP.into()),
        }
        true
    }

    async fn receive_rest(&mut self) {
        // Completes a partial line.
        self.apply(&Step::WriteOutside).await;
        if self.follower.is_none() {
            self.connect();
        }
        let deadline = Instant::now() + TIMEOUT;
        while self.received.last() != self.written.last() && Instant::now() < deadline {
            self.receive().await;
        }
        // Nothing is received twice.
        self.receive().await;
    }

    /// As with `compress` of logrotate.
    fn compress_rotated_files(&self) {
        for number in existing_numbers(&self.path).unwrap() {
            let path = numbered_path(&self.path, number);
            let codec = Codec::ALL[usize::from(number % 2 == 0)];
            let archive = compress(codec, &std::fs::read(&path).unwrap());
            std::fs::write(with_suffix(&path, codec.suffix()), archive).unwrap();
            std::fs::remove_file(path).unwrap();
        }
    }

    fn pages(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut before = None;
        loop {
            let page = TailQuery::new(&self.path, 7).before(before).page().unwrap();
            lines.splice(0..0, page.entries.into_iter().map(|entry| entry.line));
            before = page.first;
            if before.is_none() {
                return lines;
            }
        }
    }
}

/// Runs random steps with random maximum sizes, and `keep` rotated files.
fn run(
    cases: u32,
    keep: impl Strategy<Value = u16>,
    check: impl Fn(&Scenario) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build()
        .unwrap();
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().hash_one(0),
    };
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    });
    let sizes = prop_oneof![Just(0_u64), 40..4_000_u64];
    let outcome = runner.run(&(sizes, keep, steps()), |(max_size, keep, steps)| {
        runtime.block_on(async {
            let mut scenario = Scenario::new(max_size, keep);
            for step in &steps {
                scenario.apply(step).await;
            }
            scenario.receive_rest().await;
            check(&scenario)
        })
    });
    if let Err(error) = outcome {
        panic!("SEED={seed} fails: {error}");
    }
}

#[test]
fn follower_receives_every_line_in_order() {
    run(1_500, Just(1_000), |scenario| {
        prop_assert_eq!(&scenario.received, &scenario.written);
        prop_assert_eq!(&scenario.pages(), &scenario.written);
        scenario.compress_rotated_files();
        prop_assert_eq!(&scenario.pages(), &scenario.written);
        Ok(())
    });
}

#[test]
fn lines_rotated_away_are_a_gap() {
    run(500, 0..4_u16, |scenario| {
        let mut written = scenario.written.iter();
        let mut has_gap = false;
        for line in &scenario.received {
            if line == GAP {
                has_gap = true;
                continue;
            }
            let skipped = written.position(|there| there == line);
            prop_assert!(
                skipped == Some(0) || skipped.is_some() && has_gap,
                "{line:?} came after {skipped:?} others, of {:?}: {:?}",
                scenario.written,
                scenario.received
            );
            has_gap = false;
        }
        prop_assert_eq!(written.next(), None);
        Ok(())
    });
}
