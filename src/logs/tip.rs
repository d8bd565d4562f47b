//! The end of the log, read once for all followers.
//!
//! One task for all of them, with one inotify instance (the system allows 128 a user), reads what is new and hands it on.
//! It is there only while somebody follows, so that logging wakes nobody up for nothing.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::cursor::Cursor;
use super::entry::Filter;
use super::reader::{Batch, LogReader, Position, ReadOutcome, StartAt};
use super::watch::FileWatch;

/// How much is read at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// What was read lately is kept for those who are a little behind: so many reads, and so many bytes of the log.
const MAX_RECENT_READS: usize = 64;
const MAX_RECENT_BYTES: u64 = 256 * 1024;
/// How long the end is left alone once it is reached, for each follower: about what it costs to tell one. What is logged
/// meanwhile is told together.
const DELAY_PER_FOLLOWER: Duration = Duration::from_micros(20);

/// How often a log is tried again that cannot be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// What a timer can tell apart.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// How far the log was read, and what was read lately.
#[derive(Debug, Clone, Default)]
pub(super) struct TailSnapshot {
    /// `None` as long as there is no log.
    pub position: Option<Position>,
    /// How often a file was cut short under us.
    pub truncations: u64,
    recent_reads: VecDeque<Arc<RecentRead>>,
}

/// One reading, and the place behind it.
#[derive(Debug)]
pub(super) struct RecentRead {
    pub batch: Arc<Batch>,
    /// How often a file had been cut short before.
    pub truncations_before: u64,
    pub end: Option<Position>,
    pub truncations: u64,
}

impl TailSnapshot {
    /// What was read from this place on.
    pub fn find_read(&self, place: Option<Cursor>, cuts: u64) -> Option<&RecentRead> {
        // The newest is wanted most.
        let mut newest_first = self.recent_reads.iter().rev();
        newest_first
            .find(|read| read.batch.start == place && read.truncations_before == cuts)
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
    /// In bytes of the log, as far as it lies within one file.
    fn byte_len(&self) -> u64 {
        let to = self.end.as_ref().map_or(0, |to| to.offset);
        to.saturating_sub(self.batch.start.map_or(0, |from| from.offset))
    }
}

/// Watches one log for any number of followers.
#[derive(Debug)]
pub struct LogBroadcaster {
    path: PathBuf,
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
    /// A watcher that costs nothing yet. The file need not be there.
    #[must_use]
    pub fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            shared_task: Mutex::new(Weak::new()),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many follow it.
    #[must_use]
    pub fn follower_count(&self) -> u64 {
        let active = self
            .shared_task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        active.strong_count() as u64
    }

    pub(super) fn subscribe(&self) -> io::Result<Subscription> {
        let mut active = self
            .shared_task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let shared = if let Some(shared) = active.upgrade() {
            shared
        } else {
            let shared = Arc::new(self.start_task()?);
            *active = Arc::downgrade(&shared);
            shared
        };
        Ok(Subscription {
            snapshots: shared.snapshots.clone(),
            _task: shared,
        })
    }

    fn start_task(&self) -> io::Result<BroadcastTask> {
        // Before anything is read, so that what comes later is noticed.
        let changes = FileWatch::new(&self.path);
        let mut reader = LogReader::new(self.path.clone());
        reader.seek(StartAt::Last(0), &Filter::default())?;
        let (sender, tip) = watch::channel(Arc::new(TailSnapshot {
            position: reader.position(),
            ..TailSnapshot::default()
        }));
        let task = tokio::spawn(run(reader, changes, sender));
        Ok(BroadcastTask {
            snapshots: tip,
            task: task.abort_handle(),
        })
    }
}

async fn run(mut reader: LogReader, mut changes: FileWatch, tip: watch::Sender<Arc<TailSnapshot>>) {
    let mut has_news = false;
    let mut failure = None;
    loop {
        let (before, cuts_before) = (reader.cursor(), reader.truncations);
        match reader.read_block(BLOCK_BYTES, None, |_| true) {
            Ok(ReadOutcome::Batch(batch)) => {
                if !batch.items.is_empty() || reader.cursor() != before {
                    let (to, cuts) = (reader.position(), reader.truncations);
                    let read = RecentRead {
                        batch,
                        truncations_before: cuts_before,
                        end: to,
                        truncations: cuts,
                    };
                    tip.send_modify(|tip| Arc::make_mut(tip).push(read));
                    has_news = true;
                }
                tokio::task::yield_now().await;
            }
            Ok(ReadOutcome::CaughtUp) => {
                let followers = u32::try_from(tip.receiver_count()).unwrap_or(u32::MAX);
                let rest = DELAY_PER_FOLLOWER.saturating_mul(followers);
                if std::mem::take(&mut has_news) && rest >= MIN_DELAY {
                    tokio::time::sleep(rest).await;
                }
                failure = None;
                changes.changed().await;
            }
            // As when a directory has the log's name. Nothing is new as long as that lasts.
            Err(error) => {
                let text = error.to_string();
                if failure.as_ref() != Some(&text) {
                    tracing::error!(%error, "the log cannot be followed for now");
                    failure = Some(text);
                }
                let _ = tokio::time::timeout(RETRY_INTERVAL, changes.changed()).await;
            }
        }
    }
}

/// One follower's share in the tip.
#[derive(Debug)]
pub(super) struct Subscription {
    snapshots: watch::Receiver<Arc<TailSnapshot>>,
    _task: Arc<BroadcastTask>,
}

impl Subscription {
    pub fn snapshot(&self) -> Arc<TailSnapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// The tip now; [`Self::changed_at`] then waits for another one.
    pub fn snapshot_and_update(&mut self) -> Arc<TailSnapshot> {
        Arc::clone(&self.snapshots.borrow_and_update())
    }

    /// Returns when the tip is not the one that was seen. May be dropped at any time.
    pub async fn changed(&mut self) -> io::Result<()> {
        let changed = self.snapshots.changed().await;
        changed.map_err(|_| io::Error::other("the task that reads the log has ended"))
    }
}
