//! Replaces the daemon: it hands over to a successor, or is stopped and started.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thiserror::Error;

use super::{Control, IgnoredFlags, LaunchError, StartedDaemon, StopError, StopOutcome, Target};
use crate::api::{DEFAULT_RESTART_TIMEOUT, RestartDone, RestartRequest, StopRequest};
use crate::client::ClientError;
use crate::config::{InvalidSettings, Settings, inherited_settings};
use crate::instance::{
    Launch, LockHolder, PidFileError, PidFileStatus, Process, StateFile, inspect_pid_file,
};

/// How often it is looked whether a daemon that was asked by signal has been replaced.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much longer than its successor such a daemon may take to say what became of it.
const SIGNAL_MARGIN: Duration = Duration::from_secs(2);
/// 422: the settings of the successor are not valid.
const UNPROCESSABLE: u16 = 422;

/// How to replace it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestartOptions {
    /// Stop it, then start it.
    pub hard: bool,
    /// How long the successor may take until it serves, in seconds; 30 when not given.
    pub timeout_seconds: Option<f64>,
}

/// What became of it.
#[derive(Debug)]
pub enum RestartOutcome {
    /// A successor took over.
    Replaced(RestartDone),
    /// It was stopped, if one ran, and started.
    Started {
        /// Process id of the one that ran.
        old_pid: Option<u32>,
        /// The one that runs now.
        daemon: StartedDaemon,
    },
}

/// It was not replaced.
#[derive(Debug, Error)]
pub enum RestartError {
    /// The PID file cannot be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The settings are wrong.
    #[error("{0}\nThe daemon was left as it was.")]
    Settings(InvalidSettings),
    /// The settings that the successor would have are wrong.
    #[error("{0}\nThe daemon goes on as before.")]
    SuccessorSettings(String),
    /// The successor did not take over.
    #[error("{0}\nThe daemon goes on as before.")]
    SuccessorFailed(String),
    /// Another restart, or a stop, was under way.
    #[error("{0}")]
    Busy(String),
    /// The admin API could not be used, and there is no other way.
    #[error(transparent)]
    Client(ClientError),
    /// It could not be asked by signal either.
    #[error(
        "{because}; and process {pid} may not be signalled: {source}; use sudo, or a token of that daemon"
    )]
    NotPermitted {
        /// The process.
        pid: u32,
        /// Why the admin API was no way.
        because: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was asked by signal, and nothing came of it.
    #[error(
        "process {0} was asked by SIGUSR2 and has neither been replaced nor said why not: it may hang; look at its log, or use `fullon restart --hard`"
    )]
    NoAnswer(u32),
    /// It ended when it was asked.
    #[error("process {0} ended before it was replaced; `fullon start` starts another")]
    Died(u32),
    /// It was started by a version that cannot hand over.
    #[error(
        "{0}; and the daemon was started by a version that cannot be asked by signal: use `fullon restart --hard`"
    )]
    SignalUnsupported(ClientError),
    /// Nothing tells whether it can be asked by signal.
    #[error(
        "{0}; and without its state file it is not known whether the daemon can be asked by signal: use `fullon restart --hard`"
    )]
    SignalSupportUnknown(ClientError),
    /// A successor gets the flags of the one that it replaces.
    #[error(transparent)]
    IgnoredFlags(#[from] IgnoredFlags),
    /// It does not run on this machine.
    #[error(
        "restart --hard starts a process on this machine, and --admin-url names a daemon elsewhere: restart it there"
    )]
    Remote,
    /// What it was started with is another user's word.
    #[error(
        "process {0} belongs to another user, as whom it has to be restarted (sudo -u USER fullon restart --hard)"
    )]
    OtherUser(u32),
    /// It could not be started again.
    #[error("{0} is not there, and the new daemon would need it. The daemon was left as it was.")]
    MissingPath(PathBuf),
    /// Whoever runs it has to restart it.
    #[error(
        "this daemon was started by `fullon run`: only where it runs can it be stopped and started (systemctl restart, or the terminal)"
    )]
    Foreground,
    /// It could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// None ran, and none could be started.
    #[error("{0}")]
    Start(LaunchError),
    /// It was stopped, and its successor did not start.
    #[error("the old daemon was stopped, but the new one did not start: {0}")]
    StartAfterStop(LaunchError),
}

impl From<ClientError> for RestartError {
    fn from(error: ClientError) -> Self {
        let is_conflict = error.is_conflict();
        match error {
            ClientError::Problem(problem) if problem.status == UNPROCESSABLE => {
                Self::SuccessorSettings(problem.detail)
            }
            ClientError::Problem(problem) if is_conflict => Self::Busy(problem.detail),
            ClientError::Problem(problem) => Self::SuccessorFailed(problem.detail),
            other => Self::Client(other),
        }
    }
}

impl Control {
    /// Replaces the daemon, or starts it as `launch` says if none runs. `notice` is told when another way than the admin API
    /// is taken, and why.
    ///
    /// # Errors
    ///
    /// Why it was not replaced. Unless it had to be stopped first, it goes on as before.
    pub async fn restart(
        &self,
        launch: Launch,
        options: &RestartOptions,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartOutcome, RestartError> {
        if options.hard {
            return self.stop_and_start(launch, notice).await;
        }
        self.reject_ignored(&launch.settings_location)?;
        let order = RestartRequest {
            timeout_seconds: options.timeout_seconds,
        };
        let done = match self.find_target().await? {
            Target::Local {
                holder,
                state,
                client,
            } => {
                let answer = match client {
                    Ok(client) => client.restart(&order).await,
                    Err(error) => Err(error),
                };
                match (answer, holder, state) {
                    (Ok(done), ..) => done,
                    (Err(error), LockHolder::Known(process), Some(state))
                        if allows_signal(&error) =>
                    {
                        if state.generation == 0 {
                            return Err(RestartError::SignalUnsupported(error));
                        }
                        self.restart_by_signal(&process, &state, &error, options, notice)
                            .await?
                    }
                    (Err(error), LockHolder::Known(_), None) if allows_signal(&error) => {
                        return Err(RestartError::SignalSupportUnknown(error));
                    }
                    (Err(error), ..) => return Err(error.into()),
                }
            }
            Target::Remote(client) => client.restart(&order).await?,
            Target::Absent(Ok(client)) if self.is_target(&client).await => {
                client.restart(&order).await?
            }
            Target::Absent(Err(error)) if self.admin_url.is_some() => return Err(error.into()),
            Target::Dead(_) | Target::Absent(_) => {
                validate_launch(&launch)?;
                let new = launch.start().map_err(RestartError::Start)?;
                return Ok(RestartOutcome::Started {
                    old_pid: None,
                    daemon: new,
                });
            }
        };
        Ok(RestartOutcome::Replaced(done))
    }

    async fn restart_by_signal(
        &self,
        process: &Process,
        state: &StateFile,
        because: &ClientError,
        options: &RestartOptions,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartDone, RestartError> {
        let old_pid = process.pid();
        // The answer may be missing because the daemon is, or has been replaced.
        if !process.has_exited() {
            notice(&format!("{because}; asking process {old_pid} by SIGUSR2"));
            if let Err(source) = process.send_signal(Signal::USR2)
                && !process.has_exited()
            {
                return Err(RestartError::NotPermitted {
                    pid: old_pid,
                    because: because.to_string(),
                    source,
                });
            }
        }
        let timeout = options.timeout_seconds.map(Duration::try_from_secs_f64);
        let timeout = timeout
            .and_then(Result::ok)
            .unwrap_or(DEFAULT_RESTART_TIMEOUT);
        let end = Instant::now() + timeout + SIGNAL_MARGIN;
        while Instant::now() < end {
            tokio::time::sleep(POLL_INTERVAL).await;
            let is_gone = process.has_exited();
            let Some(now) = self.recorded_state()? else {
                if is_gone {
                    return Err(RestartError::Died(old_pid));
                }
                continue;
            };
            if now.pid != old_pid {
                return Ok(RestartDone {
                    old_pid,
                    pid: now.pid,
                    generation: now.generation,
                    server: now.server,
                    admin: now.admin,
                });
            }
            if let Some(failed) = now.failed_restart
                && state.failed_restart.as_ref() != Some(&failed)
            {
                return Err(RestartError::SuccessorFailed(failed.reason));
            }
        }
        Err(RestartError::NoAnswer(old_pid))
    }

    /// What the daemon that holds the PID file has left, if it has.
    fn recorded_state(&self) -> Result<Option<StateFile>, PidFileError> {
        let pid_file = &self.locator.pid_file;
        let PidFileStatus::Held(holder) = inspect_pid_file(pid_file)? else {
            return Ok(None);
        };
        let state = holder
            .pid()
            .map(|pid| StateFile::read_active(pid_file, pid));
        Ok(state.and_then(Result::ok))
    }

    /// Stops the daemon if one runs, and starts it again as it was started: in the same directory, with the same flags
    /// and environment, where `launch` says nothing else.
    async fn stop_and_start(
        &self,
        mut launch: Launch,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartOutcome, RestartError> {
        match self.find_target().await? {
            Target::Remote(_) => return Err(RestartError::Remote),
            Target::Local {
                state: Some(state), ..
            } if !state.in_background => return Err(RestartError::Foreground),
            Target::Local { holder, state, .. } => {
                if let Some(state) = state {
                    let origin = &mut launch.settings_location;
                    let flags = std::mem::take(&mut origin.flags);
                    origin.flags = state.flags.into_iter().chain(flags).collect();
                    origin.directory = state.working_directory;
                    origin.env_file = origin.env_file.take().or(state.env_file);
                }
                if let LockHolder::Known(process) = holder {
                    if !process.belongs_to_this_user() {
                        return Err(RestartError::OtherUser(process.pid()));
                    }
                    launch.environment = inherited_settings(process.environment());
                }
            }
            Target::Dead(_) | Target::Absent(_) => {}
        }
        validate_launch(&launch)?;
        let old = match self.stop(&StopRequest::default(), notice).await? {
            StopOutcome::Stopped { pid, .. } => Some(pid),
            StopOutcome::NotRunning | StopOutcome::Dead(_) => None,
        };
        let failed = if old.is_some() {
            RestartError::StartAfterStop
        } else {
            RestartError::Start
        };
        let new = launch.start().map_err(failed)?;
        Ok(RestartOutcome::Started {
            old_pid: old,
            daemon: new,
        })
    }
}

/// The daemon was not asked, or not by somebody whom it obeys. The permission to signal it is the system's to give.
fn allows_signal(error: &ClientError) -> bool {
    !matches!(error, ClientError::Problem(_))
}

/// The new daemon will read the same settings.
fn validate_launch(launch: &Launch) -> Result<(), RestartError> {
    if let Some(missing) = launch.missing_path() {
        return Err(RestartError::MissingPath(missing.to_owned()));
    }
    Settings::load(
        &launch
            .settings_location
            .read_sources_with_fallback(&launch.environment),
    )
    .and_then(|settings| settings.check_background())
    .map_err(RestartError::Settings)
}
