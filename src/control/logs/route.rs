//! How the log can be reached.

use std::path::PathBuf;
use std::time::Duration;

use super::error::LogsError;
use crate::client::{AdminClient, ClientError, LogQuery};
use crate::config::user_name;
use crate::control::target::{DaemonControl, Target};
use crate::instance::LockHolder;
use crate::logs::{Filter, FilterParams};

/// How often a process that cannot be waited for is checked for its exit.
const HIDDEN_POLL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct LogRoutes {
    pub client: Result<AdminClient, ClientError>,
    pub file: Option<PathBuf>,
    /// The log file that a state file of another user names. It may be any file, such as one that
    /// only root can read, so it is not read.
    pub foreign_file: Option<ForeignFile>,
    /// The process that writes the file.
    pub writer: Option<LockHolder>,
    /// Whether the daemon that is meant is known to run.
    pub is_running: bool,
}

#[derive(Clone)]
pub(super) struct ForeignFile {
    path: PathBuf,
    owner: u32,
}

impl DaemonControl {
    pub(super) async fn log_routes(&self) -> Result<LogRoutes, LogsError> {
        let target = self.find_target().await?;
        let is_running = match &target {
            Target::Local { .. } | Target::Unlocked { .. } => true,
            Target::Remote(client) => client.is_ok(),
            Target::Dead(_) | Target::Absent => false,
        };
        let foreign_file = match &target {
            Target::Local {
                state: Some(state), ..
            }
            | Target::Unlocked { state, .. }
                if !state.belongs_to_this_user() =>
            {
                state.log_file.clone().map(|path| ForeignFile {
                    path,
                    owner: state.owner_uid,
                })
            }
            _ => None,
        };
        let (client, file, writer) = match target {
            Target::Local {
                state: Some(state), ..
            } if state.log_file.is_none() => return Err(LogsError::Stdout),
            Target::Local {
                holder,
                state,
                client,
            } => {
                let file = self.log_file(state.as_deref());
                (client, file, Some(holder))
            }
            Target::Unlocked { state, .. } if state.log_file.is_none() => {
                return Err(LogsError::Stdout);
            }
            Target::Unlocked {
                process,
                state,
                client,
            } => (client, state.log_file, Some(LockHolder::Known(process))),
            Target::Dead(_) | Target::Absent => {
                (Err(ClientError::NotRunning), self.log_file(None), None)
            }
            Target::Remote(client) => (client, None, None),
        };
        Ok(LogRoutes {
            client,
            file: file.filter(|_| foreign_file.is_none()),
            foreign_file,
            writer,
            is_running,
        })
    }

    /// Waits until no process writes the log file any more.
    pub(super) async fn writer_exited(&self, writer: Option<&LockHolder>) {
        match writer {
            None => {}
            // On an error, the process is treated as exited.
            Some(LockHolder::Known(process)) => drop(process.exited().await),
            // It cannot be waited for, such as in another PID namespace.
            Some(LockHolder::Hidden(_)) => loop {
                tokio::time::sleep(HIDDEN_POLL_INTERVAL).await;
                if !matches!(
                    self.find_target().await,
                    Ok(Target::Local { .. } | Target::Unlocked { .. })
                ) {
                    return;
                }
            },
        }
    }

    /// The log file to read after the admin API failed.
    pub(super) fn fallback_path(
        &self,
        file: Option<PathBuf>,
        foreign_file: Option<ForeignFile>,
        error: ClientError,
        notice: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, LogsError> {
        match file {
            Some(path) => {
                notice(&format!("{error}; reading {}", path.display()));
                Ok(path)
            }
            None if let Some(ForeignFile { path, owner }) = foreign_file => {
                Err(LogsError::ForeignFile {
                    error: error.to_string(),
                    path,
                    user: user_name(owner),
                })
            }
            None if self.has_admin_url() => Err(error.into()),
            None => Err(LogsError::FileUnknown(error.to_string())),
        }
    }
}

/// The same filter as the daemon's for this query.
pub(super) fn parse_filter(query: &LogQuery) -> Result<Filter, LogsError> {
    Ok(Filter::try_from(FilterParams {
        level: query.level.as_deref(),
        contains: query.contains.as_deref(),
        since: query.since.as_deref(),
    })?)
}
