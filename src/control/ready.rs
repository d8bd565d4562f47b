//! Readiness of the local daemon, as its public API reports it.

use std::net::SocketAddr;

use super::target::DaemonControl;
use crate::api::{ReadinessReport, base_url};
use crate::client::{self, HealthError};
use crate::instance::{PidFileError, PidFileStatus, inspect_pid_file};

/// Readiness of the local daemon.
#[derive(Debug)]
pub enum ReadyReport {
    /// The response of `GET /health/ready`, whether the daemon is ready or not.
    Answered(ReadinessReport),
    /// The daemon runs, but its public API did not answer.
    Unreachable {
        /// Base URL of the public API.
        server: String,
        error: HealthError,
    },
    /// The daemon runs, but the address of its public API is unknown.
    UnknownAddress,
    /// The daemon died without removing its PID file.
    Dead,
    /// No daemon is running.
    NotRunning,
}

impl DaemonControl {
    /// Asks the public API whether the local daemon is ready. Needs no token. `configured` is the
    /// configured address of the public API, for a daemon whose state file cannot be read.
    ///
    /// # Errors
    ///
    /// The PID file cannot be inspected.
    pub async fn ready(&self, configured: Option<SocketAddr>) -> Result<ReadyReport, PidFileError> {
        let (status, state) = self.read_state(inspect_pid_file(self.pid_file())?);
        match status {
            PidFileStatus::Held(_) => {}
            PidFileStatus::Stale(_) => return Ok(ReadyReport::Dead),
            PidFileStatus::Absent => return Ok(ReadyReport::NotRunning),
        }
        let configured = configured.filter(|address| address.port() != 0);
        let server = state.map_or_else(|| configured.map(base_url), |state| Some(state.server));
        let Some(server) = server else {
            return Ok(ReadyReport::UnknownAddress);
        };
        Ok(match client::readiness(&server).await {
            Ok(readiness) => ReadyReport::Answered(readiness),
            Err(error) => ReadyReport::Unreachable { server, error },
        })
    }
}
