//! Revokes tokens: through the daemon, or in its files when its API cannot be reached.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use thiserror::Error;
use uuid::Uuid;

use super::target::{DaemonControl, advise_user};
use crate::api::{RevokeRequest, RevokeResult};
use crate::audit::{AuditFile, AuditTrail, Event, Outcome};
use crate::auth::{Revocation, Revocations, RevokeError, RevokedKeys, key_id};
use crate::client::ClientError;
use crate::config::{InvalidSettings, SettingProblem, user_name};
use crate::instance::{PidFileError, StateFile};

/// The setting that the signing key may come from.
const KEY_SETTING: &str = "JWT_SECRET_KEY";
/// The action in the audit trail.
const ACTION: &str = "revoke_tokens";
/// How long to wait for a daemon that is being replaced or stops, and how often to look.
const MAX_WAIT: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(500);
/// The same for one token: the limit on tokens has the same status.
const MAX_WAIT_FOR_ONE: Duration = Duration::from_secs(1);

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

impl DaemonControl {
    /// Revokes one token or all of them. `problems` are those of the settings.
    ///
    /// If the API of a daemon on this machine cannot be reached, because it stops or does not run,
    /// the files are changed. To revoke all tokens, a daemon that still runs is waited for: it may
    /// start again, and it knows keys that are in no file.
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
        let is_all = revocation == Revocation::All;
        let max_wait = if is_all { MAX_WAIT } else { MAX_WAIT_FOR_ONE };
        let deadline = Instant::now() + max_wait;
        let mut in_files: Option<RevokeOutcome> = None;
        loop {
            let api_error = match self.find_endpoint().await? {
                None => None,
                Some(endpoint) => {
                    let is_local = endpoint.holder.is_some();
                    let error = match endpoint.client {
                        Ok(client) => match client.revoke_tokens(request).await {
                            Ok(result) => {
                                let files = None;
                                return Ok(RevokeOutcome { result, files });
                            }
                            Err(error) => error,
                        },
                        Err(error) => error,
                    };
                    // The next try is to the process that is then the daemon.
                    if error.is_conflict() && Instant::now() < deadline {
                        tokio::time::sleep(INTERVAL).await;
                        continue;
                    }
                    if !is_local || !error.is_without_answer() {
                        return Err(error.into());
                    }
                    Some(error.to_string())
                }
            };
            let runs = api_error.is_some();
            let outcome = match in_files.take() {
                // A daemon that has started meanwhile may have read the old key.
                None => {
                    let outcome = self
                        .revoke_in_files(&revocation, problems, api_error)
                        .await?;
                    if is_all {
                        in_files = Some(outcome);
                        continue;
                    }
                    outcome
                }
                Some(mut outcome) => {
                    if runs && Instant::now() < deadline {
                        in_files = Some(outcome);
                        tokio::time::sleep(INTERVAL).await;
                        continue;
                    }
                    if let Some(files) = &mut outcome.files {
                        files.api_error = api_error;
                    }
                    outcome
                }
            };
            return Ok(outcome);
        }
    }

    /// Changes the files, which running processes read again and the next daemon reads at its start.
    async fn revoke_in_files(
        &self,
        revocation: &Revocation,
        problems: &[SettingProblem],
        api_error: Option<String>,
    ) -> Result<RevokeOutcome, RevokeTokensError> {
        self.check_owner(revocation)?;
        let state = StateFile::read_own(self.pid_file()).ok();
        let state = state.as_ref();
        // The daemon may have another home directory than this command.
        let recorded = state.and_then(|state| state.key_file.clone());
        let key_file = recorded.or_else(|| self.settings.key_file.clone());
        let key_file = key_file.ok_or(RevokeError::NoFile)?;
        let list = Revocations::path(&key_file);
        let revocations = Revocations::new(Some(list.clone()));
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
                files.audit_error = self.record_revocation(state, revocation);
                revocations.revoke(token)
            }
            Revocation::All => {
                let is_about_key = |problem: &&SettingProblem| problem.setting == KEY_SETTING;
                let about_key: Vec<_> = problems.iter().filter(is_about_key).cloned().collect();
                if !about_key.is_empty() {
                    return Err(InvalidSettings(about_key).into());
                }
                let mut keys = self.keys_of(state);
                if keys.kept.is_empty() {
                    keys.replaced = Some(&key_file);
                }
                files.audit_error = self.record_revocation(state, revocation);
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

    /// The keys of the last daemon, and of the settings here, which may be those of the next one.
    fn keys_of(&self, state: Option<&StateFile>) -> RevokedKeys<'static> {
        let configured = self.settings.jwt_secret.as_ref().map(key_id);
        let mut keys = RevokedKeys::default();
        keys.kept.extend(configured);
        match state.and_then(|state| state.signing_key.as_ref()) {
            None => keys.is_every_key = true,
            Some(recorded) if recorded.is_generated && configured.is_none() => {
                keys.ended.push(recorded.id);
            }
            Some(recorded) => keys.kept.push(recorded.id),
        }
        keys
    }

    fn record_revocation(
        &self,
        state: Option<&StateFile>,
        revocation: &Revocation,
    ) -> Option<String> {
        self.record(state, Outcome::Accepted, |event| {
            let revoked = revocation.audit_name();
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
