//! Signals in place of the admin API.

use std::io;

use thiserror::Error;

use crate::sys::Process;

/// The admin API could not be used, and this user may not signal the process.
#[derive(Debug, Error)]
#[error(
    "{api_error}; cannot signal process {pid}: {source}; run the command as the daemon's user, or with sudo"
)]
pub struct NotPermitted {
    pub pid: u32,
    /// Why the admin API could not be used.
    pub api_error: String,
    pub source: io::Error,
}

/// Checks the result of sending a signal. Returns `false` if the process has exited.
pub(super) fn check_delivery(
    process: &Process,
    sent: io::Result<()>,
    api_error: &str,
) -> Result<bool, NotPermitted> {
    match sent {
        Ok(()) => Ok(true),
        Err(_) if process.has_exited() => Ok(false),
        Err(source) => Err(NotPermitted {
            pid: process.pid(),
            api_error: api_error.to_owned(),
            source,
        }),
    }
}
