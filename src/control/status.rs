//! How the daemon is doing.

use std::path::PathBuf;

use super::{Control, Found};
use crate::api::Status;
use crate::client::ClientError;
use crate::instance::PidFileError;

/// What could be found out.
#[derive(Debug)]
pub enum Report {
    /// The daemon says so itself.
    Running(Box<Status>),
    /// It holds its PID file, but its admin API did not answer.
    RunningOffline {
        /// Its process id, if it is known.
        pid: Option<u32>,
        /// Base URL of its public API, if it is known.
        server: Option<String>,
        /// Its log file, if it is known.
        log_file: Option<PathBuf>,
        /// Why the admin API did not tell.
        because: ClientError,
    },
    /// It died without cleaning up.
    Dead(Option<u32>),
    /// There is none.
    NotRunning,
    /// It cannot be told.
    Unknown(ClientError),
}

impl Control {
    /// Asks the admin API, then PID file and lock.
    ///
    /// # Errors
    ///
    /// The PID file cannot be read.
    pub async fn status(&self) -> Result<Report, PidFileError> {
        Ok(match self.find().await? {
            Found::Held {
                holder,
                state,
                client,
            } => {
                let answer = match client {
                    Ok(client) => client.status().await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(status) => Report::Running(Box::new(status)),
                    Err(because) => Report::RunningOffline {
                        pid: holder.pid(),
                        server: state.as_ref().map(|state| state.server.clone()),
                        log_file: self.log_file(state.as_deref()),
                        because,
                    },
                }
            }
            Found::Dead(pid) => Report::Dead(pid),
            Found::Absent(Ok(client)) => match client.status().await {
                Ok(status) => Report::Running(Box::new(status)),
                Err(error @ (ClientError::Refused { .. } | ClientError::Problem(_))) => {
                    Report::Unknown(error)
                }
                Err(_) => Report::NotRunning,
            },
            Found::Absent(Err(error)) if self.admin_url.is_some() => Report::Unknown(error),
            Found::Absent(Err(_)) => Report::NotRunning,
            Found::Elsewhere(client) => match client.status().await {
                Ok(status) => Report::Running(Box::new(status)),
                Err(error) => Report::Unknown(error),
            },
        })
    }
}
