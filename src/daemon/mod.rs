//! The daemon: starts up, serves, and stops or is replaced.
//!
//! The order of the start-up makes sure that a failed one leaves nothing behind: first the lock of
//! the PID file, then the ports, then the log. The PID file names this process only once the
//! servers answer. In a zero-downtime restart the old process passes lock and ports to the new one;
//! `upgrade` has both sides.

mod error;
mod resources;
mod run;
mod run_mode;
mod signals;
mod startup;
mod supervise;
mod upgrade;

use nix::sys::signal::SigSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
use crate::sys::raise_fd_limit;

/// Runs the daemon until it stops or is replaced.
///
/// # Errors
///
/// The daemon could not start. Nothing is left behind then.
pub fn run(mut options: StartOptions) -> Result<ExitOutcome, StartError> {
    let mut reporter = options.reporter.take();
    let result = start_and_serve(options, &mut reporter);
    if let (Err(error), Some(reporter)) = (&result, reporter) {
        reporter.send(&StartupReport::Failed {
            message: error.to_string(),
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
    let startup = Startup::new(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(identity().command)
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(async {
        let daemon = startup.run(reporter).await?;
        Ok(run::run(daemon).await)
    });
    // A blocking read of the log may still run, and must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Disables core dumps: the memory holds keys, and so does the environment that systemd or a shell
/// set.
fn disable_core_dumps() {
    let limit = getrlimit(Resource::Core);
    // With 0 the kernel still pipes a dump to a program (core(5)); with 1 it does not.
    let none = Rlimit {
        current: Some(1),
        ..limit
    };
    // Fails when the hard limit is 0, which is as good.
    let _ = setrlimit(Resource::Core, none);
}
