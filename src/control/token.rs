//! Whether a token counts that is signed with the secret of the settings here: verbs sign with the key of the state file, but
//! `fullon token` does not.

use std::path::PathBuf;

use thiserror::Error;

use super::{Control, Target};
use crate::auth::read_key_file;
use crate::client::ClientError;
use crate::config::{ClientSettings, has_same_variable, user_name};
use crate::instance::{LockHolder, PidFileError, Process, StateFile};

/// 401: the token is not accepted.
const UNAUTHORIZED: u16 = 401;

/// The daemon that runs would refuse it.
#[derive(Debug, Error)]
#[error(
    "a token from here would not count: {because}; {next}; or name another daemon by --admin-url or --pid-file, if it is for that one"
)]
pub struct TokenError {
    because: String,
    next: String,
}

impl Control {
    /// Looks whether the daemon takes a token that is signed with the secret here. If none runs, or it does not say, that is no
    /// error.
    ///
    /// # Errors
    ///
    /// It does not, or there is no such secret although a daemon runs that must have one.
    pub async fn check_token(&self) -> Result<(), TokenError> {
        let mut running = "the daemon runs".to_owned();
        let (client, process) = match self.find_target().await {
            Ok(Target::Local {
                holder: LockHolder::Known(process),
                state: Some(state),
                ..
            }) if self.has_same_secret(&process, &state) => return Ok(()),
            Ok(Target::Local {
                holder,
                state,
                client,
            }) => {
                let client = match state {
                    Some(state) => self.configured_client(&state.admin),
                    None => client,
                };
                let process = match holder {
                    LockHolder::Known(process) => Some(process),
                    LockHolder::Hidden(_) => None,
                };
                (client, process)
            }
            Ok(Target::Remote(client)) => (Ok(client), None),
            Err(error @ PidFileError::Io { .. }) => {
                running = format!("a daemon of another user may run ({error})");
                (self.configured_local_client(), None)
            }
            Ok(Target::Absent(_) | Target::Dead(_)) | Err(_) => return Ok(()),
        };
        let answer = match client {
            Ok(client) => client.status().await,
            Err(error) => Err(error),
        };
        let because = match answer {
            Err(ClientError::TokenRefused { problem, .. }) if problem.status == UNAUTHORIZED => {
                format!("the daemon says that {}", problem.reason())
            }
            Err(error @ ClientError::NoKey(_)) => format!("{running}, and {error}"),
            _ => return Ok(()),
        };
        let next = key_hint(process.as_ref());
        Err(TokenError { because, next })
    }

    /// Whether the daemon reads its secret where it is read here, so that nobody has to be asked.
    fn has_same_secret(&self, process: &Process, state: &StateFile) -> bool {
        let environment = process.environment();
        let has_same = |name: &&str| has_same_variable(&environment, name);
        if !process.belongs_to_this_user() || !["HOME", "JWT_SECRET_KEY"].iter().all(has_same) {
            return false;
        }
        let Ok(theirs) = ClientSettings::load(&state.settings_location().read_sources()) else {
            return false;
        };
        let ours = &self.locator;
        match (&ours.jwt_secret, &theirs.jwt_secret) {
            (Some(ours), Some(theirs)) => ours.expose() == theirs.expose(),
            (None, None) => {
                let is_there = |path: &PathBuf| read_key_file(path).is_ok();
                ours.key_file == theirs.key_file && ours.key_file.as_ref().is_some_and(is_there)
            }
            _ => false,
        }
    }
}

/// How to sign with the secret that the daemon has. `process` is the daemon's.
pub(super) fn key_hint(process: Option<&Process>) -> String {
    if process.is_some_and(Process::belongs_to_this_user) {
        return "use the HOME and the .env that it was started with, or set JWT_SECRET_KEY to its secret; fullon reload puts another secret in force, and fullon restart makes a key file again that was removed".into();
    }
    let owner = process.and_then(Process::owner_uid);
    let user = owner.map_or("USER".into(), user_name);
    format!(
        "run this as its user (sudo -u {user} -H fullon token), or set JWT_SECRET_KEY to its secret"
    )
}
