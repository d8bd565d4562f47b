//! The end of the log, read once for all followers.
//!
//! One task for all of them, with one inotify instance (the system allows 128 a user), reads what is new and hands it on.
//! It is there only while somebody follows, so that logging wakes nobody up for nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::entry::Filter;
use super::follow::{Batch, From, Reader, Step};
use super::segments::Segment;
use super::watch::Changes;

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// How far the log was read, and what was read last.
#[derive(Debug, Clone, Default)]
pub(super) struct Tip {
    /// `None` as long as there is no log.
    pub place: Option<TipPlace>,
    /// How often a file was cut short under us.
    pub cuts: u64,
    /// What lies directly before the place.
    pub batch: Option<Arc<Batch>>,
}

#[derive(Debug, Clone)]
pub(super) struct TipPlace {
    pub segment: Arc<Segment>,
    pub offset: u64,
}

/// Watches one log for any number of followers.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    active: Mutex<Weak<Active>>,
}

#[derive(Debug)]
struct Active {
    tip: watch::Receiver<Tip>,
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

    pub(super) fn subscribe(&self) -> io::Result<Subscription> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match active.upgrade() {
            Some(shared) => shared,
            None => {
                let shared = Arc::new(self.start()?);
                *active = Arc::downgrade(&shared);
                shared
            }
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
        reader.begin(From::Last(0), &Filter::default())?;
        let (sender, tip) = watch::channel(Tip {
            place: reader.tip_place(),
            ..Tip::default()
        });
        let task = tokio::spawn(run(reader, changes, sender));
        Ok(Active {
            tip,
            task: task.abort_handle(),
        })
    }
}

async fn run(mut reader: Reader, mut changes: Changes, tip: watch::Sender<Tip>) {
    loop {
        let before = reader.place();
        match reader.step(BLOCK, None, |_| true) {
            Ok(Step::Batch(batch)) => {
                if !batch.items.is_empty() || reader.place() != before {
                    tip.send_replace(Tip {
                        place: reader.tip_place(),
                        cuts: reader.cuts,
                        batch: Some(batch),
                    });
                }
                tokio::task::yield_now().await;
            }
            // What has the log's name cannot be read: as long as that lasts, nothing is new.
            Ok(Step::Idle) | Err(_) => changes.next().await,
        }
    }
}

/// One follower's share in the tip.
#[derive(Debug)]
pub(super) struct Subscription {
    tip: watch::Receiver<Tip>,
    _active: Arc<Active>,
}

impl Subscription {
    pub fn look(&self) -> Tip {
        self.tip.borrow().clone()
    }

    /// The tip now; [`Self::changed`] then waits for another one.
    pub fn see(&mut self) -> Tip {
        self.tip.borrow_and_update().clone()
    }

    /// Returns when the tip is not the one that was seen. May be dropped at any time.
    pub async fn changed(&mut self) {
        if self.tip.changed().await.is_err() {
            // The reading task is gone only when the runtime is.
            std::future::pending::<()>().await;
        }
    }
}
