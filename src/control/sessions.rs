//! The browser sessions of the daemon.

use thiserror::Error;

use super::target::DaemonControl;
use crate::api::SessionSummary;
use crate::client::{AdminClient, ClientError};
use crate::instance::PidFileError;

/// The sessions cannot be listed or ended.
#[derive(Debug, Error)]
pub enum SessionsError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// No daemon is running.
    #[error("the daemon is not running: start it with `fullon start`")]
    NotRunning,
    /// The admin API failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl DaemonControl {
    /// The valid browser sessions, oldest first.
    ///
    /// # Errors
    ///
    /// Why there is no list.
    pub async fn sessions(&self) -> Result<Vec<SessionSummary>, SessionsError> {
        Ok(self.sessions_client().await?.sessions().await?)
    }

    /// Ends a browser session.
    ///
    /// # Errors
    ///
    /// There is no such session, or the daemon did not answer.
    pub async fn end_session(&self, id: &str) -> Result<(), SessionsError> {
        let client = self.sessions_client().await?;
        match client.end_session(id).await {
            // The process was replaced meanwhile. The next connection is to the new one.
            Err(error) if error.is_conflict() => Ok(client.end_session(id).await?),
            result => Ok(result?),
        }
    }

    async fn sessions_client(&self) -> Result<AdminClient, SessionsError> {
        let endpoint = self.find_endpoint().await?;
        Ok(endpoint.ok_or(SessionsError::NotRunning)?.client?)
    }
}
