//! Checks that the running daemon accepts tokens signed with the local secret. Other commands sign
//! with the instance key of the state file, but `fullon token` does not.

use std::path::PathBuf;

use thiserror::Error;

use super::target::{DaemonControl, Target, sudo_user};
use crate::auth::read_key_file;
use crate::client::ClientError;
use crate::config::{ClientSettings, has_same_variable};
use crate::instance::{LockHolder, PidFileError, StateFile};
use crate::sys::Process;

const UNAUTHORIZED: u16 = 401;

/// The running daemon would reject a token that is signed with the local secret.
#[derive(Debug, Error)]
#[error(
    "cannot create a token that the running daemon accepts: {reason}; {hint}; for another daemon, use --admin-url or --pid-file"
)]
pub struct LocalSecretError {
    reason: String,
    hint: String,
}

impl DaemonControl {
    /// Checks that the running daemon accepts tokens signed with the local secret. Succeeds if no
    /// daemon is running, or if it does not answer.
    ///
    /// # Errors
    ///
    /// The daemon rejects such a token, or there is no local secret although the running daemon
    /// must have one.
    pub async fn check_token(&self) -> Result<(), LocalSecretError> {
        let (checked, process) = match self.find_target().await {
            Ok(Target::Local {
                holder: LockHolder::Known(process),
                state: Some(state),
                ..
            }) if self.has_same_secret(&process, &state) => return Ok(()),
            Ok(Target::Local {
                holder,
                state: Some(state),
                ..
            }) => {
                let process = match holder {
                    LockHolder::Known(process) => Some(process),
                    LockHolder::Hidden(_) => None,
                };
                (self.check_configured_key(&state).await, process)
            }
            Ok(Target::Unlocked { process, state, .. }) => {
                (self.check_configured_key(&state).await, Some(process))
            }
            // Its key cannot be checked, but a new one would not be the daemon's.
            Ok(Target::Local { holder, .. }) => {
                let process = match holder {
                    LockHolder::Known(process) => Some(process),
                    LockHolder::Hidden(_) => None,
                };
                (self.configured_signer().map(drop), process)
            }
            Ok(Target::Remote(client)) => (async { client?.check_key().await }.await, None),
            Err(PidFileError::Io { .. }) => (self.configured_signer().map(drop), None),
            Ok(Target::Absent | Target::Dead(_)) | Err(_) => return Ok(()),
        };
        let reason = match checked {
            Err(ClientError::TokenRefused { problem, .. }) if problem.status == UNAUTHORIZED => {
                problem.reason().to_owned()
            }
            Err(error @ ClientError::NoKey(_)) => format!("the daemon is running, but {error}"),
            _ => return Ok(()),
        };
        let hint = key_hint(process.as_ref());
        Err(LocalSecretError { reason, hint })
    }

    /// Whether the daemon reads the same secret from the same place, so that no request is needed.
    fn has_same_secret(&self, process: &Process, state: &StateFile) -> bool {
        let environment = process.environment();
        let has_same = |name: &&str| has_same_variable(&environment, name);
        if !process.belongs_to_this_user()
            || !state.belongs_to_this_user()
            || !["HOME", "JWT_SECRET_KEY"].iter().all(has_same)
        {
            return false;
        }
        let Ok(theirs) = ClientSettings::load(&state.settings_location().read_sources()) else {
            return false;
        };
        let ours = &self.settings;
        match (&ours.jwt_secret, &theirs.jwt_secret) {
            (Some(ours), Some(theirs)) => ours.expose() == theirs.expose(),
            (None, None) => {
                let is_readable = |path: &PathBuf| read_key_file(path).is_ok();
                ours.key_file == theirs.key_file && ours.key_file.as_ref().is_some_and(is_readable)
            }
            _ => false,
        }
    }
}

/// How to sign with the daemon's secret. `process` is the daemon's, if it is known.
pub(crate) fn key_hint(process: Option<&Process>) -> String {
    if process.is_some_and(Process::belongs_to_this_user) {
        return "use the daemon's HOME and .env file, or set JWT_SECRET_KEY to the daemon's signing key; `fullon reload` activates a changed key; `fullon restart` creates a missing key file".into();
    }
    let owner = process.and_then(Process::owner_uid);
    let user = owner.map_or("USER".into(), sudo_user);
    format!(
        "run this as the daemon's user (`sudo -u {user} -H fullon token`), or set JWT_SECRET_KEY to the daemon's signing key"
    )
}
