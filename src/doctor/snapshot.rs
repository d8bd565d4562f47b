//! The facts that the checks examine: the settings, the daemon and its answers, gathered once.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::api::{DaemonStatus, HealthCheck, HealthReport, base_url};
use crate::client::{AdminClient, ClientError, HealthError, health};
use crate::config::{
    AppSettings, BestEffortSettings, InvalidSettings, SettingProblem, Settings, Sources,
};
use crate::control::{DaemonControl, Target, fetch_status, sources_after_restart};
use crate::instance::{LockHolder, PidFileError, StateFile, held_pid_file};
use crate::sys::{Process, find_listener};

/// Name of the daemon's own health check of its log.
const LOG_HEALTH_CHECK: &str = "log";
/// Name of its health check of the application.
const APP_HEALTH_CHECK: &str = "app";

/// Whether there is a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonState {
    Running,
    NotRunning,
    Unknown,
    /// `--admin-url` names a daemon that has nothing to do with the local files.
    Remote,
}

#[derive(Debug)]
pub enum PidFileState {
    Held(LockHolder),
    NotHeld,
    Unusable(PidFileError),
    /// `--admin-url` names the daemon, so the local PID file does not matter.
    Ignored,
}

/// The settings that the daemon would read if it was restarted.
#[derive(Debug)]
pub enum RestartSettings {
    DirectoryRemoved(PathBuf),
    Loaded {
        sources: Sources,
        problems: Vec<SettingProblem>,
    },
}

#[derive(Debug)]
pub struct Snapshot<'a> {
    pub sources: &'a Sources,
    pub settings: &'a BestEffortSettings,
    /// The problems of the local settings.
    pub problems: Vec<SettingProblem>,
    pub daemon_state: DaemonState,
    pub pid_file: PidFileState,
    pub state_file: Option<Box<StateFile>>,
    /// The admin API's answer, unless it is that of another daemon.
    pub admin: Option<Result<DaemonStatus, ClientError>>,
    /// Base URL and answer of the public API.
    pub public: Option<(String, Result<HealthReport, HealthError>)>,
    /// Whether the daemon has the local secret.
    pub token: Option<Result<(), ClientError>>,
    /// `None` if no daemon of this user holds the PID file.
    pub restart: Option<RestartSettings>,
    /// The application of the next process: of a restart, or else of a start.
    pub app: Option<AppSettings>,
    /// The process of a running daemon whose PID file was removed or replaced.
    pub unlocked_process: Option<Process>,
    /// While no daemon holds the PID file: one that listens at a configured port, and its PID file.
    pub other_daemon: Option<(Process, PathBuf)>,
}

impl<'a> Snapshot<'a> {
    pub async fn gather(
        control: &DaemonControl,
        sources: &'a Sources,
        settings: &'a BestEffortSettings,
    ) -> Self {
        let mut snapshot = Self {
            sources,
            settings,
            problems: problems(sources, false),
            daemon_state: DaemonState::NotRunning,
            pid_file: PidFileState::NotHeld,
            state_file: None,
            admin: None,
            public: None,
            token: None,
            restart: None,
            app: None,
            unlocked_process: None,
            other_daemon: None,
        };
        match control.find_target().await {
            Ok(Target::Local {
                holder,
                state,
                client,
            }) => {
                snapshot.daemon_state = DaemonState::Running;
                snapshot.pid_file = PidFileState::Held(holder);
                snapshot.state_file = state;
                snapshot.probe_apis(control, client).await;
                snapshot.restart = snapshot.load_restart_settings();
            }
            Ok(Target::Unlocked {
                process,
                state,
                client,
            }) => {
                snapshot.daemon_state = DaemonState::Running;
                snapshot.unlocked_process = Some(process);
                snapshot.state_file = Some(state);
                snapshot.probe_apis(control, client).await;
            }
            Ok(Target::Remote(client)) => snapshot.probe_remote(client).await,
            Ok(Target::Absent | Target::Dead(_)) => {
                snapshot.other_daemon = find_other_daemon(settings);
            }
            Err(error) => {
                // Without permission to inspect the file, a daemon may run.
                if matches!(error, PidFileError::Io { .. }) {
                    snapshot.daemon_state = DaemonState::Unknown;
                }
                snapshot.pid_file = PidFileState::Unusable(error);
            }
        }
        // With an invalid PID_FILE it is unknown which daemon is meant.
        if !settings.is_pid_file_valid && snapshot.daemon_state == DaemonState::NotRunning {
            snapshot.daemon_state = DaemonState::Unknown;
        }
        snapshot.app = snapshot.load_app();
        snapshot
    }

    /// Whether a daemon could start, and the running one restart.
    pub fn is_configuration_valid(&self) -> bool {
        self.problems.is_empty() && self.restart_problems().is_empty()
    }

    /// The problems of the settings that the running daemon would read if it was restarted.
    pub fn restart_problems(&self) -> &[SettingProblem] {
        match &self.restart {
            Some(RestartSettings::Loaded { problems, .. }) => problems,
            Some(RestartSettings::DirectoryRemoved(_)) | None => &[],
        }
    }

    /// The daemon's process, if it is visible to this user.
    pub fn process(&self) -> Option<&Process> {
        match &self.pid_file {
            PidFileState::Held(LockHolder::Known(process)) => Some(process),
            _ => self.unlocked_process.as_ref(),
        }
    }

    pub fn status(&self) -> Option<&DaemonStatus> {
        self.admin.as_ref()?.as_ref().ok()
    }

    /// The daemon's health checks of PostgreSQL and Redis.
    pub fn dependency_checks(&self) -> impl Iterator<Item = &HealthCheck> {
        let checks = self.status().into_iter().flat_map(|status| &status.checks);
        checks.filter(|check| ![LOG_HEALTH_CHECK, APP_HEALTH_CHECK].contains(&&*check.name))
    }

    /// The daemon's health check of its application, if it has one.
    pub fn app_check(&self) -> Option<&HealthCheck> {
        let checks = &self.status()?.checks;
        checks.iter().find(|check| check.name == APP_HEALTH_CHECK)
    }

    /// The daemon's health check of its log.
    pub fn log_check(&self) -> Option<&HealthCheck> {
        let checks = &self.status()?.checks;
        checks.iter().find(|check| check.name == LOG_HEALTH_CHECK)
    }

    /// Queries both APIs of the daemon that holds the PID file.
    async fn probe_apis(
        &mut self,
        control: &DaemonControl,
        client: Result<AdminClient, ClientError>,
    ) {
        let state = self.state_file.as_deref();
        let is_port_known = |public: &SocketAddr| public.port() != 0;
        let base = match state {
            Some(state) => Some(state.server.clone()),
            None => self.settings.public.filter(is_port_known).map(base_url),
        };
        // Both time out if the daemon hangs.
        let (admin, public) = tokio::join!(fetch_status(client), async {
            match base {
                Some(base) => {
                    let answer = health(&base).await;
                    Some((base, answer))
                }
                None => None,
            }
        });
        if let (Ok(_), Some(state)) = (&admin, state) {
            self.token = Some(control.check_configured_key(state).await);
        }
        self.admin = Some(admin);
        self.public = public;
    }

    /// Queries the daemon that `--admin-url` names.
    async fn probe_remote(&mut self, client: Result<AdminClient, ClientError>) {
        self.daemon_state = DaemonState::Remote;
        self.pid_file = PidFileState::Ignored;
        self.admin = Some(fetch_status(client).await);
    }

    fn load_app(&self) -> Option<AppSettings> {
        let sources = match (&self.restart, self.daemon_state) {
            (Some(RestartSettings::Loaded { sources, .. }), _) => sources,
            (None, DaemonState::NotRunning) => self.sources,
            // The directory was removed, or the daemon is not of this user.
            _ => return None,
        };
        Settings::load(sources).ok()?.app
    }

    fn load_restart_settings(&self) -> Option<RestartSettings> {
        let state = self.state_file.as_deref()?;
        let process = self
            .process()
            .filter(|_| state.belongs_to_this_user())
            .filter(|process| process.belongs_to_this_user())?;
        if !state.working_directory.exists() {
            let directory = state.working_directory.clone();
            return Some(RestartSettings::DirectoryRemoved(directory));
        }
        let sources = sources_after_restart(state, process);
        let problems = problems(&sources, state.in_background);
        Some(RestartSettings::Loaded { sources, problems })
    }
}

/// A daemon that listens at a configured port and holds a PID file.
fn find_other_daemon(settings: &BestEffortSettings) -> Option<(Process, PathBuf)> {
    let addresses = [settings.client.admin, settings.public];
    addresses.into_iter().flatten().find_map(|address| {
        let process = find_listener(address.port())?;
        let pid_file = held_pid_file(&process)?;
        Some((process, pid_file))
    })
}

fn problems(sources: &Sources, is_in_background: bool) -> Vec<SettingProblem> {
    Settings::load_for_daemon(sources, is_in_background)
        .err()
        .map_or_else(Vec::new, |InvalidSettings(problems)| problems)
}
