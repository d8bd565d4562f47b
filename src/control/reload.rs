//! Has the daemon read its settings again.

use std::io;

use rustix::process::Signal;
use thiserror::Error;

use super::{Control, Target};
use crate::api::{Problem, ReloadDone};
use crate::client::ClientError;
use crate::instance::{LockHolder, PidFileError};

/// What became of it.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// The daemon says so itself.
    Reloaded(ReloadDone),
    /// It was asked by signal, and logs what came of it.
    Signalled(u32),
}

/// Nothing was reloaded.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The PID file cannot be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// There is no daemon.
    #[error("the daemon is not running")]
    NotRunning,
    /// The settings are wrong.
    #[error("{}\nNothing was changed.", .0.detail)]
    Settings(Box<Problem>),
    /// The admin API could not be used, and there is no other way.
    #[error(transparent)]
    Client(ClientError),
    /// The process is not ours to signal.
    #[error(
        "{because}; and process {pid} may not be signalled: {source}; use sudo, or a token of that daemon"
    )]
    NotPermitted {
        /// The process.
        pid: u32,
        /// Why the admin API was no way.
        because: ClientError,
        /// Why.
        source: io::Error,
    },
}

impl Control {
    /// Over the admin API, else by SIGHUP. `notice` is told when it is the signal, and why.
    ///
    /// # Errors
    ///
    /// Why nothing was reloaded.
    pub async fn reload(&self, notice: &mut dyn FnMut(&str)) -> Result<ReloadOutcome, ReloadError> {
        self.reload_once(true, notice).await
    }

    async fn reload_once(
        &self,
        is_first: bool,
        notice: &mut dyn FnMut(&str),
    ) -> Result<ReloadOutcome, ReloadError> {
        let (client, holder) = match self.find_target().await? {
            Target::Local { holder, client, .. } => (client, Some(holder)),
            Target::Remote(client) => (Ok(client), None),
            Target::Absent(Ok(client)) if self.is_target(&client).await => (Ok(client), None),
            Target::Absent(Err(error)) if self.admin_url.is_some() => (Err(error), None),
            Target::Absent(_) | Target::Dead(_) => return Err(ReloadError::NotRunning),
        };
        let answer = match client {
            Ok(client) => client.reload().await,
            Err(error) => Err(error),
        };
        let because = match answer {
            Ok(done) => return Ok(ReloadOutcome::Reloaded(done)),
            Err(ClientError::Problem(problem)) if problem.errors.is_some() => {
                return Err(ReloadError::Settings(problem));
            }
            // It was replaced meanwhile.
            Err(error) if error.is_conflict() && is_first => {
                return Box::pin(self.reload_once(false, notice)).await;
            }
            Err(error @ ClientError::Problem(_)) => return Err(ReloadError::Client(error)),
            Err(error) => error,
        };
        let Some(LockHolder::Known(process)) = holder else {
            return Err(ReloadError::Client(because));
        };
        let pid = process.pid();
        notice(&format!("{because}; asking process {pid} by SIGHUP"));
        match process.send_signal(Signal::HUP) {
            Ok(()) => Ok(ReloadOutcome::Signalled(pid)),
            Err(_) if process.has_exited() => Err(ReloadError::NotRunning),
            Err(source) => Err(ReloadError::NotPermitted {
                pid,
                because,
                source,
            }),
        }
    }
}
