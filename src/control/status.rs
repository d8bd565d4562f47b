//! The daemon's status.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::target::{DaemonControl, Target, fetch_status};
use crate::api::{DaemonPhase, DaemonStatus, LogLevelStatus};
use crate::client::{ClientError, Url};
use crate::config::parse_log_filter;
use crate::instance::{PidFileError, StateFile};
use crate::sys::{TcpSocket, sockets_accepting};

/// The known state of the daemon.
#[derive(Debug)]
pub enum StatusReport {
    /// Its own report.
    Running(Box<DaemonStatus>),
    /// It holds its PID file, but its admin API did not answer.
    Unresponsive {
        /// Its process, if it is known.
        pid: Option<u32>,
        /// Base URL of its public API, if it is known.
        server: Option<String>,
        /// Its log file, if it is known.
        log_file: Option<PathBuf>,
        /// Why the admin API gave no answer.
        error: ClientError,
    },
    /// It died without removing its PID file, which may record this PID.
    Dead(Option<u32>),
    /// No daemon is running.
    NotRunning,
    /// Whether a daemon is running cannot be determined.
    Unknown(ClientError),
}

impl DaemonControl {
    /// Whether the daemon that holds the PID file is stopping and finishes its requests.
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
            // A process that was replaced may still accept a connection.
            Ok(status) => status.phase == DaemonPhase::Draining && status.pid == state.pid,
            // With a state file it has served before, and a stop closes the listeners first.
            Err(_) => !has_listener(&state.admin, state.owner_uid, sockets_accepting),
        };
        // A process that was replaced meanwhile is no longer the daemon.
        let now = self.running_state();
        is_draining && now.is_some_and(|now| now.pid == state.pid)
    }

    /// The daemon's log level, if it is not the configured one. `active` is the level in its
    /// status. A request is sent only if that differs from the local settings.
    pub async fn log_level_override(&self, active: &str) -> Option<LogLevelStatus> {
        let sources = self.running_sources();
        let configured = sources.and_then(|sources| {
            let (text, _) = sources.get("LOG_LEVEL")?;
            parse_log_filter(text).ok()
        });
        if configured.is_some_and(|configured| configured == active) {
            return None;
        }
        let client = match self.find_target().await.ok()? {
            Target::Local { client, .. }
            | Target::Unlocked { client, .. }
            | Target::Remote(client) => client.ok()?,
            Target::Absent | Target::Dead(_) => return None,
        };
        let level = client.log_level().await.ok()?;
        (level.level != level.configured_level).then_some(level)
    }

    /// Queries the admin API, or else inspects the PID file and its lock.
    ///
    /// # Errors
    ///
    /// The PID file cannot be inspected.
    pub async fn status(&self) -> Result<StatusReport, PidFileError> {
        Ok(match self.find_target().await? {
            Target::Local {
                holder,
                state,
                client,
            } => match fetch_status(client).await {
                Ok(status) => StatusReport::Running(Box::new(status)),
                Err(error) => self.unresponsive(holder.pid(), state.as_deref(), error),
            },
            Target::Unlocked {
                process,
                state,
                client,
            } => match fetch_status(client).await {
                Ok(status) => StatusReport::Running(Box::new(status)),
                Err(error) => self.unresponsive(Some(process.pid()), Some(&state), error),
            },
            Target::Dead(pid) => StatusReport::Dead(pid),
            Target::Absent => StatusReport::NotRunning,
            Target::Remote(client) => match fetch_status(client).await {
                Ok(status) => StatusReport::Running(Box::new(status)),
                Err(error) => StatusReport::Unknown(error),
            },
        })
    }

    fn unresponsive(
        &self,
        pid: Option<u32>,
        state: Option<&StateFile>,
        error: ClientError,
    ) -> StatusReport {
        StatusReport::Unresponsive {
            pid,
            server: state.map(|state| state.server.clone()),
            log_file: self.log_file(state),
            error,
        }
    }
}

/// Whether the daemon of this user listens at the URL of its admin API, or systemd does for it. If
/// the system does not tell, it does: it has served before. No connection is made, because another
/// user may listen there.
fn has_listener(
    admin: &str,
    owner: u32,
    list_sockets: impl Fn(SocketAddr) -> io::Result<Vec<TcpSocket>>,
) -> bool {
    let addresses = Url::parse(admin).map(|url| url.socket_addrs(|| None));
    let Ok(Ok(addresses)) = addresses else {
        return true;
    };
    let is_its_own = |socket: &TcpSocket| [owner, 0].contains(&socket.uid);
    addresses.into_iter().any(|address| {
        let sockets = list_sockets(address).ok();
        sockets.is_none_or(|sockets| sockets.iter().any(is_its_own))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_without_known_sockets_is_not_stopping() {
        let admin = "http://127.0.0.1:8001";
        assert!(has_listener(admin, 1, |_| Err(io::Error::other("unknown"))));
        assert!(has_listener("no address", 1, |_| Ok(Vec::new())));
        assert!(!has_listener(admin, 1, |_| Ok(Vec::new())));
    }
}
