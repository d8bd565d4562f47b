//! Makes the daemon read its settings again.

use rustix::process::Signal;
use thiserror::Error;

use super::retries::{MAX_WAIT, Retries};
use super::signal::{NotPermitted, check_delivery};
use super::target::{DaemonControl, Endpoint};
use crate::api::{Problem, ReloadResult};
use crate::client::ClientError;
use crate::instance::{LockHolder, PidFileError};

/// The outcome of a reload.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// The daemon reloaded its settings.
    Reloaded(ReloadResult),
    /// This process received SIGHUP. It logs the result.
    Signalled(u32),
}

/// The settings were not reloaded.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// No daemon is running.
    #[error("the daemon is not running")]
    NotRunning,
    /// The settings are invalid.
    #[error("{}\nNothing has changed.", .0.detail)]
    Settings(Box<Problem>),
    /// The admin API failed, and there is no process to signal.
    #[error(transparent)]
    Client(ClientError),
    /// The admin API failed, and the process may not be signalled.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
}

impl DaemonControl {
    /// Reloads over the admin API, or else by SIGHUP. `notice` receives a message when the signal
    /// is used.
    ///
    /// # Errors
    ///
    /// Why nothing was reloaded.
    pub async fn reload(&self, notice: &mut dyn FnMut(&str)) -> Result<ReloadOutcome, ReloadError> {
        let retries = Retries::start();
        let (error, holder) = loop {
            let Some(Endpoint { client, holder, .. }) = self.find_endpoint().await? else {
                return Err(ReloadError::NotRunning);
            };
            match async { client?.reload_settings().await }.await {
                Ok(done) => return Ok(ReloadOutcome::Reloaded(done)),
                Err(ClientError::Problem(problem)) if problem.errors.is_some() => {
                    return Err(ReloadError::Settings(problem));
                }
                Err(error) if error.is_conflict() && retries.wait(MAX_WAIT).await => {}
                Err(error @ ClientError::Problem(_)) => return Err(ReloadError::Client(error)),
                Err(error) => break (error, holder),
            }
        };
        let Some(LockHolder::Known(process)) = holder else {
            return Err(ReloadError::Client(error));
        };
        let pid = process.pid();
        notice(&format!("{error}; sending SIGHUP to process {pid}"));
        let sent = process.send_signal(Signal::HUP);
        if check_delivery(&process, sent, &error.to_string())? {
            Ok(ReloadOutcome::Signalled(pid))
        } else {
            Err(ReloadError::NotRunning)
        }
    }
}
