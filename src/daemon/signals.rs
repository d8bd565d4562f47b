//! Signals that control the daemon. Their handlers are installed before it reports that it is
//! ready.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The action that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
    /// SIGHUP: reload the settings.
    Reload,
    /// SIGUSR1: reopen the log file after an external rotation.
    ReopenLog,
    /// SIGUSR2: restart without downtime.
    Restart,
}

impl SignalAction {
    /// The name of the signal.
    pub fn signal_name(self) -> &'static str {
        match self {
            Self::Stop(name) => name,
            Self::Reload => "SIGHUP",
            Self::ReopenLog => "SIGUSR1",
            Self::Restart => "SIGUSR2",
        }
    }

    /// The signal, to forward it.
    pub fn to_signal(self) -> rustix::process::Signal {
        use rustix::process::Signal;
        match self {
            Self::Stop("SIGINT") => Signal::INT,
            Self::Stop(_) => Signal::TERM,
            Self::Reload => Signal::HUP,
            Self::ReopenLog => Signal::USR1,
            Self::Restart => Signal::USR2,
        }
    }
}

/// The installed signal handlers.
pub struct SignalHandlers {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user_defined_1: Signal,
    user_defined_2: Signal,
    /// Caught so that a write beyond the file size limit fails as it does on a full disk. The
    /// default action ends the process.
    _file_size: Signal,
}

impl SignalHandlers {
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
            user_defined_1: signal(SignalKind::user_defined1())?,
            user_defined_2: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Stop("SIGTERM"),
            _ = self.interrupt.recv() => SignalAction::Stop("SIGINT"),
            _ = self.hangup.recv() => SignalAction::Reload,
            _ = self.user_defined_1.recv() => SignalAction::ReopenLog,
            _ = self.user_defined_2.recv() => SignalAction::Restart,
        }
    }
}
