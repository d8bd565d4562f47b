//! Replaces the daemon: for now stop, then start.

use std::path::PathBuf;

use thiserror::Error;

use super::{Control, Found, Launch, LaunchError, Started, StopError, Stopped};
use crate::api::StopRequest;
use crate::config::{EnvFile, Problems, Settings, Sources, inherited_settings};
use crate::instance::{Holder, PidFileError};

/// The daemon was replaced.
#[derive(Debug)]
pub struct Restarted {
    /// Process id of the one that ran, if one did.
    pub old: Option<u32>,
    /// The one that runs now.
    pub new: Started,
}

/// It was not.
#[derive(Debug, Error)]
pub enum RestartError {
    /// The PID file cannot be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The settings are wrong. The daemon runs as before.
    #[error("{0}\nThe daemon was left as it was.")]
    Settings(Problems),
    /// It does not run on this machine.
    #[error(
        "restart starts a process on this machine, and --admin-url names a daemon elsewhere: restart it there"
    )]
    Elsewhere,
    /// What it was started with is another user's word.
    #[error(
        "process {0} belongs to another user, as whom it has to be restarted (sudo -u USER fullon restart)"
    )]
    OtherUser(u32),
    /// It could not be started again.
    #[error("{0} is not there, and the new daemon would need it. The daemon was left as it was.")]
    Missing(PathBuf),
    /// Whoever runs it has to restart it.
    #[error(
        "this daemon was started by `fullon run`: restart it where it runs (systemctl restart, or the terminal)"
    )]
    Foreground,
    /// It could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// It was stopped, and its successor did not start.
    #[error("the old daemon was stopped, but the new one did not start: {0}")]
    Start(LaunchError),
}

impl Control {
    /// Stops the daemon if one runs, and starts it again as it was started: in the same directory, with the same flags
    /// and environment, where `launch` says nothing else.
    ///
    /// # Errors
    ///
    /// Wrong settings are found before anything is stopped.
    pub async fn restart(
        &self,
        launch: Launch,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Restarted, RestartError> {
        let launch = match self.find().await? {
            Found::Elsewhere(_) => return Err(RestartError::Elsewhere),
            Found::Held {
                state: Some(state), ..
            } if !state.in_background => return Err(RestartError::Foreground),
            Found::Held { holder, state, .. } => {
                let mut launch = match state {
                    Some(state) => Launch {
                        directory: state.working_directory,
                        env_file: launch.env_file.clone().or(state.env_file),
                        flags: state
                            .flags
                            .into_iter()
                            .chain(launch.flags.clone())
                            .collect(),
                        ..launch
                    },
                    None => launch,
                };
                if let Holder::Process(process) = holder {
                    if process.owner() != Some(nix::unistd::geteuid().as_raw()) {
                        return Err(RestartError::OtherUser(process.pid()));
                    }
                    launch.environment = inherited_settings(process.environment());
                }
                launch
            }
            Found::Dead(_) | Found::Absent(_) => launch,
        };
        validate(&launch)?;
        let old = match self.stop(&StopRequest::default(), notice).await? {
            Stopped::Done { pid, .. } => Some(pid),
            Stopped::NotRunning | Stopped::Dead(_) => None,
        };
        let new = launch.start().map_err(RestartError::Start)?;
        Ok(Restarted { old, new })
    }
}

/// The successor will read the same settings.
fn validate(launch: &Launch) -> Result<(), RestartError> {
    for needed in [&launch.directory, &launch.program] {
        if !needed.exists() {
            return Err(RestartError::Missing(needed.clone()));
        }
    }
    let file = match &launch.env_file {
        Some(path) => EnvFile::Given(path.clone()),
        None => EnvFile::Default,
    };
    let sources = Sources::read(&launch.flags, &file, &launch.directory, &launch.environment);
    Settings::load(&sources)
        .and_then(|settings| settings.check_background())
        .map_err(RestartError::Settings)
}
