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
pub use doctor::{Examination, Finding, Verdict, examine};
pub use given::NoEffect;
pub use launch::{LaunchError, Started};
pub use logs::{LogLine, LogLines, LogsError};
pub use reload::{ReloadError, Reloaded};
pub use restart::{RestartError, RestartOptions, Restarted};
pub use status::Report;
pub use stop::{How, StopError, Stopped};
pub use token::TokenError;

use crate::api::base_url;
use crate::auth::{Signer, read_key_file};
use crate::client::{AdminClient, ClientError, base_of};
use crate::config::Locator;
use crate::instance::{
    Holder, PidFileError, Presence, Process, State, StateFileError, inspect, shares_lock,
};

/// The daemon that an operator means.
pub struct Control {
    locator: Locator,
    admin_url: Option<Url>,
    subject: String,
}

/// `--admin-url` is not an address.
#[derive(Debug, Error)]
#[error("--admin-url: {0}")]
pub struct BadAdminUrl(pub ClientError);

/// What there is of the daemon.
enum Found {
    /// It holds the PID file.
    Held {
        holder: Holder,
        state: Option<Box<State>>,
        client: Result<AdminClient, ClientError>,
    },
    /// It died without cleaning up.
    Dead(Option<u32>),
    /// There is no PID file; its admin API may be reached nevertheless when it runs under another one.
    Absent(Result<AdminClient, ClientError>),
    /// `--admin-url` names a daemon that is not the one of the PID file.
    Elsewhere(AdminClient),
}

impl Control {
    /// The daemon of the locator's PID file, or the one that `admin_url` names. `subject` is who asks, for the audit
    /// trail.
    ///
    /// # Errors
    ///
    /// `admin_url` is not an `http://` address.
    pub fn new(
        locator: Locator,
        admin_url: Option<&str>,
        subject: &str,
    ) -> Result<Self, BadAdminUrl> {
        let admin_url = admin_url.map(base_of).transpose().map_err(BadAdminUrl)?;
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
    fn log_file(&self, state: Option<&State>) -> Option<PathBuf> {
        match state {
            Some(state) => state.log_file.clone(),
            None => self.locator.log.as_ref()?.file().map(Into::into),
        }
    }

    async fn find(&self) -> Result<Found, PidFileError> {
        let is_here = |url| self.is_local(url, None);
        let is_elsewhere = self.admin_url.as_ref().is_some_and(|url| !is_here(url));
        let presence = match inspect(&self.locator.pid_file) {
            // What is wrong with the files here is no matter.
            Ok(Presence::Stale(_)) | Err(_) if is_elsewhere => Presence::Absent,
            // Somebody may have replaced the file under a living daemon.
            Ok(Presence::Stale(_)) | Err(_) if let Some(client) = self.reachable().await => {
                return Ok(Found::Absent(Ok(client)));
            }
            other => other?,
        };
        let (presence, state) = self.with_state(presence);
        if let Some(url) = &self.admin_url
            && !self.is_local(url, state.as_deref())
        {
            return Ok(match self.configured_client(url.as_str()) {
                Ok(client) => Found::Elsewhere(client),
                Err(error) => Found::Absent(Err(error)),
            });
        }
        Ok(match presence {
            Presence::Held(holder) => {
                let client = match &state {
                    Some(state) => {
                        let key = state.instance_key.secret();
                        AdminClient::new(&state.admin, Signer::instance(&key), &self.subject)
                    }
                    None => self.client_of(holder.pid()).await,
                };
                Found::Held {
                    holder,
                    state,
                    client,
                }
            }
            Presence::Stale(pid) => Found::Dead(pid),
            Presence::Absent => Found::Absent(self.configured_local_client()),
        })
    }

    /// The state that the holder of the PID file left. A daemon that is taking over writes its state first, and then its
    /// number into the PID file: in between it has the lock already, and is the one that is meant.
    fn with_state(&self, presence: Presence) -> (Presence, Option<Box<State>>) {
        let pid_file = &self.locator.pid_file;
        let Presence::Held(holder) = &presence else {
            return (presence, None);
        };
        let state = match holder.pid().map(|pid| State::read(pid_file, pid)) {
            Some(Ok(state)) => state,
            Some(Err(StateFileError::Untrusted { .. })) => {
                let successor = State::read_any(pid_file).ok().and_then(|state| {
                    let process = Process::open(state.pid)?;
                    shares_lock(pid_file, &process).then_some((process, state))
                });
                let Some((process, state)) = successor else {
                    return (presence, None);
                };
                let holder = Holder::Process(process);
                return (Presence::Held(holder), Some(Box::new(state)));
            }
            _ => return (presence, None),
        };
        (presence, Some(Box::new(state)))
    }

    /// Whether the address is that of the daemon that holds the PID file, or of the one that the settings describe. Only
    /// then may a verb fall back to local files: another port of this machine can be a tunnel to another one.
    fn is_local(&self, url: &Url, state: Option<&State>) -> bool {
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
    async fn reachable(&self) -> Option<AdminClient> {
        let client = self.configured_local_client().ok()?;
        let status = client.status().await.ok()?;
        (std::path::Path::new(&status.pid_file) == self.locator.pid_file).then_some(client)
    }

    /// The client for a daemon that left no state file: whoever answers at the configured address has to be the process
    /// that holds the PID file.
    async fn client_of(&self, holder: Option<u32>) -> Result<AdminClient, ClientError> {
        let client = self.configured_local_client()?;
        let answering = client.status().await?.pid;
        if holder.is_some_and(|holder| holder != answering) {
            return Err(ClientError::Stranger {
                base: client.base().to_string(),
                detail: format!("another daemon, with PID {answering}, answers there"),
            });
        }
        Ok(client)
    }

    /// Whether a daemon answers there that has this PID file, or was named by its address.
    async fn is_meant(&self, client: &AdminClient) -> bool {
        if self.admin_url.is_some() {
            return true;
        }
        let status = client.status().await;
        status.is_ok_and(|status| std::path::Path::new(&status.pid_file) == self.locator.pid_file)
    }

    fn configured_local_client(&self) -> Result<AdminClient, ClientError> {
        let admin = self.locator.admin.ok_or(ClientError::NoAddress(
            "ADMIN_HOST and ADMIN_PORT are not valid",
        ))?;
        if admin.port() == 0 {
            return Err(ClientError::NoAddress(
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
        AdminClient::new(base, Signer::configured(&key), &self.subject)
    }
}
