//! The daemon: starts up, serves, and stops or is replaced.
//!
//! The order of the start-up makes sure that a failed one leaves nothing behind: first the lock of
//! the PID file, then the ports, then the log. The PID file names this process only once the
//! servers answer. In a zero-downtime restart the old process passes lock and ports to the new one;
//! `upgrade` has both sides.

mod application;
mod error;
mod resources;
mod run;
mod run_mode;
mod signals;
mod startup;
mod supervise;
mod upgrade;

use nix::sys::signal::SigSet;

pub use self::error::StartError;
pub use self::run::ExitOutcome;
pub use self::run_mode::RunMode;
pub use self::startup::StartOptions;
use self::startup::Startup;
pub use self::supervise::init::{is_init, run_supervised};
pub use self::supervise::systemd::run_systemd_shim;
pub use self::upgrade::UpgradeChild;
use crate::identity::identity;
use crate::instance::{StartupReport, StartupReporter};
use crate::sys::{disable_core_dumps, raise_fd_limit};

/// Runs the daemon until it stops or is replaced.
///
/// # Errors
///
/// The daemon could not start. Nothing is left behind then.
pub fn run(mut options: StartOptions) -> Result<ExitOutcome, StartError> {
    let mut reporter = options.reporter.take();
    let result = start_and_serve(options, &mut reporter);
    if let Some(reporter) = reporter {
        let message = match &result {
            Err(error) => error.to_string(),
            Ok(_) => "the daemon was stopped before its application was ready".to_owned(),
        };
        reporter.send(&StartupReport::Failed {
            message,
            exit_code: 1,
        });
    }
    result
}

fn start_and_serve(
    options: StartOptions,
    reporter: &mut Option<StartupReporter>,
) -> Result<ExitOutcome, StartError> {
    // The parent may have blocked the signals that stop this process. Threads inherit the mask.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| StartError::Signals(errno.into()))?;
    raise_fd_limit();
    disable_core_dumps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(identity().command)
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(async {
        let startup = Startup::new(options).await?;
        let daemon = startup.run(reporter).await?;
        run::run(daemon, reporter).await
    });
    // A blocking read of the log may still run, and must not delay the exit.
    runtime.shutdown_background();
    result
}
