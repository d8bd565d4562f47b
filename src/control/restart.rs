//! Restarts the daemon: by a handoff to a new process, or by a stop and a start.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thiserror::Error;

use super::ignored_flags::{IgnoredFlags, sources_after_restart};
use super::launch::{LaunchError, StartedDaemon};
use super::signal::{NotPermitted, check_delivery};
use super::stop::{StopError, StopOutcome};
use super::target::{DaemonControl, Endpoint, Target, advise_user};
use crate::api::{
    DEFAULT_RESTART_TIMEOUT, RestartRequest, RestartResult, StopRequest, start_timeout,
};
use crate::client::ClientError;
use crate::config::{
    APP_COMMAND, AppCommand, InvalidSettings, Settings, inherited_settings, user_name,
};
use crate::instance::{
    BindAdvice, Launch, LockHolder, Occupant, PidFileError, PidFileStatus, SharedAdminPort,
    StateFile, inspect_pid_file,
};
use crate::sys::{self, Process, ProgramError};

/// How often the state file is read after a restart by signal.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a restart by signal may take beyond the timeout of the new process.
const SIGNAL_MARGIN: Duration = Duration::from_secs(2);
/// 422: the settings of the new process are invalid.
const UNPROCESSABLE: u16 = 422;

/// How to restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestartOptions {
    /// Stop the daemon, then start it, instead of a handoff.
    pub hard: bool,
    /// How long the new process may take until it serves, in seconds; by default 30, or 10 more than
    /// `APP_START_TIMEOUT`.
    pub timeout_seconds: Option<f64>,
}

/// The outcome of a restart.
#[derive(Debug)]
pub enum RestartOutcome {
    /// A new process took over.
    Replaced(RestartResult),
    /// The daemon was stopped, if one was running, and started.
    Started {
        old_pid: Option<u32>,
        daemon: StartedDaemon,
    },
}

/// The daemon was not restarted.
#[derive(Debug, Error)]
pub enum RestartError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The local settings are invalid.
    #[error("{0}\nNothing has changed.")]
    Settings(InvalidSettings),
    /// The new process refused its settings.
    #[error("{0}\nThe daemon continues as before.")]
    SuccessorSettings(String),
    /// The new process did not take over.
    #[error("{0}\nThe daemon continues as before.")]
    SuccessorFailed(String),
    /// Another restart, or a stop, is in progress.
    #[error("{0}")]
    Busy(String),
    /// The admin API failed, and there is no process to signal.
    #[error(transparent)]
    Client(ClientError),
    /// The admin API failed, and the process may not be signalled.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// The process received the signal but did not report a result in time.
    #[error(
        "process {0} received SIGUSR2 but has neither restarted nor reported a failure: see `fullon logs --no-follow`, or use `fullon restart --hard`"
    )]
    NoAnswer(u32),
    /// The process exited instead of restarting.
    #[error("process {0} exited before the restart was complete: use `fullon start`")]
    Died(u32),
    /// The daemon runs a version without restart by signal.
    #[error(
        "{0}; the running daemon is an older version without restart by signal: use `fullon restart --hard`"
    )]
    SignalUnsupported(ClientError),
    /// Without a state file, the daemon's version is unknown.
    #[error(
        "{0}; there is no state file that shows whether the daemon supports restart by signal: use `fullon restart --hard`"
    )]
    SignalSupportUnknown(ClientError),
    /// The command of the application is invalid.
    #[error("{0}")]
    AppCommand(String),
    /// A signal has no parameters.
    #[error(
        "{0}; a restart by signal cannot change the command of the application: use `fullon restart --hard -- COMMAND…`"
    )]
    SignalWithCommand(ClientError),
    /// The new process gets the flags of the old one.
    #[error(transparent)]
    IgnoredFlags(#[from] IgnoredFlags),
    /// The daemon does not run on this machine.
    #[error(
        "`fullon restart --hard` starts a process on this machine, but --admin-url names another daemon: run the command where that daemon runs"
    )]
    Remote,
    /// The files, the flags and the environment of another user's daemon are not trusted.
    #[error(
        "the daemon of {} belongs to {}: {}", .pid_file.display(), user_name(*.owner), advise_user(*.owner, "restart --hard")
    )]
    OtherUser { pid_file: PathBuf, owner: u32 },
    /// A path that the new daemon needs does not exist.
    #[error("{0} does not exist, and the new process needs it\nNothing has changed.")]
    MissingPath(PathBuf),
    /// The program of the application cannot be run.
    #[error("APP_COMMAND: {program} {problem}\nNothing has changed.")]
    Program {
        program: String,
        problem: ProgramError,
    },
    /// The new daemon would refuse its admin port.
    #[error("{0}\nNothing has changed.")]
    SharedAdminPort(SharedAdminPort),
    /// The new daemon could not listen.
    #[error("{setting}: cannot listen on {address}: {source}{}\nNothing has changed.", BindAdvice(.source, .occupant.as_ref(), setting))]
    Bind {
        setting: &'static str,
        address: SocketAddr,
        occupant: Option<Occupant>,
        source: io::Error,
    },
    /// A supervisor or a terminal runs the daemon, and has to restart it.
    #[error(
        "the daemon was started by `fullon run`: restart it with `systemctl restart` under systemd, with `supervisorctl` under supervisord (`fullon stop` first), or in its terminal"
    )]
    Foreground,
    /// The daemon could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// No daemon was running, and none could be started.
    #[error("{0}")]
    Start(LaunchError),
    /// The daemon was stopped, and the new one did not start.
    #[error("the daemon was stopped, but the new process did not start: {0}")]
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

/// A daemon whose program is another file than the program of this process.
#[derive(Debug)]
pub struct OtherProgram {
    /// The program of the daemon.
    pub running: PathBuf,
    /// The program of this process.
    pub current: PathBuf,
    /// Whether `restart --hard` starts the program of this process instead.
    pub can_switch: bool,
}

impl DaemonControl {
    /// The program of the local daemon with this PID, if it is another file than that of this
    /// process. A restart runs the program that the daemon was started with, but a user with
    /// several builds may expect the one of the command.
    #[must_use]
    pub fn other_program(&self, pid: u32) -> Option<OtherProgram> {
        // Behind a tunnel, the PID may be that of another machine.
        let PidFileStatus::Held(LockHolder::Known(process)) =
            inspect_pid_file(self.pid_file()).ok()?
        else {
            return None;
        };
        if process.pid() != pid || process.runs_program_of(&Process::open(std::process::id())?)? {
            return None;
        }
        Some(OtherProgram {
            running: process.program()?,
            current: std::env::current_exe().ok()?,
            can_switch: StateFile::read_active(self.pid_file(), pid)
                .is_ok_and(|state| state.in_background),
        })
    }

    /// Restarts the daemon, or starts it with `launch` if none is running. `notice` receives a
    /// message when a signal is used instead of the admin API.
    ///
    /// # Errors
    ///
    /// Why the daemon was not restarted. It continues as before, unless the error says that it was
    /// stopped.
    pub async fn restart(
        &self,
        launch: Launch,
        options: &RestartOptions,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartOutcome, RestartError> {
        let given = launch.settings_location.flags.get(APP_COMMAND);
        let app_command = given.map(|text| AppCommand::parse(text)).transpose();
        let app_command = app_command.map_err(RestartError::AppCommand)?;
        if options.hard {
            return self.stop_and_start(launch, notice).await;
        }
        self.reject_ignored(&launch.settings_location)?;
        let Some(endpoint) = self.find_endpoint().await? else {
            validate_launch(&launch)?;
            let daemon = launch.start().map_err(RestartError::Start)?;
            return Ok(RestartOutcome::Started {
                old_pid: None,
                daemon,
            });
        };
        let Endpoint {
            client,
            holder,
            state,
        } = endpoint;
        let timeout = options.timeout_seconds.or_else(|| {
            // A remote daemon has its own default.
            holder.as_ref()?;
            let timeout = self.restart_timeout(app_command.as_ref());
            Some(timeout.unwrap_or(DEFAULT_RESTART_TIMEOUT).as_secs_f64())
        });
        let request = RestartRequest {
            timeout_seconds: timeout,
            command: app_command.map(|command| command.words().to_vec()),
        };
        let answer = async { client?.restart_daemon(&request).await }.await;
        let done = match (answer, holder, state) {
            (Ok(done), ..) => done,
            (Err(error), Some(LockHolder::Known(process)), state) if allows_signal(&error) => {
                match state {
                    _ if request.command.is_some() => {
                        return Err(RestartError::SignalWithCommand(error));
                    }
                    Some(state) if state.generation == 0 => {
                        return Err(RestartError::SignalUnsupported(error));
                    }
                    Some(state) => {
                        self.restart_by_signal(&process, &state, &error, timeout, notice)
                            .await?
                    }
                    None => return Err(RestartError::SignalSupportUnknown(error)),
                }
            }
            (Err(error), ..) => return Err(error.into()),
        };
        Ok(RestartOutcome::Replaced(done))
    }

    /// How long the local daemon takes at most to restart, with this command of its application;
    /// `None` if that is unknown.
    fn restart_timeout(&self, app_command: Option<&AppCommand>) -> Option<Duration> {
        let (process, mut state) = self.own_daemon()?;
        let command = app_command.map(|command| (APP_COMMAND.to_owned(), command.to_string()));
        state.flags.extend(command);
        let settings = Settings::load(&sources_after_restart(&state, &process)).ok()?;
        Some(start_timeout(settings.app.as_ref()))
    }

    async fn restart_by_signal(
        &self,
        process: &Process,
        state: &StateFile,
        api_error: &ClientError,
        timeout_seconds: Option<f64>,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartResult, RestartError> {
        let old_pid = process.pid();
        // The admin API may have failed because the process exited or was replaced.
        if !process.has_exited() {
            notice(&format!(
                "{api_error}; sending SIGUSR2 to process {old_pid}"
            ));
            let sent = process.send_signal(Signal::USR2);
            check_delivery(process, sent, &api_error.to_string())?;
        }
        let timeout = timeout_seconds.map(Duration::try_from_secs_f64);
        let timeout = timeout
            .and_then(Result::ok)
            .unwrap_or(DEFAULT_RESTART_TIMEOUT);
        let end = Instant::now() + timeout + SIGNAL_MARGIN;
        while Instant::now() < end {
            tokio::time::sleep(POLL_INTERVAL).await;
            let has_exited = process.has_exited();
            let Some(now) = self.recorded_state()? else {
                if has_exited {
                    return Err(RestartError::Died(old_pid));
                }
                continue;
            };
            if now.pid != old_pid {
                return Ok(RestartResult {
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

    /// Stops the daemon if one is running, and starts it as it was started before: in the same
    /// directory, and with the same flags and environment where `launch` does not override them.
    async fn stop_and_start(
        &self,
        mut launch: Launch,
        notice: &mut dyn FnMut(&str),
    ) -> Result<RestartOutcome, RestartError> {
        let (holder, state) = match self.find_target().await? {
            Target::Remote(_) => return Err(RestartError::Remote),
            Target::Local { holder, state, .. } => (Some(holder), state),
            Target::Unlocked { process, state, .. } => {
                (Some(LockHolder::Known(process)), Some(state))
            }
            Target::Dead(_) | Target::Absent => (None, None),
        };
        self.reject_other_user(holder.as_ref(), state.as_deref())?;
        let given_flags = std::mem::take(&mut launch.settings_location.flags);
        if let Some(state) = state {
            if !state.in_background {
                return Err(RestartError::Foreground);
            }
            let location = &mut launch.settings_location;
            location.flags = state.flags;
            location.directory = state.working_directory;
            location.env_file = location.env_file.take().or(state.env_file);
        }
        let process = match holder {
            Some(LockHolder::Known(process)) => Some(process),
            Some(LockHolder::Hidden(_)) | None => None,
        };
        if let Some(process) = &process {
            launch.environment = inherited_settings(process.environment());
        }
        drop_app_command(&mut launch);
        launch.settings_location.flags.extend(given_flags);
        let settings = validate_launch(&launch)?;
        if let Some(process) = &process {
            check_addresses(&settings, process)?;
        }
        let old_pid = match self.stop(&StopRequest::default(), notice).await? {
            StopOutcome::Stopped { pid, .. } => Some(pid),
            StopOutcome::NotRunning | StopOutcome::Dead(_) => None,
        };
        let start_error = if old_pid.is_some() {
            RestartError::StartAfterStop
        } else {
            RestartError::Start
        };
        let daemon = launch.start().map_err(start_error)?;
        Ok(RestartOutcome::Started { old_pid, daemon })
    }

    /// The new process runs as this user, so only files and a process of this user may say how.
    /// Others could have root start a program of their choice. Nor could it use a PID file of
    /// another user.
    fn reject_other_user(
        &self,
        holder: Option<&LockHolder>,
        state: Option<&StateFile>,
    ) -> Result<(), RestartError> {
        let pid_file = self.pid_file();
        let process = match holder {
            Some(LockHolder::Known(process)) => process.owner_uid(),
            Some(LockHolder::Hidden(_)) | None => None,
        };
        let owners = [
            fs::symlink_metadata(pid_file).ok().map(|file| file.uid()),
            state.map(|state| state.owner_uid),
            process,
        ];
        let me = nix::unistd::geteuid().as_raw();
        match owners.into_iter().flatten().find(|owner| *owner != me) {
            Some(owner) => Err(RestartError::OtherUser {
                pid_file: pid_file.to_owned(),
                owner,
            }),
            None => Ok(()),
        }
    }
}

/// Drops the command of the application that the daemon was started with, if the environment or
/// `.env` has another one. Without any, the daemon would lose its application.
fn drop_app_command(launch: &mut Launch) {
    let mut others = launch.settings_location.clone();
    if others.flags.remove(APP_COMMAND).is_some() {
        let sources = others.read_sources_with_fallback(&launch.environment);
        if sources.get(APP_COMMAND).is_some() {
            launch.settings_location = others;
        }
    }
}

/// Whether the restart may be requested by signal: the daemon gave no answer, or did not accept
/// the caller's token. Whether the caller may signal it is decided by the system.
fn allows_signal(error: &ClientError) -> bool {
    !matches!(error, ClientError::Problem(_))
}

/// Checks the paths and the settings that the new daemon will read.
fn validate_launch(launch: &Launch) -> Result<Settings, RestartError> {
    if let Some(path) = launch.missing_path() {
        return Err(RestartError::MissingPath(path.to_owned()));
    }
    let location = &launch.settings_location;
    let sources = location.read_sources_with_fallback(&launch.environment);
    let settings = Settings::load_for_daemon(&sources, true).map_err(RestartError::Settings)?;
    if let Some(app) = &settings.app
        && let Err(problem) = app.find_program()
    {
        let program = app.program().to_owned();
        return Err(RestartError::Program { program, problem });
    }
    Ok(settings)
}

/// Checks that a daemon could listen once the running one has stopped. Its start would refuse the
/// same, but then no daemon runs any more.
fn check_addresses(settings: &Settings, running: &Process) -> Result<(), RestartError> {
    let is_of_daemon = || sys::is_in_use_only_by(running, settings.admin);
    if let Some(shared) = SharedAdminPort::find(settings.admin, is_of_daemon) {
        return Err(RestartError::SharedAdminPort(shared));
    }
    for (setting, address) in [("PORT", settings.public), ("ADMIN_PORT", settings.admin)] {
        let Err(source) = sys::bind(address) else {
            continue;
        };
        let is_in_use = source.kind() == io::ErrorKind::AddrInUse;
        if is_in_use && sys::is_in_use_only_by(running, address) {
            continue;
        }
        let occupant = is_in_use.then(|| Occupant::find(address, Some(running)));
        return Err(RestartError::Bind {
            setting,
            address,
            occupant: occupant.flatten(),
            source,
        });
    }
    Ok(())
}
