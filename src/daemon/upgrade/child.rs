//! A zero-downtime restart, as seen from the new process. Until it has claimed the PID file, it
//! exits as soon as the old process does.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::instance::{HandoffPayload, StartupReporter};

/// The handoff that a new process received, and its link to the old process.
pub struct UpgradeChild {
    pub(in crate::daemon) payload: HandoffPayload,
    pub(in crate::daemon) parent_link: ParentLink,
}

/// Ends this process if the old one dies before the takeover is committed.
pub struct ParentLink {
    is_committed: Arc<Mutex<bool>>,
    released: oneshot::Receiver<()>,
}

impl UpgradeChild {
    /// Requests the handoff from the old process at the other end of stdin. Returns it, and the
    /// channel on which to report the start.
    ///
    /// # Errors
    ///
    /// stdin is not a socket with a daemon at its other end.
    pub fn from_stdin() -> io::Result<(Self, StartupReporter)> {
        let channel: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let channel = UnixStream::from(channel);
        let payload = HandoffPayload::receive(&channel)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let reporter = StartupReporter::new(channel.try_clone()?.into());
        let parent_link = ParentLink::watch(channel)?;
        let child = Self {
            payload,
            parent_link,
        };
        Ok((child, reporter))
    }
}

impl ParentLink {
    fn watch(channel: UnixStream) -> io::Result<Self> {
        let is_committed = Arc::new(Mutex::new(false));
        let (release, released) = oneshot::channel();
        let watched = Arc::clone(&is_committed);
        thread::Builder::new()
            .name("old-process".into())
            .spawn(move || {
                watch_parent(channel, &watched);
                // The daemon may have stopped, and dropped the receiver.
                let _ = release.send(());
            })?;
        Ok(Self {
            is_committed,
            released,
        })
    }

    /// Runs `take_over`, after which this process is the daemon and no longer ends with the old
    /// one. If the old process dies first, this process exits here.
    ///
    /// # Errors
    ///
    /// The error of `take_over`. The old process stays the daemon then.
    pub fn commit<E>(&self, take_over: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut is_committed = self
            .is_committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        take_over()?;
        *is_committed = true;
        Ok(())
    }

    /// Returns once the old process has released the resources that both had.
    pub async fn parent_released(self) {
        // An error means that the watching thread has ended because the old process has.
        let _ = self.released.await;
    }
}

/// Returns once the old process has released its resources, or has died after the takeover.
#[expect(
    clippy::exit,
    reason = "the process must not outlive an old process that it has not replaced, even while it waits"
)]
fn watch_parent(mut channel: UnixStream, is_committed: &Mutex<bool>) {
    // Nothing is sent after the handoff, so this returns when the old process closes the channel.
    let _ = channel.read(&mut [0]);
    if !*is_committed.lock().unwrap_or_else(PoisonError::into_inner) {
        std::process::exit(1);
    }
}
