//! A zero-downtime restart, seen from the successor: until it owns the PID file, it lives only as long as its predecessor.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::instance::{HandoffPayload, StartupReporter};

/// What a successor was given, and its bond to who gave it.
pub struct UpgradeChild {
    /// What it was given.
    pub payload: HandoffPayload,
    parent_link: ParentLink,
}

/// Ends this process when the predecessor dies first.
pub struct ParentLink {
    is_committed: Arc<Mutex<bool>>,
    released: oneshot::Receiver<()>,
}

/// Runs a successor as a child, and waits for it. Returns what to exit with.
///
/// systemd waits for the end of a main process, and gives it the time to drain, only if that was its own child when it
/// became the main process. The daemon that is replaced still drains then, so it cannot be the parent: this process is, until
/// it is killed.
///
/// # Errors
///
/// The command cannot be run.
pub fn run_systemd_shim(mut command: Command) -> io::Result<u8> {
    let status = command.stdin(Stdio::inherit()).status()?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

impl UpgradeChild {
    /// Asks the daemon at the other end of stdin for what it leaves, and where to report.
    ///
    /// # Errors
    ///
    /// stdin is no such socket: only a daemon runs a successor.
    pub fn from_stdin() -> io::Result<(Self, StartupReporter)> {
        let channel: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let channel = UnixStream::from(channel);
        let inheritance = HandoffPayload::receive(&channel)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let announcer = StartupReporter::new(channel.try_clone()?.into());
        let is_owner = Arc::new(Mutex::new(false));
        let (release, released) = oneshot::channel();
        let watched = Arc::clone(&is_owner);
        thread::Builder::new()
            .name("predecessor".into())
            .spawn(move || {
                watch_parent(channel, &watched);
                // The daemon may have ended meanwhile.
                let _ = release.send(());
            })?;
        let bond = ParentLink {
            is_committed: is_owner,
            released,
        };
        Ok((
            Self {
                payload: inheritance,
                parent_link: bond,
            },
            announcer,
        ))
    }

    /// The two parts.
    #[must_use]
    pub fn into_parts(self) -> (HandoffPayload, ParentLink) {
        (self.payload, self.parent_link)
    }
}

impl ParentLink {
    /// Takes over. When the predecessor has died meanwhile, this process ends here, or it was faster and is the daemon now.
    ///
    /// # Errors
    ///
    /// What `take_over` says. The predecessor stays the owner then.
    pub fn commit<E>(&self, take_over: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut is_owner = self
            .is_committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        take_over()?;
        *is_owner = true;
        Ok(())
    }

    /// Returns once the predecessor has let go of what both had.
    pub async fn parent_released(self) {
        // Also when the thread that tells is gone.
        let _ = self.released.await;
    }
}

/// Returns once the predecessor has let go, or is gone after this process became the owner.
#[expect(
    clippy::exit,
    reason = "whatever the rest of the process does or waits for, it must not outlive a predecessor that it has not replaced"
)]
fn watch_parent(mut channel: UnixStream, is_owner: &Mutex<bool>) {
    // Nothing is ever sent after the inheritance: it is the end that tells.
    let _ = channel.read(&mut [0]);
    if !*is_owner.lock().unwrap_or_else(PoisonError::into_inner) {
        std::process::exit(1);
    }
}
