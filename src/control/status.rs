//! How the daemon is doing.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;

use reqwest::Url;

use super::{Control, Target};
use crate::api::{LogLevel, Phase, Status};
use crate::client::ClientError;
use crate::config::parse_log_filter;
use crate::instance::PidFileError;

/// What could be found out.
#[derive(Debug)]
pub enum StatusReport {
    /// The daemon says so itself.
    Running(Box<Status>),
    /// It holds its PID file, but its admin API did not answer.
    Unresponsive {
        /// Its process id, if it is known.
        pid: Option<u32>,
        /// Base URL of its public API, if it is known.
        server: Option<String>,
        /// Its log file, if it is known.
        log_file: Option<PathBuf>,
        /// Why the admin API did not tell.
        error: ClientError,
    },
    /// It died without cleaning up.
    Dead(Option<u32>),
    /// There is none.
    NotRunning,
    /// It cannot be told.
    Unknown(ClientError),
}

impl Control {
    /// Whether the daemon that holds the PID file was asked to stop, and finishes what is in flight.
    pub async fn is_stopping(&self) -> bool {
        let Ok(Target::Local {
            state: Some(state),
            client: Ok(client),
            ..
        }) = self.find_target().await
        else {
            return false;
        };
        let is_draining = match client.status().await {
            Ok(status) => status.phase == Phase::Draining,
            // Its state says that it has served, and its listeners close before anything else.
            Err(_) => refuses_connections(&state.admin),
        };
        // One that was replaced meanwhile is not meant any more.
        let now = self.running_state();
        is_draining && now.is_some_and(|now| now.pid == state.pid)
    }

    /// Another level than the configured one that the daemon logs by; `in_force` is what its status says. It is asked only if the
    /// settings here say otherwise.
    pub async fn log_level_override(&self, in_force: &str) -> Option<LogLevel> {
        let sources = self.running_sources();
        let configured = sources.and_then(|sources| {
            let (text, _) = sources.get("LOG_LEVEL")?;
            parse_log_filter(text).ok()
        });
        if configured.is_some_and(|configured| configured == in_force) {
            return None;
        }
        let client = match self.find_target().await.ok()? {
            Target::Local { client, .. } | Target::Absent(client) => client.ok()?,
            Target::Remote(client) => client,
            Target::Dead(_) => return None,
        };
        let level = client.log_level().await.ok()?;
        (level.level != level.configured_level).then_some(level)
    }

    /// Asks the admin API, then PID file and lock.
    ///
    /// # Errors
    ///
    /// The PID file cannot be read.
    pub async fn status(&self) -> Result<StatusReport, PidFileError> {
        Ok(match self.find_target().await? {
            Target::Local {
                holder,
                state,
                client,
            } => {
                let answer = match client {
                    Ok(client) => client.status().await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(status) => StatusReport::Running(Box::new(status)),
                    Err(because) => StatusReport::Unresponsive {
                        pid: holder.pid(),
                        server: state.as_ref().map(|state| state.server.clone()),
                        log_file: self.log_file(state.as_deref()),
                        error: because,
                    },
                }
            }
            Target::Dead(pid) => StatusReport::Dead(pid),
            Target::Absent(Ok(client)) => match client.status().await {
                Ok(status) => StatusReport::Running(Box::new(status)),
                Err(error @ (ClientError::TokenRefused { .. } | ClientError::Problem(_))) => {
                    StatusReport::Unknown(error)
                }
                Err(_) => StatusReport::NotRunning,
            },
            Target::Absent(Err(error)) if self.admin_url.is_some() => StatusReport::Unknown(error),
            Target::Absent(Err(_)) => StatusReport::NotRunning,
            Target::Remote(client) => match client.status().await {
                Ok(status) => StatusReport::Running(Box::new(status)),
                Err(error) => StatusReport::Unknown(error),
            },
        })
    }
}

/// Whether nobody listens there.
fn refuses_connections(base: &str) -> bool {
    let addresses = Url::parse(base)
        .ok()
        .and_then(|url| url.socket_addrs(|| None).ok());
    addresses.is_some_and(|addresses| {
        TcpStream::connect(&*addresses)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}
