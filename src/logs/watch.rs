//! Tells followers that the log changed: one inotify instance for all of them (the system allows 128), and
//! none while nobody follows, so that logging wakes nobody up for nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often followers look by themselves where inotify is not to be had.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Watches one log file for any number of followers.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    active: Mutex<Weak<Active>>,
}

#[derive(Debug)]
struct Active {
    changes: watch::Receiver<()>,
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

    pub(super) fn subscribe(&self) -> Subscription {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = active.upgrade().unwrap_or_else(|| {
            let shared = Arc::new(self.start());
            *active = Arc::downgrade(&shared);
            shared
        });
        Subscription {
            changes: shared.changes.clone(),
            _active: shared,
        }
    }

    fn start(&self) -> Active {
        let (sender, changes) = watch::channel(());
        let task = match Watches::new(&self.path) {
            Ok(watches) => tokio::spawn(watches.run(sender)),
            Err(error) => {
                tracing::warn!(%error, "inotify is not to be had: followers look every {POLL_INTERVAL:?}");
                tokio::spawn(async move {
                    let mut ticks = tokio::time::interval(POLL_INTERVAL);
                    loop {
                        ticks.tick().await;
                        sender.send_replace(());
                    }
                })
            }
        };
        Active {
            changes,
            task: task.abort_handle(),
        }
    }
}

/// One follower's share in the watcher.
#[derive(Debug)]
pub(super) struct Subscription {
    changes: watch::Receiver<()>,
    _active: Arc<Active>,
}

impl Subscription {
    pub fn mark_seen(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Returns when the file has changed since [`Self::mark_seen`]. May be dropped at any time.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The watching task is gone only when the runtime is.
            std::future::pending::<()>().await;
        }
    }
}

/// What nix leaves out and tokio wants.
struct Pollable(Inotify);

impl AsRawFd for Pollable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

struct Watches {
    inotify: AsyncFd<Pollable>,
    path: PathBuf,
    name: OsString,
}

impl Watches {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        inotify.add_watch(
            directory,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; this one owns it"
        )]
        let watches = Self {
            inotify: AsyncFd::with_interest(Pollable(inotify), Interest::READABLE)?,
            path: path.to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
        };
        watches.watch_file();
        Ok(watches)
    }

    /// Watches whatever file has the name now; that it is not there is told by the watch on the directory.
    fn watch_file(&self) {
        let _ = self
            .inotify
            .get_ref()
            .0
            .add_watch(&self.path, AddWatchFlags::IN_MODIFY);
    }

    async fn run(self, changes: watch::Sender<()>) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                return;
            };
            let events = match self.inotify.get_ref().0.read_events() {
                Ok(events) => events,
                Err(nix::errno::Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                // The queue is read again at the next event.
                Err(_) => Vec::new(),
            };
            let mut changed = false;
            for event in events {
                match event.name {
                    None => changed = true,
                    Some(name) if name == self.name => {
                        self.watch_file();
                        changed = true;
                    }
                    Some(_) => {}
                }
            }
            if changed {
                changes.send_replace(());
            }
        }
    }
}
