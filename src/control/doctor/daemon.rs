//! The daemon: whether one holds the PID file, what it left beside it, and whether it answers.

use std::net::SocketAddr;
use std::path::Path;

use super::super::given::sources_of;
use super::super::token::way_to_the_key;
use super::super::{Control, Found};
use super::answers::{answers, of_public, of_status, silent};
use super::files::{held, not_held, state_file, unusable};
use super::{Finding, problems, settings};
use crate::api::{Check, Status, base_url};
use crate::client::{AdminClient, ClientError, health};
use crate::config::Problem;
use crate::instance::{Holder, PidFileError, Process, State};

const TOKEN: &str = "token";
const RESTART: &str = "restart";

/// Whether there is a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Running,
    None,
    Unknown,
    /// `--admin-url` names one that has nothing to do with the files here.
    Elsewhere,
}

/// What is known of it.
#[derive(Debug)]
pub struct Daemon {
    pub life: Life,
    /// The process that holds the PID file.
    pub process: Option<Process>,
    pub state: Option<Box<State>>,
    /// What it says of itself.
    pub status: Option<Status>,
    /// What a daemon with another PID file says, which answers at the configured address.
    pub neighbour: Option<Status>,
}

impl Daemon {
    fn new(life: Life) -> Self {
        Self {
            life,
            process: None,
            state: None,
            status: None,
            neighbour: None,
        }
    }

    /// Whether it runs as the user who asks.
    pub fn is_ours(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_ours)
    }

    /// How the daemon's own check of this name went.
    pub fn check(&self, name: &str) -> Option<&Check> {
        let checks = &self.status.as_ref()?.checks;
        checks.iter().find(|check| check.name == name)
    }

    /// Whether the files that the daemon was started with are still there and valid. Returns the problems that are not
    /// those of the settings here.
    pub fn problems_of_a_restart(
        &self,
        known: &[Problem],
        findings: &mut Vec<Finding>,
    ) -> Vec<Problem> {
        let (Some(state), Some(process)) = (&self.state, &self.process) else {
            return Vec::new();
        };
        if !process.is_ours() {
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
        let sources = sources_of(state, process);
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
            Finding::wrong(RESTART, seen, settings::next_step(problem, &sources, true))
        }));
        new
    }
}

/// What became of the last restart, if the daemon goes on because it failed: asked for by signal, nobody was told.
fn failed_restart(state: &State) -> Option<Finding> {
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
    ) -> Daemon {
        let path = &self.locator.pid_file;
        match self.find().await {
            Ok(Found::Held {
                holder,
                state,
                client,
            }) => {
                findings.push(held(path, &holder));
                findings.extend(state_file(path, &holder, state.is_some()));
                findings.extend(state.as_deref().and_then(failed_restart));
                let process = match holder {
                    Holder::Process(process) => Some(process),
                    Holder::Hidden(_) => None,
                };
                let daemon = Daemon {
                    process,
                    state,
                    ..Daemon::new(Life::Running)
                };
                self.ask(daemon, client, public, findings).await
            }
            Ok(Found::Elsewhere(client)) => {
                addressed(Ok(client), findings).await;
                Daemon::new(Life::Elsewhere)
            }
            Ok(Found::Absent(client)) if self.admin_url.is_some() => {
                addressed(client, findings).await;
                Daemon::new(Life::Elsewhere)
            }
            Ok(Found::Absent(client)) => {
                let daemon = match status(client).await {
                    Ok(status) if Path::new(&status.pid_file) == path => Daemon {
                        process: Process::open(status.pid),
                        status: Some(status),
                        ..Daemon::new(Life::Running)
                    },
                    Ok(status) => Daemon {
                        neighbour: Some(status),
                        ..Daemon::new(Life::None)
                    },
                    Err(error @ (ClientError::Refused { .. } | ClientError::Problem(_))) => {
                        findings.push(silent(&error, None, false));
                        Daemon::new(Life::Unknown)
                    }
                    Err(_) => Daemon::new(Life::None),
                };
                findings.push(not_held(path, daemon.status.as_ref()));
                findings.extend(daemon.status.iter().flat_map(of_status));
                daemon
            }
            Ok(Found::Dead(_)) => {
                findings.push(not_held(path, None));
                Daemon::new(Life::None)
            }
            Err(error) => {
                findings.push(unusable(path, &error));
                // Who may not look at the file cannot tell.
                let may_live = matches!(error, PidFileError::Io { .. });
                Daemon::new(if may_live { Life::Unknown } else { Life::None })
            }
        }
    }

    /// Asks both APIs of a daemon that holds the PID file.
    async fn ask(
        &self,
        daemon: Daemon,
        client: Result<AdminClient, ClientError>,
        public: Option<SocketAddr>,
        findings: &mut Vec<Finding>,
    ) -> Daemon {
        let state = daemon.state.as_ref();
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
                findings.push(silent(error, daemon.process.as_ref(), state.is_some()));
            }
        }
        findings.extend(
            server
                .zip(public)
                .map(|(base, answer)| of_public(&base, answer, daemon.process.as_ref())),
        );
        findings.extend(answer.iter().flat_map(of_status));
        Daemon {
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
            Err(ClientError::Refused { problem, .. }) => Some(Finding::warning(
                TOKEN,
                format!("one of `fullon token` is refused: {}", problem.reason()),
                way_to_the_key(process),
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
            findings.extend(of_status(&status));
        }
        Err(error) => findings.push(silent(&error, None, false)),
    }
}
