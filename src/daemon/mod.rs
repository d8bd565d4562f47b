//! The daemon: puts the parts together, lives through its phases, and takes itself apart again.
//!
//! The order of a start-up is what makes a failed one leave nothing behind: the lock of the PID file first, then
//! the ports, then the log; the PID file says who we are only when the servers answer. A successor is given lock and ports
//! by the daemon that it replaces (`handover` is that one's side, `succession` this one's).

mod birth;
mod descriptors;
mod error;
mod handover;
pub mod keeper;
mod last_exit;
mod legacy;
mod life;
mod reload;
mod requests;
mod signals;
mod sockets;
mod succession;
mod systemd;

use nix::sys::signal::SigSet;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use birth::Startup;
pub use error::StartError;
pub use succession::{UpgradeChild, run_systemd_shim};

use crate::auth::{KeyError, read_or_create_key_file};
use crate::config::{Secret, Settings};
use crate::instance::{Launch, StartupReport, StartupReporter};
use crate::logs::StdoutOptions;
use crate::server::public::Mounts;

/// How the process was started.
#[derive(Debug, Clone, Copy)]
pub enum RunMode {
    /// By `fullon start`. stdout and stderr become the log.
    Background,
    /// By `fullon run`.
    Foreground {
        /// Set when stdout is a terminal, which gets the log too.
        terminal: Option<StdoutOptions>,
        /// Whether its parent stands in for it when it is replaced.
        is_supervised: bool,
    },
}

impl RunMode {
    fn is_background(self) -> bool {
        matches!(self, Self::Background)
    }

    /// Whether this process has to stay when it is replaced: whoever started it waits for it, and cannot be told otherwise.
    fn must_supervise(self) -> bool {
        matches!(
            self,
            Self::Foreground {
                is_supervised: false,
                ..
            }
        ) && !systemd::has_notify_socket()
    }

    fn successor_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Background => &["--background", "--successor"],
            Self::Foreground {
                is_supervised: false,
                ..
            } if systemd::has_notify_socket() => &["--go-between"],
            Self::Foreground { .. } => &["--kept", "--successor"],
        }
    }
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitOutcome {
    /// Every request in flight was finished, or the deadline was over.
    Graceful,
    /// A second signal ended it at once.
    Interrupted,
    /// Another process took its place, and has ended with this exit code.
    Supervised(u8),
}

/// A daemon to run.
pub struct StartOptions {
    /// What it runs with.
    pub settings: Settings,
    /// How it was run, and will be again.
    pub launch: Launch,
    /// How the process was started.
    pub mode: RunMode,
    /// Takes the news that it serves, or why it does not.
    pub reporter: Option<StartupReporter>,
    /// Set for one that replaces another.
    pub upgrade: Option<UpgradeChild>,
    /// What it serves beside its own routes.
    pub mounts: Mounts,
}

impl StartOptions {
    /// Runs the daemon until it is asked to stop.
    ///
    /// # Errors
    ///
    /// What kept it from starting. Nothing is left behind then.
    pub fn run(mut self) -> Result<ExitOutcome, StartError> {
        let mut announcer = self.reporter.take();
        let result = self.run_locked(&mut announcer);
        if let (Err(error), Some(announcer)) = (&result, announcer) {
            announcer.send(&StartupReport::Failed {
                message: error.to_string(),
                exit_code: 1,
            });
        }
        result
    }

    fn run_locked(
        self,
        announcer: &mut Option<StartupReporter>,
    ) -> Result<ExitOutcome, StartError> {
        // Whoever started us may have blocked the signals that stop us; threads inherit what is set here.
        SigSet::empty()
            .thread_set_mask()
            .map_err(|errno| StartError::Signals(errno.into()))?;
        descriptors::raise_fd_limit();
        disable_core_dumps();
        let birth = Startup::new(self)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("fullon")
            .build()
            .map_err(StartError::Runtime)?;
        let result = runtime.block_on(birth.run(announcer));
        // A read of the log that still runs must not hold up the end.
        runtime.shutdown_background();
        result
    }
}

/// Keys are in our memory, and in our environment what systemd or a shell left there. A core dump would carry them to wherever
/// such dumps go.
fn disable_core_dumps() {
    let limit = getrlimit(Resource::Core);
    // 0 would not count where the system pipes them to a program (core(5)); the kernel dumps nothing for 1 either.
    let none = Rlimit {
        current: Some(1),
        ..limit
    };
    // A hard limit of 0 is as good.
    let _ = setrlimit(Resource::Core, none);
}

/// The key of tokens: the one in the settings, or the one in the key file, which is made when it is not there.
fn load_signing_key(settings: &Settings) -> Result<Secret, KeyError> {
    match &settings.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => read_or_create_key_file(&settings.key_file),
    }
}
