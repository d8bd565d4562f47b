//! Operates the daemon: through the admin API first, and through PID file and log file when that cannot be reached.
//!
//! The command line prints what these calls return; the example uses them directly. Nothing here prints or exits.

mod console;
mod doctor;
mod given;
mod launch;
mod logs;
mod reload;
mod restart;
mod status;
mod stop;
mod token;

use std::path::PathBuf;

use reqwest::Url;
use thiserror::Error;

pub use crate::instance::Launch;
pub use console::ConsoleError;
pub use doctor::{Diagnosis, Finding, Severity, diagnose};
pub use given::IgnoredFlags;
pub use launch::{LaunchError, StartedDaemon};
pub use logs::{LogLine, LogLines, LogsError};
pub use reload::{ReloadError, ReloadOutcome};
pub use restart::{RestartError, RestartOptions, RestartOutcome};
pub use status::StatusReport;
pub use stop::{StopError, StopMethod, StopOutcome};
pub use token::TokenError;

use crate::api::base_url;
use crate::auth::{TokenSigner, read_key_file};
use crate::client::{AdminClient, ClientError, parse_base_url};
use crate::config::ClientSettings;
use crate::instance::{
    LockHolder, PidFileError, PidFileStatus, Process, StateFile, StateFileError,
    holds_pid_file_lock, inspect_pid_file,
};

/// The daemon that an operator means.
pub struct Control {
    locator: ClientSettings,
    admin_url: Option<Url>,
    subject: String,
}

/// `--admin-url` is not an address.
#[derive(Debug, Error)]
#[error("--admin-url: {0}")]
pub struct InvalidAdminUrl(pub ClientError);

/// What there is of the daemon.
enum Target {
    /// It holds the PID file.
    Local {
        holder: LockHolder,
        state: Option<Box<StateFile>>,
        client: Result<AdminClient, ClientError>,
    },
    /// It died without cleaning up.
    Dead(Option<u32>),
    /// There is no PID file; its admin API may be reached nevertheless when it runs under another one.
    Absent(Result<AdminClient, ClientError>),
    /// `--admin-url` names a daemon that is not the one of the PID file.
    Remote(AdminClient),
}

impl Control {
    /// The daemon of the locator's PID file, or the one that `admin_url` names. `subject` is who asks, for the audit
    /// trail.
    ///
    /// # Errors
    ///
    /// `admin_url` is not an `http://` address.
    pub fn new(
        locator: ClientSettings,
        admin_url: Option<&str>,
        subject: &str,
    ) -> Result<Self, InvalidAdminUrl> {
        let admin_url = admin_url
            .map(parse_base_url)
            .transpose()
            .map_err(InvalidAdminUrl)?;
        Ok(Self {
            locator,
            admin_url,
            subject: subject.to_owned(),
        })
    }

    /// Path of the PID file.
    #[must_use]
    pub fn pid_file(&self) -> &std::path::Path {
        &self.locator.pid_file
    }

    /// Where the log is: as the daemon says, or as far as this user's settings tell.
    fn log_file(&self, state: Option<&StateFile>) -> Option<PathBuf> {
        match state {
            Some(state) => state.log_file.clone(),
            None => self.locator.log.as_ref()?.file().map(Into::into),
        }
    }

    async fn find_target(&self) -> Result<Target, PidFileError> {
        let is_here = |url| self.is_local(url, None);
        let is_elsewhere = self.admin_url.as_ref().is_some_and(|url| !is_here(url));
        let presence = match inspect_pid_file(&self.locator.pid_file) {
            // What is wrong with the files here is no matter.
            Ok(PidFileStatus::Stale(_)) | Err(_) if is_elsewhere => PidFileStatus::Absent,
            // Somebody may have replaced the file under a living daemon.
            Ok(PidFileStatus::Stale(_)) | Err(_)
                if let Some(client) = self.client_with_same_pid_file().await =>
            {
                return Ok(Target::Absent(Ok(client)));
            }
            other => other?,
        };
        let (presence, state) = self.read_state(presence);
        if let Some(url) = &self.admin_url
            && !self.is_local(url, state.as_deref())
        {
            return Ok(match self.configured_client(url.as_str()) {
                Ok(client) => Target::Remote(client),
                Err(error) => Target::Absent(Err(error)),
            });
        }
        Ok(match presence {
            PidFileStatus::Held(holder) => {
                let client = match &state {
                    Some(state) => {
                        let key = state.instance_key.to_secret();
                        AdminClient::new(
                            &state.admin,
                            TokenSigner::with_instance_key(&key),
                            &self.subject,
                        )
                    }
                    None => self.client_without_state(holder.pid()).await,
                };
                Target::Local {
                    holder,
                    state,
                    client,
                }
            }
            PidFileStatus::Stale(pid) => Target::Dead(pid),
            PidFileStatus::Absent => Target::Absent(self.configured_local_client()),
        })
    }

    /// The state that the holder of the PID file left. A daemon that is taking over writes its state first, and then its
    /// number into the PID file: in between it has the lock already, and is the one that is meant.
    fn read_state(&self, presence: PidFileStatus) -> (PidFileStatus, Option<Box<StateFile>>) {
        let pid_file = &self.locator.pid_file;
        let PidFileStatus::Held(holder) = &presence else {
            return (presence, None);
        };
        let state = match holder
            .pid()
            .map(|pid| StateFile::read_active(pid_file, pid))
        {
            Some(Ok(state)) => state,
            Some(Err(StateFileError::Untrusted { .. })) => {
                let successor = StateFile::read_last(pid_file).ok().and_then(|state| {
                    let process = Process::open(state.pid)?;
                    holds_pid_file_lock(pid_file, &process).then_some((process, state))
                });
                let Some((process, state)) = successor else {
                    return (presence, None);
                };
                let holder = LockHolder::Known(process);
                return (PidFileStatus::Held(holder), Some(Box::new(state)));
            }
            _ => return (presence, None),
        };
        (presence, Some(Box::new(state)))
    }

    /// Whether the address is that of the daemon that holds the PID file, or of the one that the settings describe. Only
    /// then may a verb fall back to local files: another port of this machine can be a tunnel to another one.
    fn is_local(&self, url: &Url, state: Option<&StateFile>) -> bool {
        let same =
            |other: &str| Url::parse(other).is_ok_and(|other| other.origin() == url.origin());
        match state {
            Some(state) => same(&state.admin),
            None => self
                .locator
                .admin
                .is_some_and(|admin| same(&base_url(admin))),
        }
    }

    /// A client for the daemon at the configured address, if it says that this is its PID file.
    async fn client_with_same_pid_file(&self) -> Option<AdminClient> {
        let client = self.configured_local_client().ok()?;
        let status = client.status().await.ok()?;
        (std::path::Path::new(&status.pid_file) == self.locator.pid_file).then_some(client)
    }

    /// The client for a daemon that left no state file: whoever answers at the configured address has to be the process
    /// that holds the PID file.
    async fn client_without_state(&self, holder: Option<u32>) -> Result<AdminClient, ClientError> {
        let client = self.configured_local_client()?;
        let answering = client.status().await?.pid;
        if holder.is_some_and(|holder| holder != answering) {
            return Err(ClientError::UnexpectedServer {
                base: client.base_url().to_string(),
                detail: format!("another daemon, with PID {answering}, answers there"),
            });
        }
        Ok(client)
    }

    /// Whether a daemon answers there that has this PID file, or was named by its address.
    async fn is_target(&self, client: &AdminClient) -> bool {
        if self.admin_url.is_some() {
            return true;
        }
        let status = client.status().await;
        status.is_ok_and(|status| std::path::Path::new(&status.pid_file) == self.locator.pid_file)
    }

    fn configured_local_client(&self) -> Result<AdminClient, ClientError> {
        let admin = self.locator.admin.ok_or(ClientError::UnknownAddress(
            "ADMIN_HOST and ADMIN_PORT are not valid",
        ))?;
        if admin.port() == 0 {
            return Err(ClientError::UnknownAddress(
                "ADMIN_PORT=0, and no state file tells the port",
            ));
        }
        self.configured_client(&base_url(admin))
    }

    /// A client that signs with the configured key, as for any daemon whose state file is not at hand.
    fn configured_client(&self, base: &str) -> Result<AdminClient, ClientError> {
        let key = match (&self.locator.jwt_secret, &self.locator.key_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => {
                read_key_file(path).map_err(|error| ClientError::NoKey(error.to_string()))?
            }
            (None, None) => return Err(ClientError::NoKey("set JWT_SECRET_KEY".into())),
        };
        AdminClient::new(base, TokenSigner::with_configured_key(&key), &self.subject)
    }
}
