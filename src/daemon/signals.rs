//! The signals of the daemon. Installed before it says that it is ready.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// SIGTERM or SIGINT.
    Stop(&'static str),
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGUSR2: hand over to a successor.
    Restart,
}

impl SignalAction {
    /// The signal's name.
    pub fn signal_name(self) -> &'static str {
        match self {
            Self::Stop(name) => name,
            Self::Reload => "SIGHUP",
            Self::Restart => "SIGUSR2",
        }
    }

    /// The signal itself.
    pub fn to_signal(self) -> rustix::process::Signal {
        use rustix::process::Signal;
        match self {
            Self::Stop("SIGINT") => Signal::INT,
            Self::Stop(_) => Signal::TERM,
            Self::Reload => Signal::HUP,
            Self::Restart => Signal::USR2,
        }
    }
}

/// The signals that the daemon listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user_defined: Signal,
    /// Caught so that a write beyond a file size limit fails like one on a full disk, in place of ending the process.
    _file_size: Signal,
}

impl Signals {
    /// Installs the handlers. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user_defined: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?,
        })
    }

    /// The next signal. May be dropped at any time.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Stop("SIGTERM"),
            _ = self.interrupt.recv() => SignalAction::Stop("SIGINT"),
            _ = self.hangup.recv() => SignalAction::Reload,
            _ = self.user_defined.recv() => SignalAction::Restart,
        }
    }
}
