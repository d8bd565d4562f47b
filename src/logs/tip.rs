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
use super::reader::{Batch, Place, Reader, StartAt, Step};
use super::watch::Changes;

/// How much is read at once.
const BLOCK: usize = 64 * 1024;
/// What was read lately is kept for those who are a little behind: so many reads, and so many bytes of the log.
const KEPT_READS: usize = 64;
const KEPT_BYTES: u64 = 256 * 1024;
/// How long the end is left alone once it is reached, for each follower: about what it costs to tell one. What is logged
/// meanwhile is told together.
const REST_A_FOLLOWER: Duration = Duration::from_micros(20);

/// How often a log is tried again that cannot be read.
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);
/// What a timer can tell apart.
const MIN_REST: Duration = Duration::from_millis(1);

/// How far the log was read, and what was read lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Tip {
    /// `None` as long as there is no log.
    pub place: Option<Place>,
    /// How often a file was cut short under us.
    pub cuts: u64,
    reads: VecDeque<Arc<Read>>,
}

/// One reading, and the place behind it.
#[derive(Debug)]
pub(super) struct Read {
    pub batch: Arc<Batch>,
    /// How often a file had been cut short before.
    pub cuts_before: u64,
    pub to: Option<Place>,
    pub cuts: u64,
}

impl Tip {
    /// What was read from this place on.
    pub fn read_from(&self, place: Option<Cursor>, cuts: u64) -> Option<&Read> {
        // The newest is wanted most.
        let mut newest_first = self.reads.iter().rev();
        newest_first
            .find(|read| read.batch.from == place && read.cuts_before == cuts)
            .map(Arc::as_ref)
    }

    fn push(&mut self, read: Read) {
        self.place.clone_from(&read.to);
        self.cuts = read.cuts;
        self.reads.push_back(Arc::new(read));
        let mut bytes = 0;
        let mut newest_first = self.reads.iter().rev();
        let too_old = newest_first.position(|read| {
            bytes += read.len();
            bytes > KEPT_BYTES
        });
        let kept = too_old.unwrap_or(KEPT_READS).clamp(1, KEPT_READS);
        let surplus = self.reads.len().saturating_sub(kept);
        self.reads.drain(..surplus);
    }
}

impl Read {
    /// In bytes of the log, as far as it lies within one file.
    fn len(&self) -> u64 {
        let to = self.to.as_ref().map_or(0, |to| to.offset);
        to.saturating_sub(self.batch.from.map_or(0, |from| from.offset))
    }
}

/// Watches one log for any number of followers.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    active: Mutex<Weak<Active>>,
}

#[derive(Debug)]
struct Active {
    tip: watch::Receiver<Arc<Tip>>,
    task: AbortHandle,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// A watcher that costs nothing yet. The file need not be there.
    #[must_use]
    pub fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            active: Mutex::new(Weak::new()),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many follow it.
    #[must_use]
    pub fn followers(&self) -> u64 {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.strong_count() as u64
    }

    pub(super) fn subscribe(&self) -> io::Result<Subscription> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = if let Some(shared) = active.upgrade() {
            shared
        } else {
            let shared = Arc::new(self.start()?);
            *active = Arc::downgrade(&shared);
            shared
        };
        Ok(Subscription {
            tip: shared.tip.clone(),
            _active: shared,
        })
    }

    fn start(&self) -> io::Result<Active> {
        // Before anything is read, so that what comes later is noticed.
        let changes = Changes::of(&self.path);
        let mut reader = Reader::new(self.path.clone());
        reader.begin(StartAt::Last(0), &Filter::default())?;
        let (sender, tip) = watch::channel(Arc::new(Tip {
            place: reader.shared_place(),
            ..Tip::default()
        }));
        let task = tokio::spawn(run(reader, changes, sender));
        Ok(Active {
            tip,
            task: task.abort_handle(),
        })
    }
}

async fn run(mut reader: Reader, mut changes: Changes, tip: watch::Sender<Arc<Tip>>) {
    let mut has_news = false;
    let mut failure = None;
    loop {
        let (before, cuts_before) = (reader.place(), reader.cuts);
        match reader.step(BLOCK, None, |_| true) {
            Ok(Step::Batch(batch)) => {
                if !batch.items.is_empty() || reader.place() != before {
                    let (to, cuts) = (reader.shared_place(), reader.cuts);
                    let read = Read {
                        batch,
                        cuts_before,
                        to,
                        cuts,
                    };
                    tip.send_modify(|tip| Arc::make_mut(tip).push(read));
                    has_news = true;
                }
                tokio::task::yield_now().await;
            }
            Ok(Step::Idle) => {
                let followers = u32::try_from(tip.receiver_count()).unwrap_or(u32::MAX);
                let rest = REST_A_FOLLOWER.saturating_mul(followers);
                if std::mem::take(&mut has_news) && rest >= MIN_REST {
                    tokio::time::sleep(rest).await;
                }
                failure = None;
                changes.next().await;
            }
            // As when a directory has the log's name. Nothing is new as long as that lasts.
            Err(error) => {
                let text = error.to_string();
                if failure.as_ref() != Some(&text) {
                    tracing::error!(%error, "the log cannot be followed for now");
                    failure = Some(text);
                }
                let _ = tokio::time::timeout(FAILURE_INTERVAL, changes.next()).await;
            }
        }
    }
}

/// One follower's share in the tip.
#[derive(Debug)]
pub(super) struct Subscription {
    tip: watch::Receiver<Arc<Tip>>,
    _active: Arc<Active>,
}

impl Subscription {
    pub fn look(&self) -> Arc<Tip> {
        Arc::clone(&self.tip.borrow())
    }

    /// The tip now; [`Self::changed`] then waits for another one.
    pub fn see(&mut self) -> Arc<Tip> {
        Arc::clone(&self.tip.borrow_and_update())
    }

    /// Returns when the tip is not the one that was seen. May be dropped at any time.
    pub async fn changed(&mut self) -> io::Result<()> {
        let changed = self.tip.changed().await;
        changed.map_err(|_| io::Error::other("the task that reads the log has ended"))
    }
}
