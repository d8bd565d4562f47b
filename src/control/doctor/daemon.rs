//! The daemon: whether one holds the PID file, what it left beside it, and whether it answers.

use std::net::SocketAddr;
use std::path::Path;

use super::super::given::sources_after_restart;
use super::super::token::key_hint;
use super::super::{Control, Target};
use super::answers::{answers, public_api, status_findings, unreachable};
use super::files::{held, not_held, state_file, unusable};
use super::{Finding, problems, settings};
use crate::api::{Check, Status, base_url};
use crate::client::{AdminClient, ClientError, health};
use crate::config::SettingProblem;
use crate::instance::{LockHolder, PidFileError, Process, StateFile};

const TOKEN: &str = "token";
const RESTART: &str = "restart";

/// Whether there is a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonState {
    Running,
    NotRunning,
    Unknown,
    /// `--admin-url` names one that has nothing to do with the files here.
    Remote,
}

/// What is known of it.
#[derive(Debug)]
pub struct Snapshot {
    pub daemon_state: DaemonState,
    /// The process that holds the PID file.
    pub process: Option<Process>,
    pub state_file: Option<Box<StateFile>>,
    /// What it says of itself.
    pub status: Option<Status>,
    /// What a daemon with another PID file says, which answers at the configured address.
    pub other_daemon: Option<Status>,
}

impl Snapshot {
    fn new(daemon_state: DaemonState) -> Self {
        Self {
            daemon_state,
            process: None,
            state_file: None,
            status: None,
            other_daemon: None,
        }
    }

    /// Whether it runs as the user who asks.
    pub fn is_ours(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(Process::belongs_to_this_user)
    }

    /// How the daemon's own check of this name went.
    pub fn health_check(&self, name: &str) -> Option<&Check> {
        let checks = &self.status.as_ref()?.checks;
        checks.iter().find(|check| check.name == name)
    }

    /// Whether the files that the daemon was started with are still there and valid. Returns the problems that are not
    /// those of the settings here.
    pub fn problems_of_a_restart(
        &self,
        known: &[SettingProblem],
        findings: &mut Vec<Finding>,
    ) -> Vec<SettingProblem> {
        let (Some(state), Some(process)) = (&self.state_file, &self.process) else {
            return Vec::new();
        };
        if !process.belongs_to_this_user() {
            return Vec::new();
        }
        let directory = &state.working_directory;
        if !directory.exists() {
            findings.push(Finding::warning(
                RESTART,
                format!(
                    "the daemon was started in {}, which is gone: it cannot be restarted there",
                    directory.display()
                ),
                "fullon stop, and fullon start where its .env is",
            ));
            return Vec::new();
        }
        let sources = sources_after_restart(state, process);
        let all = problems(&sources, state.in_background);
        if all.is_empty() {
            let seen = format!(
                "the settings it would read are valid ({})",
                sources.file().display()
            );
            findings.push(Finding::ok(RESTART, seen));
        }
        let new: Vec<_> = all
            .into_iter()
            .filter(|problem| !known.contains(problem))
            .collect();
        findings.extend(new.iter().map(|problem| {
            let seen = format!("would be refused: {problem}");
            Finding::error(RESTART, seen, settings::next_step(problem, &sources, true))
        }));
        new
    }
}

/// What became of the last restart, if the daemon goes on because it failed: asked for by signal, nobody was told.
fn failed_restart(state: &StateFile) -> Option<Finding> {
    let failed = state.failed_restart.as_ref()?;
    Some(Finding::warning(
        RESTART,
        format!("the last one failed at {}: {}", failed.at, failed.reason),
        "fullon restart, once that is mended",
    ))
}

impl Control {
    /// Looks at the daemon. `public` is where its public API should be.
    pub(super) async fn look(
        &self,
        public: Option<SocketAddr>,
        findings: &mut Vec<Finding>,
    ) -> Snapshot {
        let path = &self.locator.pid_file;
        match self.find_target().await {
            Ok(Target::Local {
                holder,
                state,
                client,
            }) => {
                findings.push(held(path, &holder));
                findings.extend(state_file(path, &holder, state.is_some()));
                findings.extend(state.as_deref().and_then(failed_restart));
                let process = match holder {
                    LockHolder::Known(process) => Some(process),
                    LockHolder::Hidden(_) => None,
                };
                let daemon = Snapshot {
                    process,
                    state_file: state,
                    ..Snapshot::new(DaemonState::Running)
                };
                self.ask(daemon, client, public, findings).await
            }
            Ok(Target::Remote(client)) => {
                addressed(Ok(client), findings).await;
                Snapshot::new(DaemonState::Remote)
            }
            Ok(Target::Absent(client)) if self.admin_url.is_some() => {
                addressed(client, findings).await;
                Snapshot::new(DaemonState::Remote)
            }
            Ok(Target::Absent(client)) => {
                let daemon = match status(client).await {
                    Ok(status) if Path::new(&status.pid_file) == path => Snapshot {
                        process: Process::open(status.pid),
                        status: Some(status),
                        ..Snapshot::new(DaemonState::Running)
                    },
                    Ok(status) => Snapshot {
                        other_daemon: Some(status),
                        ..Snapshot::new(DaemonState::NotRunning)
                    },
                    Err(error @ (ClientError::TokenRefused { .. } | ClientError::Problem(_))) => {
                        findings.push(unreachable(&error, None, false));
                        Snapshot::new(DaemonState::Unknown)
                    }
                    Err(_) => Snapshot::new(DaemonState::NotRunning),
                };
                findings.push(not_held(path, daemon.status.as_ref()));
                findings.extend(daemon.status.iter().flat_map(status_findings));
                daemon
            }
            Ok(Target::Dead(_)) => {
                findings.push(not_held(path, None));
                Snapshot::new(DaemonState::NotRunning)
            }
            Err(error) => {
                findings.push(unusable(path, &error));
                // Who may not look at the file cannot tell.
                let may_live = matches!(error, PidFileError::Io { .. });
                Snapshot::new(if may_live {
                    DaemonState::Unknown
                } else {
                    DaemonState::NotRunning
                })
            }
        }
    }

    /// Asks both APIs of a daemon that holds the PID file.
    async fn ask(
        &self,
        daemon: Snapshot,
        client: Result<AdminClient, ClientError>,
        public: Option<SocketAddr>,
        findings: &mut Vec<Finding>,
    ) -> Snapshot {
        let state = daemon.state_file.as_ref();
        let server = match state {
            Some(state) => Some(state.server.clone()),
            None => public.filter(|public| public.port() != 0).map(base_url),
        };
        // A daemon that hangs lets each of them wait.
        let (answer, public) = tokio::join!(status(client), async {
            match &server {
                Some(base) => Some(health(base).await),
                None => None,
            }
        });
        match &answer {
            Ok(status) => {
                findings.push(answers(status));
                if let Some(state) = state {
                    let process = daemon.process.as_ref();
                    findings.extend(self.token(&state.admin, process).await);
                }
            }
            Err(error) => {
                findings.push(unreachable(error, daemon.process.as_ref(), state.is_some()));
            }
        }
        findings.extend(
            server
                .zip(public)
                .map(|(base, answer)| public_api(&base, answer, daemon.process.as_ref())),
        );
        findings.extend(answer.iter().flat_map(status_findings));
        Snapshot {
            status: answer.ok(),
            ..daemon
        }
    }

    /// Whether the daemon takes what `fullon token` would print.
    async fn token(&self, admin: &str, process: Option<&Process>) -> Option<Finding> {
        match status(self.configured_client(admin)).await {
            Ok(_) => Some(Finding::ok(
                TOKEN,
                "one that is signed with the secret here counts",
            )),
            Err(ClientError::TokenRefused { problem, .. }) => Some(Finding::warning(
                TOKEN,
                format!("one of `fullon token` is refused: {}", problem.reason()),
                key_hint(process),
            )),
            // Of a missing key there is a finding of its own.
            Err(_) => None,
        }
    }
}

async fn status(client: Result<AdminClient, ClientError>) -> Result<Status, ClientError> {
    client?.status().await
}

/// The daemon of `--admin-url`.
async fn addressed(client: Result<AdminClient, ClientError>, findings: &mut Vec<Finding>) {
    match status(client).await {
        Ok(status) => {
            findings.push(answers(&status));
            findings.extend(status_findings(&status));
        }
        Err(error) => findings.push(unreachable(&error, None, false)),
    }
}
