//! The hidden commands of the workers' processes. The daemon runs them.

use super::error::{CommandError, Result};
use crate::workers::{run_guard, run_worker};

/// `fullon guard`
pub fn run() -> Result {
    run_guard().map_err(|error| anyhow::Error::from(error).into())
}

/// `fullon worker`
pub fn run_stage() -> Result {
    match run_worker() {
        // The guard has the reason. stderr is the output of the worker.
        Err(_) => Err(CommandError::Exit(1)),
    }
}
