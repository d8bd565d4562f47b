//! Replaces the daemon: it hands over to a successor, or is stopped and started.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thiserror::Error;

use super::{Control, Found, LaunchError, NoEffect, Started, StopError, Stopped};
use crate::api::{RestartDone, RestartRequest, SUCCESSOR_TIMEOUT, StopRequest};
use crate::client::ClientError;
use crate::config::{Problems, Settings, inherited_settings};
use crate::instance::{Holder, Launch, PidFileError, Presence, Process, State, inspect};

/// How often it is looked whether a daemon that was asked by signal has been replaced.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
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
pub enum Restarted {
    /// A successor took over.
    Replaced(RestartDone),
    /// It was stopped, if one ran, and started.
    Started {
        /// Process id of the one that ran.
        old: Option<u32>,
        /// The one that runs now.
        new: Started,
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
    Settings(Problems),
    /// The settings that the successor would have are wrong.
    #[error("{0}\nThe daemon goes on as before.")]
    SuccessorSettings(String),
    /// The successor did not take over.
    #[error("{0}\nThe daemon goes on as before.")]
    Successor(String),
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
    TooOld(ClientError),
    /// Nothing tells whether it can be asked by signal.
    #[error(
        "{0}; and without its state file it is not known whether the daemon can be asked by signal: use `fullon restart --hard`"
    )]
    Stateless(ClientError),
    /// A successor gets the flags of the one that it replaces.
    #[error(transparent)]
    NoEffect(#[from] NoEffect),
    /// It does not run on this machine.
    #[error(
        "restart --hard starts a process on this machine, and --admin-url names a daemon elsewhere: restart it there"
    )]
    Elsewhere,
    /// What it was started with is another user's word.
    #[error(
        "process {0} belongs to another user, as whom it has to be restarted (sudo -u USER fullon restart --hard)"
    )]
    OtherUser(u32),
    /// It could not be started again.
    #[error("{0} is not there, and the new daemon would need it. The daemon was left as it was.")]
    Missing(PathBuf),
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
    StartAgain(LaunchError),
}

impl From<ClientError> for RestartError {
    fn from(error: ClientError) -> Self {
        let is_conflict = error.is_conflict();
        match error {
            ClientError::Problem(problem) if problem.status == UNPROCESSABLE => {
                Self::SuccessorSettings(problem.detail)
            }
            ClientError::Problem(problem) if is_conflict => Self::Busy(problem.detail),
            ClientError::Problem(problem) => Self::Successor(problem.detail),
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
    ) -> Result<Restarted, RestartError> {
        if options.hard {
            return self.stop_and_start(launch, notice).await;
        }
        self.check_given(&launch.origin)?;
        let order = RestartRequest {
            timeout_seconds: options.timeout_seconds,
        };
        let done = match self.find().await? {
            Found::Held {
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
                    (Err(error), Holder::Process(process), Some(state))
                        if is_out_of_reach(&error) =>
                    {
                        if state.generation == 0 {
                            return Err(RestartError::TooOld(error));
                        }
                        self.restart_by_signal(&process, &state, &error, options, notice)
                            .await?
                    }
                    (Err(error), Holder::Process(_), None) if is_out_of_reach(&error) => {
                        return Err(RestartError::Stateless(error));
                    }
                    (Err(error), ..) => return Err(error.into()),
                }
            }
            Found::Elsewhere(client) => client.restart(&order).await?,
            Found::Absent(Ok(client)) if self.is_meant(&client).await => {
                client.restart(&order).await?
            }
            Found::Absent(Err(error)) if self.admin_url.is_some() => return Err(error.into()),
            Found::Dead(_) | Found::Absent(_) => {
                validate(&launch)?;
                let new = launch.start().map_err(RestartError::Start)?;
                return Ok(Restarted::Started { old: None, new });
            }
        };
        Ok(Restarted::Replaced(done))
    }

    async fn restart_by_signal(
        &self,
        process: &Process,
        state: &State,
        because: &ClientError,
        options: &RestartOptions,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartDone, RestartError> {
        let old_pid = process.pid();
        // The answer may be missing because the daemon is, or has been replaced.
        if !process.is_gone() {
            notice(&format!("{because}; asking process {old_pid} by SIGUSR2"));
            if let Err(source) = process.signal(Signal::USR2)
                && !process.is_gone()
            {
                return Err(RestartError::NotPermitted {
                    pid: old_pid,
                    because: because.to_string(),
                    source,
                });
            }
        }
        let timeout = options.timeout_seconds.map(Duration::try_from_secs_f64);
        let timeout = timeout.and_then(Result::ok).unwrap_or(SUCCESSOR_TIMEOUT);
        let end = Instant::now() + timeout + SIGNAL_MARGIN;
        while Instant::now() < end {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let is_gone = process.is_gone();
            let Some(now) = self.state_now()? else {
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
                return Err(RestartError::Successor(failed.reason));
            }
        }
        Err(RestartError::NoAnswer(old_pid))
    }

    /// What the daemon that holds the PID file has left, if it has.
    fn state_now(&self) -> Result<Option<State>, PidFileError> {
        let pid_file = &self.locator.pid_file;
        let Presence::Held(holder) = inspect(pid_file)? else {
            return Ok(None);
        };
        let state = holder.pid().map(|pid| State::read(pid_file, pid));
        Ok(state.and_then(Result::ok))
    }

    /// Stops the daemon if one runs, and starts it again as it was started: in the same directory, with the same flags
    /// and environment, where `launch` says nothing else.
    async fn stop_and_start(
        &self,
        mut launch: Launch,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Restarted, RestartError> {
        match self.find().await? {
            Found::Elsewhere(_) => return Err(RestartError::Elsewhere),
            Found::Held {
                state: Some(state), ..
            } if !state.in_background => return Err(RestartError::Foreground),
            Found::Held { holder, state, .. } => {
                if let Some(state) = state {
                    let origin = &mut launch.origin;
                    let flags = std::mem::take(&mut origin.flags);
                    origin.flags = state.flags.into_iter().chain(flags).collect();
                    origin.directory = state.working_directory;
                    origin.env_file = origin.env_file.take().or(state.env_file);
                }
                if let Holder::Process(process) = holder {
                    if !process.is_ours() {
                        return Err(RestartError::OtherUser(process.pid()));
                    }
                    launch.environment = inherited_settings(process.environment());
                }
            }
            Found::Dead(_) | Found::Absent(_) => {}
        }
        validate(&launch)?;
        let old = match self.stop(&StopRequest::default(), notice).await? {
            Stopped::Done { pid, .. } => Some(pid),
            Stopped::NotRunning | Stopped::Dead(_) => None,
        };
        let failed = if old.is_some() {
            RestartError::StartAgain
        } else {
            RestartError::Start
        };
        let new = launch.start().map_err(failed)?;
        Ok(Restarted::Started { old, new })
    }
}

/// The daemon was not asked, or not by somebody whom it obeys. The permission to signal it is the system's to give.
fn is_out_of_reach(error: &ClientError) -> bool {
    !matches!(error, ClientError::Problem(_))
}

/// The new daemon will read the same settings.
fn validate(launch: &Launch) -> Result<(), RestartError> {
    if let Some(missing) = launch.missing() {
        return Err(RestartError::Missing(missing.to_owned()));
    }
    Settings::load(&launch.origin.sources_beside(&launch.environment))
        .and_then(|settings| settings.check_background())
        .map_err(RestartError::Settings)
}
