//! Tells when something may have changed about a file: by inotify, or where that is not to be had, from time to time.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::logs::files::log_directory;

/// How often to look where inotify is not to be had.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The changes of one file, which need not be there.
pub(crate) enum FileWatch {
    Inotify(InotifyWatch),
    /// The system has no inotify instance for us.
    Polling,
}

impl FileWatch {
    /// Changes from now on. Must be called within a tokio runtime.
    pub fn new(path: &Path) -> Self {
        InotifyWatch::new(path).map_or_else(
            |error| {
                tracing::warn!(%error, "inotify is not to be had: followers look every {POLL_INTERVAL:?}");
                Self::Polling
            },
            Self::Inotify,
        )
    }

    /// Returns when there may be something new. May be dropped at any time.
    pub async fn changed(&mut self) {
        match self {
            Self::Inotify(watches) if watches.file_unwatchable.load(Ordering::Relaxed) => {
                // Late is enough; it is never an error.
                let _ = tokio::time::timeout(POLL_INTERVAL, watches.changed()).await;
            }
            Self::Inotify(watches) => watches.changed().await,
            Self::Polling => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// What nix leaves out and tokio wants. Closing an inotify instance with watches takes the kernel about 11 ms, so that is
/// not done on a thread that serves.
struct InotifyFd {
    /// `None` once it is being closed.
    inotify: Option<Inotify>,
}

impl InotifyFd {
    fn inotify(&self) -> io::Result<&Inotify> {
        self.inotify.as_ref().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Drop for InotifyFd {
    fn drop(&mut self) {
        let inotify = self.inotify.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(inotify));
        }
    }
}

impl AsRawFd for InotifyFd {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify()
            .map_or(-1, |inotify| inotify.as_fd().as_raw_fd())
    }
}

pub(crate) struct InotifyWatch {
    inotify: AsyncFd<InotifyFd>,
    path: PathBuf,
    name: OsString,
    /// The file cannot be watched, as where too many are: only the directory tells.
    file_unwatchable: AtomicBool,
}

impl InotifyWatch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(
            log_directory(path),
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )?;
        let pollable = InotifyFd {
            inotify: Some(inotify),
        };
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; this one owns it"
        )]
        let watches = Self {
            inotify: AsyncFd::with_interest(pollable, Interest::READABLE)?,
            path: path.to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            file_unwatchable: AtomicBool::new(false),
        };
        watches.watch_file();
        Ok(watches)
    }

    /// Watches whatever file has the name now; that it is not there is told by the watch on the directory.
    fn watch_file(&self) {
        if let Ok(inotify) = self.inotify.get_ref().inotify() {
            let watched = inotify.add_watch(&self.path, AddWatchFlags::IN_MODIFY);
            let is_blind = watched.is_err_and(|errno| errno != Errno::ENOENT);
            self.file_unwatchable.store(is_blind, Ordering::Relaxed);
        }
    }

    async fn changed(&self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                // Only without a runtime.
                return std::future::pending().await;
            };
            let read = ready.try_io(|fd| Ok(fd.get_ref().inotify()?.read_events()?));
            // None for now; after another error the queue is read again at the next event.
            let Ok(Ok(events)) = read else {
                continue;
            };
            let mut changed = false;
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    // Perhaps the file has been another one since.
                    self.watch_file();
                }
                match event.name {
                    // Of a file, or that events were lost.
                    None => changed = true,
                    Some(name) if name == self.name => {
                        self.watch_file();
                        changed = true;
                    }
                    Some(_) => {}
                }
            }
            if changed {
                return;
            }
        }
    }
}
