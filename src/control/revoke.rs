//! Revokes tokens: through the daemon, or in its files when its API cannot be reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use thiserror::Error;
use uuid::Uuid;

use super::retries::{MAX_WAIT, Retries};
use super::target::{DaemonControl, Endpoint, advise_user};
use crate::api::{RevokeRequest, RevokeResult};
use crate::audit::{AuditFile, AuditTrail, Event, Outcome};
use crate::auth::{
    Revocation, Revocations, RevokeError, RevokedKeys, RevokedToken, key_id, read_key_file,
};
use crate::client::ClientError;
use crate::config::{InvalidSettings, Secret, SettingProblem, user_name};
use crate::instance::{PidFileError, StateFile};

/// The setting that the signing key may come from.
const KEY_SETTING: &str = "JWT_SECRET_KEY";
/// The action in the audit trail.
const ACTION: &str = "revoke_tokens";
/// How long to wait for an answer. It can take seconds, because all tokens are revoked at the end of
/// a second, and another process may change the files.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a daemon whose files are elsewhere, and how long to wait while it is being replaced
/// or stops.
const REMOTE_ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_WAIT_FOR_REMOTE: Duration = Duration::from_mins(1);

/// The tokens are not revoked.
#[derive(Debug, Error)]
pub enum RevokeTokensError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The admin API failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The request is not valid, or the files cannot be changed.
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// It is unknown whether the program generated the key.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The daemon reads the files of another user.
    #[error(
        "nothing was revoked: the daemon of {} belongs to {}, whose files these are not: {advice}",
        .pid_file.display(), user_name(*.owner)
    )]
    OtherUser {
        pid_file: PathBuf,
        owner: u32,
        advice: String,
    },
}

/// The outcome of a revocation.
#[derive(Debug)]
pub struct RevokeOutcome {
    pub result: RevokeResult,
    /// The files that the command has changed itself.
    pub files: Option<ChangedFiles>,
}

/// Files that were changed without the daemon.
#[derive(Debug)]
pub struct ChangedFiles {
    /// The list of revoked tokens.
    pub revoked: PathBuf,
    /// The key file, if the key was replaced.
    pub key: Option<PathBuf>,
    /// Why the audit trail has no record of it.
    pub audit_error: Option<String>,
    /// Why the daemon, which runs, was not asked. `None` if none runs.
    pub api_error: Option<String>,
}

/// How the daemon answered.
enum Answer {
    Revoked(RevokeResult),
    /// The files can be changed instead. With the error, and the token of the request.
    None(Option<ClientError>, Option<Secret>),
}

impl DaemonControl {
    /// Revokes one token or all of them. `problems` are those of the settings.
    ///
    /// If the daemon is on this machine and does not do it at once, the files are changed: it may
    /// stop, or be restarted without end. Running processes read them at once.
    ///
    /// # Errors
    ///
    /// Why they are not revoked.
    pub async fn revoke_tokens(
        &self,
        request: &RevokeRequest,
        problems: &[SettingProblem],
    ) -> Result<RevokeOutcome, RevokeTokensError> {
        let revocation = Revocation::try_from(request)?;
        match self.revoke_through_daemon(request).await? {
            Answer::Revoked(result) => Ok(RevokeOutcome {
                result,
                files: None,
            }),
            Answer::None(error, given_up) => {
                let api_error = error.map(|error| error.to_string());
                self.revoke_in_files(&revocation, problems, api_error, given_up)
                    .await
            }
        }
    }

    async fn revoke_through_daemon(
        &self,
        request: &RevokeRequest,
    ) -> Result<Answer, RevokeTokensError> {
        let retries = Retries::start();
        loop {
            let Some(Endpoint { client, holder, .. }) = self.find_endpoint().await? else {
                return Ok(Answer::None(None, None));
            };
            let is_local = holder.is_some();
            let (timeout, max_wait) = if is_local {
                (ANSWER_TIMEOUT, MAX_WAIT)
            } else {
                (REMOTE_ANSWER_TIMEOUT, MAX_WAIT_FOR_REMOTE)
            };
            let mut token = None;
            let answer = async { client?.revoke_tokens(request, timeout, &mut token).await }.await;
            match answer {
                Ok(result) => return Ok(Answer::Revoked(result)),
                Err(error) if error.is_conflict() && retries.wait(max_wait).await => {}
                Err(error) if is_local && !error.is_decision() => {
                    return Ok(Answer::None(Some(error), token));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Changes the files, which running processes read again and the next daemon reads at its start.
    async fn revoke_in_files(
        &self,
        revocation: &Revocation,
        problems: &[SettingProblem],
        api_error: Option<String>,
        given_up: Option<Secret>,
    ) -> Result<RevokeOutcome, RevokeTokensError> {
        self.check_owner(revocation)?;
        let state = StateFile::read_own(self.pid_file()).ok();
        let state = state.as_ref();
        // The daemon may have another home directory than this command.
        let recorded = state.and_then(|state| state.key_file.clone());
        let key_file = recorded.or_else(|| self.settings.key_file.clone());
        let key_file = key_file.ok_or(RevokeError::NoFile)?;
        let list = Revocations::path(&key_file);
        let had_list = state.is_some_and(|state| state.knows_revocations_of(&key_file));
        let revocations = Revocations::new(Some(list.clone())).expecting(had_list);
        let mut files = ChangedFiles {
            revoked: list,
            key: None,
            audit_error: None,
            api_error,
        };
        let result = match revocation {
            Revocation::One(token) => {
                let id = token.id().and_then(|id| id.parse::<Uuid>().ok());
                if let (Some(id), Some(state)) = (id, state)
                    && state.sessions.contains(id)
                {
                    return Err(RevokeError::SessionAsId(id.to_string()).into());
                }
                let token = self.check_signature(token.clone(), state, &key_file)?;
                let revoked = token.audit_name();
                files.audit_error = self.record_revocation(state, revoked);
                revocations.revoke(&token)
            }
            Revocation::All => {
                let is_about_key = |problem: &&SettingProblem| problem.setting == KEY_SETTING;
                let about_key: Vec<_> = problems.iter().filter(is_about_key).cloned().collect();
                if !about_key.is_empty() {
                    return Err(InvalidSettings(about_key).into());
                }
                let mut keys = self.keys_of(state, &key_file);
                keys.given_up =
                    given_up.and_then(|token| RevokedToken::with_text(token.expose()).ok());
                files.audit_error = self.record_revocation(state, revocation.audit_name());
                let result = revocations.revoke_all(&keys);
                if let Ok(all) = &result {
                    files.key = all.new_key.as_ref().map(|_| key_file.clone());
                    all.wait_until_valid().await;
                }
                result.map(drop)
            }
        };
        if let Err(error) = result {
            self.record(state, Outcome::Failed, |event| {
                event.reason = Some(error.to_string());
            });
            return Err(error.into());
        }
        let signing_key = match &files.key {
            Some(_) => RevokeResult::REPLACED,
            None => RevokeResult::UNCHANGED,
        };
        Ok(RevokeOutcome {
            result: RevokeResult {
                sessions_ended: None,
                signing_key: signing_key.into(),
            },
            files: Some(files),
        })
    }

    /// The daemon of another user reads neither the files in the home directory of this one nor
    /// files that belong to it.
    fn check_owner(&self, revocation: &Revocation) -> Result<(), RevokeTokensError> {
        let owner = StateFile::owner(self.pid_file());
        match owner.filter(|owner| *owner != nix::unistd::geteuid().as_raw()) {
            None => Ok(()),
            Some(owner) => Err(RevokeTokensError::OtherUser {
                pid_file: self.pid_file().to_owned(),
                owner,
                advice: advise_user(
                    owner,
                    match revocation {
                        Revocation::One(_) => "token --revoke …",
                        Revocation::All => "token --revoke-all",
                    },
                ),
            }),
        }
    }

    /// Checks that a key of the daemon has signed the token. If a key of the daemon is unknown here,
    /// that cannot be refuted.
    fn check_signature(
        &self,
        token: RevokedToken,
        state: Option<&StateFile>,
        key_file: &Path,
    ) -> Result<RevokedToken, RevokeError> {
        let mut keys: Vec<_> = self.settings.jwt_secret.clone().into_iter().collect();
        keys.extend(read_key_file(key_file).ok());
        let instance_key = state.map(|state| state.instance_key.to_secret());
        let checked = token
            .clone()
            .check_signature_of(&keys, instance_key.as_ref());
        let recorded = state.and_then(|state| state.signing_key.as_ref());
        let knows_all = recorded.is_some_and(|recorded| {
            let mut of_daemon = [Some(recorded.id), recorded.previous].into_iter().flatten();
            of_daemon.all(|id| keys.iter().any(|key| key_id(key) == id))
        });
        match checked {
            Err(RevokeError::NotSigned) if !knows_all => Ok(token),
            other => other,
        }
    }

    /// The keys of the last daemon, and of the settings here, which may be those of the next one. A
    /// generated key is replaced in `key_file`.
    fn keys_of<'a>(&self, state: Option<&StateFile>, key_file: &'a Path) -> RevokedKeys<'a> {
        let mut keys = RevokedKeys::default();
        let configured = self.settings.jwt_secret.as_ref().map(key_id);
        keys.kept.extend(configured);
        let recorded = state.and_then(|state| state.signing_key.as_ref());
        let is_generated = if let Some(recorded) = recorded {
            keys.ended.extend(recorded.previous);
            // The settings here may be of another shell than those of the daemon.
            if recorded.is_generated {
                keys.ended.push(recorded.id);
            } else {
                keys.kept.push(recorded.id);
            }
            recorded.is_generated
        } else {
            // Nothing says which key the daemon had.
            keys.is_every_key = true;
            configured.is_none() || key_file.exists()
        };
        keys.replaced = is_generated.then_some(key_file);
        keys
    }

    fn record_revocation(&self, state: Option<&StateFile>, revoked: &str) -> Option<String> {
        self.record(state, Outcome::Accepted, |event| {
            event.detail.insert("revoked".into(), json!(revoked));
        })
    }

    /// Records a change that this command makes itself, as the daemon would. Returns why there is
    /// no record.
    fn record(
        &self,
        state: Option<&StateFile>,
        outcome: Outcome,
        describe: impl FnOnce(&mut Event),
    ) -> Option<String> {
        let path = match state {
            Some(state) => state.audit_file.as_ref(),
            None => self.settings.audit_file.as_ref(),
        }?;
        // A file of root is of no use to a daemon of another user.
        let may_create = state.is_some() || !nix::unistd::geteuid().is_root();
        let file = match AuditFile::check(path) {
            Ok(false) if !may_create => {
                let shown = path.display();
                return Some(format!(
                    "{shown} does not exist; the daemon creates it when it starts"
                ));
            }
            Ok(_) => AuditFile::open(path),
            Err(error) => Err(error),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) => return Some(error.to_string()),
        };
        let trail = AuditTrail::new(Some(file), &Uuid::nil().to_string());
        let mut event = Event::new(ACTION, outcome);
        event.subject = Some(self.subject.clone());
        describe(&mut event);
        trail.record(&event);
        trail.status()?.error
    }
}
