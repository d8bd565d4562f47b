//! A zero-downtime restart, as seen from the new process. Until it has claimed the PID file, it
//! exits as soon as the old process does.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::instance::{HandoffPayload, StartupReporter};

/// A new process, before the handoff.
#[derive(Debug)]
pub struct UpgradeChild {
    channel: UnixStream,
}

/// The handoff that a new process received, and its link to the old process.
pub struct ReceivedHandoff {
    pub payload: HandoffPayload,
    pub parent_link: ParentLink,
}

/// Ends this process if the old one dies before the takeover is committed.
pub struct ParentLink {
    is_committed: Arc<Mutex<bool>>,
    released: oneshot::Receiver<()>,
}

impl UpgradeChild {
    /// The link to the old process at the other end of stdin, and the channel on which to report
    /// the start.
    ///
    /// # Errors
    ///
    /// There is no stdin, or no descriptor is free.
    pub fn from_stdin() -> io::Result<(Self, StartupReporter)> {
        let channel: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let channel = UnixStream::from(channel);
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let reporter = StartupReporter::new(channel.try_clone()?.into());
        Ok((Self { channel }, reporter))
    }

    /// Returns once the old process has ended. Must be awaited before [`Self::receive`], within a
    /// tokio runtime.
    pub(in crate::daemon) async fn old_process_ended(&self) {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; a borrow cannot"
        )]
        let channel = AsyncFd::with_interest(self.channel.as_fd(), Interest::READABLE);
        match channel {
            // It sends nothing before this process asks for the handoff.
            Ok(channel) => drop(channel.readable().await),
            Err(error) => {
                tracing::error!(%error, "cannot watch the old process");
                std::future::pending::<()>().await;
            }
        }
    }

    /// Requests the handoff.
    ///
    /// # Errors
    ///
    /// There is no daemon at the other end, or it has ended.
    pub(in crate::daemon) fn receive(self) -> io::Result<ReceivedHandoff> {
        let payload = HandoffPayload::receive(&self.channel)?;
        let parent_link = ParentLink::watch(self.channel)?;
        Ok(ReceivedHandoff {
            payload,
            parent_link,
        })
    }

    /// Requests the handoff, which comes before a report, and drops it. This process cannot start.
    pub fn decline(self) {
        // Without the old process nobody reads the report either.
        drop(self.receive());
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
