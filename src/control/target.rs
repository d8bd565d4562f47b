//! Finds the daemon that an operator means, and a client for its admin API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::api::base_url;
use crate::auth::{TokenSigner, read_key_file};
use crate::client::{AdminClient, ClientError, Url, parse_base_url};
use crate::config::{ClientSettings, user_name};
use crate::identity::identity;
use crate::instance::{
    LockHolder, PidFileError, PidFileStatus, StateFile, StateFileError, held_pid_file,
    holds_pid_file_lock, inspect_pid_file, read_recorded_pid,
};
use crate::sys::Process;

/// How long to wait for the state file of a daemon that starts.
const START_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

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
///
/// A client for a local daemon gets address and key from its state file only: at the configured
/// address, any user may listen.
pub(crate) enum Target {
    /// It holds the PID file.
    Local {
        holder: LockHolder,
        state: Option<Box<StateFile>>,
        client: Result<AdminClient, ClientError>,
    },
    /// It holds a PID file that was removed or replaced.
    Unlocked {
        process: Process,
        state: Box<StateFile>,
        client: Result<AdminClient, ClientError>,
    },
    /// It died without removing its PID file, which may record this PID.
    Dead(Option<u32>),
    /// There is no PID file.
    Absent,
    /// `--admin-url` names a daemon other than that of the PID file.
    Remote(Result<AdminClient, ClientError>),
}

/// An admin API to send a command to, and the process behind it if that is known.
pub(super) struct Endpoint {
    pub client: Result<AdminClient, ClientError>,
    pub holder: Option<LockHolder>,
    pub state: Option<Box<StateFile>>,
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
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let (status, state) = match inspect_pid_file(self.pid_file()) {
                Ok(status @ PidFileStatus::Held(_)) => self.read_state(status),
                other => return self.find_without_lock(other),
            };
            let PidFileStatus::Held(holder) = status else {
                continue;
            };
            if let Some(url) = &self.admin_url
                && !self.is_local(url, state.as_deref())
            {
                return Ok(Target::Remote(self.configured_client(url.as_str())));
            }
            let is_starting = state.is_none() && self.is_starting(&holder);
            if is_starting && Instant::now() < deadline {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            let client = match (&state, &self.admin_url) {
                (Some(state), _) => self.instance_client(state),
                (None, Some(url)) => self.configured_client(url.as_str()),
                (None, None) if is_starting => Err(ClientError::NoState(
                    "the daemon is still starting: try again later".into(),
                )),
                (None, None) => Err(self.missing_state(&holder)),
            };
            return Ok(Target::Local {
                holder,
                state,
                client,
            });
        }
    }

    /// The target when no process holds the lock of the PID file.
    fn find_without_lock(
        &self,
        status: Result<PidFileStatus, PidFileError>,
    ) -> Result<Target, PidFileError> {
        let is_remote = |state: Option<&StateFile>| {
            self.admin_url
                .as_ref()
                .is_some_and(|url| !self.is_local(url, state))
        };
        if let Some((process, state)) = self.find_unlocked()
            && !is_remote(Some(&state))
        {
            let client = self.instance_client(&state);
            return Ok(Target::Unlocked {
                process,
                state,
                client,
            });
        }
        Ok(match (&self.admin_url, status) {
            // Errors of the local files do not matter for a remote daemon.
            (Some(url), _) if is_remote(None) => {
                Target::Remote(self.configured_client(url.as_str()))
            }
            (Some(url), Ok(PidFileStatus::Absent)) => {
                Target::Remote(self.configured_client(url.as_str()))
            }
            (_, Ok(PidFileStatus::Stale(pid))) => Target::Dead(pid),
            (_, Ok(_)) => Target::Absent,
            (_, Err(error)) => return Err(error),
        })
    }

    /// The daemon that runs although its PID file was removed or replaced.
    fn find_unlocked(&self) -> Option<(Process, Box<StateFile>)> {
        let state = StateFile::read_last(self.pid_file()).ok()?;
        let process = Process::open(state.pid).filter(|_| state.exit.is_none())?;
        if process.owner_uid() != Some(state.owner_uid) {
            return None;
        }
        let held = held_pid_file(&process)?;
        // The PID may belong to another daemon by now.
        let is_ours = is_same_path(&held, self.pid_file())
            || StateFile::read_active(&held, state.pid).is_err();
        is_ours.then(|| (process, Box::new(state)))
    }

    /// Whether the holder has not yet written its state file, which it does before it writes its
    /// PID.
    fn is_starting(&self, holder: &LockHolder) -> bool {
        let recorded = read_recorded_pid(self.pid_file());
        matches!(holder, LockHolder::Known(process) if recorded != Some(process.pid()))
    }

    /// Why there is no client for a daemon that runs, and what to do.
    fn missing_state(&self, holder: &LockHolder) -> ClientError {
        let command = identity().command;
        let path = StateFile::path(self.pid_file());
        let shown = path.display();
        let error = holder
            .pid()
            .and_then(|pid| StateFile::read_active(self.pid_file(), pid).err());
        let is_forbidden = match &error {
            Some(StateFileError::Io { source, .. }) => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Some(StateFileError::Untrusted { .. }) => StateFile::owner(self.pid_file())
                .is_some_and(|owner| owner != 0 && owner != nix::unistd::geteuid().as_raw()),
            None => false,
        };
        if is_forbidden || matches!(holder, LockHolder::Hidden(_)) {
            let owner = StateFile::owner(self.pid_file());
            let (user, advice) = match owner {
                Some(owner) => (user_name(owner), advise_user(owner, "…")),
                None => ("another user".into(), "run the command as that user".into()),
            };
            return ClientError::NoState(format!(
                "the daemon belongs to {user}, who alone may read its state file {shown}: {advice}"
            ));
        }
        let reason = error.map_or_else(
            || format!("the state file {shown} does not belong to the running daemon"),
            |error| error.to_string(),
        );
        ClientError::NoState(format!(
            "the address of the admin API is unknown: {reason}; use --admin-url, or `{command} restart --hard`"
        ))
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
            Target::Unlocked {
                process,
                state,
                client,
            } => Some(Endpoint {
                client,
                holder: Some(LockHolder::Known(process)),
                state: Some(state),
            }),
            Target::Remote(client) => Some(Endpoint {
                client,
                holder: None,
                state: None,
            }),
            Target::Absent | Target::Dead(_) => None,
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

    /// A client that signs with the instance key of the daemon with this state file.
    fn instance_client(&self, state: &StateFile) -> Result<AdminClient, ClientError> {
        let signer = TokenSigner::with_instance_key(&state.instance_key.to_secret());
        AdminClient::with_listener_of(state.owner_uid, &state.admin, signer, &self.subject)
    }

    /// Checks that the daemon with this state file has the configured key. No token is sent.
    pub(crate) async fn check_configured_key(&self, state: &StateFile) -> Result<(), ClientError> {
        let signer = self.configured_signer()?;
        let client =
            AdminClient::with_listener_of(state.owner_uid, &state.admin, signer, &self.subject)?;
        client.check_key().await
    }

    /// A client for `--admin-url`, which signs with the configured key.
    fn configured_client(&self, base: &str) -> Result<AdminClient, ClientError> {
        AdminClient::new(base, self.configured_signer()?, &self.subject)
    }

    pub(super) fn configured_signer(&self) -> Result<TokenSigner, ClientError> {
        let key = match (&self.settings.jwt_secret, &self.settings.key_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => {
                read_key_file(path).map_err(|error| ClientError::NoKey(error.to_string()))?
            }
            (None, None) => return Err(ClientError::NoKey("set JWT_SECRET_KEY".into())),
        };
        Ok(TokenSigner::with_configured_key(&key))
    }
}

/// Advice to run a command as the owner of a file. Any user can have made that file.
pub(super) fn advise_user(owner: u32, command: &str) -> String {
    let program = identity().command;
    let user = sudo_user(owner);
    format!(
        "if you trust that user, run the command as that user (`sudo -u {user} -H {program} {command}`); otherwise choose another PID_FILE"
    )
}

/// A user as `sudo -u` takes it.
pub(super) fn sudo_user(uid: u32) -> String {
    let name = user_name(uid);
    if name.starts_with("uid ") {
        format!("'#{uid}'")
    } else {
        name
    }
}

/// Status from a client that may not exist.
pub(crate) async fn fetch_status(
    client: Result<AdminClient, ClientError>,
) -> Result<crate::api::DaemonStatus, ClientError> {
    client?.status().await
}

/// Whether both name the same file, of which only the directory has to exist.
fn is_same_path(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| std::fs::canonicalize(path.parent()?).ok();
    one.file_name() == other.file_name() && directory(one) == directory(other)
}
