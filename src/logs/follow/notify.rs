//! Reports changes of a file: by inotify, or by polling where inotify is not available.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::runtime::Handle;

use crate::logs::files::log_directory;

/// How often to check where inotify is not available.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Holds several events: the kernel returns at most 272 bytes for one.
const EVENT_BUFFER_BYTES: usize = 4096;

/// Watches one file, which need not exist.
pub(crate) enum FileWatch {
    Inotify(InotifyWatch),
    /// The user has too many inotify instances.
    Polling,
}

impl FileWatch {
    /// Starts to watch. Must be called within a tokio runtime.
    pub fn new(path: &Path) -> Self {
        InotifyWatch::new(path).map_or_else(
            |error| {
                tracing::warn!(%error, "inotify is not available; followers poll the log file every {POLL_INTERVAL:?}");
                Self::Polling
            },
            Self::Inotify,
        )
    }

    /// Returns when the file may have changed. Cancel-safe.
    pub async fn changed(&mut self) {
        match self {
            Self::Inotify(watch) if watch.file_unwatched => {
                // A timeout means that it is time to check the file, too.
                let _ = tokio::time::timeout(POLL_INTERVAL, watch.changed()).await;
            }
            Self::Inotify(watch) => watch.changed().await,
            Self::Polling => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Watches a file for writes, and its directory for a new file of that name.
pub(crate) struct InotifyWatch {
    /// `None` only while this is dropped.
    events: Option<EventStream<Vec<u8>>>,
    path: PathBuf,
    name: OsString,
    /// Only the directory is watched. The user has too many watches, or no file has the name: then
    /// lines still come into the file that had it until the writer has a new one.
    file_unwatched: bool,
}

impl InotifyWatch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        inotify
            .watches()
            .add(log_directory(path), WatchMask::CREATE | WatchMask::MOVED_TO)?;
        let mut watch = Self {
            events: Some(inotify.into_event_stream(vec![0; EVENT_BUFFER_BYTES])?),
            path: path.to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            file_unwatched: false,
        };
        watch.watch_file();
        Ok(watch)
    }

    /// Watches the file that has the name now. The directory's watch reports when another one has.
    fn watch_file(&mut self) {
        if let Some(events) = &self.events {
            let watched = events.watches().add(&self.path, WatchMask::MODIFY);
            self.file_unwatched = watched.is_err();
        }
    }

    async fn changed(&mut self) {
        while let Some(events) = &mut self.events {
            // After an error, the next event is awaited.
            let Some(Ok(event)) = events.next().await else {
                continue;
            };
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                // Events were lost. The name may belong to another file since then.
                self.watch_file();
            }
            match event.name {
                // An event of the file, or lost events.
                None => return,
                Some(name) if name == self.name => {
                    self.watch_file();
                    return;
                }
                Some(_) => {}
            }
        }
    }
}

impl Drop for InotifyWatch {
    /// Closes the inotify instance on another thread: with watches, that takes the kernel 11 ms.
    fn drop(&mut self) {
        let events = self.events.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(events));
        }
    }
}
