//! Reads the end of the log once for all followers.
//!
//! One task with one inotify instance (the system allows 128 a user) reads new lines and broadcasts
//! them. It runs only while there are followers, so that logging wakes no thread for nothing.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::notify::FileWatch;
use crate::logs::cursor::Cursor;
use crate::logs::history::FileHistory;
use crate::logs::read::filter::Filter;
use crate::logs::read::lines::Position;
use crate::logs::read::reader::{Batch, LogReader, ReadOutcome, StartAt};

/// How much is read at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// How many recent reads, and how many bytes of the log, are kept for followers that are a little
/// behind.
const MAX_RECENT_READS: usize = 64;
const MAX_RECENT_BYTES: u64 = 256 * 1024;
/// The pause after a broadcast, for each follower: about what it costs to notify one. Lines that
/// are logged meanwhile are broadcast together.
const DELAY_PER_FOLLOWER: Duration = Duration::from_micros(20);
/// The resolution of timers.
const MIN_DELAY: Duration = Duration::from_millis(1);
/// How often reading is retried after an error.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How far the log was read, and what was read recently.
#[derive(Debug, Clone, Default)]
pub(crate) struct TailSnapshot {
    /// `None` if there is no log yet.
    pub position: Option<Position>,
    /// How often a file was truncated.
    pub truncations: u64,
    recent_reads: VecDeque<Arc<RecentRead>>,
}

/// The result of one read.
#[derive(Debug)]
pub(crate) struct RecentRead {
    pub batch: Arc<Batch>,
    pub truncations_before: u64,
    /// The position after the batch.
    pub end: Option<Position>,
    pub truncations: u64,
}

impl TailSnapshot {
    /// The read that began at this position.
    pub fn find_read(&self, start: Option<Cursor>, truncations: u64) -> Option<&RecentRead> {
        // Most followers need the newest one.
        let mut newest_first = self.recent_reads.iter().rev();
        newest_first
            .find(|read| read.batch.start == start && read.truncations_before == truncations)
            .map(Arc::as_ref)
    }

    fn push(&mut self, read: RecentRead) {
        self.position.clone_from(&read.end);
        self.truncations = read.truncations;
        self.recent_reads.push_back(Arc::new(read));
        let mut bytes = 0;
        let mut newest_first = self.recent_reads.iter().rev();
        let too_old = newest_first.position(|read| {
            bytes += read.byte_len();
            bytes > MAX_RECENT_BYTES
        });
        let kept = too_old
            .unwrap_or(MAX_RECENT_READS)
            .clamp(1, MAX_RECENT_READS);
        let surplus = self.recent_reads.len().saturating_sub(kept);
        self.recent_reads.drain(..surplus);
    }
}

impl RecentRead {
    /// The length in the log, as far as it is within one file.
    fn byte_len(&self) -> u64 {
        let end = self.end.as_ref().map_or(0, |end| end.offset);
        end.saturating_sub(self.batch.start.map_or(0, |start| start.offset))
    }
}

/// Watches one log for any number of followers.
#[derive(Debug)]
pub struct LogBroadcaster {
    path: PathBuf,
    /// The succession of the files, if their writer is in this process.
    history: Arc<FileHistory>,
    /// Held by the followers.
    shared_task: Mutex<Weak<BroadcastTask>>,
}

#[derive(Debug)]
struct BroadcastTask {
    snapshots: watch::Receiver<Arc<TailSnapshot>>,
    task: AbortHandle,
}

impl Drop for BroadcastTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LogBroadcaster {
    /// A broadcaster that does not run yet. The file need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Arc<Self> {
        Self::with_history(path, Arc::default())
    }

    /// A broadcaster in the process of the writer.
    pub(crate) fn with_history(path: PathBuf, history: Arc<FileHistory>) -> Arc<Self> {
        Arc::new(Self {
            path,
            history,
            shared_task: Mutex::new(Weak::new()),
        })
    }

    /// The path of the log.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of followers.
    #[must_use]
    pub fn follower_count(&self) -> u64 {
        let task = self.shared_task.lock();
        task.unwrap_or_else(PoisonError::into_inner).strong_count() as u64
    }

    /// A reader that has not begun.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader::new(self.path.clone(), Arc::clone(&self.history))
    }

    pub(crate) fn subscribe(&self) -> io::Result<Subscription> {
        let mut shared_task = self
            .shared_task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let task = if let Some(task) = shared_task.upgrade() {
            task
        } else {
            let task = Arc::new(self.start_task()?);
            *shared_task = Arc::downgrade(&task);
            task
        };
        Ok(Subscription {
            snapshots: task.snapshots.clone(),
            _task: task,
        })
    }

    fn start_task(&self) -> io::Result<BroadcastTask> {
        // Watched before anything is read, so that no later change is missed.
        let file_watch = FileWatch::new(&self.path);
        let mut reader = self.reader();
        reader.seek(StartAt::Last(0), &Filter::default(), &|| true)?;
        let (sender, snapshots) = watch::channel(Arc::new(TailSnapshot {
            position: reader.position(),
            ..TailSnapshot::default()
        }));
        let task = tokio::spawn(broadcast(reader, file_watch, sender));
        Ok(BroadcastTask {
            snapshots,
            task: task.abort_handle(),
        })
    }
}

async fn broadcast(
    mut reader: LogReader,
    mut file_watch: FileWatch,
    snapshots: watch::Sender<Arc<TailSnapshot>>,
) {
    let mut has_news = false;
    let mut failure = None;
    loop {
        let (before, truncations_before) = (reader.cursor(), reader.truncations);
        match reader.read_block(BLOCK_BYTES, None, |_| true) {
            Ok(ReadOutcome::Batch(batch)) => {
                if !batch.items.is_empty() || reader.cursor() != before {
                    let read = RecentRead {
                        batch,
                        truncations_before,
                        end: reader.position(),
                        truncations: reader.truncations,
                    };
                    snapshots.send_modify(|tail| Arc::make_mut(tail).push(read));
                    has_news = true;
                }
                tokio::task::yield_now().await;
            }
            Ok(ReadOutcome::CaughtUp) => {
                let followers = u32::try_from(snapshots.receiver_count()).unwrap_or(u32::MAX);
                let delay = DELAY_PER_FOLLOWER.saturating_mul(followers);
                if std::mem::take(&mut has_news) && delay >= MIN_DELAY {
                    tokio::time::sleep(delay).await;
                }
                failure = None;
                file_watch.changed().await;
            }
            // For example, a directory has the log's name.
            Err(error) => {
                let text = error.to_string();
                if failure.as_ref() != Some(&text) {
                    tracing::error!(%error, "cannot follow the log file; retrying");
                    failure = Some(text);
                }
                let _ = tokio::time::timeout(RETRY_INTERVAL, file_watch.changed()).await;
            }
        }
    }
}

/// A follower's access to the snapshots. Keeps the task running.
#[derive(Debug)]
pub(crate) struct Subscription {
    snapshots: watch::Receiver<Arc<TailSnapshot>>,
    _task: Arc<BroadcastTask>,
}

impl Subscription {
    pub fn snapshot(&self) -> Arc<TailSnapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The current snapshot. [`Self::changed`] waits for the next one.
    pub fn snapshot_and_update(&mut self) -> Arc<TailSnapshot> {
        Arc::clone(&self.snapshots.borrow_and_update())
    }

    /// Waits for a snapshot after the one of [`Self::snapshot_and_update`]. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        let changed = self.snapshots.changed().await;
        changed.map_err(|_| io::Error::other("the task that reads the log has exited"))
    }
}
