//! Finds the daemon that an operator means, and a client for its admin API.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::api::base_url;
use crate::auth::{TokenSigner, read_key_file};
use crate::client::{AdminClient, ClientError, Url, parse_base_url};
use crate::config::ClientSettings;
use crate::instance::{
    LockHolder, PidFileError, PidFileStatus, StateFile, StateFileError, holds_pid_file_lock,
    inspect_pid_file,
};
use crate::sys::Process;

/// Operates the daemon that an operator means.
pub struct DaemonControl {
    pub(super) settings: ClientSettings,
    admin_url: Option<Url>,
    /// The caller's name in the audit trail.
    pub(super) subject: String,
}

/// `--admin-url` is not an address.
#[derive(Debug, Error)]
#[error("--admin-url: {0}")]
pub struct InvalidAdminUrl(pub ClientError);

/// The daemon that is meant, as far as it exists.
pub(crate) enum Target {
    /// It holds the PID file.
    Local {
        holder: LockHolder,
        state: Option<Box<StateFile>>,
        client: Result<AdminClient, ClientError>,
    },
    /// It died without removing its PID file, which may record this PID.
    Dead(Option<u32>),
    /// There is no PID file. The client is for the configured address, where a daemon with another
    /// PID file may answer.
    Absent(Result<AdminClient, ClientError>),
    /// `--admin-url` names a daemon other than that of the PID file.
    Remote(AdminClient),
}

/// An admin API to send a command to, and the process behind it if that is known.
pub(super) struct Endpoint {
    pub client: Result<AdminClient, ClientError>,
    pub holder: Option<LockHolder>,
    pub state: Option<Box<StateFile>>,
}

impl Endpoint {
    fn without_process(client: Result<AdminClient, ClientError>) -> Self {
        Self {
            client,
            holder: None,
            state: None,
        }
    }
}

impl DaemonControl {
    /// The daemon of the settings' PID file, or the one at `admin_url`. `subject` is the caller's
    /// name in the audit trail.
    ///
    /// # Errors
    ///
    /// `admin_url` is not an `http://` address.
    pub fn new(
        settings: ClientSettings,
        admin_url: Option<&str>,
        subject: &str,
    ) -> Result<Self, InvalidAdminUrl> {
        let admin_url = admin_url
            .map(parse_base_url)
            .transpose()
            .map_err(InvalidAdminUrl)?;
        Ok(Self {
            settings,
            admin_url,
            subject: subject.to_owned(),
        })
    }

    /// Path of the PID file.
    #[must_use]
    pub fn pid_file(&self) -> &Path {
        &self.settings.pid_file
    }

    pub(crate) fn has_admin_url(&self) -> bool {
        self.admin_url.is_some()
    }

    /// The log file of the daemon, or else the configured one.
    pub(super) fn log_file(&self, state: Option<&StateFile>) -> Option<PathBuf> {
        match state {
            Some(state) => state.log_file.clone(),
            None => self.settings.log.as_ref()?.file().map(Into::into),
        }
    }

    pub(crate) async fn find_target(&self) -> Result<Target, PidFileError> {
        let is_remote = match &self.admin_url {
            Some(url) => !self.is_local(url, None),
            None => false,
        };
        let status = match inspect_pid_file(self.pid_file()) {
            // Errors of the local files do not matter for a remote daemon.
            Ok(PidFileStatus::Stale(_)) | Err(_) if is_remote => PidFileStatus::Absent,
            // The file may have been replaced while the daemon runs.
            Ok(PidFileStatus::Stale(_)) | Err(_)
                if let Ok(client) = self.configured_local_client()
                    && self.has_same_pid_file(&client).await =>
            {
                return Ok(Target::Absent(Ok(client)));
            }
            other => other?,
        };
        let (status, state) = self.read_state(status);
        if let Some(url) = &self.admin_url
            && !self.is_local(url, state.as_deref())
        {
            return Ok(match self.configured_client(url.as_str()) {
                Ok(client) => Target::Remote(client),
                Err(error) => Target::Absent(Err(error)),
            });
        }
        Ok(match status {
            PidFileStatus::Held(holder) => {
                let client = match &state {
                    Some(state) => {
                        let key = state.instance_key.to_secret();
                        let signer = TokenSigner::with_instance_key(&key);
                        AdminClient::new(&state.admin, signer, &self.subject)
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

    /// Where to send a command; `None` if the daemon is not running.
    pub(super) async fn find_endpoint(&self) -> Result<Option<Endpoint>, PidFileError> {
        Ok(match self.find_target().await? {
            Target::Local {
                holder,
                state,
                client,
            } => Some(Endpoint {
                client,
                holder: Some(holder),
                state,
            }),
            Target::Remote(client) => Some(Endpoint::without_process(Ok(client))),
            Target::Absent(Ok(client))
                if self.has_admin_url() || self.has_same_pid_file(&client).await =>
            {
                Some(Endpoint::without_process(Ok(client)))
            }
            Target::Absent(Err(error)) if self.has_admin_url() => {
                Some(Endpoint::without_process(Err(error)))
            }
            Target::Absent(_) | Target::Dead(_) => None,
        })
    }

    /// The state file of the process that the PID file records.
    pub(super) fn recorded_state(&self) -> Result<Option<StateFile>, PidFileError> {
        let PidFileStatus::Held(holder) = inspect_pid_file(self.pid_file())? else {
            return Ok(None);
        };
        let read = |pid| StateFile::read_active(self.pid_file(), pid).ok();
        Ok(holder.pid().and_then(read))
    }

    /// Adds the state file of the holder. During a handoff, the new process writes its state file
    /// first and its PID second. In between, it shares the lock and is the daemon that is meant.
    pub(super) fn read_state(
        &self,
        status: PidFileStatus,
    ) -> (PidFileStatus, Option<Box<StateFile>>) {
        let pid_file = self.pid_file();
        let PidFileStatus::Held(holder) = &status else {
            return (status, None);
        };
        let read_active = |pid| StateFile::read_active(pid_file, pid);
        let find_successor = || {
            let state = StateFile::read_last(pid_file).ok()?;
            let process = Process::open(state.pid)?;
            holds_pid_file_lock(pid_file, &process).then_some((process, state))
        };
        match holder.pid().map(read_active) {
            Some(Ok(state)) => (status, Some(Box::new(state))),
            Some(Err(StateFileError::Untrusted { .. }))
                if let Some((process, state)) = find_successor() =>
            {
                let holder = LockHolder::Known(process);
                (PidFileStatus::Held(holder), Some(Box::new(state)))
            }
            _ => (status, None),
        }
    }

    /// Whether `--admin-url`, if given, is the address of the daemon with this state file.
    pub(super) fn targets(&self, state: &StateFile) -> bool {
        let is_local = |url| self.is_local(url, Some(state));
        self.admin_url.as_ref().is_none_or(is_local)
    }

    /// Whether the address is that of the daemon that holds the PID file, or else the configured
    /// one. Only then may a command fall back to local files: another port of this machine can be
    /// a tunnel to another one.
    fn is_local(&self, url: &Url, state: Option<&StateFile>) -> bool {
        let has_same_origin =
            |other: &str| Url::parse(other).is_ok_and(|other| other.origin() == url.origin());
        match state {
            Some(state) => has_same_origin(&state.admin),
            None => self
                .settings
                .admin
                .is_some_and(|admin| has_same_origin(&base_url(admin))),
        }
    }

    async fn has_same_pid_file(&self, client: &AdminClient) -> bool {
        let status = client.status().await;
        status.is_ok_and(|status| Path::new(&status.pid_file) == self.pid_file())
    }

    /// A client for a daemon without a state file. The process that answers at the configured
    /// address has to be the one that holds the PID file.
    async fn client_without_state(&self, holder: Option<u32>) -> Result<AdminClient, ClientError> {
        let client = self.configured_local_client()?;
        let pid = client.status().await?.pid;
        if holder.is_some_and(|holder| holder != pid) {
            return Err(ClientError::UnexpectedServer {
                base: client.base_url().to_string(),
                detail: format!("another daemon, with PID {pid}"),
            });
        }
        Ok(client)
    }

    pub(super) fn configured_local_client(&self) -> Result<AdminClient, ClientError> {
        let admin = self.settings.admin.ok_or(ClientError::UnknownAddress(
            "ADMIN_HOST or ADMIN_PORT is invalid",
        ))?;
        if admin.port() == 0 {
            return Err(ClientError::UnknownAddress(
                "ADMIN_PORT=0, and there is no state file that records the port",
            ));
        }
        self.configured_client(&base_url(admin))
    }

    /// A client that signs with the configured key instead of the instance key of a state file.
    pub(crate) fn configured_client(&self, base: &str) -> Result<AdminClient, ClientError> {
        let key = match (&self.settings.jwt_secret, &self.settings.key_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => {
                read_key_file(path).map_err(|error| ClientError::NoKey(error.to_string()))?
            }
            (None, None) => return Err(ClientError::NoKey("set JWT_SECRET_KEY".into())),
        };
        AdminClient::new(base, TokenSigner::with_configured_key(&key), &self.subject)
    }
}

/// Status from a client that may not exist.
pub(crate) async fn fetch_status(
    client: Result<AdminClient, ClientError>,
) -> Result<crate::api::DaemonStatus, ClientError> {
    client?.status().await
}
